"""What is known of a video that lies in a file, named by a session's `media_uri`. Values only, no I/O."""

from __future__ import annotations

from array import array
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MediaMark:
    """By what a file is known to be the one that was looked through. An inode alone is used again."""

    device: int
    inode: int
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class MediaRange:
    """The packets of a file that make one episode's video, in decode order, from a key on.

    Of each packet its time stamp in the file's unit, its display position (0 for the key; what is below 0 is left out),
    and in `idr` 1 where decoding can begin.
    """

    uri: str
    mark: MediaMark
    stamps: array[int]
    positions: array[int]
    idr: bytes
