"""How old the records are that a partition's log still needs."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence

from padreel.model import RawRecord

_STEP_MS = 1_000


class Timestamps:
    """When a topic's records were written, by their offsets, to about a second or a batch.

    As many are kept as there are seconds between the log's `next` and what was read last.
    """

    def __init__(self) -> None:
        self._offsets: array[int] = array("q")
        self._times_ms: array[int] = array("q")

    def add(self, records: Sequence[RawRecord]) -> None:
        """Take records that were read, in offset order and not empty."""
        first = records[0]
        # Rigs' clocks differ, so that timestamps go back and forth: a step in either direction is kept.
        if not self._times_ms or abs(first.timestamp - self._times_ms[-1]) >= _STEP_MS:
            self._offsets.append(first.offset)
            self._times_ms.append(first.timestamp)

    def at(self, offset: int) -> int | None:
        """The timestamp at `offset` in milliseconds of the epoch, or None if nothing was read from there on.

        `offset` never goes back: what lies before it is forgotten.
        """
        if not self._offsets:
            return None
        before = max(0, bisect_right(self._offsets, offset) - 1)
        del self._offsets[:before], self._times_ms[:before]
        return self._times_ms[0]
