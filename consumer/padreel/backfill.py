"""`--until end`: when everything that was published before start-up is committed."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from padreel.kafka.events import Pair
from padreel.model import Topic
from padreel.partition import Partition


class Backfill:
    """Knows whether what was there at start-up is done. `targets` are the end offsets of then."""

    def __init__(self, targets: Mapping[Pair, int]) -> None:
        self._targets = targets
        self._is_remembered = False

    def is_done(self, partitions: Collection[Partition], now_ns: int) -> bool:
        """Whether these are read to their targets, and it is committed, too, how far they were read.

        The first time that all else is done it asks for these last commits.
        """
        if not all(map(self._has_reached, partitions)):
            return False
        if not self._is_remembered:
            self._is_remembered = True
            for partition in partitions:
                partition.commit_progress(now_ns)
            return False
        return True

    def _has_reached(self, partition: Partition) -> bool:
        return (
            not partition.is_resting
            and partition.outbox.is_idle
            and not partition.waits_for_files
            and partition.at is not None
            and partition.at[0] >= self._targets[Topic.FRAMES, partition.number]
            and partition.at[1] >= self._targets[Topic.PADS, partition.number]
        )
