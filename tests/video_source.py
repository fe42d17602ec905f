"""Sources of video for tests: real recordings taken apart, synthetic streams, and plain decoding to compare with."""

from __future__ import annotations

import dataclasses
import io
import itertools
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from padreel.dataset.remux import SpanWriter
from padreel.model import Stream
from padreel_schemas.v1.video_pb2 import VideoStream

os.environ.setdefault("SVT_LOG", "1")  # errors only: the encoder writes to stderr by itself

Picture = NDArray[np.uint8]

START_CODE = b"\0\0\0\1"


@dataclass(frozen=True, slots=True)
class Unit:
    """One access unit: its display position, whether it is an IDR by its NAL types or OBUs, its bytes."""

    index: int
    idr: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Source:
    """Access units in decode order, the pictures that a decoder makes of them, in display order, and the file."""

    stream: Stream
    units: list[Unit]
    pictures: list[Picture]
    mp4: bytes


def stream_block(of: Source) -> VideoStream:
    """The stream block that a rig sends with a keyframe of this source."""
    stream = of.stream
    return VideoStream(
        codec=stream.codec,
        width=stream.width,
        height=stream.height,
        fps_num=stream.fps,
        fps_den=1,
        extradata=stream.extradata,
        color_range=stream.color_range,
        color_space=stream.color_space,
        color_primaries=stream.color_primaries,
        color_transfer=stream.color_transfer,
    )


def nal_units(unit: bytes) -> Iterator[bytes]:
    """The NAL units of a length-prefixed access unit."""
    at = 0
    while at < len(unit):
        (size,) = struct.unpack_from(">I", unit, at)
        yield unit[at + 4 : at + 4 + size]
        at += 4 + size
    assert at == len(unit)


def rgb(frame: av.VideoFrame) -> Picture:
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


_IS_IDR: Final[dict[str, Callable[[bytes], bool]]] = {
    "h264": lambda unit: any(nal[0] & 31 == 5 for nal in nal_units(unit)),
    "hevc": lambda unit: any(nal[0] >> 1 in (19, 20) for nal in nal_units(unit)),
    "av1": lambda unit: unit[0] >> 3 == 1,  # encoders send the sequence header with every key frame, first
}


def read_mp4(file: str | io.BytesIO) -> Source:
    """Take an mp4 apart."""
    content = Path(file).read_bytes() if isinstance(file, str) else file.getvalue()
    with av.open(io.BytesIO(content), "r") as container:
        video = container.streams.video[0]
        context = video.codec_context
        assert video.average_rate is not None
        stream = Stream(
            codec=context.codec.canonical_name,
            width=context.width,
            height=context.height,
            fps=round(video.average_rate),
            extradata=bytes(context.extradata or b""),
            color_range=int(context.color_range),
            color_space=int(context.colorspace),
            color_primaries=int(context.color_primaries),
            color_transfer=int(context.color_trc),
        )
        packets = [packet for packet in container.demux(video) if packet.dts is not None]
        rank = {pts: i for i, pts in enumerate(sorted(packet.pts or 0 for packet in packets))}
        units = [Unit(rank[packet.pts or 0], _IS_IDR[stream.codec](bytes(packet)), bytes(packet)) for packet in packets]
    return Source(stream, units, decode(io.BytesIO(content)), content)


def decode(file: str | io.BytesIO) -> list[Picture]:
    """All pictures of a file, as RGB, in display order."""
    with closing(av.open(file, "r")) as container:
        return [rgb(frame) for frame in container.decode(video=0)]


def moving_pictures(count: int, width: int = 96, height: int = 64, seed: int = 0) -> list[Picture]:
    """Noise with a bar that moves, so that each picture differs from every other."""
    random = np.random.default_rng(seed)
    base = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    pictures = []
    for i in range(count):
        picture = np.roll(base, 3 * i, axis=1)
        picture[:, (5 * i) % width : (5 * i) % width + 8] = (i * 37) % 256
        pictures.append(np.ascontiguousarray(picture))
    return pictures


@dataclass(frozen=True, slots=True)
class Clip:
    """How a clip is encoded; `encoder` is FFmpeg's name of one.

    `deltas` are the times between the pictures in milliseconds, None for a steady rate.
    """

    encoder: str = "libx264"
    fps: int = 30
    gop: int = 12
    b_frames: int = 3
    open_gop: bool = False
    radl: int = 0  # leading pictures of an IDR, HEVC only
    slices: int = 1  # not of AV1
    full_range: bool = False
    deltas: tuple[int, ...] | None = None


_X26X: Final = (
    "keyint={gop}:min-keyint={gop}:bframes={b_frames}:b-adapt=0:scenecut=0:open-gop={open_gop:d}:slices={slices}"
)
_OPTIONS: Final = {
    "libx264": {"x264-params": _X26X, "preset": "fast"},
    "libx265": {"x265-params": _X26X + ":radl={radl}:ctu=16:log-level=none:pools=1:frame-threads=1", "preset": "fast"},
    "libsvtav1": {"g": "{gop}", "preset": "10", "svtav1-params": "lp=1"},
    "libaom-av1": {"g": "{gop}", "cpu-used": "8", "lag-in-frames": "19", "threads": "1"},
}
_FULL_RANGE: Final = {
    "libx264": ":fullrange=on:colorprim=bt709:transfer=bt709:colormatrix=bt709",
    "libx265": ":range=full:colorprim=bt709:transfer=bt709:colormatrix=bt709",
}


def write_clip(
    file: str | io.BytesIO,
    pictures: Sequence[Picture],
    clip: Clip,
    container_format: str = "mp4",
    *,
    muxer: dict[str, str] | None = None,
) -> None:
    """Encode pictures into a file as a recorder would; `muxer` are the container's options."""
    height, width, _ = pictures[0].shape
    options = {name: value.format(**dataclasses.asdict(clip)) for name, value in _OPTIONS[clip.encoder].items()}
    if clip.full_range and clip.encoder in _FULL_RANGE:
        name = next(name for name in options if name.endswith("-params"))
        options[name] += _FULL_RANGE[clip.encoder]
    at_ms = list(itertools.accumulate(clip.deltas, initial=0)) if clip.deltas else None
    with av.open(file, "w", format=container_format, options=muxer or {}) as container:
        stream = container.add_stream(clip.encoder, rate=clip.fps, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if at_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if clip.full_range:
            stream.codec_context.color_range = 2
            stream.codec_context.colorspace = 1
            stream.codec_context.color_primaries = 1
            stream.codec_context.color_trc = 1
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if at_ms is not None:
                frame.pts, frame.time_base = at_ms[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def encode_clip(pictures: Sequence[Picture], clip: Clip) -> Source:
    """Encode and take the result apart."""
    sink = io.BytesIO()
    write_clip(sink, pictures, clip)
    source = read_mp4(sink)
    assert len(source.units) == len(pictures) == len(source.pictures)
    return source


def encode(
    pictures: Sequence[Picture], *, fps: int = 30, gop: int = 12, b_frames: int = 3, full_range: bool = False
) -> Source:
    """Encode with x264 and take the result apart. Every key picture is an IDR."""
    return encode_clip(pictures, Clip(fps=fps, gop=gop, b_frames=b_frames, full_range=full_range))


def annex_b(source: Source) -> Source:
    """The same stream of H.264 or HEVC with start codes instead of length prefixes, extradata too."""
    sets = {"h264": _sets_of_avcc, "hevc": _sets_of_hvcc}[source.stream.codec](source.stream.extradata)
    units = [replace(u, data=b"".join(START_CODE + nal for nal in nal_units(u.data))) for u in source.units]
    extradata = b"".join(START_CODE + one for one in sets)
    return replace(source, stream=replace(source.stream, extradata=extradata), units=units)


def _sets_of_avcc(avcc: bytes) -> list[bytes]:
    sets, at = [], 6
    for count in (avcc[5] & 31, None):
        if count is None:
            count, at = avcc[at], at + 1
        for _ in range(count):
            (size,) = struct.unpack_from(">H", avcc, at)
            sets.append(avcc[at + 2 : at + 2 + size])
            at += 2 + size
    return sets


def _sets_of_hvcc(hvcc: bytes) -> list[bytes]:
    sets, at = [], 23
    for _ in range(hvcc[22]):
        (count,) = struct.unpack_from(">H", hvcc, at + 1)
        at += 3
        for _ in range(count):
            (size,) = struct.unpack_from(">H", hvcc, at)
            sets.append(hvcc[at + 2 : at + 2 + size])
            at += 2 + size
    return [one for one in sets if one[0] >> 1 in (32, 33, 34)]  # x265 adds an SEI with its options


def sync_samples(path: Path) -> list[bool]:
    """Of each packet of a plain mp4 whether its index says that decoding can begin there.

    A demuxer's flags are no proof: it looks into the packets too, and takes more of them for keys.
    """
    data = path.read_bytes()
    moov = data.rindex(b"moov")
    (samples,) = struct.unpack_from(">I", data, data.index(b"stsz", moov) + 12)
    at = data.find(b"stss", moov)
    if at < 0:  # every one is
        return [True] * samples
    (count,) = struct.unpack_from(">I", data, at + 8)
    keys = set(struct.unpack_from(f">{count}I", data, at + 12))
    return [number + 1 in keys for number in range(samples)]


def write_span(path: Path, source: Source, units: Sequence[Unit] | None = None) -> None:
    writer = SpanWriter(path, source.stream)
    for unit in source.units if units is None else units:
        writer.append(unit.index, unit.idr, unit.data)
    writer.close()
