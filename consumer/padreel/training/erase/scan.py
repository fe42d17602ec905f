"""What shards have of the sessions that are to be erased. Nothing is written.

A commit is parsed only where the bytes of a name are in it: logs are long.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from padreel.core.erase import is_erased
from padreel.dataset import files
from padreel.dataset.commit_log import Entry, decode_entry
from padreel.dataset.erased import redacted
from padreel.dataset.erasure import ErasedSession
from padreel.dataset.layout import commit_path
from padreel.errors import CorruptShardError
from padreel.model import SessionRejection


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be erased: sessions by name or key, all sessions of rigs."""

    sessions: frozenset[str]
    rigs: frozenset[str]

    def includes(self, key: str, rig: str = "") -> bool:
        return key in self.sessions or key.rpartition("@")[0] in self.sessions or (rig != "" and rig in self.rigs)


@dataclass(frozen=True, slots=True)
class Found:
    """What a shard has of some sessions.

    `redacted` are the N of commits that are no episode of theirs and hold something of them; `recording` the keys of
    those that are open and not silent.
    """

    sessions: tuple[ErasedSession, ...]
    redacted: tuple[int, ...]
    recording: tuple[str, ...]
    first_index: int | None  # of their first episode


def known_keys(shard: Path, last: Entry, wanted: Wanted) -> set[str]:
    """The keys of all sessions that are wanted and that the log has heard of. Raises CorruptShardError, OSError."""
    found: set[str] = set()
    for entry in _mentioning(shard, 0, last.n, wanted.sessions | wanted.rigs):
        found |= {key for key, rig in _sessions_of(entry) if wanted.includes(key, rig)}
    return found


def _mentioning(shard: Path, first: int, last: int, names: Iterable[str]) -> Iterator[Entry]:
    needles = [json.dumps(name, ensure_ascii=False)[1:-1].encode() for name in names]
    for n in range(first, last + 1):
        path = shard / commit_path(n)
        content = files.read(path)
        if content is None:
            raise CorruptShardError(f"{path}: missing, though a later commit exists; restore it from a copy")
        if any(needle in content for needle in needles):
            yield decode_entry(content, path)


def _sessions_of(entry: Entry) -> Iterator[tuple[str, str]]:
    """(key, rig) of every session that a commit names; the rig is empty where the commit does not say it."""
    if entry.episode is not None:
        yield entry.episode.columns["session"], entry.episode.columns["rig"]
    if entry.state is not None:
        for key, opened in entry.state.open.items():
            yield key, opened.session.rig_id if opened.session is not None else ""
        for key in entry.state.closed:
            yield key, ""
    for rejection in entry.rejections:
        yield rejection.key, rejection.rig_id
    for session in entry.erasure.sessions if entry.erasure is not None else ():
        yield session.key, session.rig
    for key in (*entry.totals.converted, *(one.session for one in entry.totals.skipped)):
        yield key, ""


def find(shard: Path, last: Entry, keys: Collection[str]) -> Found:
    """What the log up to `last`, its last commit, has of the sessions `keys`; those that are erased are left out.

    Raises CorruptShardError, OSError.
    """
    scan = Scan(shard, keys)
    scan.read_to(last)
    return scan.found(last)


class Scan:
    """Looks through a log for sessions; when the log has grown, through what is new of it alone."""

    def __init__(self, shard: Path, keys: Collection[str]) -> None:
        self._shard, self._keys = shard, frozenset(keys)
        self._next = 0
        self._erasure: int | None = None  # as of the commits that were read
        self._parts: dict[str, _Parts] = {}
        self._mentions: list[int] = []

    def read_to(self, last: Entry) -> None:
        """Take in all commits up to `last`, the log's last one. Raises CorruptShardError, OSError."""
        if last.latest_erasure != self._erasure or last.erasing:  # commits that were read may be others by now
            self._next, self._parts, self._mentions = 0, {}, []
        self._erasure = last.latest_erasure
        for entry in _mentioning(self._shard, self._next, last.n, self._keys):
            self._take(entry)
        self._next = last.n + 1

    def _take(self, entry: Entry) -> None:
        episode, keys = entry.episode, self._keys
        if episode is not None and episode.columns["session"] in keys:
            self._part(episode.columns["session"]).add_episode(entry)
        elif _holds_some(entry, keys):
            self._mentions.append(entry.n)
        for rejection in entry.rejections:
            if rejection.key in keys:
                self._part(rejection.key).add_rejection(rejection)
        if entry.state is not None:
            for key in entry.state.open.keys() & keys:
                opened = entry.state.open[key]
                self._part(key).hear(opened.session.rig_id if opened.session is not None else "")

    def _part(self, key: str) -> _Parts:
        return self._parts.setdefault(key, _Parts())

    def found(self, last: Entry) -> Found:
        """What there is of those that are not erased yet. `last` is the commit that was read to."""
        state, keys, parts = last.state, self._keys, self._parts
        known = set() if state is None else {key for key in keys if key in state.open or key in state.closed}
        known |= {key for key in keys if key in last.totals.converted}
        todo = sorted({*parts, *(key for key in known if not is_erased(state, key))})
        is_open = frozenset() if state is None else frozenset(state.open)
        recording = [] if state is None else [key for key in todo if key in is_open and not state.open[key].dormant]
        indices = [parts[key].first_index for key in todo if key in parts]
        return Found(
            sessions=tuple(parts.get(key, _Parts()).session(key, was_open=key in is_open) for key in todo),
            redacted=tuple(self._mentions),
            recording=tuple(recording),
            first_index=min((index for index in indices if index is not None), default=None),
        )


def _holds_some(entry: Entry, keys: Collection[str]) -> bool:
    """Whether there is more of the sessions in a commit than their names."""
    less = redacted(entry, keys)
    return less.state != entry.state or less.rejections != entry.rejections


class _Parts:
    """What is found of one session, commit by commit."""

    def __init__(self) -> None:
        self.first_index: int | None = None
        self._rig = ""
        self._episodes: list[int] = []
        self._rows = self._rejections = 0
        self._offsets: dict[str, list[int]] = {"frames": [], "pads": []}

    def add_episode(self, entry: Entry) -> None:
        episode = entry.episode
        assert episode is not None
        self.first_index = episode.index if self.first_index is None else min(self.first_index, episode.index)
        self._episodes.append(entry.n)
        self._rows += episode.length
        self.hear(episode.columns["rig"])
        for topic, offsets in self._offsets.items():
            both = [episode.columns[f"{topic}_{which}_offset"] for which in ("first", "last")]
            offsets += [offset for offset in both if offset >= 0]

    def add_rejection(self, rejection: SessionRejection) -> None:
        self._rejections += 1
        self._offsets["frames"] += [rejection.first_frame_offset, rejection.last_frame_offset]
        self.hear(rejection.rig_id)

    def hear(self, rig: str) -> None:
        self._rig = rig or self._rig

    def session(self, key: str, *, was_open: bool) -> ErasedSession:
        frames, pads = self._offsets["frames"], self._offsets["pads"]
        return ErasedSession(
            key=key,
            rig=self._rig,
            episodes=tuple(self._episodes),
            rows=self._rows,
            rejections=self._rejections,
            was_open=was_open,
            frames_first_offset=min(frames, default=-1),
            frames_last_offset=max(frames, default=-1),
            pads_first_offset=min(pads, default=-1),
            pads_last_offset=max(pads, default=-1),
        )
