"""What a source of records promises, on a broker in memory and on a real one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Protocol
from uuid import uuid4

import pytest

from padreel.errors import BrokerError
from padreel.kafka.events import Answer, Assigned, Batch, Pair, Revoked, Source
from padreel.kafka.source import KafkaSource
from padreel.kafka.topics import check_topics
from padreel.model import Topic
from tests.fakes import FakeBroker, FakeSource

FRAMES, PADS = Topic.FRAMES, Topic.PADS


class World(Protocol):
    """Two topics of two partitions and a group, to produce to and to read from."""

    async def set_up(self) -> None: ...
    async def produce(self, pair: Pair, value: bytes, timestamp: int) -> None: ...
    async def delete_before(self, pair: Pair, offset: int) -> None: ...
    def source(self) -> Source: ...
    async def tear_down(self) -> None: ...


class MemoryWorld:
    def __init__(self) -> None:
        self.broker = FakeBroker(2)

    async def set_up(self) -> None:
        return

    async def produce(self, pair: Pair, value: bytes, timestamp: int) -> None:
        self.broker.produce(pair, b"s@1", value, timestamp)

    async def delete_before(self, pair: Pair, offset: int) -> None:
        self.broker.delete_before(pair, offset)

    def source(self) -> Source:
        return FakeSource(self.broker)

    async def tear_down(self) -> None:
        return


class KafkaWorld:
    def __init__(self, servers: str) -> None:
        self.servers = servers
        self.run = uuid4().hex[:8]
        self.names = {FRAMES: f"frames-{self.run}", PADS: f"pads-{self.run}"}

    async def set_up(self) -> None:
        from aiokafka import AIOKafkaProducer
        from aiokafka.admin import AIOKafkaAdminClient, NewTopic

        self.admin = AIOKafkaAdminClient(bootstrap_servers=self.servers)
        await self.admin.start()
        # The tests' timestamps are of 1970: retention would delete the records at its next round.
        forever = {"retention.ms": "-1"}
        await self.admin.create_topics([NewTopic(name, 2, 1, topic_configs=forever) for name in self.names.values()])
        self.producer = AIOKafkaProducer(bootstrap_servers=self.servers)
        await self.producer.start()

    async def produce(self, pair: Pair, value: bytes, timestamp: int) -> None:
        await self.producer.send_and_wait(
            self.names[pair[0]], value, key=b"s@1", partition=pair[1], timestamp_ms=timestamp
        )

    async def delete_before(self, pair: Pair, offset: int) -> None:
        from aiokafka import TopicPartition
        from aiokafka.admin import RecordsToDelete

        await self.admin.delete_records({TopicPartition(self.names[pair[0]], pair[1]): RecordsToDelete(offset)})

    def source(self) -> Source:
        return KafkaSource(self.servers, f"group-{self.run}", self.names[FRAMES], self.names[PADS], client_id="test")

    async def tear_down(self) -> None:
        await self.producer.stop()
        await self.admin.delete_topics(list(self.names.values()))
        await self.admin.close()


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.broker)])
def world(request: pytest.FixtureRequest) -> World:
    return MemoryWorld() if request.param == "memory" else KafkaWorld(request.getfixturevalue("broker"))


class Member:
    """A source that was started, and what it posted."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.events: asyncio.Queue[Assigned | Revoked] = asyncio.Queue()

    async def start(self) -> Assigned:
        await self.source.start(self.events.put_nowait)
        return await self.assigned()

    async def assigned(self) -> Assigned:
        """The next assignment that is not empty."""
        while True:
            event = await asyncio.wait_for(self.events.get(), 300)
            if isinstance(event, Assigned) and event.partitions:
                return event

    async def read(self, pairs: list[Pair], count: int) -> list[Batch]:
        batches: list[Batch] = []
        async with asyncio.timeout(300):
            while sum(len(batch.records) for batch in batches) < count:
                batches += await self.source.getmany(pairs, timeout_ms=200)
        return batches


def run(world: World, scene: Callable[[Member], Coroutine[Any, Any, None]]) -> None:
    async def play() -> None:
        await world.set_up()
        member = Member(world.source())
        try:
            await scene(member)
        finally:
            await member.source.stop()
            await world.tear_down()

    asyncio.run(play())


def values(batches: list[Batch], pair: Pair) -> list[bytes | None]:
    return [one.value for batch in batches if (batch.topic, batch.partition) == pair for one in batch.records]


def test_nothing_is_read_before_resume_and_then_from_there_on(world: World) -> None:
    async def scene(member: Member) -> None:
        for n in range(5):
            await world.produce((FRAMES, 1), b"f%d" % n, 1_000 + n)
            await world.produce((PADS, 1), b"p%d" % n, 1_000 + n)
        assigned = await member.start()
        assert assigned.partitions == (0, 1)
        pairs: list[Pair] = [(topic, n) for topic in Topic for n in (0, 1)]
        assert await member.source.getmany(pairs, timeout_ms=700) == []
        assert member.source.resume(1, 2, 4, assigned.generation)
        batches = await member.read(pairs, 4)
        assert values(batches, (FRAMES, 1)) == [b"f2", b"f3", b"f4"]
        assert values(batches, (PADS, 1)) == [b"p4"]
        assert all(batch.generation == assigned.generation for batch in batches)
        record = batches[0].records[0]
        assert (record.key, record.timestamp) == (b"s@1", 1_000 + record.offset)
        assert await member.source.positions([(FRAMES, 1), (PADS, 1)]) == {(FRAMES, 1): 5, (PADS, 1): 5}

    run(world, scene)


def test_what_is_not_allowed_waits_and_is_not_lost(world: World) -> None:
    async def scene(member: Member) -> None:
        assigned = await member.start()
        for number in assigned.partitions:
            assert member.source.resume(number, 0, 0, assigned.generation)
        for n in range(3):
            await world.produce((FRAMES, 0), b"f%d" % n, n)
            await world.produce((PADS, 0), b"p%d" % n, n)
        pads = await member.read([(PADS, 0)], 3)
        assert values(pads, (PADS, 0)) == [b"p0", b"p1", b"p2"]
        assert values(pads, (FRAMES, 0)) == []
        assert await member.source.getmany([(PADS, 0)], timeout_ms=300) == []
        assert values(await member.read([(FRAMES, 0)], 3), (FRAMES, 0)) == [b"f0", b"f1", b"f2"]

    run(world, scene)


def test_a_paused_partition_is_read_again_from_where_resume_says(world: World) -> None:
    async def scene(member: Member) -> None:
        assigned = await member.start()
        both: list[Pair] = [(FRAMES, 0), (PADS, 0)]
        assert member.source.resume(0, 0, 0, assigned.generation)
        for n in range(4):
            await world.produce((FRAMES, 0), b"f%d" % n, n)
        assert len(values(await member.read(both, 4), (FRAMES, 0))) == 4
        member.source.pause(0)
        await world.produce((FRAMES, 0), b"f4", 4)
        assert await member.source.getmany(both, timeout_ms=700) == []
        assert member.source.resume(0, 3, 0, assigned.generation)
        assert values(await member.read(both, 2), (FRAMES, 0)) == [b"f3", b"f4"]

    run(world, scene)


def test_an_earlier_assignment_cannot_be_resumed(world: World) -> None:
    async def scene(member: Member) -> None:
        assigned = await member.start()
        assert not member.source.resume(0, 0, 0, assigned.generation - 1)
        assert not member.source.resume(7, 0, 0, assigned.generation)
        assert await member.source.getmany([(FRAMES, 0)], timeout_ms=200) == []

    run(world, scene)


def test_two_members_share_whole_partition_pairs(world: World) -> None:
    async def scene(member: Member) -> None:
        first = await member.start()
        assert first.partitions == (0, 1)
        other = Member(world.source())

        async def keep_reading() -> None:  # a member that reads nothing still has to rejoin
            while True:
                await member.source.getmany([(FRAMES, 0)], timeout_ms=100)

        reading = asyncio.create_task(keep_reading())
        try:
            theirs = await other.start()
            revoked = await asyncio.wait_for(member.events.get(), 300)
            assert revoked == Revoked((0, 1))
            ours = await member.assigned()
            assert sorted(ours.partitions + theirs.partitions) == [0, 1]
            assert ours.generation > first.generation
            assert await member.source.commit({(FRAMES, theirs.partitions[0]): 0}) is Answer.REFUSED
        finally:
            reading.cancel()
            await other.source.stop()

    run(world, scene)


def test_offsets_are_answered_for_all_partitions_at_once(world: World) -> None:
    async def scene(member: Member) -> None:
        for n in range(4):
            await world.produce((FRAMES, 0), b"f%d" % n, 1_000 + 10 * n)
        await world.produce((PADS, 1), b"p", 1_000)
        await world.delete_before((FRAMES, 0), 1)
        await member.start()
        pairs: list[Pair] = [(FRAMES, 0), (PADS, 1), (PADS, 0)]
        assert await member.source.end_offsets(pairs) == {(FRAMES, 0): 4, (PADS, 1): 1, (PADS, 0): 0}
        assert await member.source.beginning_offsets(pairs) == {(FRAMES, 0): 1, (PADS, 1): 0, (PADS, 0): 0}
        found = await member.source.offsets_at(1_015, pairs)
        assert found == {(FRAMES, 0): 2, (PADS, 1): None, (PADS, 0): None}

    run(world, scene)


def test_the_group_is_told_how_far_was_read(world: World) -> None:
    async def scene(member: Member) -> None:
        await world.produce((FRAMES, 0), b"f", 1)
        await member.start()
        assert await member.source.commit({(FRAMES, 0): 1, (PADS, 0): 0}) is Answer.ACCEPTED
        assert await member.source.commit({(FRAMES, 1): 0, (FRAMES, 7): 0}) is Answer.REFUSED

    run(world, scene)


def test_deleted_records_are_an_error_that_says_what_was_lost(world: World) -> None:
    async def scene(member: Member) -> None:
        for n in range(6):
            await world.produce((FRAMES, 0), b"f%d" % n, n)
        await world.delete_before((FRAMES, 0), 4)
        assigned = await member.start()
        assert member.source.resume(0, 1, 0, assigned.generation)
        with pytest.raises(BrokerError, match=r"partition 0.*offset 1.*oldest.*4.*1 to 3"):
            await member.read([(FRAMES, 0), (PADS, 0)], 1)

    run(world, scene)


@pytest.mark.broker
def test_topics_are_checked_on_a_real_broker(broker: str) -> None:
    async def scene() -> None:
        world = KafkaWorld(broker)
        await world.set_up()
        try:
            cluster = await check_topics(broker, world.names[FRAMES], world.names[PADS], client_id="test")
            assert cluster.partitions == 2
            assert cluster.cluster_id
            with pytest.raises(BrokerError, match="'absent' does not exist"):
                await check_topics(broker, "absent", world.names[PADS], client_id="test")
            with pytest.raises(BrokerError, match="'absent' does not exist"):  # asking did not create it
                await check_topics(broker, "absent", world.names[PADS], client_id="test")
        finally:
            await world.tear_down()

    asyncio.run(scene())


@pytest.fixture
def closed_port() -> Iterator[int]:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]  # bound, not listening: connecting is refused


def test_no_broker_is_an_error_that_names_the_setting(closed_port: int) -> None:
    with pytest.raises(BrokerError, match=r"KAFKA_BOOTSTRAP_SERVERS"):
        asyncio.run(check_topics(f"127.0.0.1:{closed_port}", "a", "b", client_id="test"))
