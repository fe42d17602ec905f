"""`padreel check --repair`: LeRobot's files of a shard made anew from its commit log."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from padreel.dataset.commit_log import CommitLog
from padreel.errors import DatasetError
from padreel.training.take import take


def repair(shard: Path) -> list[str]:
    """Take the shard, publish what its log names, and rewrite episodes files, tasks, stats and info.

    A consumer that has the shard is fenced and takes it again. Returns, in words, what could not be restored. Raises
    CorruptShardError where a file of an episode is gone or damaged, ForeignFileError for one that no commit names,
    other DatasetErrors, OSError.
    """
    last = CommitLog(shard).last()
    if last is None or not last.totals.episodes:
        raise DatasetError(f"{shard}: no episode is committed; there is nothing to make anew")
    taken, lost = take(shard, last.source, "repair")
    with closing(taken):
        taken.rewrite_episodes_files()
    return lost
