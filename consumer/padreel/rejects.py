"""Rejected records: a log that a broken rig cannot flood, and the limit at which nearly all would be lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import structlog

from padreel.errors import TooManyRejectedError
from padreel.model import Rejected

CONSECUTIVE = 1_000
WINDOW = 10_000
SHARE = 0.95

_LINES = 20  # log lines per interval
_INTERVAL_NS = 10_000_000_000

_log = structlog.get_logger("padreel.rejects")


class RejectLimit:
    """Judges all records that were read, in reading order."""

    def __init__(self) -> None:
        self._seen = 0
        self._rejected: deque[int] = deque()  # numbers of those rejected among the last WINDOW records
        self._consecutive = 0

    def add(self, records: int, rejected: Sequence[int]) -> None:
        """Judge so many records more; `rejected` are the places of those of them that were, ascending from 0.

        Raises TooManyRejectedError at 1,000 in a row, or 95 % of the last 10,000.
        """
        for place in rejected:
            number = self._seen + place
            goes_on = self._rejected and self._rejected[-1] == number - 1
            self._consecutive = self._consecutive + 1 if goes_on else 1
            self._rejected.append(number)
            self._judge(number + 1)
        self._seen += records
        self._judge(self._seen)

    def _judge(self, seen: int) -> None:
        rejected = self._rejected
        while rejected and rejected[0] < seen - WINDOW:
            rejected.popleft()
        if self._consecutive >= CONSECUTIVE:
            raise TooManyRejectedError(f"the last {CONSECUTIVE:,} records were all rejected; {_WHAT_TO_DO}")
        if seen >= WINDOW and len(rejected) >= SHARE * WINDOW:
            raise TooManyRejectedError(f"{len(rejected):,} of the last {WINDOW:,} records were rejected; {_WHAT_TO_DO}")


_WHAT_TO_DO = (
    "stopping loses nothing, going on would. The log says why each was: check that --frames-topic and --pads-topic are "
    "the rigs' topics, and that rigs and consumer are of one version"
)


class RejectLog:
    """One line per rejected record, but not more than some per interval; then one that counts the rest."""

    def __init__(self) -> None:
        self._since_ns: int | None = None
        self._lines = 0
        self._silent = 0

    def write(self, topic: str, partition: int, rejected: Rejected, now_ns: int) -> None:
        """Log `rejected`, or count it if there were too many lately."""
        if self._since_ns is None or now_ns - self._since_ns >= _INTERVAL_NS:
            self.flush()
            self._since_ns = now_ns
        if self._lines >= _LINES:
            self._silent += 1
            return
        self._lines += 1
        _log.warning(
            "record rejected",
            topic=topic,
            partition=partition,
            offset=rejected.offset,
            key=rejected.key,
            reason=rejected.reason.value,
            detail=rejected.detail,
        )

    def flush(self) -> None:
        """Say how many were not logged since the last time."""
        if self._silent:
            _log.warning("more records rejected", records=self._silent)
        self._lines = self._silent = 0
