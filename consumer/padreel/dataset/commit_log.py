"""A shard's commit log: `commits/<N>.json`, dense from 0, the truth that everything else is made from.

Invariants
- A commit's name is created once, whole (by `link()` of a complete, fsynced file), and never deleted. Its content is
  replaced by an erase alone, by the last claimer, out of its own publish folder (see `erased`).
- Commit N exists -> its files exist, staged under the names it gives or final under N, with its hashes.
- Every kind carries the whole state, so the last commit is enough to go on; a claim copies it.
- (key, frame_index) is in at most one episode; every record below `next` is committed, dropped and counted, or in
  the open and closed sessions of the state.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import uuid4

from padreel.core.gate import EpisodeQuality
from padreel.dataset import codec, files
from padreel.dataset.erasure import Erasure
from padreel.dataset.layout import COMMITS, EPISODES_PER_FILE, FILE_KINDS, SkippedSession, commit_path
from padreel.errors import CorruptShardError, DatasetError, FencedError, FormatVersionError
from padreel.model import Fate, PartitionState, SessionRejection, Topic

FORMAT_VERSION = 2
_NAME = re.compile(r"(0|[1-9]\d*)\.json")


class Kind(StrEnum):
    """What a commit is for."""

    CLAIM = "claim"  # a writer takes the shard
    EPISODE = "episode"
    REJECTED = "rejected"  # a session, or the rest of one, cannot become episodes
    PROGRESS = "progress"  # offsets moved, nothing to show for it
    LOST = "lost"  # an operator skipped a hole
    ERASED = "erased"  # sessions were taken out; also what an episode of theirs has become
    RELEASED = "released"  # a person let an episode out of quarantine


@dataclass(frozen=True, slots=True)
class Source:
    """Where a shard's records come from. `convert` has no broker and leaves what it has not empty."""

    cluster_id: str
    frames_topic: str
    pads_topic: str
    partition: int
    partitions: int
    group: str


@dataclass(frozen=True, slots=True)
class CommittedFile:
    """A file of an episode: `name` in `staging/` until it is renamed to its final name."""

    kind: str  # "video", "data" or "gamepad"
    name: str
    sha256: str
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class Episode:
    """An episode as its row in the episodes file has it; the file numbers follow from the commit's N."""

    index: int
    task_index: int
    task: str
    length: int  # rows
    first_row: int  # global index of the first row
    from_timestamp: float  # seconds, in the mp4
    to_timestamp: float
    columns: dict[str, Any]  # our own columns, scalars, never null
    stats: dict[str, dict[str, Any]]  # feature -> key -> nested list
    files: tuple[CommittedFile, ...]
    quality: EpisodeQuality | None = field(default=None, metadata=codec.LATER)  # None where nothing was judged


@dataclass(frozen=True, slots=True)
class Lost:
    """A range of offsets, the last one exclusive, that an operator gave up."""

    topic: Topic
    first_offset: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class Totals:
    """What all commits so far add up to. The three lists hold the latest, the counts are of all.

    `quarantined` are the indices of the episodes that are in quarantine now.
    """

    episodes: int = 0
    rows: int = 0
    forced: int = 0  # rows
    late: int = 0  # EVENTs
    accounted: dict[Fate, int] = field(default_factory=dict)  # frame records by fate
    tasks: tuple[str, ...] = ()  # by task_index
    stats: dict[str, dict[str, Any]] | None = None  # aggregate over all episodes
    converted_count: int = 0
    converted: tuple[str, ...] = ()
    skipped_count: int = 0
    skipped: tuple[SkippedSession, ...] = ()
    quarantined_count: int = field(default=0, metadata=codec.LATER)
    quarantined: tuple[int, ...] = field(default=(), metadata=codec.LATER)


@dataclass(frozen=True, slots=True)
class Entry:
    """One commit. `state` is None until the shard's first commit that is no claim."""

    n: int
    uuid: str
    kind: Kind
    claim: int  # the N of its writer's claim; a claim's own N
    writer: str
    source: Source
    state: PartitionState | None
    totals: Totals
    previous_episode: int | None  # the N of the latest episode before this commit
    episode: Episode | None = None
    rejections: tuple[SessionRejection, ...] = ()  # a commit of any kind may carry some
    lost: Lost | None = None
    # What a commit of kind erased takes out; None where it was an episode.
    erasure: Erasure | None = field(default=None, metadata=codec.LATER)
    # The N of the latest commit with an `erasure` up to this one.
    latest_erasure: int | None = field(default=None, metadata=codec.LATER)
    # Whether that one may not have been carried out to its end.
    erasing: bool = field(default=False, metadata=codec.LATER)
    # The N of the commit whose episode is in quarantine no longer.
    released: int | None = field(default=None, metadata=codec.LATER)
    # The N of the latest release before this commit.
    previous_release: int | None = field(default=None, metadata=codec.LATER)


def encode_entry(entry: Entry) -> bytes:
    """The content of the entry's commit file."""
    body = {"format_version": FORMAT_VERSION, **codec.encode(entry)}
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def decode_entry(data: bytes, path: Path) -> Entry:
    """The entry in a commit file.

    Raises FormatVersionError if a newer padreel wrote it, CorruptShardError if it is no commit.
    """
    try:
        body = json.loads(data)
    except ValueError as error:
        raise CorruptShardError(f"{path}: no JSON ({error}); restore this file from a copy of the shard") from error
    version = body.pop("format_version", None) if isinstance(body, dict) else None
    if type(version) is not int or version < 1:
        raise CorruptShardError(f"{path}: format_version: found {version!r}, expected 1 to {FORMAT_VERSION}")
    if version > FORMAT_VERSION:
        raise FormatVersionError(
            f"{path}: format_version {version} is newer than {FORMAT_VERSION}, the newest this padreel knows; "
            "run the version that wrote it, or a later one"
        )
    try:
        entry: Entry = codec.decode(Entry, body)
    except codec.CodecError as error:
        raise CorruptShardError(f"{path}: {error}; restore this file from a copy of the shard") from error
    if entry.n != int(path.stem):
        raise CorruptShardError(f"{path}: n: found {entry.n}, expected {path.stem}")
    if (entry.kind is Kind.EPISODE) != (entry.episode is not None):
        raise CorruptShardError(f"{path}: episode: must be there for kind episode and for no other ({entry.kind})")
    if (entry.kind is Kind.RELEASED) != (entry.released is not None):
        raise CorruptShardError(f"{path}: released: must be there for kind released and for no other ({entry.kind})")
    if entry.episode is not None and sorted(one.kind for one in entry.episode.files) != sorted(FILE_KINDS):
        raise CorruptShardError(f"{path}: episode.files: expected one each of {', '.join(FILE_KINDS)}")
    return entry


class CommitLog:
    """The commits of one shard."""

    def __init__(self, shard: Path) -> None:
        self._shard = shard
        self._folder = shard / COMMITS

    def create(self) -> None:
        """Make the folder durable if it is not there. Raises OSError."""
        files.make_folders([self._folder], self._shard)

    def path(self, n: int) -> Path:
        """Where commit N lies, if it is there."""
        return self._shard / commit_path(n)

    def exists(self, n: int) -> bool:
        return files.exists(self.path(n))

    def read(self, n: int) -> Entry | None:
        """Commit N, or None where there is none. Raises FormatVersionError, CorruptShardError, OSError."""
        path = self._shard / commit_path(n)
        data = files.read(path)
        return None if data is None else decode_entry(data, path)

    def last(self) -> Entry | None:
        """The last commit, None in an empty log. A listing may be stale (NFS): names beyond it are probed."""
        with files.announced("fold", self._folder):
            numbers = {int(match[1]) for name in os.listdir(self._folder) if (match := _NAME.fullmatch(name))}
            tail = max(numbers, default=-1)
            if len(numbers) != tail + 1:
                missing = next(n for n in range(tail) if n not in numbers)
                if not self.exists(missing):
                    raise CorruptShardError(
                        f"{self._shard / commit_path(missing)}: missing, though commit {tail} exists; commits are "
                        "never deleted: restore it from a copy of the shard"
                    )
            last = self.read(tail) if tail >= 0 else None
            while (found := self.read(tail + 1)) is not None:
                last, tail = found, tail + 1
        return last

    def sync(self) -> None:
        """Make what `last` read durable: who linked it may have died before that. Raises OSError."""
        files.fsync_folder(self._folder)

    def episodes_of_last_file(self, last: Entry) -> list[Entry]:
        """The episode commits whose rows share the last episodes file, oldest first (at most 250)."""
        first = (last.totals.episodes - 1) // EPISODES_PER_FILE * EPISODES_PER_FILE
        return list(reversed(list(self.episodes_back(last, first))))

    def episodes_back(self, last: Entry, first: int = 0) -> Iterator[Entry]:
        """The commits of the episodes up to `last`, the latest first, back to the episode of index `first`.

        Raises DatasetError while an erase is carried out, CorruptShardError where one is missing or of another
        episode, and what `read` raises.
        """
        if last.erasing:
            raise DatasetError(
                f"{self._shard}: commit {last.latest_erasure} erases sessions and may not be carried out yet; wait for "
                "it, or, if it was interrupted, run `padreel erase` again or let a consumer open the shard"
            )
        n = last.n if last.episode is not None else last.previous_episode
        for wanted in range(last.totals.episodes - 1, max(first, 0) - 1, -1):
            entry = last if n == last.n else None if n is None else self.read(n)
            if entry is None or entry.episode is None or entry.episode.index != wanted:
                raise CorruptShardError(
                    f"{self._folder if n is None else self._shard / commit_path(n)}: expected the commit of episode "
                    f"{wanted}; restore this file from a copy of the shard"
                )
            yield entry
            n = entry.previous_episode

    def link(self, entry: Entry, folder: Path) -> bool:
        """Make `entry` commit N, durably. True: it is. False: N is another writer's.

        `folder` is the writer's publish folder: what is written there is gone once another writer has fenced it.
        After any error the log says who won, since a link's reply can be lost. Calling it again with the same entry
        is safe. Raises FencedError if the folder is gone, OSError if it is unknown whether N is durable.
        """
        final = self._shard / commit_path(entry.n)
        temp = folder / f"commit-{uuid4().hex}.json"
        try:
            files.write_durable(temp, encode_entry(entry))
            files.link_once(temp, final, "claim" if entry.kind is Kind.CLAIM else "link")
        except OSError as error:
            found = self.read(entry.n)
            if found is None and error.errno in files.GONE and not files.exists(temp):
                raise FencedError(f"{folder} is gone: another writer has taken the shard") from error
            if found is None:
                raise
            if found.uuid != entry.uuid:
                return False
        files.fsync_folder(self._folder)
        files.unlink(temp)
        return True
