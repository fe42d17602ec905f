"""The consumer on storage that fails for a while: full, read-only, erroneous, slow. It waits, says so, and goes on."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

import padreel.writer
from padreel.dataset import files, points
from padreel.dataset.layout import shard_folder
from padreel.dataset.stage import Stage
from padreel.model import AppendUnit, OpenSpan
from tests.consumer_on_disk import Member, record_video
from tests.consumer_world import be_quick, play, until
from tests.fakes import FakeBroker
from tests.video_source import Source, encode, moving_pictures
from tests.video_world import DATASET, Content, check_log, content, play_on, staged


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    be_quick(monkeypatch)
    monkeypatch.setattr(padreel.writer, "_LONGEST_WAIT_SECONDS", 0.05)
    yield
    files.probe = files._silent


@pytest.fixture(scope="module")
def source() -> Source:
    return encode(moving_pictures(12), gop=4)


@pytest.fixture(scope="module")
def whole(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Content:
    """What the two sessions become on a disk that is always well."""
    root = tmp_path_factory.mktemp("whole")
    broker = FakeBroker(1)
    for key in ("one@1", "two@2"):
        record_video(broker, 0, key, source)

    async def scene(threads: ThreadPoolExecutor) -> None:
        async with asyncio.timeout(300):
            await Member(broker, root, threads, until="end").consumer.run()

    play(scene)
    return content(root / shard_folder(0))


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A filesystem of the test's own at `folder`."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "padreel-test", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"a filesystem of the test's own cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def run_into(
    fault: Callable[[], None], repair: Callable[[], None], says: str, root: Path, source: Source, whole: Content
) -> None:
    """One session is committed; the second one meets the fault, and is committed after the repair."""
    broker, path = FakeBroker(1), root / shard_folder(0)
    record_video(broker, 0, "one@1", source)

    async def scene(threads: ThreadPoolExecutor) -> None:
        member = Member(broker, root, threads)
        running = asyncio.create_task(member.consumer.run())
        await until(lambda: member.episodes() == 1)
        await until(lambda: member.consumer.ready() is None)
        fault()
        record_video(broker, 0, "two@2", source)
        await until(lambda: says in (member.consumer.ready() or ""))
        await until(lambda: member.value("padreel_storage_retries_total") >= 5)
        found = content(path).episodes
        assert found == whole.episodes[: len(found)]
        assert found
        assert member.consumer.live() is None
        assert not running.done()
        repair()
        await until(lambda: member.episodes() == 2)
        await until(lambda: member.consumer.ready() is None)
        member.consumer.stop()
        await asyncio.wait_for(running, 300)

    play(scene)
    assert content(path) == whole
    check_log(path)
    assert staged(path) == []


@pytest.mark.parametrize("free", [0, 8, 32, 64])
def test_a_full_disk(tmp_path: Path, source: Source, whole: Content, free: int) -> None:
    """With so many KB left the disk is met at another step: the video, the rows, the commit."""
    root = tmp_path / "root"
    ballast = root / "ballast"

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        os.truncate(ballast, ballast.stat().st_size - free * 1024)

    with mounted(root, "size=2m"):
        run_into(fill, ballast.unlink, "No space left on device", root, source, whole)


def test_a_disk_that_turns_read_only(tmp_path: Path, source: Source, whole: Content) -> None:
    root = tmp_path / "root"

    def remount(how: str) -> None:
        # Busy while a file is open to write: a progress commit may be on its way.
        while subprocess.run(["mount", "-o", f"remount,{how}", str(root)], capture_output=True, check=False).returncode:
            pass

    with mounted(root, "size=2m"):
        run_into(lambda: remount("ro"), lambda: remount("rw"), "Read-only file system", root, source, whole)


class Failing:
    """A disk on which everything fails from a point on, its `count`-th time, until it is repaired."""

    def __init__(self, point: str, count: int) -> None:
        self.point, self.left, self.fails, self.is_repaired = point, count, False, False

    def __call__(self, point: str, path: Path) -> None:
        if point == self.point:
            self.left -= 1
            self.fails = self.fails or self.left == 0
        if self.fails and not self.is_repaired:
            raise OSError(errno.EIO, "Input/output error", str(path))


STEPS = [
    *(("stage", count) for count in (1, 9, 14)),  # the head of the mp4, a unit, its index
    *(("write", count) for count in (1, 3)),
    *(("fsync", count) for count in (1, 3, 5, 12)),
    ("link", 1),
    *(("rename", count) for count in (1, 3)),
    *(("replace", count) for count in (1, 4)),
    ("unlink", 1),
]


@pytest.mark.parametrize(("operation", "count"), STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_disk_that_fails_from_a_point_on(
    tmp_path: Path, source: Source, whole: Content, when: str, operation: str, count: int
) -> None:
    disk = Failing(f"{when} {operation}", count)

    def fault() -> None:
        files.probe = disk

    def repair() -> None:
        disk.is_repaired = True

    assert disk.point in points.POINTS
    run_into(fault, repair, "Input/output error", tmp_path, source, whole)


def test_a_disk_that_fails_at_the_start(tmp_path: Path, source: Source, whole: Content) -> None:
    """Before there is a shard; the partition is being opened all the time."""
    broker = FakeBroker(1)
    for key in ("one@1", "two@2"):
        record_video(broker, 0, key, source)
    files.probe = disk = Failing("before claim", 1)

    async def scene(threads: ThreadPoolExecutor) -> None:
        member = Member(broker, tmp_path, threads)
        running = asyncio.create_task(member.consumer.run())
        await until(lambda: member.value("padreel_storage_retries_total") >= 3)
        assert "partition 0: storage: open failed: [Errno 5]" in (member.consumer.ready() or "")
        disk.is_repaired = True
        await until(lambda: member.episodes() == 2)
        member.consumer.stop()
        await asyncio.wait_for(running, 300)

    play(scene)
    assert content(tmp_path / shard_folder(0)) == whole


@pytest.mark.parametrize("point", ["before stage", "before fsync", "before replace"])
def test_a_disk_that_takes_an_hour(tmp_path: Path, source: Source, whole: Content, point: str) -> None:
    """An hour passes, by the consumer's clock, in one operation: no session is cut, nothing is given up."""
    broker, hours = FakeBroker(1), 0
    looks, seen = 0, threading.Event()  # the pipeline has lived in the hour after for a while

    def now_ns() -> int:
        nonlocal looks
        looks += hours
        if looks > 10:
            seen.set()
        return hours * 3_600_000_000_000

    def slow(at: str, path: Path) -> None:
        nonlocal hours
        if at == point and not hours:
            hours = 1
            assert seen.wait(300)

    for key in ("one@1", "two@2"):
        record_video(broker, 0, key, source)
    files.probe = slow

    async def scene(threads: ThreadPoolExecutor) -> None:
        member = Member(broker, tmp_path, threads, now_ns=now_ns, session_timeout_seconds=120)
        member.source.max_records = 4
        running = asyncio.create_task(member.consumer.run())
        await until(lambda: member.episodes() == 2)
        assert member.value("padreel_storage_retries_total") == 0
        member.consumer.stop()
        await asyncio.wait_for(running, 300)

    play(scene)
    assert content(tmp_path / shard_folder(0)) == whole


def test_what_an_fsync_failed_for_is_never_used(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second fsync of the same file may succeed though its pages were thrown away: it is written anew."""
    fsync, calls, failing = os.fsync, 0, 0
    failed: list[int] = []  # descriptors, so that the inode's number is not used again

    def sync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            failed.append(os.dup(descriptor))
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    play_on(tmp_path / "count", source, 2)
    total, calls = calls, 0
    assert total > 20
    files_met = 0
    for failing in range(1, total + 1):
        path = tmp_path / str(failing)
        calls = 0
        play_on(path, source, 2)
        status = os.fstat(failed[-1])
        os.close(failed[-1])
        assert len(content(path).episodes) == 1
        check_log(path)
        if not stat.S_ISDIR(status.st_mode):
            files_met += 1
            assert status.st_ino not in {one.stat().st_ino for one in path.rglob("*")}, failing
    assert files_met > 8


def test_what_is_given_up_makes_room(tmp_path: Path, source: Source) -> None:
    """Closing unlinks every open span, though none can be completed on a full disk."""
    root = tmp_path / "root"
    with mounted(root, "size=512k"):
        stage = Stage(root, DATASET, 0)
        for span in range(3):
            stage.open_span(OpenSpan(span, source.stream))

        def append_for_ever() -> None:
            for index, unit in enumerate(itertools.cycle(source.units)):
                for span in range(3):
                    stage.append(AppendUnit(span, index, unit.idr, unit.data))

        with pytest.raises(OSError, match="No space left"):
            append_for_ever()
        stage.close()
        assert list(root.iterdir()) == []
