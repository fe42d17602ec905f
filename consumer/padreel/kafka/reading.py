"""Reading topics outside of a consumer group: what is there, and ranges of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from padreel.errors import BrokerError

_FETCH_BYTES = 8 * 2**20
_WAIT_MS = 200


class Range(NamedTuple):
    """Offsets that a partition holds: the oldest, and one more than the newest."""

    begin: int
    end: int


class Reader:
    """Reads partitions by their offsets. Made by `open_reader`."""

    def __init__(self, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient) -> None:
        self._consumer = consumer
        self._admin = admin

    async def partitions(self, topic: str) -> list[int]:
        """The topic's partitions, none if it does not exist. Raises BrokerError."""
        try:
            # Asked for all: asking for one by its name may create it.
            described = await self._admin.describe_topics()
        except KafkaError as error:
            raise BrokerError(f"topic {topic!r}: {error}") from error
        return sorted(one["partition"] for found in described if found["topic"] == topic for one in found["partitions"])

    async def range(self, topic: str, partition: int) -> Range:
        """What the partition holds now. Raises BrokerError."""
        tp = TopicPartition(topic, partition)
        try:
            begin, end = await self._consumer.beginning_offsets([tp]), await self._consumer.end_offsets([tp])
        except KafkaError as error:
            raise BrokerError(f"topic {topic!r}, partition {partition}: {error}") from error
        return Range(begin[tp], end[tp])

    async def records(self, topic: str, partition: int, wanted: Range) -> AsyncIterator[ConsumerRecord]:
        """The records of a range that are still there, in order. Raises BrokerError."""
        found = await self.range(topic, partition)
        at, stop = max(wanted.begin, found.begin), min(wanted.end, found.end)
        tp = TopicPartition(topic, partition)
        self._consumer.assign([tp])
        self._consumer.seek(tp, at)
        try:
            while at < stop:
                batches = await self._consumer.getmany(tp, timeout_ms=_WAIT_MS)
                for record in batches.get(tp, ()):
                    if record.offset >= stop:
                        return
                    yield record
                at = await self._consumer.position(tp)
        except KafkaError as error:
            raise BrokerError(f"topic {topic!r}, partition {partition}, offset {at}: {error}") from error


@asynccontextmanager
async def open_reader(connection: Mapping[str, Any], *, client_id: str) -> AsyncIterator[Reader]:
    """A reader for the length of an `async with` block. Raises BrokerError."""
    consumer = AIOKafkaConsumer(
        **connection,
        client_id=client_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_bytes=_FETCH_BYTES,
    )
    admin = AIOKafkaAdminClient(**connection, client_id=client_id)
    try:
        try:
            await consumer.start()
            await admin.start()
        except KafkaError as error:
            raise BrokerError(
                f"no Kafka broker answers at {connection['bootstrap_servers']} ({error}); check --bootstrap-servers "
                "(KAFKA_BOOTSTRAP_SERVERS)"
            ) from error
        yield Reader(consumer, admin)
    finally:
        await admin.close()
        await consumer.stop()
