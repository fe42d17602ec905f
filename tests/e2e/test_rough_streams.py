"""Streams that are split, broken off, silent, repeated and damaged, through a real broker into one dataset.

Every picture carries its number, so each row is compared with the picture and with the pad that belong to it.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any

import pytest

from padreel_schemas.v1.gamepad_pb2 import GamepadState
from padreel_shim.script import PadState
from padreel_shim.synthetic import SyntheticRig
from tests.conftest import TopicNames
from tests.dataset_reading import ReadEpisode, by_session, shards
from tests.e2e.processes import Rig, consumer
from tests.e2e.streams import Sent, Streams, demo_flags, messages, numbers_shown, publish, streams

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
    flags = demo_flags(rig, output, "rough", "--max-episode-seconds", "0.95", "--session-timeout-seconds", "8")
    with consumer(flags) as running:
        running.await_line(event="episode", session="silent", end="silence")
        publish(broker, messages(topics, silent, since=GONE_SILENT_AT))
        running.await_episodes(EPISODES)
        running.process.send_signal(signal.SIGTERM)
        assert running.finish() == 0, running.lines[-5:]
    rigs = {name: made.rig for name, made in sessions.items()}
    return Outcome(rigs, by_session(shards(output)), running.lines)


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
