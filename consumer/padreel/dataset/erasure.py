"""What a commit of kind `erased` says: which sessions were taken out of the shard, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ErasedSession:
    """A session that was taken out. Offsets are of its records that the log named, inclusive; -1 where it did not."""

    key: str
    rig: str
    episodes: tuple[int, ...]  # the N of the commits that were its episodes
    rows: int
    rejections: int  # of it, or of parts of it
    was_open: bool
    frames_first_offset: int = -1
    frames_last_offset: int = -1
    pads_first_offset: int = -1
    pads_last_offset: int = -1


@dataclass(frozen=True, slots=True)
class MovedRows:
    """The rows of an episode that follows an erased one, under their new numbers: a file in `staging/` until then."""

    n: int  # the episode's commit
    name: str
    sha256: str
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class Erasure:
    """All of it. With the log as it was before, it decides what the shard is afterwards."""

    run: str
    version: str  # padreel's
    settings: Any
    sessions: tuple[ErasedSession, ...]
    kept: int | None  # the N of the last episode before the first erased one
    moved: tuple[MovedRows, ...]  # in order: they get the indices from the first erased one on
    redacted: tuple[int, ...]  # the N of the other commits that hold something of a session

    @property
    def keys(self) -> frozenset[str]:
        """The keys of the sessions."""
        return frozenset(one.key for one in self.sessions)

    @property
    def episodes(self) -> tuple[int, ...]:
        """The N of every commit that was an episode of theirs, ascending."""
        return tuple(sorted(n for one in self.sessions for n in one.episodes))
