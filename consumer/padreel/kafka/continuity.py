"""Whether a topic is still the one that the log was written from.

A topic that was deleted and created anew under its old name soon outgrows the offset where reading must go on, and
nothing else would tell: its records are valid ones. So the last record that was read is read again and compared.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from padreel.errors import BrokerError
from padreel.model import LastRecord, RawRecord


def last_record(record: RawRecord) -> LastRecord:
    """What a commit remembers of the last record read; the CRC is of the key and the value."""
    return LastRecord(record.offset, record.timestamp, zlib.crc32(record.value or b"", zlib.crc32(record.key or b"")))


def reading_offset(start: int, last: LastRecord | None) -> int:
    """Where to begin reading so that records from `start` on come, and the last one read before."""
    return start if last is None else min(start, last.offset)


class Continuity:
    """Compares one record of a topic's partition and lets those from `start` on through."""

    def __init__(self, topic: str, partition: int, start: int, last: LastRecord | None) -> None:
        self._where = f"topic {topic!r}, partition {partition}"
        self._start = start
        self._last = last

    def check(self, records: Sequence[RawRecord]) -> Sequence[RawRecord]:
        """Take records as they were read; those at or after the start.

        Raises BrokerError if the record that was read last is another one now.
        """
        if self._last is not None and records[-1].offset >= self._last.offset:
            found = next((record for record in records if record.offset == self._last.offset), None)
            if found is not None and last_record(found) != self._last:
                raise BrokerError(
                    f"{self._where}: the record at offset {self._last.offset} is not the one that was read there "
                    f"before (timestamp {found.timestamp}, then {self._last.timestamp}): the topic was created anew. A "
                    "new --output-root and --group-id read the new topic"
                )
            self._last = None
        if records[0].offset >= self._start:
            return records
        return [record for record in records if record.offset >= self._start]
