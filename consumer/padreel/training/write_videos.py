"""Videos of a training set: hard links to the shards' mp4s, or several packed into one, packets as they are."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from padreel.core.codecs import check_unit, framing_of
from padreel.core.in_band import not_complete, sets_of, with_sets
from padreel.dataset import files
from padreel.dataset.remux import SpanWriter, open_span, system_errors
from padreel.errors import CorruptShardError
from padreel.model import Schema, Stream
from padreel.training.merge.plan import Pictures
from padreel.training.write_rows import TEMPORARY, publish_file
from padreel_schemas import capture

if TYPE_CHECKING:
    from av.packet import Packet

_NO_LINK: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES})
_CHUNK: Final = 2**20
_BOX_HEAD: Final = 8  # bytes: its length and its type


@dataclass(frozen=True, slots=True)
class Part:
    """One mp4 to pack: where it is, and at which picture of the packed file it begins."""

    path: Path
    first_picture: int
    packets: int


def link_or_copy(source: Path, target: Path, sha256: str) -> bool:
    """Give `source` the name `target` too; where the filesystem cannot, copy it and compare. True: linked.

    Raises CorruptShardError where a copy is not what its commit says, OSError.
    """
    try:
        files.link_once(source, target)
        return True
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
    temporary = target.with_name(target.name + TEMPORARY)
    digest = hashlib.sha256()
    with files.announced("write", target), source.open("rb") as reading, temporary.open("wb") as writing:
        while chunk := reading.read(_CHUNK):
            digest.update(chunk)
            writing.write(chunk)
    if digest.hexdigest() != sha256:
        files.unlink(temporary)
        raise CorruptShardError(f"{source}: found sha256 {digest.hexdigest()}, expected {sha256}; restore it")
    publish_file(temporary, target)
    return False


def check_whole(path: Path) -> None:
    """Raises CorruptShardError where a file is gone, or where an mp4 does not end with one of its boxes; OSError.

    Nearly nothing of it is read: that is no proof against damage inside it, which a digest would be.
    """
    size = files.size_of(path)
    if size is None:
        raise CorruptShardError(f"{path}: missing; restore it from a copy")
    if path.suffix != ".mp4":
        return
    at = 0
    with path.open("rb") as file:
        while 0 <= at < size:
            file.seek(at)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:], "big")
            at = at + length if length >= _BOX_HEAD else -1
    if at != size:
        raise CorruptShardError(f"{path}: {size} bytes, where none of its boxes ends; restore it from a copy")


def pictures_of(path: Path, schema: Schema) -> Pictures:
    """What packing has to know of an mp4, from its index and its first packet. Raises CorruptShardError, OSError."""
    stream, packets, first = _described(path, schema)
    colours = (stream.color_range, stream.color_space, stream.color_primaries, stream.color_transfer)
    # What goes in band may differ in one file.
    in_band = sets_of(stream.codec, stream.extradata) is not None
    sets = "" if in_band else hashlib.sha256(stream.extradata).hexdigest()
    is_idr = check_unit(first, framing_of(stream.codec, stream.extradata)).idr
    return Pictures(packets, f"{colours} {sets}", may_follow=is_idr)


def pack_videos(parts: Sequence[Part], target: Path, schema: Schema) -> None:
    """Write one mp4 of all parts, in their order; where parameter sets differ they go before every IDR, in band.

    Raises CorruptShardError where a part is not what was planned, OSError.
    """
    streams = [_described(part.path, schema).stream for part in parts]
    in_band = any(stream.extradata != streams[0].extradata for stream in streams)
    first = streams[0]
    if in_band:
        first = replace(first, extradata=not_complete(first.codec, first.extradata))
    with new_video(target, first, in_band=in_band) as writer:
        for part, stream in zip(parts, streams, strict=True):
            _append(writer, part, sets_of(stream.codec, stream.extradata) if in_band else None, schema)


@contextmanager
def new_video(target: Path, stream: Stream, hidden: int = 0, *, in_band: bool = False) -> Iterator[SpanWriter]:
    """A writer of an mp4 that has its name, durably, when the block ends; where that raises nothing stays."""
    temporary = target.with_name(target.name + TEMPORARY)
    with files.announced("write", target), SpanWriter(temporary, stream, hidden, in_band=in_band) as writer:
        yield writer
    publish_file(temporary, target)


def _append(writer: SpanWriter, part: Part, sets: bytes | None, schema: Schema) -> None:
    positions = _positions(part, schema)
    with system_errors(), open_span(part.path, schema.width, schema.height) as container:
        video = container.streams.video[0]
        framing = framing_of(schema.codec, bytes(video.codec_context.extradata or b""))
        for packet in capture.packets_of(video):
            unit = bytes(packet)
            # As in the part: a demuxer takes pictures of open GOPs for keys, an IDR with leading pictures is none.
            is_key = not writer.packets or (packet.is_keyframe and check_unit(unit, framing).idr)
            position = part.first_picture + positions[_index(packet, part.path, schema.fps)]
            writer.append(position, is_key, with_sets(schema.codec, unit, sets) if is_key and sets else unit)


def _positions(part: Part, schema: Schema) -> dict[int, int]:
    """How many pictures of a part are shown before each, by the frame at which it is shown.

    These are the same but behind the episode's last row, where a picture was lost. Others that are shown after it are
    there, because rows were predicted from them; they move up, or they would lie among the next part's.
    """
    with system_errors(), open_span(part.path, schema.width, schema.height) as container:
        frames = [_index(packet, part.path, schema.fps) for packet in capture.packets_of(container.streams.video[0])]
    if len(frames) != part.packets:
        raise CorruptShardError(f"{part.path}: {len(frames)} packets, expected {part.packets}")
    found = {frame: position for position, frame in enumerate(sorted(frames))}
    if len(found) < len(frames):
        raise CorruptShardError(f"{part.path}: two pictures are shown at one time")
    return found


def _index(packet: Packet, path: Path, fps: int) -> int:
    """The frame at which a packet's picture is shown."""
    if packet.pts is None or packet.time_base is None:
        raise CorruptShardError(f"{path}: a packet without a time")
    index = packet.pts * packet.time_base * fps
    if index.denominator != 1:
        raise CorruptShardError(f"{path}: a packet at {index} frames, expected whole frames")
    return int(index)


class _Described(NamedTuple):
    """How the pictures of an mp4 are encoded, how many packets it has, and the first."""

    stream: Stream
    packets: int
    first: bytes


def _described(path: Path, schema: Schema) -> _Described:
    with system_errors(), open_span(path, schema.width, schema.height) as container:
        if not container.streams.video:
            raise CorruptShardError(f"{path}: no video stream")
        video = container.streams.video[0]
        context, packets = video.codec_context, video.frames
        extradata = bytes(context.extradata or b"")
        colours = (context.color_range, context.colorspace, context.color_primaries, context.color_trc)
        first = next(capture.packets_of(video), None)
    stream = Stream(schema.codec, schema.width, schema.height, schema.fps, extradata, *map(int, colours))
    return _Described(stream, packets, b"" if first is None else bytes(first))
