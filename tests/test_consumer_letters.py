"""What a consumer says of what it cannot use: dead letters, before anything of theirs is released."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from padreel.core.erase import erased
from padreel.errors import (
    DeadLetterError,
    UndecodableError,
)
from padreel.model import LetterKind, Topic
from tests.consumer_world import Stage, backfill, be_quick, play, record, until
from tests.fakes import FakeBroker, FakeDisk


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    be_quick(monkeypatch)


def test_a_bad_record_is_not_released_before_its_letter_is_taken() -> None:
    broker, disk = FakeBroker(1), FakeDisk()
    broker.letter_errors = [DeadLetterError("out of reach")] * 3
    bad = broker.produce((Topic.FRAMES, 0), b"one@1", b"\xff", 77)
    nameless = broker.produce((Topic.PADS, 0), None, b"x", 78)
    record(broker, 0, "one@1", frames=7)
    stage = backfill(broker, disk)
    assert disk.rows() == {"one@1": 7}
    letters = {letter.topic: letter for letter in broker.letters}
    frame, pad = letters[Topic.FRAMES], letters[Topic.PADS]
    assert (frame.first_offset, frame.last_offset, frame.key, frame.value, frame.timestamp) == (
        bad,
        bad,
        b"one@1",
        b"\xff",
        77,
    )
    assert (frame.kind, frame.reason) == (LetterKind.RECORD, "unparsable")
    assert (pad.first_offset, pad.key, pad.value, pad.reason) == (nameless, None, b"x", "key_missing")
    assert stage.value("padreel_dead_letter_retries_total", partition="0") == 3
    assert stage.value("padreel_dead_letters_total", partition="0", kind="record", reason="unparsable") == 1


def test_while_no_letter_can_be_written_the_partition_waits() -> None:
    broker, disk = FakeBroker(1), FakeDisk()
    broker.letter_errors = [DeadLetterError("out of reach")] * 1_000_000
    broker.produce((Topic.FRAMES, 0), b"one@1", b"\xff", 77)
    record(broker, 0, "one@1", frames=7)

    async def scene(threads: ThreadPoolExecutor) -> None:
        stage = Stage(broker, disk, threads)
        running = asyncio.create_task(stage.consumer.run())
        await until(lambda: (stage.value("padreel_dead_letter_retries_total", partition="0") or 0) > 5)
        assert disk.rows() == {}
        assert disk.states[0].frames_next == 0
        broker.letter_errors.clear()
        await until(lambda: disk.rows() == {"one@1": 7})
        stage.consumer.stop()
        await asyncio.wait_for(running, 300)

    play(scene)
    assert [letter.first_offset for letter in broker.letters] == [0]


def test_a_rejected_session_leaves_one_letter_with_its_range() -> None:
    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "one@1", frames=7)
    backfill(broker, disk, size="320x240")
    assert disk.rows() == {}
    (letter,) = broker.letters
    assert (letter.kind, letter.reason, letter.key, letter.value) == (LetterKind.SESSION, "schema", b"one@1", None)
    assert (letter.first_offset, letter.last_offset) == (0, 7)  # to where it was read
    assert "640x480" in letter.detail
    assert "320x240" in letter.detail


def test_an_episode_that_shows_nothing_leaves_a_letter_and_the_next_one_is_committed() -> None:
    broker, disk = FakeBroker(1), FakeDisk()
    broker.letter_errors = [DeadLetterError("out of reach")] * 2
    disk.apply_errors = [UndecodableError("none of 2 keyframes can be decoded")]
    record(broker, 0, "one@1", frames=7)
    record(broker, 0, "two@2", frames=5)
    stage = backfill(broker, disk)
    assert disk.rows() == {"two@2": 5}
    (letter,) = broker.letters
    assert (letter.kind, letter.reason, letter.key) == (LetterKind.SESSION, "undecodable", b"one@1")
    assert (letter.first_offset, letter.last_offset) == (0, 6)
    assert letter.detail == "none of 2 keyframes can be decoded"
    assert stage.value("padreel_sessions_rejected_total", partition="0", reason="undecodable") == 1
    assert stage.value("padreel_frames_total", partition="0", fate="rejected") == 7
    assert stage.value("padreel_frames_total", partition="0", fate="row") == 5


def test_a_bad_record_of_a_session_that_was_erased_leaves_no_letter() -> None:
    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "gone@1", frames=7)
    backfill(broker, disk)
    disk.states[0] = erased(disk.states[0], {"gone@1"})
    broker.produce((Topic.FRAMES, 0), b"gone@1", b"\xff", 77)
    broker.produce((Topic.FRAMES, 0), b"other@2", b"\xff", 78)
    record(broker, 0, "gone@1", frames=7)
    backfill(broker, disk)
    assert [letter.key for letter in broker.letters] == [b"other@2"]
    assert disk.rows() == {"gone@1": 7}  # as it was


def test_a_shard_that_another_has_taken_gets_no_letters() -> None:
    """Whoever took it may have erased the session that they are about."""
    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "one@1", frames=7)

    async def scene(threads: ThreadPoolExecutor) -> None:
        stage = Stage(broker, disk, threads)
        running = asyncio.create_task(stage.consumer.run())
        await until(lambda: disk.rows() == {"one@1": 7})
        disk.states[0] = erased(disk.states[0], {"gone@2"})
        disk.open(0)  # as another writer does
        broker.produce((Topic.FRAMES, 0), b"gone@2", b"\xff", 77)
        record(broker, 0, "next@3", frames=7)
        await until(lambda: "next@3" in disk.rows())
        stage.consumer.stop()
        await running

    play(scene)
    assert broker.letters == []
