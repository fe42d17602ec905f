"""Commits that say what an operator gave up: records that Kafka no longer has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from padreel.core.skip import skipped
from padreel.dataset import entries
from padreel.dataset.commit_log import CommitLog, Entry, Kind, Lost, Source
from padreel.dataset.layout import COMMITS
from padreel.dataset.publish import PublishFolder
from padreel.errors import DatasetError, FencedError


def commit_lost(shard: Path, source: Source, writer: str, lost: list[Lost]) -> list[Entry]:
    """Take the shard and commit one entry per range; a consumer that had it is fenced and goes on from there.

    Nothing is published: the tree is as it was, and whoever opens the shard next rolls it forward.

    Raises DatasetError if there is nothing to go on from or the log does not stand at the ranges' beginnings,
    FencedError if another writer took the shard meanwhile (nothing or a part is committed then), OSError.
    """
    if not (shard / COMMITS).is_dir():
        raise DatasetError(f"{shard}: no shard of padreel: it has no folder {COMMITS}")
    log, folder = CommitLog(shard), PublishFolder(shard)
    try:
        folder.fence()
        last = log.last()
        if last is None or last.state is None:
            raise DatasetError(f"{shard}: no commit says where reading goes on; there is nothing to skip")
        entries.check_source(last, source, str(shard))
        last = _link(log, entries.claim(last, writer, source), folder)
        made: list[Entry] = []
        for one in lost:
            last = _link(log, _following(last, one, shard), folder)
            made.append(last)
    finally:
        folder.remove()
    return made


def _link(log: CommitLog, entry: Entry, folder: PublishFolder) -> Entry:
    if not log.link(entry, folder.path):
        raise FencedError(f"commit {entry.n} is another writer's, {folder.path} was too late; run it again")
    return entry


def _following(last: Entry, lost: Lost, shard: Path) -> Entry:
    state = last.state
    assert state is not None
    start = entries.next_offset(state, lost.topic)
    if start != lost.first_offset:
        raise DatasetError(
            f"{shard}: {lost.topic}: reading goes on at offset {start}, expected {lost.first_offset}: it has gone on "
            "meanwhile; look again what is lost"
        )
    return replace(
        last,
        n=last.n + 1,
        uuid=uuid4().hex,
        kind=Kind.LOST,
        state=skipped(state, lost.topic, lost.next_offset),
        previous_episode=entries.latest_episode(last),
        episode=None,
        rejections=(),
        lost=lost,
        released=None,
        previous_release=entries.latest_release(last),
    )
