"""A shard that was opened to take sessions out of it: as any writer, it has claimed it and fenced whoever had it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from padreel.core.erase import erased
from padreel.dataset import entries, files, layout
from padreel.dataset.commit_log import CommitLog, Entry, Kind, Totals
from padreel.dataset.erased import rewritten
from padreel.dataset.erasure import Erasure, MovedRows
from padreel.dataset.quarantine import held_back
from padreel.dataset.shard import Shard
from padreel.errors import DatasetError, FencedError


class ErasingShard(Shard):
    """Made by `open`, as any shard. What was interrupted of an earlier erase is carried out by then."""

    @property
    def log(self) -> CommitLog:
        return self._log

    @property
    def last(self) -> Entry:
        """The last commit: this writer's."""
        return self._last

    def stage_rows(self, n: int, prepared: Path, sha256: str, size: int) -> MovedRows:
        """Stage the rows that commit N's episode will have: a durable file below the shard. Raises OSError."""
        name = layout.staged_name(self.claim, "data")
        files.link_once(prepared, self.path / layout.STAGING / name)
        return MovedRows(n, name, sha256, size)

    def unstage(self, moved: Sequence[MovedRows]) -> None:
        """Remove what was staged for an erase that was not begun. Raises OSError."""
        for one in moved:
            files.unlink(self.path / layout.STAGING / one.name)

    def erase(self, erasure: Erasure) -> Entry:
        """Commit `erasure`, for which everything is staged, and carry it out; its commit.

        Raises FencedError, OSError; once its commit is in the log whoever opens the shard next completes it.
        """
        files.fsync_folder(self.path / layout.STAGING)
        entry = erasing_entry(self._log, self._last, erasure)
        if not self._log.link(entry, self._folder.path):
            raise FencedError(f"{self.path}: commit {entry.n} is another writer's: it has taken the shard")
        if self._stage is not None:
            self._stage.close()
        self._last, self._episodes = entry, None
        self._roll_forward()
        return entry


def erasing_entry(log: CommitLog, last: Entry, erasure: Erasure) -> Entry:
    """The commit that erases: the state and totals of `last`, which is the log's last one, without the sessions.

    Raises DatasetError if `last` has no state, CorruptShardError.
    """
    if last.state is None:
        raise DatasetError(f"commit {last.n}: nothing was read yet; there is nothing to erase")
    n, keys = last.n + 1, erasure.keys
    totals, previous = Totals(), None
    left = [one for one in rewritten(log, erasure) if one.episode is not None]
    before = left[-1] if erasure.moved else None if erasure.kept is None else log.read(erasure.kept)
    if not erasure.episodes:
        totals, previous = last.totals, entries.latest_episode(last)
    elif before is not None:
        totals, previous = before.totals, before.n
    return replace(
        last,
        n=n,
        uuid=uuid4().hex,
        kind=Kind.ERASED,
        state=erased(last.state, keys),
        totals=_totals(last.totals, totals, erasure, _quarantined(log, last, erasure, left)),
        previous_episode=previous,
        episode=None,
        rejections=(),
        lost=None,
        erasure=erasure,
        latest_erasure=n,
        erasing=True,
        released=None,
        previous_release=entries.latest_release(last),
    )


def _quarantined(log: CommitLog, last: Entry, erasure: Erasure, changed: Sequence[Entry]) -> list[int]:
    """The indices, as they are afterwards, of the episodes in quarantine that stay."""
    moved = {one.n: one.episode.index for one in changed if one.episode is not None}
    stay = [one for one in held_back(log, last) if one.n not in erasure.episodes]
    return [moved.get(one.n, one.episode.index) for one in stay if one.episode is not None]


def _totals(last: Totals, left: Totals, erasure: Erasure, quarantined: Sequence[int]) -> Totals:
    """The totals of `last` with what of it counts episodes as in `left`. How records were accounted stays."""
    keys = erasure.keys
    return replace(
        last,
        episodes=left.episodes,
        rows=left.rows,
        forced=left.forced,
        late=left.late,
        stats=left.stats,
        converted=tuple(key for key in last.converted if key not in keys),
        converted_count=last.converted_count - sum(bool(one.episodes) for one in erasure.sessions),
        skipped=tuple(one for one in last.skipped if one.session not in keys),
        skipped_count=last.skipped_count - sum(one.rejections for one in erasure.sessions),
        quarantined_count=len(quarantined),
        quarantined=tuple(quarantined[-layout.NAMES_KEPT :]),
    )
