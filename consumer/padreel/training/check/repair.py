"""`padreel check --repair`: LeRobot's files of a shard made anew from its commit log."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from padreel.dataset.commit_log import CommitLog
from padreel.dataset.runs import record_run
from padreel.dataset.shard import Shard
from padreel.errors import DatasetError
from padreel.training.take import take


def repair(shard: Path, run: str, settings: Mapping[str, Any]) -> list[str]:
    """Take the shard, publish what its log names, and rewrite episodes files, tasks, stats and info.

    A consumer that has the shard is fenced and takes it again. What was done is told in the shard's folder `runs`, with
    the JSON-able `settings`, under the id `run`. Returns, in words, what could not be restored. Raises
    CorruptShardError where a file of an episode is gone or damaged, ForeignFileError for one that no commit names,
    other DatasetErrors, OSError.
    """
    last = CommitLog(shard).last()
    if last is None or not last.totals.episodes:
        raise DatasetError(f"{shard}: no episode is committed; there is nothing to make anew")
    taken, lost = take(shard, last.source, "repair", run, Shard)
    with closing(taken):
        taken.rewrite_episodes_files()
        record_run(shard, run, "check --repair", settings, taken.claim, not_restored=lost)
    return lost
