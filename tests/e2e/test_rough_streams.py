"""Streams that are split, broken off, silent, repeated and damaged, through a real broker into one dataset.

Every picture carries its number, so each row is compared with the picture and with the pad that belong to it. The
encoder makes GOPs of ten with two B-frames: in decode order frame 0, 3, 1, 2, 6, 4, 5, 9, 7, 8.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import av
import pytest
from aiokafka import AIOKafkaProducer

from padreel_schemas.v1.gamepad_pb2 import GamepadState
from padreel_schemas.v1.video_pb2 import VideoFrame
from padreel_shim.scene import read_frame_number
from padreel_shim.script import PadState
from padreel_shim.synthetic import SyntheticRig
from tests.conftest import CHECKOUT, TopicNames
from tests.dataset_reading import ReadEpisode, by_session, shards
from tests.e2e.processes import Rig, consumer
from tests.video_source import rgb

pytestmark = pytest.mark.timeout(1800)

FPS, SECONDS, GOP = 30, 3, 10
TEN_SECONDS_NS = 10_000_000_000
WHOLE = [(range(30), "split"), (range(30, 60), "split"), (range(60, 90), "end")]

# What is left of each session: the numbers of the pictures, and why the episode ended.
EXPECTED: dict[str, list[tuple[range, str]]] = {
    "whole": WHOLE,
    "repeated": WHOLE,
    "late-pad": WHOLE,
    # Frame 14 is lost; 16 depends on nothing lost, but 15 does, and an episode is unbroken.
    "gap": [(range(14), "gap"), (range(20, 50), "split"), (range(50, 80), "split"), (range(80, 90), "end")],
    # It breaks off after the packet of frame 34: that of 36 is there, 35 is not.
    "silent": [(range(30), "split"), (range(30, 35), "silence"), (range(40, 70), "split"), (range(70, 90), "end")],
    "headless": [(range(10, 40), "split"), (range(40, 70), "split"), (range(70, 90), "end")],
    "damaged": [(range(24), "gap"), (range(30, 60), "split"), (range(60, 90), "end")],
    "resized": [(range(30), "split"), (range(30, 40), "schema")],
    "clock-steps-back": [(range(30), "split"), (range(30, 40), "clock")],
}
EPISODES = sum(len(episodes) for episodes in EXPECTED.values())
GONE_SILENT_AT = 36  # the sequence that the silent rig sends only after it was called silent


@dataclass(frozen=True, slots=True)
class Streams:
    """A session's messages, free to be spoilt."""

    name: str
    rig: SyntheticRig
    frames: list[VideoFrame]
    pads: list[GamepadState]


def streams(name: str) -> Streams:
    rig = SyntheticRig(name, SECONDS, 160, 120, gop=GOP, rig_id="rig-1", game_id="padreel-demo")
    records = list(rig.records())
    frames = [VideoFrame.FromString(one.value) for one in records if one.topic == "frames"]
    pads = [GamepadState.FromString(one.value) for one in records if one.topic == "pads"]
    return Streams(name, rig, frames, pads)


def spoil(made: Streams) -> None:
    """Do to a session what its name says."""
    frames, pads = made.frames, made.pads
    match made.name:
        case "repeated":
            frames[:] = [frame for one in frames for frame in (one, one)]
            pads[:] = [pad for one in pads for pad in (one, one)]
        case "late-pad":
            late = GamepadState(monotonic_ns=pads[5].monotonic_ns, pressed_buttons=[20])
            pads.insert(9, late)
        case "gap":
            del frames[15]
        case "headless":
            del frames[0]
        case "damaged":
            unit = bytearray(frames[25].access_unit)
            unit[2] ^= 0xFF  # of the first length prefix
            frames[25].access_unit = bytes(unit)
        case "resized":
            frames[40].stream.width = 320
        case "clock-steps-back":
            for frame in frames[40:]:
                frame.monotonic_ns -= TEN_SECONDS_NS
        case "another-game":
            for frame in frames:
                if frame.HasField("session"):
                    frame.session.game_id = "chess"


Sent = tuple[str, bytes | None, bytes]


def messages(topics: TopicNames, made: Streams, *, until: int | None = None, since: int = 0) -> Iterator[Sent]:
    """The records of frames number `since`...`until` in decode order, and the pad meanwhile."""
    key = f"{made.name}@1".encode()
    begin_ns = made.rig.frame_ns(since) if since else 0
    end_ns = 2**63 if until is None else made.rig.frame_ns(until)
    for frame in made.frames[since:until]:
        yield topics.frames, key, frame.SerializeToString()
    for pad in made.pads:
        if begin_ns <= pad.monotonic_ns < end_ns:
            yield topics.pads, key, pad.SerializeToString()


def publish(broker: str, records: Iterable[Sent]) -> None:
    async def run() -> None:
        async with AIOKafkaProducer(bootstrap_servers=broker, max_request_size=2**24, linger_ms=5) as producer:
            sent = [await producer.send(topic, value=value, key=key) for topic, key, value in records]
            await asyncio.gather(*sent)

    asyncio.run(run())


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one consumer made of all of it."""

    rigs: dict[str, SyntheticRig]
    episodes: dict[str, list[ReadEpisode]]
    lines: list[dict[str, Any]]


@pytest.fixture(scope="module")
def outcome(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """All sessions on two partitions, consumed at once; the silent one goes on after it was called silent."""
    topics = TopicNames("rough.frames", "rough.gamepad")
    rig = Rig(broker, topics.frames, topics.pads)
    rig.create_topics(partitions=2)
    output = tmp_path_factory.mktemp("rough") / "out"
    sessions = {name: streams(name) for name in (*EXPECTED, "another-game")}
    for made in sessions.values():
        spoil(made)
    silent = sessions["silent"]
    records: list[Sent] = [
        (topics.frames, None, b"no key"),
        (topics.frames, b"../../etc@1", b"no name of a session"),
        (topics.pads, b"broken@1", b"\xff\xff\xff"),
        (topics.pads, b"huge@1", bytes(70_000)),
    ]
    for made in sessions.values():
        records += messages(topics, made, until=GONE_SILENT_AT if made is silent else None)
    publish(broker, records)
    demo = CHECKOUT / "deploy" / "demo"
    flags = [
        *(*rig.flags, "--group-id", "rough", "--repo-id", "test/rough", "--task", "Run"),
        *("--game-definition", str(demo / "game-definition.yaml")),
        *("--action-mapping", str(demo / "action-mapping.yaml")),
        *("--output-root", str(output), "--fps", str(FPS), "--size", "160x120", "--log-format", "json"),
        *("--max-episode-seconds", "0.95", "--session-timeout-seconds", "8"),
    ]
    with consumer(flags) as running:
        running.await_line(event="episode", session="silent", end="silence")
        publish(broker, messages(topics, silent, since=GONE_SILENT_AT))
        running.await_episodes(EPISODES)
        running.process.send_signal(signal.SIGTERM)
        assert running.finish() == 0, running.lines[-5:]
    rigs = {name: made.rig for name, made in sessions.items()}
    return Outcome(rigs, by_session(shards(output)), running.lines)


def numbers_shown(episode: ReadEpisode) -> list[int | None]:
    """The number drawn in the picture of each row."""
    with av.open(str(episode.video)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        shown = {
            round((frame.pts or 0) * stream.time_base * FPS): read_frame_number(rgb(frame))
            for frame in container.decode(stream)
        }
    first = round(episode.from_timestamp * FPS)
    return [shown[first + row] for row in range(len(episode))]


@pytest.mark.parametrize("name", EXPECTED)
def test_what_could_be_kept_is_kept_once(outcome: Outcome, name: str) -> None:
    found = [(numbers_shown(episode), episode.end_reason) for episode in outcome.episodes[name]]
    assert found == [(list(numbers), reason) for numbers, reason in EXPECTED[name]]


@pytest.mark.parametrize("name", EXPECTED)
def test_every_row_has_the_pad_of_its_picture(outcome: Outcome, name: str) -> None:
    rig = outcome.rigs[name]
    for episode, (numbers, _) in zip(outcome.episodes[name], EXPECTED[name], strict=True):
        for number, state in zip(numbers, episode.rows["observation.state"], strict=True):
            assert state == pytest.approx(vector(rig.script.state_at(rig.frame_ns(number)))), number
        assert episode.rows["capture.time_ns"] == [
            rig.frame_ns(number) - rig.frame_ns(first_received(name)) for number in numbers
        ]


def first_received(name: str) -> int:
    """The number of the first picture of a session that came: 3 is decoded first where 0 is missing."""
    return 3 if name == "headless" else 0


def vector(state: PadState | None) -> list[float]:
    """A state as `observation.state` has it: six axes, 21 buttons."""
    if state is None:
        return [0.0] * 27
    return [*state.axes, *(float(button in state.buttons) for button in range(21))]


def test_nothing_else_became_an_episode(outcome: Outcome) -> None:
    assert outcome.episodes.keys() == EXPECTED.keys()


def test_each_bad_record_is_named_with_its_reason(outcome: Outcome) -> None:
    rejected = [line for line in outcome.lines if line["event"] == "record rejected"]
    assert sorted(line["reason"] for line in rejected) == [
        "key_invalid", "key_missing", "oversized", "unit_invalid", "unparsable",
    ]  # fmt: skip
    assert all(str(line["offset"]) in line["detail"] for line in rejected)


def test_a_session_that_changes_its_size_is_named_with_both(outcome: Outcome) -> None:
    (line,) = [line for line in outcome.lines if line["event"] == "session rejected"]
    assert (line["session"], line["reason"]) == ("resized", "schema")
    assert "320x120" in line["detail"]
    assert "160x120" in line["detail"]


def test_late_pads_are_counted(outcome: Outcome) -> None:
    late = [
        line.get("late", 0) for line in outcome.lines if line["event"] == "episode" and line["session"] == "late-pad"
    ]
    assert sum(late) == 1
