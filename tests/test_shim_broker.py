"""`padreel-shim` as a process, against a real broker."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Literal

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from padreel_schemas.recording import Recording
from padreel_shim.producer import PublishError, RigProducer
from padreel_shim.topics import TopicsError, create_topics
from padreel_shim.watch import FollowOptions
from tests.commands import Command, start
from tests.conftest import TopicNames
from tests.follow_world import Recorder
from tests.follow_world import expected as expected_of_follow
from tests.session_folders import write_folder

PARTITIONS = 3
Shim = Callable[..., Command]


@pytest.fixture
def made(broker: str, topics: TopicNames) -> TopicNames:
    found = asyncio.run(create_topics(broker, topics.frames, topics.pads, partitions=PARTITIONS, replication_factor=1))
    assert [(topic.name, topic.partitions, topic.created) for topic in found] == [
        (topics.frames, PARTITIONS, True),
        (topics.pads, PARTITIONS, True),
    ]
    return topics


@pytest.fixture
def shim(broker: str, made: TopicNames, tmp_path: Path) -> Iterator[Shim]:
    environment = os.environ | {
        "KAFKA_BOOTSTRAP_SERVERS": broker,
        "KAFKA_FRAMES_TOPIC": made.frames,
        "KAFKA_PADS_TOPIC": made.pads,
        "PADREEL_STATE_DIR": str(tmp_path / "state"),
    }

    with ExitStack() as running:

        def begin(*arguments: str) -> Command:
            command = start("padreel_shim.cli", *arguments, environment=environment, folder=tmp_path)
            return running.enter_context(closing(command))

        yield begin


def finish(process: Command, code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out, err


async def _read(broker: str, topic: str) -> list[tuple[int, bytes, bytes]]:
    consumer = AIOKafkaConsumer(bootstrap_servers=broker, fetch_max_bytes=2**26, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[tuple[int, bytes, bytes]] = []
        while len(found) < sum(ends.values()):
            for partition, records in (await consumer.getmany(timeout_ms=500)).items():
                found += [(partition.partition, record.key, record.value) for record in records]
        return found
    finally:
        await consumer.stop()


def stored(broker: str, topic: str) -> list[tuple[int, bytes, bytes]]:
    """(partition, key, value) of all records, each partition in order."""
    return asyncio.run(_read(broker, topic))


def without_repeats(values: list[bytes]) -> list[bytes]:
    return list(dict.fromkeys(values))


def expected(folder: Path, topic: str, rig_id: str = "", task: str = "") -> list[bytes]:
    records = Recording(folder).records(rig_id=rig_id, task=task)
    return [record.value for record in records if record.topic == topic]


def test_publish_and_publish_again(broker: str, made: TopicNames, shim: Shim, tmp_path: Path) -> None:
    one, two = write_folder(tmp_path / "one"), write_folder(tmp_path / "two", frames=12)
    out, _ = finish(shim("publish", str(one), str(two), "--speed", "max", "--rig-id", "rig", "--task", "play"))
    keys = [line.partition(":")[0].encode() for line in out.splitlines()]
    for kind, topic in (("frames", made.frames), ("pads", made.pads)):
        records = stored(broker, topic)
        for folder, key in zip((one, two), keys, strict=True):
            values = [value for _, record_key, value in records if record_key == key]
            assert values == expected(folder, kind, rig_id="rig", task="play")
    homes = {topic: {key: number for number, key, _ in stored(broker, topic)} for topic in (made.frames, made.pads)}
    assert homes[made.frames] == homes[made.pads]

    out, _ = finish(shim("publish", str(one), "--speed", "max"))
    assert "published before, nothing sent" in out
    assert len({key for _, key, _ in stored(broker, made.frames)}) == 2
    finish(shim("publish", str(one), "--speed", "max", "--again"))
    assert len({key for _, key, _ in stored(broker, made.frames)}) == 3


def wait_for_position(state_dir: Path, least: int) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for path in state_dir.glob("*.json"):
            if int(path.read_text().partition('"position": ')[2].partition(",")[0]) >= least:
                return
        time.sleep(0.02)
    pytest.fail(f"nothing was acknowledged up to {least}")


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_stopped_in_the_middle_and_started_again(
    broker: str, made: TopicNames, shim: Shim, tmp_path: Path, signum: signal.Signals
) -> None:
    folder = write_folder(tmp_path / "session", frames=120, events=40)
    process = shim("publish", str(folder), "--speed", "1.0")
    wait_for_position(tmp_path / "state", 10)
    process.send_signal(signum)
    finish(process, -9 if signum == signal.SIGKILL else 128 + signum)
    sent = len(stored(broker, made.frames))
    assert 0 < sent < 121
    finish(shim("publish", str(folder), "--speed", "max"))
    for kind, topic in (("frames", made.frames), ("pads", made.pads)):
        records = stored(broker, topic)
        assert len({key for _, key, _ in records}) == 1
        values = [value for _, _, value in records]
        assert without_repeats(values) == expected(folder, kind)
        if signum != signal.SIGKILL:
            assert values == expected(folder, kind)


@pytest.mark.parametrize("video", ["inline", "reference"])
def test_follow_killed_while_a_folder_grows(
    broker: str, made: TopicNames, shim: Shim, tmp_path: Path, video: Literal["inline", "reference"]
) -> None:
    name = "capture.mkv" if video == "inline" else "capture.mp4"
    folder = write_folder(tmp_path / "whole" / "session", frames=120, events=40, video=name)
    root = tmp_path / "root"
    recorder = Recorder(folder.parent, root, most=2_000)
    command = ("follow", str(root), "--video", video, "--closed-after-seconds", "2")
    while not recorder.is_done:
        process = shim(*command)
        grow(recorder, broker, made.pads)
        process.send_signal(signal.SIGKILL)
        finish(process, -9)
    process = shim(*command)
    wait_for(lambda: any('"finished": true' in path.read_text() for path in (tmp_path / "state").glob("*.json")))
    _, err = finish(shim(*command), 1)
    assert "is followed already, by process" in err
    process.send_signal(signal.SIGTERM)
    finish(process, 128 + signal.SIGTERM)
    records = expected_of_follow(folder, FollowOptions(video=video, media_root=root))
    for kind, topic in (("frames", made.frames), ("pads", made.pads)):
        found = stored(broker, topic)
        assert len({key for _, key, _ in found}) == 1
        values = without_repeats([value for _, _, value in found])
        assert values == [record.value for record in records if record.topic == kind]


def grow(recorder: Recorder, broker: str, topic: str) -> None:
    """Record until something of it was published."""
    before, deadline = len(stored(broker, topic)), time.monotonic() + 300
    while not (recorder.is_done or len(stored(broker, topic)) >= before + 5 or time.monotonic() > deadline):
        recorder.write()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_goes_wrong_is_one_line(shim: Shim, tmp_path: Path) -> None:
    broken = write_folder(tmp_path / "broken")
    (broken / "sync.csv").write_text("a,b\n")
    good = write_folder(tmp_path / "good", frames=3, events=1)
    cut = (good / "actions.bin").read_bytes()
    (good / "actions.bin").write_bytes(cut[:-1])
    out, err = finish(shim("publish", str(broken), str(good), "--speed", "max"), 1)
    assert len(out.splitlines()) == 1
    assert "3 frames" in out
    first, *warnings, last = err.splitlines()
    assert first.startswith("Error: ")
    assert "sync.csv: header is 'a,b'" in first
    assert any("is cut" in line for line in warnings)
    assert last == "Error: 1 of 2 sessions could not be published"


def test_a_broker_that_is_not_there(shim: Shim, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "s", frames=2, events=1)
    _, err = finish(shim("publish", str(folder), "--bootstrap-servers", "127.0.0.1:1"), 1)
    assert err.splitlines()[-1].startswith("Error: broker 127.0.0.1:1: ")


def test_topics_are_checked(broker: str, made: TopicNames, topics: TopicNames) -> None:
    async def make(frames: str, pads: str, partitions: int) -> list[tuple[int, bool]]:
        found = await create_topics(broker, frames, pads, partitions=partitions, replication_factor=1)
        assert all((topic.max_message_bytes or 0) >= 16 * 2**20 for topic in found)
        return [(topic.partitions, topic.created) for topic in found]

    assert asyncio.run(make(made.frames, made.pads, 7)) == [(PARTITIONS, False)] * 2
    assert asyncio.run(make(made.frames, f"{made.pads}-new", 7)) == [(PARTITIONS, False), (PARTITIONS, True)]
    assert asyncio.run(make(f"{made.frames}-5", f"{made.pads}-5", 5)) == [(5, True)] * 2
    with pytest.raises(TopicsError, match=f"{made.frames} has {PARTITIONS} partitions, topic {made.pads}-5 has 5"):
        asyncio.run(make(made.frames, f"{made.pads}-5", 1))

    async def connect() -> None:
        async with RigProducer(broker, made.frames, f"{made.pads}-5"):
            pass

    with pytest.raises(PublishError, match="has 5 partitions; expected as many"):
        asyncio.run(connect())


def test_a_large_keyframe_and_a_bound_on_what_is_under_way(broker: str, made: TopicNames) -> None:
    async def run() -> tuple[int, int]:
        most_bytes = most_records = 0
        async with RigProducer(
            broker, made.frames, made.pads, max_in_flight_bytes=1_000_000, max_in_flight_records=20
        ) as producer:
            for number in range(200):
                await producer.send("frames", b"s@1", bytes([number]) * 60_000)
                most_bytes = max(most_bytes, producer.in_flight_bytes)
                most_records = max(most_records, producer.in_flight_records)
            await producer.send("frames", b"s@1", b"k" * 12_000_000)
            await producer.send("pads", b"s@1", b"p" * 1000)
            await producer.drain()
            assert (producer.frames_sent, producer.pads_sent) == (201, 1)
            assert (producer.in_flight_records, producer.in_flight_bytes) == (0, 0)
        return most_bytes, most_records

    most_bytes, most_records = asyncio.run(run())
    assert most_bytes <= 1_000_000
    assert 1 < most_records <= 20
    values = [value for _, _, value in stored(broker, made.frames)]
    assert [value[0] for value in values] == [*range(200), ord("k")]


def test_a_record_that_is_too_large_is_an_error(broker: str, made: TopicNames) -> None:
    async def run() -> None:
        async with RigProducer(broker, made.frames, made.pads) as producer:
            await producer.send("frames", b"s@1", b"k" * 17 * 2**20)

    with pytest.raises(PublishError, match=f"topic {made.frames}"):
        asyncio.run(run())
