"""The two co-partitioned topics as a stream of events.

Positions come from the dataset's log, never from the group: a partition is paused at once when it is assigned, and read
from where `resume` says. What the group is told is advisory, for lag tools.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import (
    CommitFailedError,
    GroupCoordinatorNotAvailableError,
    IllegalStateError,
    KafkaError,
    OffsetOutOfRangeError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from padreel.errors import BrokerError
from padreel.kafka.events import Answer, Assigned, Batch, Pair, Revoked, out_of_range
from padreel.kafka.leaving import in_time
from padreel.model import Topic
from padreel_schemas.security import PLAINTEXT, Security

_FETCH_BYTES = 8 * 2**20
_PARTITION_FETCH_BYTES = 2 * 2**20
# The broker answers when there is so much or after so long. Rigs that play would else have it answer every few records,
# and a batch costs as much as ten of them. One partition must be able to have so much, so that a backlog never waits.
_WORTH_FETCHING_BYTES = _PARTITION_FETCH_BYTES
_FETCH_WAIT_MS = 100
_RECORDS = 500
_DAY_MS = 86_400_000
_HEARTBEATS_MS = 300  # between two, for each second of the group's timeout: three may be lost


class KafkaSource:
    """A member of the consumer group, reading both topics."""

    def __init__(
        self,
        bootstrap_servers: str,
        group_id: str,
        frames_topic: str,
        pads_topic: str,
        *,
        client_id: str,
        group_timeout_seconds: float = 10.0,
        security: Security = PLAINTEXT,
    ) -> None:
        self._names = {Topic.FRAMES: frames_topic, Topic.PADS: pads_topic}
        self._topics = {name: topic for topic, name in self._names.items()}
        self._options: dict[str, Any] = {
            "bootstrap_servers": bootstrap_servers,
            "group_id": group_id,
            "client_id": client_id,
            # The group waits as long for its members when it shares out anew.
            "session_timeout_ms": round(group_timeout_seconds * 1000),
            "heartbeat_interval_ms": round(group_timeout_seconds * _HEARTBEATS_MS),
            **security.client_options(),
        }
        self._consumer: AIOKafkaConsumer | None = None
        self._generation = 0

    async def start(self, post: Callable[[Assigned | Revoked], None]) -> None:
        """Join the group; `post` is called from the event loop for each change of the assignment.

        Raises BrokerError if the broker cannot be reached.
        """
        logging.getLogger("aiokafka.consumer.group_coordinator").addFilter(_expected)
        self._consumer = AIOKafkaConsumer(
            **self._options,
            partition_assignment_strategy=(RangePartitionAssignor,),
            auto_offset_reset="none",
            enable_auto_commit=False,
            fetch_max_bytes=_FETCH_BYTES,
            max_partition_fetch_bytes=_PARTITION_FETCH_BYTES,
            fetch_min_bytes=_WORTH_FETCHING_BYTES,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            # Reading may rest for as long as a disk is full; the group must not take the partitions away for that.
            max_poll_interval_ms=_DAY_MS,
        )
        self._consumer.subscribe(list(self._names.values()), listener=_Listener(self, post))
        try:
            await self._consumer.start()
        except KafkaError as error:
            await self._consumer.stop()
            raise BrokerError(f"cannot join the group {self._options['group_id']!r}: {error}") from error

    async def stop(self) -> None:
        """Leave the group, or with its broker away just go. Nothing is committed, nothing is posted."""
        if self._consumer is not None:
            await in_time(self._consumer.stop(), "left the group without a word")

    async def getmany(self, allowed: Iterable[Pair], *, timeout_ms: int) -> list[Batch]:
        """The next records of the `allowed` partitions, of which there must be one.

        Waits about so long at most, except while the group rebalances. Raises BrokerError.
        """
        partitions = [self._tp(pair) for pair in allowed]
        assert partitions, "without any, aiokafka would read them all"
        try:
            found = await self._live.getmany(*partitions, timeout_ms=timeout_ms, max_records=_RECORDS)
        except OffsetOutOfRangeError as error:
            raise await self._lost(error) from error
        except KafkaError as error:
            raise BrokerError(f"reading {', '.join(self._names.values())} failed: {error}") from error
        return [
            Batch(self._topics[tp.topic], tp.partition, records, self._generation)
            for tp, records in found.items()
            if records
        ]

    def pause(self, partition: int) -> None:
        """Read a partition no further, of both topics, until `resume`."""
        for tp in self._both(partition):
            if tp in self._live.assignment():
                self._live.pause(tp)

    def resume(self, partition: int, frames: int, pads: int, generation: int) -> bool:
        """Read on from these offsets. False if the partition is not assigned, or was assigned anew since."""
        both = self._both(partition)
        if generation != self._generation or not self._live.assignment().issuperset(both):
            return False
        for tp, offset in zip(both, (frames, pads), strict=True):
            self._live.seek(tp, offset)
            self._live.resume(tp)
        return True

    async def positions(self, pairs: Iterable[Pair]) -> dict[Pair, int]:
        """Offsets of the next records to fetch. Never waits; what is not assigned is left out."""
        assigned = self._live.assignment()
        return {pair: await self._live.position(self._tp(pair)) for pair in pairs if self._tp(pair) in assigned}

    async def end_offsets(self, pairs: Iterable[Pair]) -> dict[Pair, int] | None:
        """End offsets in one question for all; None without an answer."""
        return await self._offsets(self._live.end_offsets, pairs)

    async def beginning_offsets(self, pairs: Iterable[Pair]) -> dict[Pair, int] | None:
        """Offsets of the oldest records that are still there; None without an answer."""
        return await self._offsets(self._live.beginning_offsets, pairs)

    async def offsets_at(self, timestamp_ms: int, pairs: Iterable[Pair]) -> dict[Pair, int | None] | None:
        """Offsets of the first records at or after a time; None in place of one where there is none yet."""
        asked = {self._tp(pair): timestamp_ms for pair in pairs}
        try:
            found = await self._live.offsets_for_times(asked)
        except KafkaError:
            return None
        return {self._pair(tp): at.offset if at is not None else None for tp, at in found.items()}

    async def committed(self, pairs: Iterable[Pair]) -> dict[Pair, int] | None:
        """How far the group was told that was read, 0 where it was told nothing; None without an answer."""
        found: dict[Pair, int] = {}
        for pair in pairs:
            try:
                found[pair] = await self._live.committed(self._tp(pair)) or 0
            except KafkaError:
                return None
        return found

    async def commit(self, positions: Mapping[Pair, int]) -> Answer:
        """Tell the group how far was read."""
        try:
            await self._live.commit({self._tp(pair): offset for pair, offset in positions.items()})
        except (CommitFailedError, IllegalStateError, RebalanceInProgressError, UnknownMemberIdError):
            return Answer.REFUSED
        except KafkaError:
            return Answer.UNKNOWN
        return Answer.ACCEPTED

    # ---- the inside

    @property
    def _live(self) -> AIOKafkaConsumer:
        assert self._consumer is not None, "not started"
        return self._consumer

    def _tp(self, pair: Pair) -> TopicPartition:
        return TopicPartition(self._names[pair[0]], pair[1])

    def _pair(self, tp: TopicPartition) -> Pair:
        return self._topics[tp.topic], tp.partition

    def _both(self, partition: int) -> tuple[TopicPartition, TopicPartition]:
        return self._tp((Topic.FRAMES, partition)), self._tp((Topic.PADS, partition))

    async def _offsets(self, ask: Callable[..., Any], pairs: Iterable[Pair]) -> dict[Pair, int] | None:
        try:
            found = await ask([self._tp(pair) for pair in pairs])
        except KafkaError:
            return None
        return {self._pair(tp): offset for tp, offset in found.items()}

    def _paused_at_zero(self, partitions: Iterable[TopicPartition]) -> Assigned:
        """Nothing may be awaited here: records are delivered before the listener's end, and a partition without an
        offset makes `getmany` raise for ever."""
        partitions = set(partitions)
        self._generation += 1
        self._live.pause(*partitions)
        for tp in partitions:
            self._live.seek(tp, 0)
        return Assigned(tuple(sorted({tp.partition for tp in partitions})), self._generation)

    async def _lost(self, error: OffsetOutOfRangeError) -> BrokerError:
        asked: dict[TopicPartition, int] = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        pairs = [self._pair(tp) for tp in asked]
        begin, end = await self.beginning_offsets(pairs), await self.end_offsets(pairs)
        said = [
            out_of_range(tp.topic, tp.partition, offset, (begin or {}).get(pair), (end or {}).get(pair))
            for (tp, offset), pair in zip(asked.items(), pairs, strict=True)
        ]
        return BrokerError("; ".join(said) or f"offsets out of range: {error}")


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, source: KafkaSource, post: Callable[[Assigned | Revoked], None]) -> None:
        self._source = source
        self._post = post

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        if partitions := tuple(sorted({tp.partition for tp in revoked})):
            self._post(Revoked(partitions))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._post(self._source._paused_at_zero(assigned))


def _expected(record: logging.LogRecord) -> bool:
    """Keep all log lines but those of a group's coordinator that is not there yet: it is asked again by itself."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    return not any(
        isinstance(one, GroupCoordinatorNotAvailableError) or one is GroupCoordinatorNotAvailableError
        for one in arguments
    )
