"""Pictures of a recording, one by one, decoded as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from padreel.errors import InputError

Picture = NDArray[np.uint8]


class VideoReader:
    """A video's pictures in display order, each (height, width, 3) uint8 RGB; made by `open_video_reader`.

    `reader[i]`, `len(reader)`, `next(reader)` and iteration; reading on from the last picture is cheap, going elsewhere
    decodes from the keyframe before. It holds an open file: close it, or use it in a `with` statement.
    """

    def __init__(self, path: Path, container: InputContainer, stamps: list[int]) -> None:
        """For `open_video_reader` alone; `stamps` are the pictures' pts, ascending."""
        self._path, self._container, self._stamps = path, container, stamps
        self._frames: Iterator[VideoFrame] = container.decode(video=0)
        self._next = 0

    def __len__(self) -> int:
        return len(self._stamps)

    def __getitem__(self, index: int) -> Picture:
        """Raises IndexError beyond the ends, InputError where the picture cannot be decoded."""
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"{self._path}: frame {index} of {len(self)}")
        stamp = self._stamps[position]
        try:
            found = self._forward_to(stamp) if position >= self._next else None
            if found is None:
                # Where the index of keyframes leads behind the picture, only the beginning is sure.
                found = self._from_keyframe(stamp) or self._from_keyframe(self._stamps[0], stamp)
        except FFmpegError as error:
            raise InputError(f"{self._path}: frame {position} cannot be decoded: {error}") from error
        if found is None:
            raise InputError(f"{self._path}: frame {position} of {len(self)} is not there when it is decoded")
        self._next = position + 1
        return np.asarray(found.to_ndarray(format="rgb24"), np.uint8)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Picture:
        if self._next >= len(self):
            raise StopIteration
        return self[self._next]

    def next(self) -> Picture:
        """The picture after the last one that was read. Raises StopIteration behind the end."""
        return self.__next__()

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _from_keyframe(self, at: int, stamp: int | None = None) -> VideoFrame | None:
        self._container.seek(at, stream=self._container.streams.video[0])
        self._frames = self._container.decode(video=0)
        return self._forward_to(at if stamp is None else stamp)

    def _forward_to(self, stamp: int) -> VideoFrame | None:
        """Decode up to the picture of that pts; None where a later one comes first."""
        for frame in self._frames:
            pts = cast(int | None, frame.pts)  # PyAV's types say int, but a packet may have none
            if pts is not None and pts >= stamp:
                return frame if pts == stamp else None
        return None


def open_video_reader(path: Path | str) -> tuple[VideoReader, int]:
    """Open a video; its reader and its frame rate, rounded to whole frames per second as datasets have it.

    Raises InputError that names the file where it holds no video with timestamps and a rate.
    """
    path = Path(path)
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (OSError, FFmpegError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        if not container.streams.video:
            raise InputError(f"{path}: no video stream, expected one")
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        if not rate:
            raise InputError(f"{path}: frame rate is unknown")
        stamps = sorted(packet.pts for packet in container.demux(stream) if packet.size and packet.pts is not None)
        if not stamps:
            raise InputError(f"{path}: no frames with a pts, expected at least one")
        container.seek(stamps[0], stream=stream)
    except FFmpegError as error:
        container.close()
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except InputError:
        container.close()
        raise
    return VideoReader(path, container, stamps), round(rate)
