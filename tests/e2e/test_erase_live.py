"""`padreel erase` beside a running consumer and a real broker: letters go, what Kafka has comes back as nothing."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from padreel.errors import BrokerError
from padreel.kafka.dead_letter import DeadLetters
from padreel.kafka.letters_removal import find_letters, remove_letters
from padreel.kafka.reading import open_reader
from padreel.kafka.topics import ensure_topic
from padreel.model import DeadLetter, LetterKind, Topic
from padreel_schemas.v1.video_pb2 import VideoFrame
from tests.conftest import TopicNames
from tests.dataset_reading import by_session, shards
from tests.e2e.processes import Rig, consumer, padreel
from tests.e2e.streams import Sent, Streams, demo_flags, messages, publish, streams

LETTERS = "erase.frames.dead-letters"
TOPICS = TopicNames("erase.frames", "erase.gamepad")


def damaged(name: str) -> Streams:
    """A session with one bad access unit, in the middle of a GOP."""
    made = streams(name)
    unit = bytearray(made.frames[25].access_unit)
    unit[2] ^= 0xFF  # of the first length prefix
    made.frames[25].access_unit = bytes(unit)
    return made


def units(made: Streams) -> list[bytes]:
    return [
        frame.access_unit for frame in made.frames if frame.kind == VideoFrame.FRAME and len(frame.access_unit) > 50
    ]


def ends(broker: str) -> tuple[int, int, list[Any]]:
    """Where the letters' topic begins and ends, and what is in it."""

    async def read() -> tuple[int, int, list[Any]]:
        async with AIOKafkaConsumer(bootstrap_servers=broker, auto_offset_reset="earliest") as reader:
            tp = TopicPartition(LETTERS, 0)
            reader.assign([tp])
            begin, end = (await reader.beginning_offsets([tp]))[tp], (await reader.end_offsets([tp]))[tp]
            found: list[Any] = []
            while await reader.position(tp) < end:
                found += (await reader.getmany(timeout_ms=200)).get(tp, [])
            return begin, end, found

    return asyncio.run(read())


def held(folder: Path, made: Streams) -> list[str]:
    """Files that hold a picture of a session."""
    wanted = units(made)
    there = [one for one in folder.rglob("*") if one.is_file()]
    return [str(one) for one in there if any(unit in one.read_bytes() for unit in wanted)]


@dataclass(frozen=True, slots=True)
class Played:
    """What was there before and after."""

    output: Path
    before: tuple[int, int, list[Any]]
    kept: dict[str, Any]  # what it said with --keep-letters
    refused: list[dict[str, Any]]  # what a replay said then
    done: dict[str, Any]
    again: dict[str, Any]
    after: tuple[int, int, list[Any]]
    consumer: list[dict[str, Any]]


@pytest.fixture(scope="module")
def played(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Played:
    rig = Rig(broker, TOPICS.frames, TOPICS.pads)
    rig.create_topics(partitions=1)
    output = tmp_path_factory.mktemp("erase") / "out"
    names = ["--bootstrap-servers", broker, "--dead-letters-topic", LETTERS]

    def erase(*more: str) -> dict[str, Any]:
        done = padreel("erase", str(output), "--session", "gone", *names, "--yes", "--json", *more)
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        return said

    def whole(name: str) -> list[Sent]:
        return list(messages(TOPICS, damaged(name)))

    publish(broker, [*whole("other"), *whole("gone"), *whole("third")])
    with consumer(demo_flags(rig, output, "erase")) as running:
        running.await_episodes(6)  # each is cut where its unit was refused
        before = ends(broker)
        kept = erase("--keep-letters")
        replayed = padreel("dead-letters", "replay", *names, "--json-lines", "--output-root", str(output))
        assert replayed.returncode == 0, replayed.stderr
        refused = [json.loads(line) for line in replayed.stdout.splitlines()]
        done = erase()
        publish(broker, [*whole("gone"), *messages(TOPICS, streams("last"))])
        running.await_episodes(7)
        running.process.send_signal(signal.SIGTERM)
        assert running.finish() == 0, running.lines[-5:]
        lines = running.lines
    return Played(output, before, kept, refused, done, erase(), ends(broker), lines)


def test_the_consumer_goes_on_and_does_not_bring_it_back(played: Played) -> None:
    assert set(by_session(shards(played.output))) == {"other", "third", "last"}
    assert held(played.output, damaged("gone")) == []
    assert held(played.output, damaged("third"))
    assert any(line["event"] == "fenced" for line in played.consumer)


def test_its_letters_go_and_the_others_stay(played: Played) -> None:
    _, end, before = played.before
    begin, _, after = played.after
    assert {one.key for one in before} == {b"other@1", b"gone@1", b"third@1"}
    (gone,) = [one for one in before if one.key == b"gone@1"]
    assert begin == gone.offset + 1
    assert {one.key for one in after} == {b"other@1", b"third@1"}
    assert {(one.key, one.value, one.timestamp, one.headers) for one in after} == {
        (one.key, one.value, one.timestamp, one.headers) for one in before if one.key != b"gone@1"
    }
    (place,) = played.done["dead_letters"]["partitions"]
    assert place["offsets"] == [gone.offset]
    assert place["kept"] == sum(one.offset < gone.offset for one in before)
    assert played.done["dead_letters"]["removed"]
    assert end >= 3


def test_letters_can_be_left_and_a_replay_of_them_is_refused(played: Played) -> None:
    assert not played.kept["dead_letters"]["removed"]
    assert len(played.kept["dead_letters"]["partitions"][0]["offsets"]) == 1
    why = {one["key"]: one["why_not"] for one in played.refused}
    assert "erased of partition-00000" in why["gone@1"]
    assert "erased" not in why["other@1"]


def test_a_topic_that_deletes_nothing_is_named(broker: str) -> None:
    async def run() -> None:
        topic, connection = "erase.compacted", {"bootstrap_servers": broker}
        await ensure_topic(connection, topic, "letters", {"cleanup.policy": "compact"}, client_id="test")
        letter = DeadLetter(LetterKind.RECORD, Topic.FRAMES, 0, 5, 5, "unparsable", "", b"gone@1", b"bad")
        async with DeadLetters(connection, topic, {Topic.FRAMES: "f", Topic.PADS: "p"}, client_id="test") as letters:
            await letters.send([letter])
        async with open_reader(connection, client_id="test") as reader:
            found = await find_letters(reader, topic, lambda key: key == "gone@1")
            assert [one.offsets for one in found] == [(0,)]
            assert await find_letters(reader, "erase.no-such-topic", lambda key: True) == []
            with pytest.raises(BrokerError, match=r"erase\.compacted.*cleanup\.policy"):
                await remove_letters(reader, connection, topic, found, client_id="test")

    asyncio.run(run())


def test_letters_of_a_session_that_never_came_to_a_shard_go_too(broker: str, tmp_path: Path, played: Played) -> None:
    names = ["--bootstrap-servers", broker, "--dead-letters-topic", LETTERS]
    done = padreel("erase", str(played.output), "--session", "third,never", *names)
    assert "would erase third@1" in done.stdout
    publish(broker, [(TOPICS.frames, b"never@1", b"\xff")])
    rig = Rig(broker, TOPICS.frames, TOPICS.pads)
    with consumer(demo_flags(rig, played.output, "erase", "--until", "end")) as running:
        assert running.finish() == 0, running.lines[-5:]
    assert b"never@1" in {one.key for one in ends(broker)[2]}
    shown = padreel("erase", str(played.output), "--session", "never", *names)
    assert "nothing was changed" in shown.stdout, shown.stdout
    done = padreel("erase", str(played.output), "--session", "never", *names, "--yes")
    assert done.returncode == 0, done.stderr
    assert "dead letters removed" in done.stdout
    assert {one.key for one in ends(broker)[2]} == {b"other@1", b"third@1"}


def test_what_kafka_still_has_is_said(played: Played) -> None:
    ranges = {one["topic"]: one for one in played.kept["source_records"]}
    assert set(ranges) == {TOPICS.frames, TOPICS.pads}
    assert all(one["is_there"] for one in ranges.values())
    frames = ranges[TOPICS.frames]
    assert frames["last_offset"] > frames["first_offset"] > 0
    assert played.again["outcome"] == "nothing left"
    assert played.again["source_records"] == played.done["source_records"]
