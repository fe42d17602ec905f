"""Publishing a session folder: order, pace, resuming, refusing."""

from __future__ import annotations

import asyncio
import math
import random
from pathlib import Path
from typing import Any

import pytest

from padreel_schemas.recording import Recording, RecordingError
from padreel_shim.producer import PublishError
from padreel_shim.publish import Acknowledged, Published, PublishOptions, publish_session
from padreel_shim.state import PublishState, StateError, StateFile
from tests.fake_publisher import FakePublisher
from tests.session_folders import frame_times, write_folder, write_sync

AS_FAST_AS_IT_GOES = PublishOptions(speed=math.inf)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "session")


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


def publish(
    folder: Path, publisher: FakePublisher, state_dir: Path, options: PublishOptions = AS_FAST_AS_IT_GOES, **extra: Any
) -> Published:
    return asyncio.run(publish_session(folder, publisher, state_dir, options, **extra))


def saved(state_dir: Path, folder: Path) -> PublishState:
    with StateFile(state_dir, folder) as file:
        state = file.load()
    assert state is not None
    return state


def recorded(folder: Path) -> list[tuple[str, bytes]]:
    return [(record.topic, record.value) for record in Recording(folder).records()]


def test_everything_is_published_in_order_under_one_key(folder: Path, state_dir: Path) -> None:
    publisher = FakePublisher()
    shown: list[tuple[int, int]] = []
    done = publish(folder, publisher, state_dir, on_frames=lambda now, total: shown.append((now, total)))
    assert [(topic, value) for topic, _, value in publisher.sent] == recorded(folder)
    assert {key for _, key, _ in publisher.sent} == {done.key.encode()}
    assert done.key.startswith("session@")
    assert (done.frames, done.events, done.records, done.resumed_at) == (20, 10, len(publisher.sent), 0)
    assert shown[-1] == (20, 20)
    state = saved(state_dir, folder)
    assert (state.finished, state.position) == (True, len(publisher.sent))


def test_a_finished_session_is_not_published_again(folder: Path, state_dir: Path) -> None:
    first = publish(folder, FakePublisher(), state_dir)
    publisher = FakePublisher()
    second = publish(folder, publisher, state_dir)
    assert publisher.sent == []
    assert (second.finished_before, second.records, second.key) == (True, 0, first.key)


def test_again_takes_a_new_run(folder: Path, state_dir: Path) -> None:
    first = publish(folder, FakePublisher(), state_dir)
    publisher = FakePublisher()
    again = publish(folder, publisher, state_dir, PublishOptions(speed=math.inf, again=True))
    assert again.key != first.key
    assert [(topic, value) for topic, _, value in publisher.sent] == recorded(folder)


@pytest.mark.parametrize("fail_at", [0, 1, 7, 30])
def test_a_failure_is_resumed_where_it_was_acknowledged(folder: Path, state_dir: Path, fail_at: int) -> None:
    broken = FakePublisher(fail_at=fail_at)
    with pytest.raises(PublishError, match="gone"):
        publish(folder, broken, state_dir)
    assert saved(state_dir, folder).position == fail_at
    rest = FakePublisher()
    done = publish(folder, rest, state_dir, PublishOptions(speed=math.inf, again=True))
    assert done.resumed_at == fail_at
    both = broken.sent + rest.sent
    assert [(topic, value) for topic, _, value in both] == recorded(folder)
    assert len({key for _, key, _ in both}) == 1


def test_unacknowledged_records_are_sent_again_byte_for_byte(folder: Path, state_dir: Path) -> None:
    first = FakePublisher(hold=True, fail_at=25)
    with pytest.raises(PublishError):
        publish(folder, first, state_dir)
    assert saved(state_dir, folder).position == 0
    second = FakePublisher()
    publish(folder, second, state_dir)
    assert second.sent[:25] == first.sent
    assert [(topic, value) for topic, _, value in second.sent] == recorded(folder)


class Stalled(FakePublisher):
    """Takes five records and acknowledges none by itself; the sixth never finds room."""

    def __init__(self) -> None:
        super().__init__(hold=True)
        self.full = asyncio.Event()

    async def send(self, *record: Any, **named: Any) -> None:
        if len(self.sent) == 5:
            self.full.set()
            await asyncio.Event().wait()
        await super().send(*record, **named)


def test_being_stopped_waits_for_what_is_under_way(folder: Path, state_dir: Path) -> None:
    async def run() -> None:
        publisher = Stalled()
        task = asyncio.create_task(publish_session(folder, publisher, state_dir, AS_FAST_AS_IT_GOES))
        await publisher.full.wait()
        task.cancel()
        asyncio.get_running_loop().call_later(0.05, publisher.acknowledge)
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())
    state = saved(state_dir, folder)
    assert (state.position, state.finished) == (5, False)


def test_the_position_counts_only_what_is_acknowledged_in_order() -> None:
    for seed in range(50):
        order = list(range(10, 60))
        random.Random(seed).shuffle(order)
        acknowledged = Acknowledged(10)
        seen: set[int] = set()
        for index in order:
            acknowledged.add(index)
            seen.add(index)
            assert acknowledged.position == next(n for n in range(10, 61) if n not in seen)


@pytest.mark.parametrize("speed", [1.0, 4.0])
def test_records_go_out_at_the_rigs_pace(folder: Path, state_dir: Path, speed: float) -> None:
    now = 100.0
    sent_at: list[float] = []

    class Timed(FakePublisher):
        async def send(self, *record: Any, **named: Any) -> None:
            sent_at.append(now)
            await super().send(*record, **named)

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    publish(folder, Timed(), state_dir, PublishOptions(speed=speed), clock=lambda: now, sleep=sleep)
    times = [record.time_ns for record in Recording(folder).records()]
    expected = [100.0 + (time_ns - times[0]) / 1e9 / speed for time_ns in times]
    assert sent_at == pytest.approx(expected, abs=1e-6)


def test_the_position_is_saved_while_a_pause_lasts(folder: Path, state_dir: Path) -> None:
    times = frame_times(20)
    write_sync(folder / "sync.csv", times[:10] + [time_ns + 3600 * 10**9 for time_ns in times[10:]])
    now = 0.0
    positions: list[int] = []

    def saved_position() -> int:
        path = next(state_dir.glob("*.json"))
        return int(path.read_text().partition('"position": ')[2].partition(",")[0])

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        if 10 < now < 3000:
            positions.append(saved_position())

    publish(folder, FakePublisher(), state_dir, PublishOptions(speed=1.0), clock=lambda: now, sleep=sleep)
    assert min(positions) > 0
    assert len(set(positions)) == 1


def test_a_changed_folder_is_refused(folder: Path, state_dir: Path) -> None:
    with pytest.raises(PublishError):
        publish(folder, FakePublisher(fail_at=5), state_dir)
    write_sync(folder / "sync.csv", [time_ns + 1 for time_ns in frame_times(20)])
    with pytest.raises(StateError, match=r"sync\.csv changed since it was published as session@"):
        publish(folder, FakePublisher(), state_dir)
    again = FakePublisher()
    publish(folder, again, state_dir, PublishOptions(speed=math.inf, again=True))
    assert [(topic, value) for topic, _, value in again.sent] == recorded(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (PublishOptions(task="other"), "--task changed from '' to 'other'"),
        (PublishOptions(rig_id="r"), "--rig-id changed"),
        (PublishOptions(game_id="g"), "--game-id changed"),
        (PublishOptions(frames_topic="f"), "--frames-topic changed"),
    ],
)
def test_options_cannot_change_half_way(folder: Path, state_dir: Path, options: PublishOptions, message: str) -> None:
    with pytest.raises(PublishError):
        publish(folder, FakePublisher(fail_at=5), state_dir)
    with pytest.raises(StateError, match=message):
        publish(folder, FakePublisher(), state_dir, options)


def test_another_broker_is_refused(folder: Path, state_dir: Path) -> None:
    publish(folder, FakePublisher("one"), state_dir)
    with pytest.raises(StateError, match="cluster id changed from 'one' to 'two'"):
        publish(folder, FakePublisher("two"), state_dir)


def test_bad_folders_are_refused_before_anything_is_sent(tmp_path: Path, state_dir: Path) -> None:
    publisher = FakePublisher()
    named = write_folder(tmp_path / "bad name", frames=2, events=1)
    with pytest.raises(RecordingError, match="rename the folder"):
        publish(named, publisher, state_dir)
    (write_folder(tmp_path / "cut", frames=2, events=1) / "sync.csv").unlink()
    with pytest.raises(RecordingError, match=r"sync\.csv: is missing"):
        publish(tmp_path / "cut", publisher, state_dir)
    assert publisher.sent == []
