"""Taking a shard as a person: to mend it, or to change one's mind."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TypeVar

from padreel.dataset.commit_log import Source
from padreel.dataset.shard import Shard
from padreel.training.known import known_spec

S = TypeVar("S", bound=Shard)


def take(shard: Path, source: Source, purpose: str, run: str, kind: type[S]) -> tuple[S, list[str]]:
    """Open a shard to write, and say in words what of its info.json is lost; `source` is its last commit's.

    The claim names the `purpose` and the `run`. A consumer that has the shard is fenced and takes it again. Raises
    DatasetError, OSError.
    """
    spec, is_all = known_spec(shard)
    taken = kind.open(
        shard,
        dataset=spec,
        writer=f"{socket.gethostname()}-{os.getpid()}-{run[:8]}-{purpose}",
        group=source.group,
        cluster_id=source.cluster_id,
        frames_topic=source.frames_topic,
        pads_topic=source.pads_topic,
        partition=source.partition,
        partitions=source.partitions,
    )
    lost = "action layout, profile name and settings are lost, they are not in the log"
    return taken, [] if is_all else [f"{shard}: info.json: {lost}; the shard's next consumer writes them"]
