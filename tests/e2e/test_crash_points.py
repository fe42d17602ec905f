"""Real processes that are killed, stopped and overtaken, or meet an error, at every named step of writing a shard.

Each case begins on a copy of a shard whose last writer was killed in the middle of a commit, so that there is something
to fence, to sweep and to roll forward, and one episode is left to write.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from padreel.dataset import files, layout, points
from padreel.dataset.commit_log import CommitLog
from tests.e2e.shard_writer import FENCED, Writers, pickle_source, play_alone, writers
from tests.shard_world import snapshot
from tests.video_source import Source, encode, moving_pictures
from tests.video_world import STEPS, Content, check_log, content, staged

POINTS = sorted(points.SHARD_POINTS)


@dataclass(frozen=True)
class World:
    """What all cases share: the process that forks, a shard that was left behind, and what it shall become."""

    writers: Writers
    source: Source
    left: Path
    whole: Content
    counts: dict[str, int]  # how often each point is reached on the way there

    def occurrences(self, point: str) -> list[int]:
        """The first, a middle and the last time that the point is reached."""
        last = self.counts[point]
        return sorted({1, (last + 1) // 2, last})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    source = encode(moving_pictures(12), gop=4)
    left, whole = folder / "left", folder / "whole"
    with writers(source, folder) as processes:
        assert processes.run(whole) == 0
        assert processes.run(left, steps=2) == 0
        assert processes.run(left, "before link:2:kill") == -signal.SIGKILL
        assert len([name for name in staged(left) if "pub-" not in name]) == 3
        shutil.copytree(left, folder / "count")
        counts = processes.count(folder / "count")
        check_log(whole)
        yield World(processes, source, left, content(whole), counts)


@pytest.fixture
def shard(world: World, tmp_path: Path) -> Iterator[Path]:
    """A folder in which each occurrence gets a copy."""
    yield tmp_path
    for copy in tmp_path.iterdir():
        shutil.rmtree(copy)


def left_behind(world: World, folder: Path, occurrence: int) -> Path:
    return Path(shutil.copytree(world.left, folder / str(occurrence)))


def check_whole(world: World, path: Path) -> None:
    assert content(path) == world.whole
    check_log(path)
    assert staged(path) == []


def test_every_point_is_reached(world: World) -> None:
    assert sorted(world.counts) == POINTS


@pytest.mark.parametrize("point", POINTS)
def test_killed_at(world: World, shard: Path, point: str) -> None:
    """The dataset loads as it was left, and another process finishes it."""
    for occurrence in world.occurrences(point):
        path = left_behind(world, shard, occurrence)
        assert world.writers.run(path, f"{point}:{occurrence}:kill") == -signal.SIGKILL
        found = content(path).episodes
        assert found == world.whole.episodes[: len(found)]
        assert len(found) >= 1
        assert world.writers.run(path) == 0
        check_whole(world, path)


@pytest.mark.parametrize("point", POINTS)
def test_stopped_overtaken_and_continued_at(world: World, shard: Path, point: str) -> None:
    """Another process takes the shard and finishes it; the one that stood changes no byte of it any more."""
    for occurrence in world.occurrences(point):
        path = left_behind(world, shard, occurrence)
        stopped = world.writers.start(path, f"{point}:{occurrence}:stop")
        assert world.writers.end(stopped) is None
        # Before it has a publish folder there is nothing to fence: then it is a writer that comes later.
        was_writer = any(name not in staged(world.left) and "pub-" in name for name in staged(path))
        committed = world_is_committed(path)
        assert world.writers.run(path) == 0
        check_whole(world, path)
        before = snapshot(path)
        world.writers.resume(stopped)
        code = world.writers.end(stopped)
        if was_writer and not committed:
            assert code == FENCED, occurrence
        if was_writer or committed:
            assert code in (0, FENCED)
            assert snapshot(path) == before, occurrence
        else:
            assert code == 0
        check_whole(world, path)


def world_is_committed(path: Path) -> bool:
    last = CommitLog(path).last()
    return last is not None and last.state is not None and last.state.frames_next == STEPS


@pytest.mark.parametrize("point", POINTS)
def test_an_error_at(world: World, shard: Path, point: str) -> None:
    """The same process goes on; after a link it is the link whose reply was lost."""
    for occurrence in world.occurrences(point):
        path = left_behind(world, shard, occurrence)
        assert world.writers.run(path, f"{point}:{occurrence}:EIO", goes_on=True) == 0
        check_whole(world, path)


@pytest.mark.parametrize("point", ["after mkdir", "before link", "after link", "before rename", "before replace"])
def test_all_at_once(world: World, shard: Path, point: str) -> None:
    """Stopped, continued, killed and new ones write at the same time, and take the shard from each other."""
    path = left_behind(world, shard, 0)
    writers = world.writers
    standing = []
    for i in (1, 2):  # one after the other: a second one that is quicker would do all that the first was to stop at
        pid = writers.start(path, f"{point}:{i}:stop", goes_on=True)
        if writers.end(pid) is None:
            standing.append(pid)
    assert standing
    others = [writers.start(path, goes_on=True) for _ in range(2)]
    killed = writers.start(path, f"{point}:1:kill", goes_on=True)
    for pid in standing:
        writers.resume(pid)
    assert writers.end(killed) in (0, -signal.SIGKILL)
    for pid in (*standing, *others):
        assert writers.end(pid) == 0
    assert world.writers.run(path) == 0
    check_whole(world, path)


def test_the_point_comes_from_the_environment(world: World, tmp_path: Path) -> None:
    pickled = pickle_source(world.source, tmp_path)
    path = tmp_path / "shard"
    assert play_alone(path, pickled, "after link:2:kill") == -signal.SIGKILL
    assert (path / layout.commit_path(2)).exists()
    assert not (path / layout.final_path("video", 2)).exists()
    assert play_alone(path, pickled, "") == 0
    check_whole(world, path)


def test_nothing_is_probed_unless_asked_for() -> None:
    assert files.probe is files._silent
    assert points.from_environment({}) is None
