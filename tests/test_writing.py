"""When a writer writes: units once they have gathered, commits at once, and nothing that it was released from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

import padreel.outbox
from tests.consumer_world import Stage, be_quick, end_session, play, record, until
from tests.fakes import FakeBroker, FakeDisk

UNIT = 24  # bytes of an access unit that `record` publishes


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    be_quick(monkeypatch)


def with_units_that_gather(act: Callable[[Stage, FakeBroker], Callable[[], bool]]) -> FakeDisk:
    """A consumer that has written three frames of a session and read nine more, when `act` is called.

    It runs on until what that gives is true.
    """
    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "one@1", frames=3, end=False)

    async def scene(threads: ThreadPoolExecutor) -> None:
        stage = Stage(broker, disk, threads)
        running = asyncio.create_task(stage.consumer.run())
        await until(lambda: written(stage) == 3 * UNIT)
        record(broker, 0, "one@1", frames=12, end=False)  # the first three are duplicates
        await until(lambda: stage.value("padreel_records_total", topic="padreel.frames", partition="0") == 15)
        await until(act(stage, broker))
        stage.consumer.stop()
        await asyncio.wait_for(running, 300)

    play(scene)
    return disk


def written(stage: Stage) -> float:
    return stage.value("padreel_remuxed_bytes_total", partition="0") or 0.0


def test_units_alone_are_written_once_they_have_gathered() -> None:
    disk = with_units_that_gather(lambda stage, _: lambda: written(stage) == 12 * UNIT)
    assert disk.rows() == {}


def test_a_commit_takes_the_units_before_it_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(padreel.outbox, "_GATHER_SECONDS", 3_600)

    def end(stage: Stage, broker: FakeBroker) -> Callable[[], bool]:
        assert written(stage) == 3 * UNIT
        end_session(broker, 0, "one@1", frames=12)
        return lambda: written(stage) == 12 * UNIT

    assert with_units_that_gather(end).rows() == {"one@1": 12}


def test_a_stop_does_not_wait_for_units_that_gather(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(padreel.outbox, "_GATHER_SECONDS", 3_600)
    disk = with_units_that_gather(lambda stage, _: lambda: written(stage) == 3 * UNIT)
    assert disk.rows() == {}
    assert all(shard.closed for shard in disk.owners.values())


def test_a_partition_that_comes_back_writes_what_gathered_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(padreel.outbox, "_GATHER_SECONDS", 3_600)

    def rebalance(stage: Stage, broker: FakeBroker) -> Callable[[], bool]:
        broker.rebalance()
        end_session(broker, 0, "one@1", frames=12)
        return lambda: written(stage) == 12 * UNIT

    disk = with_units_that_gather(rebalance)
    assert disk.rows() == {"one@1": 12}
    assert disk.opened == [0]  # it was not opened again, so nothing was read again
