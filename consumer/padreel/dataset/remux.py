"""Stream copy into mp4: access units go into a file as they are, nothing is decoded or encoded.

A *span* is the mp4 that is being staged for a segment. Its time stamps are made up from display positions, because
LeRobot reads frame i of an episode at exactly `from_timestamp + i / fps`; the true capture times are a data column.

With `TICKS_PER_FRAME` ticks per frame, the packet of display position i has PTS `i * 512`, the j-th packet in decode
order has DTS `(j - 16) * 512`, and every packet lasts 512. Sixteen is as deep as H.264 and HEVC can reorder, so
PTS >= DTS holds for every stream without knowing its depth beforehand, and files whose DTS start alike can be joined.
The mp4's edit list says that presentation begins where PTS is 0. (Without one, or in a fragmented file, readers
show the wrong frame and do not complain.)
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import av

from padreel.core.hevc import length_prefixed
from padreel.errors import CorruptShardError
from padreel.model import Stream

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

TICKS_PER_FRAME = 512

_A_BLOCK = 4096  # bytes; an mp4's header takes less

# FFmpeg's buffers are wider and higher than the picture, by less than this many pixels.
_BUFFER_MARGIN = 128

# Negative DTS must stay negative: "make_zero" shifts PTS too, and then every frame is shown at the wrong time.
_MP4_OPTIONS = {"avoid_negative_ts": "disabled"}


@dataclass(frozen=True, slots=True)
class Codec:
    """What the mp4 muxer has to be told of a codec.

    `raw_format` is the demuxer that gives a stream with nothing but the codec's id, `tag` the mp4 sample entry,
    `dts_lead` by how many frames DTS runs ahead. `tag_in_band` is the sample entry where other parameter sets come in
    band; of H.264 every reader takes them under its usual one, and not every reader knows the other.
    """

    raw_format: str
    tag: str
    dts_lead: int
    tag_in_band: str


CODECS = {
    "h264": Codec("h264", "avc1", 16, "avc1"),
    "hevc": Codec("hevc", "hvc1", 16, "hev1"),
    "av1": Codec("obu", "av01", 0, "av01"),
}


class SpanWriter:
    """Writes the access units of one segment into a plain mp4 whose index comes at the end.

    As a context it is closed at the end, and given up where something raises.

    Raises `OSError` (av's errors are such where the system says why) when the file cannot be written, and
    `ValueError` for what no caller may ask for: an unknown codec, an empty unit, a unit after `close()`.
    """

    def __init__(self, path: Path, stream: Stream, hidden: int = 0, *, in_band: bool = False) -> None:
        """`hidden` pictures come before display position 0, at -1, -2 and so on: decoded, but never shown.

        `in_band`: units bring parameter sets, others than those of `stream` too.
        """
        codec = CODECS.get(stream.codec)
        if codec is None:
            raise ValueError(f"{path.name}: codec {stream.codec!r}, expected one of {', '.join(CODECS)}")
        self.path = path
        self.packets = 0
        self._dts_lead = codec.dts_lead + hidden  # the edit list begins at PTS 0, wherever DTS does
        self._as_stored: Callable[[bytes], bytes] = bytes
        if stream.codec == "hevc":
            stream, self._as_stored = length_prefixed(stream)
        # Kept here, because the muxer replaces the stream's own by a multiple.
        self._time_base = Fraction(1, TICKS_PER_FRAME * stream.fps)
        self._container: OutputContainer | None = None
        try:
            # av never closes a file whose header could not be written, and on a full disk that is tried for hours.
            path.write_bytes(bytes(_A_BLOCK))
            with system_errors():
                self._container = av.open(str(path), "w", format="mp4", options=_MP4_OPTIONS)
                tag = codec.tag_in_band if in_band else codec.tag
                self._stream = _add_stream(self._container, codec.raw_format, tag, stream, self._time_base)
                # The file is made here and not at the first unit, so that a folder that takes none says so at once.
                self._container.start_encoding()
        except BaseException:
            self.discard()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None:
            self.discard()
            return
        try:
            self.close()
        except BaseException:
            self.discard()
            raise

    def append(self, index: int, idr: bool, unit: bytes) -> None:
        """Mux the next unit in decode order. `index` is its display position, 0 for the span's first; `idr`: a key."""
        if self._container is None:
            raise ValueError(f"{self.path.name}: unit {index} after the span was closed")
        if not unit:  # the muxer would drop it without a word, and every later DTS would be one frame off
            raise ValueError(f"{self.path.name}: unit {index} is empty")
        packet = av.Packet(self._as_stored(unit))
        packet.stream = self._stream
        packet.time_base = self._time_base
        packet.pts = index * TICKS_PER_FRAME
        packet.dts = (self.packets - self._dts_lead) * TICKS_PER_FRAME
        packet.duration = TICKS_PER_FRAME
        packet.is_keyframe = idr
        with system_errors():
            self._container.mux_one(packet)
        self.packets += 1

    def close(self) -> None:
        """Write the index; the file is complete then, but not fsynced. A second call does nothing."""
        container, self._container = self._container, None
        if container is not None:
            with system_errors():
                container.close()

    def discard(self) -> None:
        """Give the file up: close it if it is open, and unlink it if it is there.

        That its index cannot be written any more (a full disk) is no error: unlinking is what makes room.
        """
        with contextlib.suppress(OSError):
            self.close()
        self.path.unlink(missing_ok=True)


def _add_stream(
    container: OutputContainer, raw_format: str, tag: str, stream: Stream, time_base: Fraction
) -> VideoStream:
    """Add a video stream that has no encoder.

    `add_stream(name)` would bring an encoder whose own parameters end up in the file, which then cannot be decoded.
    """
    added = container.add_stream_from_template(_template(raw_format), opaque=True)
    context = added.codec_context
    # PyAV opens the codec that came with the id, though nothing is decoded: with a thread for each core, and a context
    # for each thread.
    context.thread_count, context.thread_type = 1, "NONE"
    context.width = stream.width
    context.height = stream.height
    context.extradata = stream.extradata
    context.codec_tag = tag
    # Without these four a reader that follows the container converts to wrong RGB.
    context.color_range = stream.color_range
    context.colorspace = stream.color_space
    context.color_primaries = stream.color_primaries
    context.color_trc = stream.color_transfer
    added.time_base = time_base
    return added


@cache
def _template(raw_format: str) -> VideoStream:
    """An empty raw stream, which as a template brings the codec's id and nothing else.

    One for all: it holds a decoder, for H.264 of 0.7 MB, until the collector of cycles finds it.
    """
    return av.open(io.BytesIO(), format=raw_format).streams.video[0]


def decoder_limits(width: int, height: int) -> dict[str, str]:
    """Options of a decoder that is to show pictures of this size, and refuses larger ones before it allocates them.

    What an access unit says of its own size is not checked anywhere else, and 50 KB can claim a gigabyte.
    """
    return {"max_pixels": str((width + _BUFFER_MARGIN) * (height + _BUFFER_MARGIN))}


def open_span(path: Path, width: int, height: int, *, is_known: bool = False) -> InputContainer:
    """Open a finished span to read; FFmpeg then looks into the first pictures, within `decoder_limits`.

    Where it `is_known` what they are it does not: decoding them takes six times as long as all the rest, and pictures
    that are decoded one by one say it again.
    """
    options: list[Any] = [decoder_limits(width, height)]  # av's stubs ask for strings, its code for mappings
    if is_known:
        options[0]["skip_frame"] = "all"
    return av.open(str(path), stream_options=options)


def keep_from(source: Path, target: Path, first_unit: int, stream: Stream, keys: Collection[int]) -> int:
    """Copy a finished span from the key at display position `first_unit` on, which becomes position 0.

    Used where trimming dropped whole GOPs. What follows a key in decode order follows it in display order too, so the
    copy is a span like any other. `keys` are the display positions of all keys: a demuxer also takes other pictures for
    such. Returns the number of packets. Raises `CorruptShardError` where the source has no key at that position or a
    time stamp that no span has, and `OSError`.
    """
    known = frozenset(keys)
    with system_errors(), open_span(source, stream.width, stream.height) as container:
        video = container.streams.video[0]
        # The file's own: units that came as Annex B are length-prefixed by now.
        extradata = video.codec_context.extradata or b""
        with SpanWriter(target, dataclasses.replace(stream, extradata=extradata)) as writer:
            for index, packet in _packets(container, video, stream.fps, source):
                if writer.packets or (index == first_unit and index in known):
                    writer.append(index - first_unit, index in known, bytes(packet))
            if not writer.packets:
                raise CorruptShardError(f"{source.name}: no key at display position {first_unit}")
    return writer.packets


def _packets(container: InputContainer, video: VideoStream, fps: int, source: Path) -> Iterator[tuple[int, Packet]]:
    """The packets in decode order, each with its display position."""
    for packet in container.demux(video):
        if packet.dts is None:  # the empty packet at the end
            continue
        if packet.pts is None or packet.time_base is None:
            raise CorruptShardError(f"{source.name}: a packet at dts {packet.dts} without a time")
        index = packet.pts * packet.time_base * fps
        if index.denominator != 1:
            raise CorruptShardError(f"{source.name}: a packet at {index} frames, expected whole frames at {fps} fps")
        yield int(index), packet


class system_errors:  # noqa: N801 - it is used as a function
    """Raise every error of FFmpeg as an `OSError`, which not all of them are (a full disk is one that is not)."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, av.FFmpegError) and not isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, error.filename) from error
