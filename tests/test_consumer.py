"""The consumer on a broker and an output root in memory: what it commits, whatever goes wrong around it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from padreel.errors import (
    BrokerError,
    CorruptShardError,
    FencedError,
    TooManyRejectedError,
)
from padreel.model import Topic
from padreel_schemas.v1 import gamepad_pb2, video_pb2
from tests.consumer_world import Stage, backfill, be_quick, play, record, until
from tests.fakes import FakeBroker, FakeDisk


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    be_quick(monkeypatch)


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
        assert stage.value("padreel_reread_bytes_total", topic="padreel.frames", partition="0") == 0
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
