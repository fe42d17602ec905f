"""The broker restarts, the network to it is cut: recording goes on, and nothing is there twice."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from deploy.local.broker import Broker
from deploy.local.properties import Listener
from tests.conftest import TopicNames
from tests.dataset_reading import by_session, shards
from tests.e2e.processes import Consumer, Rig, consumer, shim, wait_for
from tests.e2e.proxy import Proxy, proxy
from tests.e2e.streams import demo_flags, messages, numbers_shown, publish, streams

pytestmark = pytest.mark.broker

CUT_SECONDS = 60.0  # more than the group's session timeout: the group gives the partition up meanwhile
DOWN_SECONDS = 5.0  # beside what starting it takes
BEHIND = "BEHIND"


@pytest.fixture(scope="module")
def cable() -> Iterator[Proxy]:
    with proxy() as made:
        yield made


@pytest.fixture(scope="module")
def own_broker(cable: Proxy, tmp_path_factory: pytest.TempPathFactory, broker: str) -> Iterator[Broker]:
    """A broker of this module's own, for it is restarted; who comes by its second listener stays behind the proxy.

    `broker` is only asked for so that these tests are skipped, or fail, where no broker can be started.
    """
    listener = Listener(BEHIND, advertised_port=cable.port)
    node = Broker(log_dir=tmp_path_factory.mktemp("kafka"), listeners=[listener])
    cable.target_port = int(node.address(BEHIND).rpartition(":")[2])
    node.start()
    yield node
    node.stop()


def offsets_told(broker: str, group: str) -> int:
    """How many records a group says it has read, of all topics."""

    async def ask() -> int:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker)
        await admin.start()
        try:
            told = await admin.list_consumer_group_offsets(group)
        finally:
            await admin.close()
        return sum(max(0, one.offset) for one in told.values())

    return asyncio.run(ask())


def published(broker: str, topic: str) -> int:
    """How many records partition 0 of a topic holds."""

    async def ask() -> int:
        async with AIOKafkaConsumer(bootstrap_servers=broker) as reader:
            (end,) = (await reader.end_offsets([TopicPartition(topic, 0)])).values()
            return int(end)

    return asyncio.run(ask())


def finish(running: Consumer) -> None:
    running.process.send_signal(signal.SIGTERM)
    assert running.finish() == 0, running.lines[-5:]


def pictures(output: Path, *names: str) -> dict[str, list[list[int | None]]]:
    """The numbers shown in the rows of each episode, by session."""
    found = by_session(shards(output))
    assert found.keys() == set(names)
    return {name: [numbers_shown(one) for one in episodes] for name, episodes in found.items()}


def test_a_network_that_is_cut_for_a_minute(
    own_broker: Broker, cable: Proxy, topics: TopicNames, tmp_path: Path
) -> None:
    """The rig, on the other side, publishes on; half of a session is read before the cut and half after it."""
    direct = Rig(own_broker.bootstrap_servers, topics.frames, topics.pads)
    direct.create_topics(partitions=2)
    behind = Rig(f"127.0.0.1:{cable.port}", topics.frames, topics.pads)
    made, later = streams("one"), streams("two")
    first_half = list(messages(topics, made, until=45))
    publish(direct.broker, first_half)
    with consumer(demo_flags(behind, tmp_path / "out", "cut")) as running:
        running.await_line(event="shard open", partition=1)
        wait_for(lambda: offsets_told(direct.broker, "cut") == len(first_half), "the first half is read")
        cable.cut()
        publish(direct.broker, [*messages(topics, made, since=45), *messages(topics, later)])
        time.sleep(CUT_SECONDS)
        cable.mend()
        running.await_episodes(2)
        finish(running)
    whole = [list(range(90))]
    assert pictures(tmp_path / "out", "one", "two") == {"one": whole, "two": whole}


def test_a_broker_that_restarts_while_a_rig_records(own_broker: Broker, topics: TopicNames, tmp_path: Path) -> None:
    """Producer and consumer both find it again, the rig's session is one episode without a hole."""
    rig = Rig(own_broker.bootstrap_servers, topics.frames, topics.pads)
    rig.create_topics(partitions=1)
    simulate = [*rig.flags, "--rigs", "1", "--seconds", "20", "--fps", "30", "--size", "160x120", "--seed", "3"]
    playing = threading.Thread(target=shim, args=("simulate", *simulate, "--game-id", "padreel-demo"))
    with consumer(demo_flags(rig, tmp_path / "out", "restart")) as running:
        running.await_line(event="shard open")
        playing.start()
        wait_for(lambda: published(rig.broker, rig.frames) >= 150, "a quarter of the session is published")
        own_broker.stop()
        time.sleep(DOWN_SECONDS)
        own_broker.start()
        playing.join()
        running.await_episodes(1)
        finish(running)
    (episodes,) = by_session(shards(tmp_path / "out")).values()
    assert [numbers_shown(one) for one in episodes] == [list(range(600))]


def test_a_consumer_that_is_to_end_while_its_broker_is_away(
    own_broker: Broker, topics: TopicNames, tmp_path: Path
) -> None:
    """It ends in good order, having waited for the broker for a while: nothing that matters is only in Kafka."""
    rig = Rig(own_broker.bootstrap_servers, topics.frames, topics.pads)
    rig.create_topics(partitions=2)
    publish(rig.broker, list(messages(topics, streams("one"))))
    with consumer(demo_flags(rig, tmp_path / "out", "away")) as running:
        running.await_episodes(1)
        own_broker.stop()
        try:
            finish(running)
        finally:
            own_broker.start()
    assert pictures(tmp_path / "out", "one") == {"one": [list(range(90))]}
