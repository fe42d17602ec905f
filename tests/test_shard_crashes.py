"""A shard whose writer dies, meets an error or is overtaken at any file operation at all."""

from __future__ import annotations

import contextlib
import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from padreel.dataset import files, shard
from padreel.errors import (
    DatasetError,
    FencedError,
)
from tests.shard_world import (
    WORLD,
    Crash,
    CrashAt,
    PlainStage,
    Seen,
    episode_effects,
    open_shard,
    play,
    read_shard,
    snapshot,
    whole_world,
)


@pytest.fixture(autouse=True)
def plain_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tiny files instead of video, and a disk that is always in time: processes die here, machines do not."""
    monkeypatch.setattr(shard, "Stage", PlainStage)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    yield
    files.probe = files._silent


def staged_files(path: Path) -> list[str]:
    return sorted(str(one.relative_to(path)) for one in (path / "staging").rglob("*") if one.is_file())


def count_points(path: Path) -> int:
    files.probe = probe = CrashAt()
    play(open_shard(path))
    files.probe = files._silent
    return probe.count


@pytest.mark.parametrize("part", range(8))
def test_a_crash_at_any_file_operation_is_recovered(tmp_path: Path, part: int) -> None:
    points = count_points(tmp_path / "count")
    assert points > 150
    for point in range(part, points, 8):
        path = tmp_path / str(point)
        files.probe = CrashAt(point)
        with pytest.raises(Crash):
            play(open_shard(path))
        files.probe = files._silent
        read_shard(path)
        recovered = open_shard(path)
        play(recovered)
        assert read_shard(path) == whole_world(), point
        recovered.close()
        assert staged_files(path) == [], point


def test_crashes_during_recovery_are_recovered(tmp_path: Path) -> None:
    dice = random.Random(7)
    for life in range(20):
        path = tmp_path / str(life)
        crashes = 0
        while True:
            files.probe = CrashAt(dice.randrange(200))  # opening takes 70: most lives get somewhere
            try:
                play(open_shard(path))
                break
            except Crash:
                crashes += 1
                read_shard(path)
        files.probe = files._silent
        assert read_shard(path) == whole_world(), (life, crashes)


def test_the_tree_holds_together_after_every_operation_and_never_goes_back(tmp_path: Path) -> None:
    latest = Seen()

    def look(point: str, path: Path) -> None:
        nonlocal latest
        seen = read_shard(tmp_path)
        assert seen.sessions[: len(latest.sessions)] == latest.sessions, point
        latest = seen

    files.probe = look
    play(open_shard(tmp_path))
    open_shard(tmp_path, writer="writer-1")
    assert latest == whole_world()


@pytest.mark.parametrize("part", range(8))
def test_after_an_error_at_any_operation_the_writer_goes_on(tmp_path: Path, part: int) -> None:
    points = count_points(tmp_path / "count")
    retried = 0
    for point in range(part, points, 8):
        path = tmp_path / str(point)
        files.probe = CrashAt(point, OSError(errno.ENOSPC, "No space left on device"))
        opened = None
        for _ in range(3):
            try:
                if opened is None:
                    opened = open_shard(path)
                    play(opened)
                else:
                    opened.apply(())
                    play(opened)
                    retried += 1
                break
            except OSError:
                read_shard(path)
            except DatasetError:
                assert opened is not None
                opened.close()
                opened = None
        assert opened is not None
        assert read_shard(path) == whole_world(), point
        opened.close()
        assert staged_files(path) == [], point
    assert retried > points // 8 // 2


def overtake(path: Path, point: int | None) -> tuple[int, dict[str, tuple[int, int, str]]]:
    """A writer is stopped at the `point`-th operation of a commit, another takes over, then the first goes on.

    How many operations the commit had, and the tree as the new owner left it.
    """
    old = open_shard(path)
    play(old, WORLD[:2])
    count = 0
    left_by_new: dict[str, tuple[int, int, str]] = {}

    def stop(name: str, where: Path) -> None:
        nonlocal count, left_by_new
        count += 1
        if count - 1 == point:
            files.probe = files._silent
            play(open_shard(path, writer="writer-1"), [*WORLD[:2], episode_effects, episode_effects])
            left_by_new = snapshot(path)
            files.probe = stop

    files.probe = stop
    with contextlib.suppress(FencedError):  # at the last operations the commit is through
        old.apply(episode_effects(2))
    files.probe = files._silent
    if point is not None:
        for _ in range(2):
            with pytest.raises(FencedError):
                old.check_tail()
            with pytest.raises(FencedError):
                old.apply(episode_effects(3))
    old.close()
    return count, left_by_new


@pytest.mark.parametrize("part", range(8))
def test_a_writer_that_was_overtaken_at_any_operation_changes_nothing(tmp_path: Path, part: int) -> None:
    points, _ = overtake(tmp_path / "count", None)
    assert points > 30
    for point in range(part, points, 8):
        path = tmp_path / str(point)
        _, left_by_new = overtake(path, point)
        assert snapshot(path) == left_by_new, point
        assert read_shard(path).sessions == ("session-1@1", "session-2@2", "session-3@3"), point
        assert staged_files(path) == [], point
