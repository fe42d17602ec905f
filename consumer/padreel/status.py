"""`padreel status`: what the logs of an output root's shards say. No broker is asked, and nothing is written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from padreel.dataset import layout
from padreel.dataset.commit_log import CommitLog, Entry
from padreel.dataset.entries import was_quarantined
from padreel.errors import SettingsError

RECENT_SECONDS = 3600.0
_SHARD = re.compile(r"partition-(\d{5,})")


@dataclass(frozen=True, slots=True)
class OpenRow:
    """A session that has begun and not ended, as the last commit of its shard has it.

    `frames` and `seconds` (by the rig's clock) are of what is accounted: an episode that is being recorded counts once
    it is committed. `lag_seconds` is the age of the last frame record that had been read by then.
    """

    session: str  # its key
    rig: str
    partition: int
    frames: int
    seconds: float
    lag_seconds: float
    is_silent: bool


@dataclass(frozen=True, slots=True)
class CommittedRow:
    """An episode of the last hour; `committed_at` in Unix time."""

    session: str
    rig: str
    partition: int
    episode: int
    frames: int
    seconds: float
    ended_by: str
    committed_at: float
    quality: float | None = None  # None where it was not judged
    quarantined: bool = False  # when it was committed


@dataclass(frozen=True, slots=True)
class Status:
    """Sessions of all shards, by partition; the latest episode last."""

    shards: int
    open: tuple[OpenRow, ...]
    committed: tuple[CommittedRow, ...]


def read_status(root: Path, now: float) -> Status:
    """The status of an output root, or of a single shard, at `now` in Unix time.

    Raises SettingsError where there is neither, DatasetError, OSError.
    """
    shards = find_shards(root)
    if not shards:
        raise SettingsError(f"{root}: found no shard, expected an output root of padreel (folders partition-00000 ...)")
    opened: list[OpenRow] = []
    committed: list[CommittedRow] = []
    for number, path in shards:
        log = CommitLog(path)
        last = log.last()
        if last is not None:
            opened += _open(number, last, _written_at(path, last.n), now)
            committed += _committed(number, path, log, last, now)
    return Status(len(shards), tuple(opened), tuple(sorted(committed, key=lambda row: row.committed_at)))


def find_shards(root: Path) -> list[tuple[int, Path]]:
    """The shards below a root by partition, or the root itself if it is one. Raises OSError."""
    if (root / layout.COMMITS).is_dir():
        return [(0, root)]
    if not root.is_dir():
        return []
    found = [(int(match[1]), path) for path in root.iterdir() if (match := _SHARD.fullmatch(path.name))]
    return sorted((number, path) for number, path in found if (path / layout.COMMITS).is_dir())


def _written_at(path: Path, n: int) -> float:
    """When commit N was written, in Unix time. The log has no times of its own: it goes by its files'."""
    return (path / layout.commit_path(n)).stat().st_mtime


def _open(number: int, last: Entry, written_at: float, now: float) -> Iterator[OpenRow]:
    if last.state is None:
        return
    record = last.state.last_frame
    # A partition that has not been read yet, or whose last record Kafka has deleted, has the log's own time alone.
    read_until = written_at if record is None or record.timestamp < 0 else record.timestamp / 1000
    for key, session in sorted(last.state.open.items()):
        known = session.time_ns is not None and session.session_ns is not None
        yield OpenRow(
            session=key,
            rig=session.session.rig_id if session.session else "",
            partition=number,
            frames=session.sequence,
            seconds=((session.time_ns or 0) - (session.session_ns or 0)) / 1e9 if known else 0.0,
            lag_seconds=max(0.0, now - read_until),
            is_silent=session.dormant,
        )


def _committed(number: int, path: Path, log: CommitLog, last: Entry, now: float) -> Iterator[CommittedRow]:
    """The episodes of the last hour, latest first: each commit names the one before."""
    entry: Entry | None = last
    if last.episode is None:
        entry = None if last.previous_episode is None else log.read(last.previous_episode)
    while entry is not None and entry.episode is not None:
        written_at = _written_at(path, entry.n)
        if written_at < now - RECENT_SECONDS:
            return
        episode = entry.episode
        yield CommittedRow(
            session=str(episode.columns["session"]),
            rig=str(episode.columns["rig"]),
            partition=number,
            episode=episode.index,
            frames=episode.length,
            seconds=episode.to_timestamp - episode.from_timestamp,
            ended_by=str(episode.columns["end_reason"]),
            committed_at=written_at,
            quality=episode.quality.score if episode.quality is not None else None,
            quarantined=was_quarantined(entry),
        )
        entry = None if entry.previous_episode is None else log.read(entry.previous_episode)
