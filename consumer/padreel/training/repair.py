"""`padreel check --repair`: LeRobot's files of a shard made anew from its commit log."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from pathlib import Path
from uuid import uuid4

from padreel.dataset.commit_log import CommitLog
from padreel.dataset.shard import Shard
from padreel.errors import DatasetError
from padreel.training.known import known_spec


def repair(shard: Path) -> list[str]:
    """Take the shard, publish what its log names, and rewrite episodes files, tasks, stats and info.

    A consumer that has the shard is fenced and takes it again. Returns, in words, what could not be restored. Raises
    CorruptShardError where a file of an episode is gone or damaged, ForeignFileError for one that no commit names,
    other DatasetErrors, OSError.
    """
    last = CommitLog(shard).last()
    if last is None or not last.totals.episodes:
        raise DatasetError(f"{shard}: no episode is committed; there is nothing to make anew")
    spec, is_all = known_spec(shard)
    source = last.source
    writer = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}-repair"
    taken = Shard.open(
        shard,
        dataset=spec,
        writer=writer,
        group=source.group,
        cluster_id=source.cluster_id,
        frames_topic=source.frames_topic,
        pads_topic=source.pads_topic,
        partition=source.partition,
        partitions=source.partitions,
    )
    with closing(taken):
        taken.rewrite_episodes_files()
    lost = "action layout, profile name and settings are lost, they are not in the log"
    return [] if is_all else [f"{shard}: info.json: {lost}; the shard's next consumer writes them"]
