"""What cannot be used goes to the dead-letter topic, and comes back from there once, through a real broker."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from padreel.core.replay import replay_key
from tests.conftest import TopicNames
from tests.dataset_reading import by_session, shards
from tests.e2e.processes import Rig, consumer, padreel
from tests.e2e.streams import Sent, demo_flags, messages, numbers_shown, publish, streams

RESTART = 50  # the picture that the restarted rig begins with, an IDR


def restarted(topics: TopicNames) -> list[Sent]:
    """A rig that restarts under its old run: after picture 44 it counts from 0 again."""
    made = streams("restarted")
    for frame in made.frames[RESTART:]:
        frame.sequence -= RESTART
        frame.frame_index -= RESTART
    return [*messages(topics, made, until=45), *messages(topics, made, since=RESTART)]


def damaged(topics: TopicNames) -> list[Sent]:
    """A session with one bad access unit, in the middle of a GOP."""
    made = streams("damaged")
    unit = bytearray(made.frames[25].access_unit)
    unit[2] ^= 0xFF  # of the first length prefix
    made.frames[25].access_unit = bytes(unit)
    return list(messages(topics, made))


def stored(broker: str, topic: str) -> list[Any]:
    async def read() -> list[Any]:
        async with AIOKafkaConsumer(bootstrap_servers=broker, auto_offset_reset="earliest") as reader:
            tp = TopicPartition(topic, 0)
            reader.assign([tp])
            end = (await reader.end_offsets([tp]))[tp]
            found: list[Any] = []
            while len(found) < end:
                found += (await reader.getmany(timeout_ms=200)).get(tp, [])
            return found

    return asyncio.run(read())


@dataclass(frozen=True, slots=True)
class Played:
    """What is there after the sessions were consumed, and replayed twice."""

    letters: list[dict[str, Any]]  # before the replay
    records: list[Any]  # of the dead-letter topic, before the replay
    first: list[dict[str, Any]]  # what the first replay said
    again: list[dict[str, Any]]
    left: list[dict[str, Any]]  # listed afterwards
    pictures: dict[str, Counter[int | None]]  # shown in the rows of a session, over all runs
    sessions: set[str]


@pytest.fixture(scope="module")
def played(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Played:
    topics = TopicNames("letters.frames", "letters.gamepad")
    rig = Rig(broker, topics.frames, topics.pads)
    rig.create_topics(partitions=1)
    output = tmp_path_factory.mktemp("letters") / "out"
    names = ["--bootstrap-servers", broker, "--dead-letters-topic", "letters.frames.dead-letters", "--json-lines"]

    def said(command: str, *more: str) -> list[dict[str, Any]]:
        done = padreel("dead-letters", command, *names, *more)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    nameless: list[Sent] = [(topics.pads, None, b"no key"), (topics.frames, b"../../etc@1", b"no name")]
    publish(broker, [*nameless, *restarted(topics), *damaged(topics)])
    backfill = demo_flags(rig, output, "letters", "--until", "end")
    with consumer(backfill) as running:
        assert running.finish() == 0, running.lines[-5:]
    letters, records = said("list"), stored(broker, "letters.frames.dead-letters")
    first = said("replay", "--output-root", str(output))
    with consumer(backfill) as running:
        assert running.finish() == 0, running.lines[-5:]
    left = said("list")
    again = said("replay", "--output-root", str(output), "--every")
    with consumer(demo_flags(rig, output, "letters")) as running:
        running.await_line(event="shard open")
        running.process.send_signal(signal.SIGTERM)
        assert running.finish() == 0, running.lines[-5:]
    episodes = by_session(shards(output))
    pictures = {
        name: Counter(number for one in of_session for number in numbers_shown(one))
        for name, of_session in episodes.items()
    }
    keys = {one.key for of_session in episodes.values() for one in of_session}
    return Played(letters, records, first, again, left, pictures, keys)


def test_every_letter_says_where_it_is_from_and_why(played: Played) -> None:
    found = {(one["kind"], one["session"], one["reason"]) for one in played.letters}
    assert found == {
        ("record", None, "key_missing"),
        ("record", None, "key_invalid"),
        ("record", "damaged@1", "unit_invalid"),
        ("session", "restarted@1", "restarted"),
    }
    (session,) = [one for one in played.letters if one["kind"] == "session"]
    assert session["topic"] == "letters.frames"
    assert session["first_offset"] < session["last_offset"]


def test_a_bad_record_is_copied_whole(played: Played) -> None:
    (bad,) = [one for one in played.records if one.key == b"../../etc@1"]
    assert bad.value == b"no name"
    headers = {name: value.decode() for name, value in bad.headers}
    assert headers["padreel.topic"] == "letters.frames"
    assert headers["padreel.offset"] == "0"
    assert headers["padreel.partition"] == "0"
    assert headers["padreel.reason"] == "key_invalid"
    assert "../../etc@1" in headers["padreel.detail"]
    assert headers["padreel.version"]


def test_a_replay_says_what_it_did(played: Played) -> None:
    by_key = {one["key"]: one for one in played.first}
    done, refused = by_key["restarted@1"], by_key["damaged@1"]
    assert (done["why_not"], done["new_key"], done["frames"]["frames"]) == ("", replay_key("restarted@1"), 40)
    assert "none of its frames is an IDR" in refused["why_not"]
    assert refused["frames"]["unusable"] == 1


def test_replayed_letters_are_listed_no_more(played: Played) -> None:
    assert {one["session"] for one in played.left} == {None, "damaged@1"}


def test_a_second_replay_publishes_nothing(played: Played) -> None:
    by_key = {one["key"]: one for one in played.again}
    assert replay_key("restarted@1") in by_key["restarted@1"]["why_not"]


def test_every_picture_is_in_one_row(played: Played) -> None:
    assert played.sessions == {"restarted@1", replay_key("restarted@1"), "damaged@1"}
    restarted_pictures = played.pictures["restarted"]
    assert set(restarted_pictures.values()) == {1}
    assert set(range(RESTART, 90)) < set(restarted_pictures)
    assert set(restarted_pictures) <= {*range(45), *range(RESTART, 90)}
    assert set(played.pictures["damaged"].values()) == {1}
