"""An mp4 of one episode's own, its packets copied out of the file they lie in. Nothing is decoded or encoded.

Time stamps are made anew, as `dataset.remux` does: the first picture is shown at 0, picture i at i / fps. What has to
be decoded but is none of the episode's pictures is hidden by the mp4's edit list, which FFmpeg, PyAV and torchcodec
heed. A reader that does not shows it: where that matters, take `cut_from_key` or `whole_cut`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from padreel.core.codecs import check_unit, framing_of
from padreel.dataset.remux import SpanWriter, open_span, system_errors
from padreel.errors import CorruptShardError
from padreel.exports.cuts import Cut, PacketOrder
from padreel.model import Schema, Stream
from padreel.training.write_videos import new_video
from padreel_schemas import capture

_BOX: Final = struct.Struct(">I4s")
_TIMESCALE: Final = 1000  # of the movie, in which FFmpeg's muxer writes the edit's length


@dataclass(frozen=True, slots=True)
class Video:
    """An mp4 of a dataset, looked through: its stream, and of its packets in decode order their DTS as stored.

    `idr` tells which of them have to be marked as such; not every key is one.
    """

    path: Path
    stream: Stream
    order: PacketOrder
    dts: NDArray[np.int64]
    idr: NDArray[np.bool_]


def look_through(path: Path, schema: Schema) -> Video:
    """Read every packet of an mp4. Raises CorruptShardError where it cannot be what its dataset says, OSError."""
    positions: list[int] = []
    dts: list[int] = []
    idr: list[bool] = []
    keys: list[bool] = []
    with system_errors(), open_span(path, schema.width, schema.height) as container:
        if not container.streams.video:
            raise CorruptShardError(f"{path}: no video stream")
        video = container.streams.video[0]
        context = video.codec_context
        extradata = bytes(context.extradata or b"")
        colours = (context.color_range, context.colorspace, context.color_primaries, context.color_trc)
        framing = framing_of(schema.codec, extradata)
        if framing is None or context.codec.canonical_name != schema.codec:
            raise CorruptShardError(f"{path}: found {context.codec.canonical_name}, expected usable {schema.codec}")
        for packet in capture.packets_of(video):
            if packet.pts is None or packet.dts is None or packet.time_base is None:
                raise CorruptShardError(f"{path}: packet {len(dts)} in decode order has no time")
            position = packet.pts * packet.time_base * schema.fps
            check = check_unit(bytes(packet), framing)
            if position.denominator != 1 or check.fault is not None:
                said = check.fault or f"it is shown at frame {position}, expected a whole one"
                raise CorruptShardError(f"{path}: packet {len(dts)} in decode order: {said}")
            positions.append(int(position))
            dts.append(packet.dts)
            idr.append(check.idr)
            keys.append(check.idr or check.open_gop or not keys)
    stream = Stream(schema.codec, schema.width, schema.height, schema.fps, extradata, *map(int, colours))
    order = PacketOrder(np.array(positions, np.int64), np.array(keys, np.bool_))
    return Video(path, stream, order, np.array(dts, np.int64), np.array(idr, np.bool_))


def write_clip(video: Video, cut: Cut, target: Path) -> None:
    """Write a cut's pictures as an mp4, durably and at once under its name; what else it needs is hidden.

    Raises CorruptShardError where the video is not what was looked through, OSError.
    """
    with new_video(target, video.stream, cut.before) as writer:
        _copy(video, cut, writer)
        writer.close()
        if cut.after:
            _end_edit(writer.path, cut.length, video.stream.fps)


def _copy(video: Video, cut: Cut, writer: SpanWriter) -> None:
    stream, order = video.stream, video.order
    with system_errors(), open_span(video.path, stream.width, stream.height) as container:
        source = container.streams.video[0]
        # The index is in decode order, so by DTS the demuxer goes to exactly this packet.
        container.seek(int(video.dts[cut.begin]), stream=source, backward=True)
        at = cut.begin
        for packet in capture.packets_of(source):
            if at == cut.end:
                break
            if packet.dts is None or packet.dts < video.dts[cut.begin]:
                continue
            if packet.dts != video.dts[at]:
                raise CorruptShardError(f"{video.path}: a packet at dts {packet.dts}, expected {video.dts[at]}")
            position = int(order.positions[at])
            if position >= order.positions[cut.begin]:
                writer.append(position - cut.first, bool(video.idr[at]) or at == cut.begin, bytes(packet))
            at += 1
    if at != cut.end:
        raise CorruptShardError(f"{video.path}: ends at packet {at} in decode order, expected {cut.end}")


def _end_edit(path: Path, pictures: int, fps: int) -> None:
    """Let an mp4's edit list end after so many pictures. FFmpeg's muxer can only say where it begins."""
    length = pictures * _TIMESCALE // fps  # rounded down: what begins at the end is hidden
    with path.open("r+b") as file:
        end = file.seek(0, 2)
        at = 0
        for name in (b"moov", b"trak", b"edts", b"elst"):
            at, end = _box(file, name, at, end)
        file.seek(at)
        version = file.read(1)[0]
        file.seek(at + 8)  # behind version, flags and the count, which is 1
        file.write(struct.pack(">Q" if version else ">I", length))


def _box(file: BinaryIO, name: bytes, at: int, end: int) -> tuple[int, int]:
    """Where the content of the first box of that name between two places begins and ends."""
    while at < end:
        file.seek(at)
        size, found = _BOX.unpack(file.read(_BOX.size))
        head = _BOX.size
        if size == 1:  # the size does not fit, and follows
            size, head = int.from_bytes(file.read(8), "big"), head + 8
        if found == name:
            return at + head, at + size
        at += size
    raise CorruptShardError(f"the muxer wrote no {name.decode()} box")
