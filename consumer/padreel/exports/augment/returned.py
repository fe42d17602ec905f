"""An mp4 that a remote video model gave back: whether it fits its original, and its packets copied. No encoding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from av.error import FFmpegError

from padreel.core.codecs import Framing, check_unit, framing_of
from padreel.dataset import files
from padreel.errors import InputError
from padreel.model import Schema, Stream
from padreel.training.write_videos import new_video
from padreel_schemas import capture

_ROUNDING: Final = Fraction(3, 2)  # ticks by which a clock that divides no frame may be off


@dataclass(frozen=True, slots=True)
class ReturnedVideo:
    """A file that fits: its stream; of each packet, in decode order, its display position and whether it is an IDR."""

    path: Path
    sha256: str
    stream: Stream
    positions: tuple[int, ...]
    idr: tuple[bool, ...]

    @property
    def keys(self) -> list[int]:
        """The display positions of what can be decoded alone, ascending."""
        return sorted(position for position, idr in zip(self.positions, self.idr, strict=True) if idr)


def read_returned(path: Path, frames: int, schema: Schema) -> ReturnedVideo:
    """Look a returned file through; it has to have so many frames, and size and rate of `schema`; its codec is its own.

    Raises InputError that names the file, what was found and what was expected; OSError.
    """
    sha256 = files.sha256_of(path)
    if sha256 is None:
        raise InputError(f"{path}: missing, expected what the model made")
    try:
        described, positions = capture.read_video(path)
    except capture.RecordingError as error:
        raise InputError(str(error)) from error
    if len(positions) != frames:
        raise InputError(f"{path}: {len(positions)} frames, expected {frames} as its original has")
    if (described.width, described.height) != (schema.width, schema.height):
        raise InputError(
            f"{path}: {described.width}x{described.height}, expected {schema.width}x{schema.height} as its original is"
        )
    stream = Stream(
        codec=described.codec,
        width=described.width,
        height=described.height,
        fps=schema.fps,
        extradata=described.extradata,
        color_range=described.color_range,
        color_space=described.color_space,
        color_primaries=described.color_primaries,
        color_transfer=described.color_transfer,
    )
    framing = framing_of(stream.codec, stream.extradata)
    if framing is None:
        raise InputError(f"{path}: the extradata of its {stream.codec} stream cannot be used")
    idr = _checked(path, framing, positions, schema.fps)
    return ReturnedVideo(path, sha256, stream, tuple(positions), idr)


def write_returned(video: ReturnedVideo, target: Path) -> None:
    """Copy its packets into an mp4 of ours, durably and at once under its name.

    Raises InputError where it is another file by now, OSError.
    """
    with new_video(target, video.stream) as writer:
        for at, (unit, _, _) in enumerate(_packets(video.path)):
            if at == len(video.positions):
                raise InputError(f"{video.path}: was changed meanwhile; run this again")
            writer.append(video.positions[at], video.idr[at], unit)
        if writer.packets != len(video.positions) or files.sha256_of(video.path) != video.sha256:
            raise InputError(f"{video.path}: was changed meanwhile; run this again")


def _checked(path: Path, framing: Framing, positions: list[int], fps: int) -> tuple[bool, ...]:
    """Of each packet whether it is an IDR. Raises InputError for one that is damaged, or shown at another time."""
    idr: list[bool] = []
    seconds: list[Fraction] = []
    tick = Fraction(0)
    for at, (unit, stamp, tick) in enumerate(_packets(path)):
        check = check_unit(unit, framing)
        if check.fault is not None:
            raise InputError(f"{path}: packet {at} in decode order: {check.fault}")
        idr.append(check.idr or (check.open_gop and not at))
        seconds.append(stamp * tick)
    if not idr[0] or positions[0] != 0:
        raise InputError(f"{path}: does not begin with a key frame that is shown first")
    first, last = min(seconds), max(seconds)
    for position, second in zip(positions, seconds, strict=True):
        if abs(second - first - Fraction(position, fps)) > tick * _ROUNDING:
            rate = float((len(seconds) - 1) / (last - first))
            raise InputError(
                f"{path}: {rate:.6g} frames per second, frame {position} at {float(second - first):.6g} s; expected "
                f"{fps}, and that frame at {position / fps:.6g} s, as its original has it"
            )
    return tuple(idr)


def _packets(path: Path) -> Iterator[tuple[bytes, int, Fraction]]:
    """Each packet's bytes, time stamp and the stamps' unit in seconds, in decode order. Raises InputError."""
    try:
        with capture.open_video(path) as container:
            for packet in capture.packets_of(container.streams.video[0]):
                if packet.pts is None or packet.time_base is None:
                    raise InputError(f"{path}: a packet has no time")
                yield bytes(packet), packet.pts, Fraction(packet.time_base)
    except FFmpegError as error:
        raise InputError(capture.unreadable(path, error)) from error
