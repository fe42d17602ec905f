"""Taking single letters out of the dead-letter topic, which Kafka itself cannot do.

Kafka deletes only what lies before an offset. So the other letters before the last one that is to go are written once
more at the end, and then everything up to it is deleted. A letter that is there twice counts once, so that it does no
harm to die in between.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import KafkaError, PolicyViolationError

from padreel.errors import BrokerError
from padreel.kafka.dead_letter import MAX_LETTER_BYTES, parse_letter
from padreel.kafka.reading import Range, Reader

_IN_FLIGHT = 50  # letters


@dataclass(frozen=True, slots=True)
class LettersOf:
    """The letters of some sessions in one partition of the topic; `kept` others were written again if they are gone."""

    partition: int
    offsets: tuple[int, ...]
    kept: int = 0


async def find_letters(reader: Reader, topic: str, is_wanted: Callable[[str], bool]) -> list[LettersOf]:
    """Where the letters of the sessions are whose keys are wanted. Raises BrokerError.

    A topic that does not exist has none.
    """
    found: list[LettersOf] = []
    for partition in await reader.partitions(topic):
        offsets: list[int] = []
        async for record in reader.records(topic, partition, await reader.range(topic, partition)):
            letter = parse_letter(record.key, record.value, record.timestamp, record.headers)
            if letter is not None and letter.session is not None and is_wanted(letter.session):
                offsets.append(record.offset)
        if offsets:
            found.append(LettersOf(partition, tuple(offsets)))
    return found


async def remove_letters(
    reader: Reader, connection: Mapping[str, Any], topic: str, found: Collection[LettersOf], *, client_id: str
) -> list[LettersOf]:
    """Delete the letters that `find_letters` has found, and no others. Raises BrokerError; the same again goes on."""
    removed: list[LettersOf] = []
    producer = AIOKafkaProducer(**connection, client_id=client_id, acks="all", max_request_size=MAX_LETTER_BYTES)
    admin = AIOKafkaAdminClient(**connection, client_id=client_id)
    try:
        await producer.start()
        await admin.start()
        for one in found:
            kept = await _write_others(reader, producer, topic, one)
            before = {TopicPartition(topic, one.partition): RecordsToDelete(before_offset=one.offsets[-1] + 1)}
            await admin.delete_records(before)
            removed.append(LettersOf(one.partition, one.offsets, kept))
    except PolicyViolationError as error:
        raise BrokerError(
            f"topic {topic!r}: the broker deletes nothing from it ({error}): its cleanup.policy is not delete; set "
            "that, or use --keep-letters and delete the topic"
        ) from error
    except KafkaError as error:
        raise BrokerError(f"topic {topic!r}: {type(error).__name__}: {error}; erase again") from error
    finally:
        await producer.stop()
        await admin.close()
    return removed


async def _write_others(reader: Reader, producer: AIOKafkaProducer, topic: str, gone: LettersOf) -> int:
    """Write the other records before the last letter that goes once more, as they are; how many."""
    there = await reader.range(topic, gone.partition)
    under_way: deque[asyncio.Future[Any]] = deque()
    count, offsets = 0, set(gone.offsets)
    async for record in reader.records(topic, gone.partition, Range(there.begin, gone.offsets[-1] + 1)):
        if record.offset in offsets:
            continue
        sent = await producer.send(
            topic,
            partition=gone.partition,
            key=record.key,
            value=record.value,
            timestamp_ms=record.timestamp if record.timestamp >= 0 else None,
            headers=list(record.headers),
        )
        under_way.append(sent)
        count += 1
        if len(under_way) >= _IN_FLIGHT:
            await under_way.popleft()
    await asyncio.gather(*under_way)
    return count
