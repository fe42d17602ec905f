"""Publishes a round's sessions, each at its own pace, through a broker that may restart meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from padreel.kafka.dead_letter import StoredLetter, parse_letter
from padreel_schemas.recording import PublishedRecord
from tests.chaos.rigs import loose_record
from tests.chaos.schedule import PARTITIONS, Kind, LoosePlan, Plan, SessionPlan

_PATIENCE_MS = 300_000  # with a broker that is away
_STEP_SECONDS = 0.05

Records = Mapping[tuple[int, Kind], Sequence[PublishedRecord]]


@dataclass(frozen=True, slots=True)
class Topics:
    """The three topics of a round, and its group."""

    group: str

    @property
    def frames(self) -> str:
        return f"{self.group}.frames"

    @property
    def pads(self) -> str:
        return f"{self.group}.gamepad"

    @property
    def letters(self) -> str:
        return f"{self.frames}.dead-letters"  # as tests.e2e.streams.demo_flags has it


@asynccontextmanager
async def _admin(broker: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def create(broker: str, topics: Topics) -> None:
    """Make the topics of a round. Raises KafkaError."""
    async with _admin(broker) as admin:
        made = [
            NewTopic(name, num_partitions=PARTITIONS, replication_factor=1) for name in (topics.frames, topics.pads)
        ]
        made.append(NewTopic(topics.letters, num_partitions=1, replication_factor=1))
        response = await admin.create_topics(made)
    for name, code, *message in response.topic_errors:
        assert code == 0, f"topic {name}: error {code}: {message}"


async def delete(broker: str, topics: Topics) -> None:
    """Delete the topics of a round, so that a later restart has less to read."""
    async with _admin(broker) as admin:
        await admin.delete_topics([topics.frames, topics.pads, topics.letters])


def key(session: SessionPlan) -> bytes:
    """A session's key; every rig has its own run."""
    return f"{session.name}@{1 + session.recording:x}".encode()


class Rigs:
    """All rigs of a round. An `async with` block."""

    def __init__(self, broker: str, topics: Topics, records: Records) -> None:
        self._topics = {"frames": topics.frames, "pads": topics.pads}
        self._records = records
        self._producer = AIOKafkaProducer(
            bootstrap_servers=broker,
            client_id="chaos-rigs",
            enable_idempotence=True,  # as the shim's
            max_request_size=2**24,
            linger_ms=5,
            request_timeout_ms=_PATIENCE_MS,
        )

    async def __aenter__(self) -> Rigs:
        await self._producer.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._producer.stop()

    async def play(self, plan: Plan) -> None:
        """Publish everything; returns once the broker has it all. Raises KafkaError."""
        async with asyncio.TaskGroup() as group:
            for session in plan.sessions:
                group.create_task(self._session(session))
            for loose in plan.loose:
                group.create_task(self._loose(loose))

    async def publish(self, sessions: Iterable[SessionPlan]) -> None:
        """Publish sessions one after the other, as fast as can be."""
        for session in sessions:
            await self._send_all(session, self._records[session.recording, session.kind], 0.0)

    async def _session(self, session: SessionPlan) -> None:
        await asyncio.sleep(session.starts)
        records = list(self._records[session.recording, session.kind])
        pause = session.lasts / len(records)
        if session.resend:
            reached = max(1, round(session.resend_after * len(records)))
            await self._send_all(session, records[:reached], pause)
            await asyncio.sleep(session.away)
            records = records[max(0, reached - session.resend) :]
        await self._send_all(session, records, pause)

    async def _send_all(self, session: SessionPlan, records: Sequence[PublishedRecord], pause: float) -> None:
        waited, sent = 0.0, []
        for record in records:
            topic = self._topics[record.topic]
            sent.append(
                await self._producer.send(topic, value=record.value, key=key(session), partition=session.partition)
            )
            waited += pause
            if waited >= _STEP_SECONDS:
                await asyncio.sleep(waited)
                waited = 0.0
        await asyncio.gather(*sent)

    async def _loose(self, loose: LoosePlan) -> None:
        await asyncio.sleep(loose.at)
        topic, name, value = loose_record(loose.kind)
        await self._producer.send_and_wait(self._topics[topic], value=value, key=name, partition=loose.partition)


async def read_letters(broker: str, topic: str) -> list[StoredLetter]:
    """All dead letters, those that came twice too."""
    async with AIOKafkaConsumer(bootstrap_servers=broker, auto_offset_reset="earliest") as reader:
        tp = TopicPartition(topic, 0)
        reader.assign([tp])
        end = (await reader.end_offsets([tp]))[tp]
        letters = []
        while await reader.position(tp) < end:
            for record in (await reader.getmany(tp, timeout_ms=200)).get(tp, []):
                letter = parse_letter(record.key, record.value, record.timestamp, record.headers)
                assert letter is not None, f"{topic}: record {record.offset} is no letter: {record.headers}"
                letters.append(letter)
    return letters


async def end_offsets(broker: str, topic: str) -> list[int]:
    """How many records each partition of a topic has had."""
    async with AIOKafkaConsumer(bootstrap_servers=broker) as reader:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        ends = await reader.end_offsets(partitions)
    return [ends[tp] for tp in partitions]
