"""What the consumer says of its work, on a broker and an output root in memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

import padreel.vitals
from padreel.errors import DatasetError
from tests.consumer_world import Stage, backfill, be_quick, play, record, until
from tests.fakes import FakeBroker, FakeDisk

UNIT = 24  # bytes of an access unit that `record` publishes
FRAMES = {"topic": "padreel.frames", "partition": "0"}
PADS = {"topic": "padreel.gamepad", "partition": "0"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    be_quick(monkeypatch)
    monkeypatch.setattr(padreel.vitals, "_NAP_SECONDS", 0.01)


def watch(
    broker: FakeBroker, disk: FakeDisk, see: Callable[[Stage], list[Callable[[], bool]]], **given: object
) -> None:
    """Run a consumer until each of the conditions that `see` gives has been true, in order."""

    async def scene(threads: ThreadPoolExecutor) -> None:
        stage = Stage(broker, disk, threads, **given)
        running = asyncio.create_task(stage.consumer.run())
        for reached in see(stage):
            await until(reached)
        stage.consumer.stop()
        if disk.gate is not None:
            disk.gate.set()
        await asyncio.wait_for(running, 300)

    play(scene)


def test_what_a_backfill_leaves_behind() -> None:
    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "one@1", frames=7)
    stage = backfill(broker, disk)
    assert stage.value("padreel_remuxed_bytes_total", partition="0") == 7 * UNIT
    assert stage.value("padreel_pad_age_seconds_count", partition="0") == 2
    assert stage.value("padreel_pad_age_seconds_sum", partition="0") == 0.75
    for step, seconds in (("stage", 1.0), ("commit", 2.0), ("publish", 3.0)):
        assert stage.value("padreel_commit_step_seconds_sum", partition="0", step=step) == seconds
    assert stage.value("padreel_commit_seconds_count", partition="0") == 1
    assert (stage.value("padreel_event_loop_stall_seconds_count") or 0) > 0
    # All is accounted: the log needs nothing of the topics any more.
    for where, end in ((FRAMES, 8), (PADS, 2)):
        assert stage.value("padreel_next_offset", **where) == end
        assert stage.value("padreel_next_age_seconds", **where) == 0
    for name in ("open_sessions", "silent_sessions", "longest_session_seconds", "watermark_delay_seconds"):
        assert stage.value(f"padreel_{name}", partition="0") == 0


def test_a_session_that_waits_for_its_pad() -> None:
    """Its one EVENT was at the time of the first frame, and nothing says that no other came."""
    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "one@1", frames=7, end=False)

    def see(stage: Stage) -> list[Callable[[], bool]]:
        def value(name: str, **labels: str) -> float:
            return stage.value(f"padreel_{name}", partition="0", **labels) or 0.0

        def now(name: str, expected: float, **labels: str) -> Callable[[], bool]:
            return lambda: value(name, **labels) == expected

        return [
            now("open_sessions", 1),
            now("buffered_records", 7, what="frames"),
            now("buffer_limit_records", 100_000, what="frames"),
            now("buffer_limit_bytes", 2**22, what="video"),
            now("buffer_limit_bytes", 2**22, what="pads"),
            lambda: value("buffered_bytes", what="pads") > 0,
            lambda: 0.19 < value("longest_session_seconds") < 0.21,
            lambda: value("watermark_delay_seconds") > 0.05,
            # Read, but not accounted: the first record's timestamp is 1 s, the wall clock says 10.
            now("read_position", 7, topic="padreel.frames"),
            now("next_offset", 0, topic="padreel.frames"),
            now("next_age_seconds", 9.0, topic="padreel.frames"),
            now("lag_seconds", 0, topic="padreel.frames"),
        ]

    watch(broker, disk, see)


def test_a_silent_session_is_open_and_not_recording() -> None:
    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "one@1", frames=7, end=False)

    def see(stage: Stage) -> list[Callable[[], bool]]:
        return [
            lambda: stage.value("padreel_silent_sessions", partition="0") == 1,
            lambda: stage.value("padreel_open_sessions", partition="0") == 1,
            lambda: stage.value("padreel_longest_session_seconds", partition="0") == 0,
            lambda: stage.value("padreel_watermark_delay_seconds", partition="0") == 0,
            lambda: stage.value("padreel_episodes_total", partition="0", reason="silence") == 1,
            # No record of the pad proves that nothing came at or before their times.
            lambda: stage.value("padreel_forced_frames_total", partition="0") == 7,
        ]

    watch(broker, disk, see, session_timeout_seconds=0.2)


def test_next_moves_with_the_log_and_not_with_what_is_on_its_way() -> None:
    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "one@1", frames=7)
    disk.gate = threading.Event()

    def see(stage: Stage) -> list[Callable[[], bool]]:
        def is_written() -> bool:
            assert disk.gate is not None
            disk.gate.set()
            return stage.value("padreel_next_offset", **FRAMES) == 8

        return [
            disk.reached.is_set,  # the commit is being written
            lambda: stage.value("padreel_read_position", **FRAMES) == 8,
            lambda: stage.value("padreel_next_offset", **FRAMES) == 0,
            lambda: stage.value("padreel_next_age_seconds", **FRAMES) == 9.0,
            is_written,
            lambda: stage.value("padreel_next_age_seconds", **FRAMES) == 0,
        ]

    watch(broker, disk, see)


def test_the_counters_of_a_partition_are_there_before_anything_happened() -> None:
    broker, disk = FakeBroker(1), FakeDisk()

    def see(stage: Stage) -> list[Callable[[], bool]]:
        return [
            lambda: stage.value("padreel_episodes_total", partition="0", reason="gap") == 0,
            lambda: stage.value("padreel_rejected_total", reason="unparsable", **PADS) == 0,
            lambda: stage.value("padreel_sessions_rejected_total", partition="0", reason="media") == 0,
            lambda: stage.value("padreel_dead_letters_total", partition="0", kind="session", reason="media") == 0,
            lambda: stage.value("padreel_dead_letters_total", partition="0", kind="record", reason="oversized") == 0,
        ]

    watch(broker, disk, see)


def test_a_partition_that_is_gone_leaves_no_age_behind() -> None:
    broker, disk = FakeBroker(2), FakeDisk()
    record(broker, 1, "two@2", frames=7, end=False)
    where = {"topic": "padreel.frames", "partition": "1"}

    def see(stage: Stage) -> list[Callable[[], bool]]:
        def is_gone() -> bool:
            stage.source.take_away()
            stage.source.assign([0])
            return stage.value("padreel_next_age_seconds", **where) is None

        return [lambda: stage.value("padreel_next_age_seconds", **where) == 9.0, is_gone]

    watch(broker, disk, see)


def test_lag_and_ages_go_on_while_a_shard_cannot_be_opened() -> None:
    """The video that was being staged is lost, and the disk is away: who watches must see that nothing is read."""
    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "one@1", frames=7)
    disk.gate = threading.Event()

    def see(stage: Stage) -> list[Callable[[], bool]]:
        def is_away() -> bool:
            assert disk.gate is not None
            disk.apply_errors, disk.open_errors = [DatasetError("video is lost")], [OSError("away")] * 10_000
            disk.gate.set()
            return True

        def is_published() -> bool:
            record(broker, 0, "two@2", frames=5)
            return True

        return [
            disk.reached.is_set,
            is_away,
            lambda: (stage.value("padreel_storage_retries_total", partition="0") or 0) > 0,
            is_published,
            lambda: stage.value("padreel_lag_records", **FRAMES) == 6,
            lambda: (stage.value("padreel_lag_seconds", **FRAMES) or 0) > 0,
            lambda: stage.value("padreel_next_offset", **FRAMES) == 0,
            lambda: stage.value("padreel_next_age_seconds", **FRAMES) == 9.0,
            lambda: stage.value("padreel_buffered_records", partition="0", what="frames") == 0,
        ]

    watch(broker, disk, see)


def test_nothing_is_held_and_nothing_waits_once_a_pipeline_is_forgotten() -> None:
    """A frame waits for its pad and is held until another writer takes the shard and the disk goes away."""
    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "one@1", frames=7)
    record(broker, 0, "two@2", frames=7, end=False)
    disk.gate = threading.Event()

    def see(stage: Stage) -> list[Callable[[], bool]]:
        def held(name: str, **labels: str) -> float:
            return stage.value(f"padreel_{name}", partition="0", **labels) or 0.0

        def is_away() -> bool:
            assert disk.gate is not None
            disk.apply_errors, disk.open_errors = [DatasetError("video is lost")], [OSError("away")] * 10_000
            disk.gate.set()
            return True

        return [
            disk.reached.is_set,
            lambda: held("buffered_records", what="frames") == 7 and held("watermark_delay_seconds") > 0,
            is_away,
            lambda: held("buffered_records", what="frames") == held("watermark_delay_seconds") == 0,
            lambda: held("open_sessions") == 1,  # as far as is known
        ]

    watch(broker, disk, see)
