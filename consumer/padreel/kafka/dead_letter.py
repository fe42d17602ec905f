"""The dead-letter topic: what could not become part of an episode, and why.

A record that cannot be used is copied whole: key, value and timestamp. A session that is rejected leaves one letter
with the range of its frame records. The rest is in headers (UTF-8 text):

    padreel.kind          record | session | replayed
    padreel.topic         the source topic's name; with padreel.partition, padreel.offset, padreel.last-offset
    padreel.reason        as in the metrics; padreel.detail says it in words
    padreel.version       of the consumer

Letters come at least once: what is read again after a crash leaves its letter again, with the same source offset.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from padreel.core.decode import parse_key
from padreel.errors import BrokerError, DeadLetterError
from padreel.kafka.leaving import in_time
from padreel.kafka.reading import Reader
from padreel.model import DeadLetter, LetterKind, RawRecord, Rejected, SessionRejection, Topic
from padreel.version import __version__

# A whole record of the frames topic, and room for its headers.
MAX_LETTER_BYTES = 64 * 2**20
_DETAIL = 2_000  # characters
_PATIENCE_MS = 10_000  # a stop waits for an attempt in hand
# Letters are kept until somebody deletes them: they have their records' own times, which may be long ago.
TOPIC_SETTINGS = {"retention.ms": "-1", "max.message.bytes": str(MAX_LETTER_BYTES)}

Headers = list[tuple[str, bytes]]


def of_record(partition: int, rejected: Rejected, record: RawRecord) -> DeadLetter:
    """The letter of a record that cannot be used."""
    return DeadLetter(
        LetterKind.RECORD,
        rejected.topic,
        partition,
        record.offset,
        record.offset,
        rejected.reason.value,
        rejected.detail,
        record.key,
        record.value,
        record.timestamp,
    )


def of_session(partition: int, rejection: SessionRejection) -> DeadLetter:
    """The letter of a session, or the rest of one, that cannot become episodes."""
    return DeadLetter(
        LetterKind.SESSION,
        Topic.FRAMES,
        partition,
        rejection.first_frame_offset,
        rejection.last_frame_offset,
        rejection.reason.value,
        rejection.detail,
        rejection.key.encode(),
    )


def headers(letter: DeadLetter, topic_names: Mapping[Topic, str]) -> Headers:
    """What a letter says beside its record."""
    said = {
        "kind": letter.kind.value,
        "topic": topic_names[letter.topic],
        "partition": str(letter.partition),
        "offset": str(letter.first_offset),
        "last-offset": str(letter.last_offset),
        "reason": letter.reason,
        "detail": letter.detail[:_DETAIL],
        "version": __version__,
    }
    return [(f"padreel.{name}", text.encode(errors="replace")) for name, text in said.items()]


class DeadLetters:
    """Writes letters. An `async with` block."""

    def __init__(
        self, connection: Mapping[str, Any], topic: str, topic_names: Mapping[Topic, str], *, client_id: str
    ) -> None:
        self._topic = topic
        self._names = topic_names
        self._producer = AIOKafkaProducer(
            **connection,
            client_id=client_id,
            acks="all",
            max_request_size=MAX_LETTER_BYTES,
            request_timeout_ms=_PATIENCE_MS,
        )

    async def __aenter__(self) -> DeadLetters:
        """Connect. Raises BrokerError."""
        try:
            await self._producer.start()
        except KafkaError as error:
            await self._producer.stop()
            raise BrokerError(f"topic {self._topic!r} for dead letters: {error}") from error
        return self

    async def __aexit__(self, *error: object) -> None:
        await in_time(self._producer.stop(), f"closed topic {self._topic!r} without a word")

    async def send(self, letters: Sequence[DeadLetter]) -> None:
        """Return once every letter is acknowledged. Raises DeadLetterError; some may have been written then."""
        try:
            sent = [
                await self._producer.send(
                    self._topic,
                    key=letter.key,
                    # Kafka's clients send no record without both.
                    value=b"" if letter.key is None and letter.value is None else letter.value,
                    timestamp_ms=letter.timestamp if letter.timestamp is not None and letter.timestamp >= 0 else None,
                    headers=headers(letter, self._names),
                )
                for letter in letters
            ]
            await asyncio.gather(*sent)
        except KafkaError as error:
            where = f"{letters[0].topic} offset {letters[0].first_offset} of partition {letters[0].partition}"
            raise DeadLetterError(
                f"topic {self._topic!r} does not take the letter about {where} ({type(error).__name__}: {error}); "
                "nothing is released until it does"
            ) from error


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A letter as the topic has it. `source_topic` is the source's name."""

    kind: LetterKind
    source_topic: str
    partition: int
    first_offset: int
    last_offset: int
    reason: str
    detail: str
    version: str
    key: bytes | None
    value: bytes | None
    timestamp: int  # milliseconds of the epoch

    @property
    def session(self) -> str | None:
        """The session's key, if the letter has a valid one."""
        return parse_key(self.key)


def parse_letter(
    key: bytes | None, value: bytes | None, timestamp: int, found: Iterable[tuple[str, bytes]]
) -> StoredLetter | None:
    """The letter in a record, None if its headers are no letter's."""
    texts = {name.removeprefix("padreel."): text.decode(errors="replace") for name, text in found}
    try:
        return StoredLetter(
            kind=LetterKind(texts["kind"]),
            source_topic=texts["topic"],
            partition=int(texts["partition"]),
            first_offset=int(texts["offset"]),
            last_offset=int(texts["last-offset"]),
            reason=texts["reason"],
            detail=texts["detail"],
            version=texts["version"],
            key=key,
            value=value,
            timestamp=timestamp,
        )
    except (KeyError, ValueError):
        return None


async def read_letters(reader: Reader, topic: str) -> tuple[list[StoredLetter], int]:
    """All letters of a topic, each once, in the order they were written, and how many records are none.

    Raises BrokerError, also if there is no such topic.
    """
    partitions = await reader.partitions(topic)
    if not partitions:
        raise BrokerError(f"topic {topic!r} does not exist; a consumer makes it when it starts")
    letters: dict[tuple[object, ...], StoredLetter] = {}
    others = 0
    for partition in partitions:
        async for record in reader.records(topic, partition, await reader.range(topic, partition)):
            letter = parse_letter(record.key, record.value, record.timestamp, record.headers)
            if letter is None:
                others += 1
            else:
                source = letter.kind, letter.source_topic, letter.partition, letter.first_offset, letter.key
                letters.setdefault(source, letter)
    return list(letters.values()), others
