"""What a source of records gives, and what it can be asked. No I/O, no library of Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from padreel.model import RawRecord, Topic

Pair = tuple[Topic, int]  # which topic, which partition


@dataclass(frozen=True, slots=True)
class Assigned:
    """The group gave this member these partitions, of both topics; all are paused."""

    partitions: tuple[int, ...]
    generation: int


@dataclass(frozen=True, slots=True)
class Revoked:
    """The group takes these partitions away, perhaps to give them back."""

    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one topic's partition, in offset order, never empty; `generation` is its assignment's.

    `bytes` are those of the records' values.
    """

    topic: Topic
    partition: int
    records: Sequence[RawRecord]
    generation: int
    bytes: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bytes", sum(len(record.value or b"") for record in self.records))


class Answer(Enum):
    """What the group said to a commit."""

    ACCEPTED = "accepted"
    REFUSED = "refused"  # this member is none any more, or not of these partitions
    UNKNOWN = "unknown"  # no answer


class Source(Protocol):
    """What a consumer reads from: `padreel.kafka.source.KafkaSource`, or a fake of it in tests."""

    async def start(self, post: Callable[[Assigned | Revoked], None]) -> None: ...
    async def stop(self) -> None: ...
    async def getmany(self, allowed: Iterable[Pair], *, timeout_ms: int) -> list[Batch]: ...
    def pause(self, partition: int) -> None: ...
    def resume(self, partition: int, frames: int, pads: int, generation: int) -> bool: ...
    async def positions(self, pairs: Iterable[Pair]) -> dict[Pair, int]: ...
    async def end_offsets(self, pairs: Iterable[Pair]) -> dict[Pair, int] | None: ...
    async def beginning_offsets(self, pairs: Iterable[Pair]) -> dict[Pair, int] | None: ...
    async def offsets_at(self, timestamp_ms: int, pairs: Iterable[Pair]) -> dict[Pair, int | None] | None: ...
    async def committed(self, pairs: Iterable[Pair]) -> dict[Pair, int] | None: ...
    async def commit(self, positions: Mapping[Pair, int]) -> Answer: ...


def out_of_range(topic: str, partition: int, offset: int, begin: int | None, end: int | None) -> str:
    """Says what was lost when `offset`, where reading must go on, is not in `begin`...`end` any more."""
    where = f"topic {topic!r}, partition {partition}: reading must go on at offset {offset}"
    if begin is not None and offset < begin:
        return (
            f"{where}, but the oldest record there is {begin}: records {offset} to {begin - 1} were deleted before "
            f"they were consumed. `padreel skip --partition {partition}` records the loss and lets the consumer go on; "
            "lengthen the topic's retention"
        )
    if end is not None and offset > end:
        return (
            f"{where}, but the topic ends at {end}: it was created anew, or lost records. A new --output-root and "
            "--group-id read the new topic"
        )
    return f"{where}, which the broker does not have"
