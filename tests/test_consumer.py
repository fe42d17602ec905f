"""The consumer on a broker and an output root in memory: what it commits, whatever goes wrong around it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import padreel.intake
import padreel.writer
from padreel.consumer import Clock, Consumer
from padreel.errors import (
    BrokerError,
    CorruptShardError,
    DeadLetterError,
    FencedError,
    TooManyRejectedError,
    UndecodableError,
)
from padreel.metrics import Metrics
from padreel.model import LetterKind, Topic
from padreel.settings import ConsumerSettings, load
from padreel_schemas.v1 import gamepad_pb2, video_pb2
from tests.fakes import FakeBroker, FakeDisk, FakeSource

AVCC = b"\x01\x64\x00\x1f\xff\xe1\x00\x02\x67\x64\x01\x00\x02\x68\xee"
FRAME_NS = 33_333_333


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(padreel.intake, "_TICK_SECONDS", 0.02)
    monkeypatch.setattr(padreel.intake, "_ENDS_SECONDS", 0.02)
    monkeypatch.setattr(padreel.writer, "_FIRST_WAIT_SECONDS", 0.01)


def settings(**given: object) -> ConsumerSettings:
    required = {
        "bootstrap_servers": "h:1",
        "game_definition": "g",
        "action_mapping": "m",
        "output_root": "o",
        "repo_id": "r",
        "task": "t",
        "fps": 30,
        "size": "640x480",
        "session_timeout_seconds": 600,
    }
    return load(ConsumerSettings, {**required, **given})


def unit(idr: bool, size: int = 20) -> bytes:
    return size.to_bytes(4, "big") + (b"\x65" if idr else b"\x41") + bytes(size - 1)


def record(broker: FakeBroker, partition: int, key: str, *, frames: int, end: bool = True, size: int = 20) -> None:
    """A whole session on both topics, an IDR every five frames."""
    for n in range(frames):
        frame = video_pb2.VideoFrame(
            sequence=n, frame_index=n, monotonic_ns=1 + n * FRAME_NS, access_unit=unit(n % 5 == 0, size)
        )
        if n % 5 == 0:
            frame.keyframe = True
            frame.stream.CopyFrom(
                video_pb2.VideoStream(codec="h264", width=640, height=480, fps_num=30, fps_den=1, extradata=AVCC)
            )
        broker.produce((Topic.FRAMES, partition), key.encode(), frame.SerializeToString(), 1_000 + n)
    pad = gamepad_pb2.GamepadState(monotonic_ns=1, pressed_buttons=[0])
    broker.produce((Topic.PADS, partition), key.encode(), pad.SerializeToString(), 1_000)
    if end:
        last = video_pb2.VideoFrame(kind=video_pb2.VideoFrame.END, frame_count=frames)
        broker.produce((Topic.FRAMES, partition), key.encode(), last.SerializeToString(), 2_000)
        over = gamepad_pb2.GamepadState(kind=gamepad_pb2.GamepadState.END)
        broker.produce((Topic.PADS, partition), key.encode(), over.SerializeToString(), 2_000)


class Stage:
    """A consumer with everything around it in memory."""

    def __init__(self, broker: FakeBroker, disk: FakeDisk, threads: ThreadPoolExecutor, **given: object) -> None:
        self.source = FakeSource(broker)
        self.metrics = Metrics()
        chosen = settings(**given)
        self.consumer = Consumer(
            chosen,
            chosen.rules(chosen.schema_of_root, "melee"),
            partitions=broker.partitions,
            source=self.source,
            open_shard=disk.open,
            send_letters=broker.send_letters,
            threads=threads,
            metrics=self.metrics,
            clock=Clock(time.monotonic_ns, lambda: 10.0),
        )

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, {"consumergroup": "padreel", **labels})


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(300):
        while not reached():  # noqa: ASYNC110 - what is waited for happens in threads too
            await asyncio.sleep(0.01)


def play(scene: Callable[[ThreadPoolExecutor], Coroutine[Any, Any, None]]) -> None:
    with ThreadPoolExecutor(4) as threads:
        asyncio.run(scene(threads))


def backfill(broker: FakeBroker, disk: FakeDisk, **given: object) -> Stage:
    """Consume until the end; the stage as it is then."""
    stages: list[Stage] = []

    async def scene(threads: ThreadPoolExecutor) -> None:
        stages.append(Stage(broker, disk, threads, until="end", **given))
        async with asyncio.timeout(300):
            await stages[0].consumer.run()

    play(scene)
    return stages[0]


def test_until_end_commits_what_is_there_and_stops() -> None:
    broker, disk = FakeBroker(2), FakeDisk()
    record(broker, 0, "one@1", frames=7)
    record(broker, 1, "two@2", frames=12)
    stage = backfill(broker, disk)
    assert disk.rows() == {"one@1": 7, "two@2": 12}
    assert all(shard.closed for shard in disk.owners.values())
    assert broker.committed == {pair: broker.end(pair) for pair in broker.records}
    assert disk.states[1].frames_next == broker.end((Topic.FRAMES, 1))
    assert stage.value("padreel_episodes_total", partition="1", reason="end") == 1
    assert stage.value("padreel_frames_total", partition="1", fate="row") == 12
    assert stage.value("padreel_records_total", topic="padreel.frames", partition="0") == 8
    assert stage.consumer.live() is None


def test_a_restart_goes_on_where_the_log_says() -> None:
    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "one@1", frames=7)
    backfill(broker, disk)
    broker.committed.clear()  # the group's offsets are advisory
    record(broker, 0, "two@2", frames=5)
    stage = backfill(broker, disk)
    assert disk.rows() == {"one@1": 7, "two@2": 5}
    assert stage.source.resumed == [(0, 7, 1)]  # the last record of each topic once more, to compare it


def test_a_topic_that_was_created_anew_is_noticed() -> None:
    """It has grown beyond the old offsets, and its records are valid ones."""
    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "one@1", frames=7)
    backfill(broker, disk)
    for pair in broker.records:
        broker.records[pair] = []
    record(broker, 0, "two@2", frames=20)
    with pytest.raises(ExceptionGroup) as caught:
        backfill(broker, disk)
    assert caught.group_contains(BrokerError, match="offset 7.*created anew")
    assert disk.rows() == {"one@1": 7}


def test_a_last_record_that_retention_deleted_is_not_missed() -> None:
    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "one@1", frames=7)
    backfill(broker, disk)
    record(broker, 0, "two@2", frames=5)
    broker.delete_before((Topic.FRAMES, 0), 8)
    broker.delete_before((Topic.PADS, 0), 2)
    assert backfill(broker, disk).source.resumed == [(0, 8, 2)]
    assert disk.rows() == {"one@1": 7, "two@2": 5}


def test_a_new_shard_remembers_where_it_started() -> None:
    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "one@1", frames=7)
    backfill(broker, disk, start="latest")
    assert disk.rows() == {}
    record(broker, 0, "two@2", frames=5)
    backfill(broker, disk, start="earliest")
    assert disk.rows() == {"two@2": 5}


@pytest.mark.parametrize(("start", "offsets"), [(1_004, (4, 1)), (5_000, (8, 2)), (0, (0, 0))])
def test_a_new_shard_can_start_at_a_time(start: int, offsets: tuple[int, int]) -> None:
    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "one@1", frames=7)
    assert backfill(broker, disk, start=start).source.resumed == [(0, *offsets)]


def test_one_bad_rig_stops_nobody() -> None:
    broker, disk = FakeBroker(1), FakeDisk()
    for _ in range(400):
        broker.produce((Topic.FRAMES, 0), b"bad@1", b"\xff\xff")
        broker.produce((Topic.PADS, 0), None, b"")
    record(broker, 0, "one@1", frames=7)
    stage = backfill(broker, disk)
    assert disk.rows() == {"one@1": 7}
    rejected = {"topic": "padreel.frames", "partition": "0", "reason": "unparsable"}
    assert stage.value("padreel_rejected_total", **rejected) == 400
    assert stage.value("padreel_frames_total", partition="0", fate="rejected") == 400


def test_when_nearly_everything_is_bad_it_stops() -> None:
    broker, disk = FakeBroker(1), FakeDisk()
    for _ in range(1_000):
        broker.produce((Topic.FRAMES, 0), b"bad@1", b"\xff\xff")
    with pytest.raises(ExceptionGroup) as caught:
        backfill(broker, disk)
    assert caught.group_contains(TooManyRejectedError, match="1,000")
    assert disk.rows() == {}


def test_storage_that_fails_is_tried_again() -> None:
    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "one@1", frames=7)
    disk.open_errors = [OSError(28, "No space left on device")] * 2
    disk.apply_errors = [OSError(5, "Input/output error")] * 3
    stage = backfill(broker, disk)
    assert disk.rows() == {"one@1": 7}
    assert stage.value("padreel_storage_retries_total", partition="0") == 5
    assert len(disk.opened) == 3


def test_a_fenced_partition_is_opened_and_read_again() -> None:
    broker, disk = FakeBroker(2), FakeDisk()
    record(broker, 0, "one@1", frames=7)
    record(broker, 1, "two@2", frames=7)
    disk.apply_errors = [FencedError("taken")]
    stage = backfill(broker, disk)
    assert disk.rows() == {"one@1": 7, "two@2": 7}
    assert sorted(disk.opened) in ([0, 0, 1], [0, 1, 1])
    fences = [stage.value("padreel_fences_total", partition=number) or 0 for number in "01"]
    assert sum(fences) == 1


def test_a_shard_that_needs_a_person_ends_the_process() -> None:
    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "one@1", frames=7)
    disk.apply_errors = [CorruptShardError("a file is gone")]
    with pytest.raises(ExceptionGroup) as caught:
        backfill(broker, disk)
    assert caught.group_contains(CorruptShardError)


def test_a_bug_in_a_shard_ends_the_process() -> None:
    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "one@1", frames=7)
    disk.apply_errors = [ZeroDivisionError()]
    with pytest.raises(ExceptionGroup) as caught:
        backfill(broker, disk)
    assert caught.group_contains(ZeroDivisionError)


def test_partitions_that_move_are_read_again_by_the_new_owner() -> None:
    broker, disk = FakeBroker(2), FakeDisk()
    record(broker, 0, "one@1", frames=7)
    record(broker, 1, "two@2", frames=7, end=False)

    async def scene(threads: ThreadPoolExecutor) -> None:
        first, second = Stage(broker, disk, threads), Stage(broker, disk, threads)
        async with asyncio.TaskGroup() as group:
            group.create_task(first.consumer.run())
            await until(lambda: disk.rows() == {"one@1": 7} and first.consumer.ready() is None)
            await until(lambda: first.source.at.get((Topic.FRAMES, 1)) == 7)
            where = {"topic": "padreel.frames", "partition": "1"}
            await until(lambda: first.value("padreel_lag_records", **where) == 0)
            await until(lambda: first.value("padreel_lag_seconds", **where) == 0)
            group.create_task(second.consumer.run())
            await until(lambda: second.consumer.ready() is None and first.consumer.ready() is None)
            assert (first.source.assigned, second.source.assigned) == ({0}, {1})
            finish(broker, 1, "two@2", 7)
            await until(lambda: len(disk.episodes) == 2)
            assert first.value("padreel_open_sessions", partition="1") is None
            first.consumer.stop()
            second.consumer.stop()

    play(scene)
    assert disk.rows() == {"one@1": 7, "two@2": 7}


def finish(broker: FakeBroker, partition: int, key: str, frames: int) -> None:
    """Publish both ENDs of a session."""
    for topic, value in (
        (Topic.FRAMES, video_pb2.VideoFrame(kind=video_pb2.VideoFrame.END, frame_count=frames)),
        (Topic.PADS, gamepad_pb2.GamepadState(kind=gamepad_pb2.GamepadState.END)),
    ):
        broker.produce((topic, partition), key.encode(), value.SerializeToString())


def test_a_partition_that_comes_back_goes_on_where_it_was() -> None:
    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "one@1", frames=7, end=False)

    async def scene(threads: ThreadPoolExecutor) -> None:
        stage = Stage(broker, disk, threads)
        running = asyncio.create_task(stage.consumer.run())
        await until(lambda: stage.source.at.get((Topic.FRAMES, 0)) == 7)
        await until(lambda: stage.value("padreel_open_sessions", partition="0") == 1)
        broker.rebalance()
        broker.rebalance()
        await until(lambda: stage.consumer.ready() is None and len(stage.source.resumed) == 2)
        finish(broker, 0, "one@1", 7)
        await until(lambda: disk.rows() == {"one@1": 7})
        stage.consumer.stop()
        await asyncio.wait_for(running, 300)
        # The shard was opened once, and nothing was read again.
        assert disk.opened == [0]
        assert stage.source.resumed == [(0, 0, 0), (0, 7, 1)]
        assert stage.value("padreel_reread_bytes_total", topic="padreel.frames", partition="0") is None
        assert stage.value("padreel_records_total", topic="padreel.frames", partition="0") == 8
        assert stage.value("padreel_rebalances_total") == 3

    play(scene)


def test_a_parked_partition_that_was_fenced_is_opened_and_read_again() -> None:
    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "one@1", frames=7, end=False)

    async def scene(threads: ThreadPoolExecutor) -> None:
        stage = Stage(broker, disk, threads)
        running = asyncio.create_task(stage.consumer.run())
        await until(lambda: stage.source.at.get((Topic.FRAMES, 0)) == 7)
        await until(lambda: stage.value("padreel_open_sessions", partition="0") == 1)
        stage.source.take_away()
        disk.open(0).close()  # somebody else has had it meanwhile
        broker.rebalance()
        await until(lambda: stage.consumer.ready() is None and len(stage.source.resumed) == 2)
        finish(broker, 0, "one@1", 7)
        await until(lambda: disk.rows() == {"one@1": 7})
        stage.consumer.stop()
        await asyncio.wait_for(running, 300)
        assert stage.value("padreel_fences_total", partition="0") == 1
        assert stage.source.resumed[1] == (0, 0, 0)
        reread = stage.value("padreel_reread_bytes_total", topic="padreel.frames", partition="0")
        values = [record.value or b"" for record in broker.records[Topic.FRAMES, 0]]
        assert reread == sum(map(len, values[:7]))

    play(scene)


def test_a_partition_that_does_not_come_back_is_closed() -> None:
    broker, disk = FakeBroker(2), FakeDisk()
    record(broker, 1, "two@2", frames=7, end=False)

    async def scene(threads: ThreadPoolExecutor) -> None:
        stage = Stage(broker, disk, threads)
        running = asyncio.create_task(stage.consumer.run())
        await until(lambda: stage.source.at.get((Topic.FRAMES, 1)) == 7)
        await until(lambda: stage.consumer.ready() is None)
        stage.source.take_away()
        await asyncio.sleep(0.1)
        assert not disk.owners[1].closed  # parked: it may come back
        stage.source.assign([0])
        await until(lambda: disk.owners[1].closed)
        assert not disk.owners[0].closed
        stage.consumer.stop()
        await asyncio.wait_for(running, 300)

    play(scene)


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


def test_stopping_lets_the_commit_in_hand_finish_and_leaves_the_rest() -> None:
    import threading

    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "one@1", frames=7)
    record(broker, 0, "two@2", frames=5)
    disk.gate = threading.Event()

    async def scene(threads: ThreadPoolExecutor) -> None:
        assert disk.gate is not None
        stage = Stage(broker, disk, threads)
        running = asyncio.create_task(stage.consumer.run())
        await until(disk.reached.is_set)
        await until(lambda: stage.source.at[Topic.FRAMES, 0] == broker.end((Topic.FRAMES, 0)))
        stage.consumer.stop()
        await asyncio.sleep(0.1)
        assert not running.done()
        disk.gate.set()
        await asyncio.wait_for(running, 300)

    play(scene)
    assert disk.rows() == {"one@1": 7}
    assert disk.owners[0].closed
    backfill(broker, disk)
    assert disk.rows() == {"one@1": 7, "two@2": 5}


def test_a_slow_disk_stops_reading_frames() -> None:
    import threading

    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "one@1", frames=5)
    record(broker, 0, "two@2", frames=200, size=100_000)
    disk.gate = threading.Event()

    async def scene(threads: ThreadPoolExecutor) -> None:
        assert disk.gate is not None
        stage = Stage(broker, disk, threads, buffer_bytes=2**20)
        stage.source.max_records = 10
        running = asyncio.create_task(stage.consumer.run())
        await until(disk.reached.is_set)
        await asyncio.sleep(0.5)
        assert stage.source.at[Topic.FRAMES, 0] < 60
        disk.gate.set()
        await until(lambda: len(disk.episodes) == 2)
        stage.consumer.stop()
        await asyncio.wait_for(running, 300)

    play(scene)
    assert disk.rows() == {"one@1": 5, "two@2": 200}


def test_ready_says_what_it_waits_for() -> None:
    broker, disk = FakeBroker(1), FakeDisk()
    disk.open_errors = [OSError(28, "No space left on device")] * 1_000

    async def scene(threads: ThreadPoolExecutor) -> None:
        stage = Stage(broker, disk, threads)
        assert stage.consumer.ready() == "the group has assigned nothing yet"
        running = asyncio.create_task(stage.consumer.run())
        await until(lambda: "No space left" in (stage.consumer.ready() or ""))
        stage.consumer.stop()  # nobody waits for a disk that stays full
        await asyncio.wait_for(running, 300)

    play(scene)
