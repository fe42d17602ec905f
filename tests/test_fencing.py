"""A consumer that stood still past its session timeout: it loses cleanly, and goes on as a member like any other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import padreel.consumer
import padreel.writer
from padreel.dataset import files
from padreel.dataset.commit_log import CommitLog, Kind
from padreel.dataset.layout import shard_folder
from padreel.kafka.events import Assigned, Revoked
from tests.consumer_on_disk import Member, record_video
from tests.consumer_world import be_quick, play, until
from tests.fakes import FakeBroker, FakeSource
from tests.shard_world import snapshot
from tests.video_source import Source, encode, moving_pictures
from tests.video_world import check_log, content, staged


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    be_quick(monkeypatch)
    monkeypatch.setattr(padreel.consumer, "_PROGRESS_NS", 10**15)
    yield
    files.probe = files._silent


@pytest.fixture(scope="module")
def source() -> Source:
    return encode(moving_pictures(12), gop=4)


class DeafSource(FakeSource):
    """While its process stands it does not hear what the group says."""

    def __init__(self, broker: FakeBroker) -> None:
        super().__init__(broker)
        self.stands = False
        self.unheard: list[Assigned | Revoked] = []
        self._tell: Callable[[Assigned | Revoked], None] | None = None

    async def start(self, post: Callable[[Assigned | Revoked], None]) -> None:
        self._tell = post
        await super().start(lambda event: self.unheard.append(event) if self.stands else post(event))

    def wake(self) -> None:
        assert self._tell is not None
        self.stands = False
        for event in self.unheard:
            self._tell(event)


class Standstill:
    """A probe that holds the first thread to reach the point, or to reach it so many times, in that shard."""

    def __init__(self, point: str, path: Path) -> None:
        name, _, count = point.rpartition(" ")
        self._point, self._left = (name, int(count)) if count.isdecimal() else (point, 1)
        self._path = path
        self.is_reached = False
        self._gate = threading.Event()

    def __call__(self, point: str, path: Path) -> None:
        if point != self._point or self.is_reached or not path.is_relative_to(self._path):
            return
        self._left -= 1
        if self._left == 0:
            self.is_reached = True
            assert self._gate.wait(300)

    def end(self) -> None:
        self._gate.set()


OPENING = ["before fold", "before claim", "after claim"]
# 14 times something is written to the mp4; the last time is when the episode is being committed. The first link is of
# where a new shard's reading started.
BEFORE_THE_COMMIT = ["before stage", "after stage", "after stage 14", "before write 2", "before link", "before link 2"]
AFTER_THE_COMMIT = ["after link 2", "before rename", "after rename", "before replace", "after replace"]


@pytest.mark.parametrize("point", [*OPENING, *BEFORE_THE_COMMIT, *AFTER_THE_COMMIT])
def test_a_consumer_that_stood_still_loses_and_goes_on(tmp_path: Path, source: Source, point: str) -> None:
    broker = FakeBroker(2)
    path = tmp_path / shard_folder(1)
    record_video(broker, 1, "one@1", source)
    files.probe = probe = Standstill(point, path)

    async def scene(threads: ThreadPoolExecutor) -> None:
        deaf = DeafSource(broker)
        slow = Member(broker, tmp_path, threads, name="slow", source=deaf)
        quick = Member(broker, tmp_path, threads, name="quick")
        async with asyncio.TaskGroup() as group:
            group.create_task(slow.consumer.run())
            await until(lambda: probe.is_reached)
            deaf.stands = True
            group.create_task(quick.consumer.run())
            own = 0 if point in AFTER_THE_COMMIT else 1  # episodes that are left to the quick one
            await until(lambda: quick.consumer.ready() is None and quick.episodes(1) == own)
            before, claims = snapshot(path), claimers(path)
            assert claims == (["quick"] if point in OPENING[:2] else ["slow", "quick"])

            probe.end()
            await until(lambda: slow.value("padreel_fences_total", 1) == 1)
            assert [name for name in staged(path) if "pub-" not in name] == []
            deaf.wake()
            record_video(broker, 0, "two@2", source)
            await until(lambda: slow.episodes(0) == 1 and slow.consumer.ready() is None)
            assert snapshot(path) == before

            record_video(broker, 1, "three@3", source)
            await until(lambda: quick.episodes(1) == own + 1)
            assert claimers(path) == claims
            assert slow.value("padreel_fences_total", 1) == 1
            assert quick.value("padreel_fences_total", 1) == 0
            slow.consumer.stop()
            quick.consumer.stop()

    play(scene)
    assert [one.session for one in content(path).episodes] == ["one", "three"]
    assert [one.session for one in content(tmp_path / shard_folder(0)).episodes] == ["two"]
    for number in range(2):
        check_log(tmp_path / shard_folder(number))
        assert staged(tmp_path / shard_folder(number)) == []


def claimers(path: Path) -> list[str]:
    """Who has claimed the shard, in order."""
    log, n, found = CommitLog(path), 0, []
    while (entry := log.read(n)) is not None:
        n += 1
        if entry.kind is Kind.CLAIM:
            found.append(entry.writer)
    return found
