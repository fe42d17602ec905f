"""A rig that does not exist: drawn pictures, a scripted pad, real H.264, the records a live rig publishes.

Access units are length-prefixed with an avcC extradata, as in an mp4: it is what recorders leave and what
libx264 makes directly with `annexb=0`: the same bytes go to Kafka and into an mp4 without being rewritten.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from random import Random

import av
import numpy as np
import numpy.typing as npt
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange, Colorspace

from padreel_schemas.recording import PublishedRecord
from padreel_schemas.v1 import gamepad_pb2, video_pb2
from padreel_shim.scene import draw
from padreel_shim.script import PadScript, PadState

_HEARTBEAT_NS = 1_000_000_000
_BT709 = 1  # ITU-T H.273 code point, the same for matrix, primaries and transfer
_LIMITED_RANGE = 1


@dataclass(frozen=True, slots=True)
class EncodedUnit:
    """One encoded picture. `frame_index` counts in display order, `dts` in frames."""

    frame_index: int
    dts: int
    keyframe: bool
    data: bytes


class H264Encoder:
    """libx264 on one thread, two B-frames, closed GOPs: the same pictures always give the same bytes."""

    def __init__(self, width: int, height: int, fps: Fraction, gop: int) -> None:
        if width % 2 or height % 2:
            raise ValueError(f"size {width}x{height}: H.264 in 4:2:0 needs an even width and height")
        if gop < 1:
            raise ValueError(f"gop {gop} must be at least 1")
        context = av.CodecContext.create("libx264", "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.framerate, context.time_base = fps, 1 / fps
        context.thread_count = 1
        context.options = {
            "preset": "ultrafast",
            "crf": "24",
            "flags": "+global_header",
            "x264-params": f"annexb=0:bframes=2:b-adapt=0:keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0"
            ":threads=1:colorprim=bt709:transfer=bt709:colormatrix=bt709:fullrange=off",
        }
        context.open()
        self._context = context
        # One frame for all pictures: touching fresh memory for each would cost more than encoding it.
        self._rgb = av.VideoFrame(width, height, "rgb24")

    @property
    def extradata(self) -> bytes:
        """The decoder configuration (avcC)."""
        return bytes(self._context.extradata or b"")

    def encode(self, number: int, rgb: npt.NDArray[np.uint8]) -> list[EncodedUnit]:
        """Give picture `number`, (height, width, 3) RGB; returns what the encoder releases, in decode order."""
        plane = self._rgb.planes[0]  # its lines may be padded
        lines = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(plane.height, plane.line_size)
        lines[:, : rgb.shape[1] * 3] = rgb.reshape(rgb.shape[0], -1)
        frame = self._rgb.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        frame.pts, frame.time_base = number, self._context.time_base
        return self._units(frame)

    def flush(self) -> list[EncodedUnit]:
        """Returns the units still held for reordering."""
        return self._units(None)

    def _units(self, frame: av.VideoFrame | None) -> list[EncodedUnit]:
        units = []
        for packet in self._context.encode(frame):
            if packet.pts is None or packet.dts is None:
                raise RuntimeError(f"libx264 returned a packet without times: pts {packet.pts}, dts {packet.dts}")
            units.append(EncodedUnit(packet.pts, packet.dts, packet.is_keyframe, bytes(packet)))
        return units


@dataclass(frozen=True)
class SyntheticRig:
    """One made-up session, `seconds` long; everything in it follows from `seed` and the sizes.

    Raises ValueError for sizes, rates or lengths that cannot be drawn or encoded.
    """

    seed: str
    seconds: float
    width: int = 1280
    height: int = 720
    fps: Fraction = Fraction(30)
    gop: int = 60  # frames from one IDR to the next
    rig_id: str = ""
    task: str = ""
    game_id: str = ""

    def __post_init__(self) -> None:
        if self.fps <= 0 or self.seconds <= 0:
            raise ValueError(f"fps {self.fps} and seconds {self.seconds} must be positive")
        self.picture(0)
        H264Encoder(self.width, self.height, self.fps, self.gop)

    @property
    def frame_count(self) -> int:
        """Number of frames, at least one."""
        return max(1, int(self.seconds * self.fps))

    @cached_property
    def start_ns(self) -> int:
        """Where this rig's steady clock stands when the session starts."""
        return Random(f"{self.seed}/clock").randrange(10**12, 10**15)

    @cached_property
    def script(self) -> PadScript:
        """The pad's script; its `state_at` is the right answer for every frame."""
        return PadScript(self.seed, self.start_ns, int(self.seconds * 1_000_000_000))

    def frame_ns(self, frame_index: int) -> int:
        """When frame `frame_index` (display order) was captured: the rate with some jitter; never steps back."""
        jitter = Random(f"{self.seed}/capture/{frame_index}").random()
        return self.start_ns + int((frame_index + 0.25 + jitter * 0.1) * 1_000_000_000 / self.fps)

    def pts_ns(self, frame_index: int) -> int:
        """Nominal presentation time of a frame."""
        return round(frame_index * 1_000_000_000 / self.fps)

    def picture(self, frame_index: int) -> npt.NDArray[np.uint8]:
        """The picture of a frame as drawn, (height, width, 3) RGB."""
        state = self.script.state_at(self.frame_ns(frame_index)) or PadState()
        variant = zlib.crc32(self.seed.encode()) / 2**32
        return draw(frame_index, self.width, self.height, state, variant=variant)

    def units(self) -> Iterator[tuple[int, EncodedUnit, bytes]]:
        """Yields (released_ns, unit, extradata) in decode order.

        `released_ns` is the capture time of the picture that made the encoder let go of the unit: a unit cannot be
        published earlier.
        """
        encoder = H264Encoder(self.width, self.height, self.fps, self.gop)
        released_ns = self.start_ns
        for number in range(self.frame_count):
            released_ns = self.frame_ns(number)
            for unit in encoder.encode(number, self.picture(number)):
                yield released_ns, unit, encoder.extradata
        for unit in encoder.flush():
            yield released_ns, unit, encoder.extradata

    def records(self) -> Iterator[PublishedRecord]:
        """Yields the session's records in the order in which a live rig publishes them.

        `time_ns` is when, on the rig's clock. Pictures are encoded one by one while this is read.
        """
        pads = self._pad_records()
        pad = next(pads, None)
        for frame in self._frame_records():
            while pad is not None and pad.time_ns <= frame.time_ns:
                yield pad
                pad = next(pads, None)
            yield frame
        while pad is not None:
            yield pad
            pad = next(pads, None)

    def pad_payload(self, sequence: int, time_ns: int, state: PadState) -> bytes:
        """One EVENT as published and as written to `actions.bin`."""
        event = gamepad_pb2.GamepadState(
            monotonic_ns=time_ns, axes=state.axes, pressed_buttons=state.buttons, sequence=sequence
        )
        return event.SerializeToString(deterministic=True)

    def _pad_records(self) -> Iterator[PublishedRecord]:
        """EVENTs with a HEARTBEAT each second between them; one says only what has gone before it."""
        heartbeat_ns = self.start_ns + _HEARTBEAT_NS
        end_ns = max(self.frame_ns(self.frame_count - 1), self.script.poll_ns(self.script.polls - 1))
        for event in self.script.events():
            while heartbeat_ns < event.time_ns:
                yield self._pad_mark(heartbeat_ns, gamepad_pb2.GamepadState.HEARTBEAT)
                heartbeat_ns += _HEARTBEAT_NS
            yield PublishedRecord("pads", event.time_ns, self.pad_payload(event.sequence, event.time_ns, event.state))
        while heartbeat_ns <= end_ns:
            yield self._pad_mark(heartbeat_ns, gamepad_pb2.GamepadState.HEARTBEAT)
            heartbeat_ns += _HEARTBEAT_NS
        yield self._pad_mark(end_ns, gamepad_pb2.GamepadState.END)

    def _pad_mark(self, time_ns: int, kind: gamepad_pb2.GamepadState.Kind) -> PublishedRecord:
        message = gamepad_pb2.GamepadState(monotonic_ns=time_ns, kind=kind)
        return PublishedRecord("pads", time_ns, message.SerializeToString(deterministic=True))

    def _frame_records(self) -> Iterator[PublishedRecord]:
        released_ns = self.start_ns
        for sequence, (released_ns, unit, extradata) in enumerate(self.units()):
            message = video_pb2.VideoFrame(
                sequence=sequence,
                frame_index=unit.frame_index,
                monotonic_ns=self.frame_ns(unit.frame_index),
                pts=self.pts_ns(unit.frame_index),
                access_unit=unit.data,
                keyframe=unit.keyframe,
                stream=self._stream(extradata) if unit.keyframe else None,
                session=self._session() if unit.keyframe else None,
            )
            yield PublishedRecord("frames", released_ns, message.SerializeToString(deterministic=True))
        end = video_pb2.VideoFrame(
            sequence=self.frame_count,
            frame_index=self.frame_count,
            monotonic_ns=released_ns,
            kind=video_pb2.VideoFrame.END,
            frame_count=self.frame_count,
        )
        yield PublishedRecord("frames", released_ns, end.SerializeToString(deterministic=True))

    def _stream(self, extradata: bytes) -> video_pb2.VideoStream:
        return video_pb2.VideoStream(
            codec="h264",
            width=self.width,
            height=self.height,
            fps_num=self.fps.numerator,
            fps_den=self.fps.denominator,
            extradata=extradata,
            color_range=_LIMITED_RANGE,
            color_space=_BT709,
            color_primaries=_BT709,
            color_transfer=_BT709,
        )

    def _session(self) -> video_pb2.SessionInfo:
        return video_pb2.SessionInfo(rig_id=self.rig_id, task=self.task, game_id=self.game_id, heartbeats=True)
