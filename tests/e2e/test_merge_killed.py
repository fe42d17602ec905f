"""`padreel merge` as a real process that is killed, or meets a full disk, at every named step of writing.

It leaves either no output or a whole one; of an update, one that loads. The same command then finishes.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from padreel.dataset import files
from padreel.options import load
from padreel.training.build import build_folder
from padreel.training.check.check import check
from padreel.training.check.dataset import check_dataset
from padreel.training.check.report import Finding, Verdict
from padreel.training.merge.merge import merge
from padreel.training.settings import MergeSettings
from tests.commands import start
from tests.dataset_reading import ReadEpisode, read_episodes
from tests.fakes import FakeBroker
from tests.shard_world import snapshot
from tests.training_world import Played, consume, publish
from tests.video_source import encode, moving_pictures

SESSIONS = [
    Played(f"session-{i}@{i}", f"rig-{i}", encode(moving_pictures(8, seed=i), gop=4, b_frames=i % 3)) for i in range(5)
]


@dataclass
class World:
    """What all cases begin with: shards, perhaps a dataset that lacks what is new in them, and what it shall become."""

    folder: Path
    flags: tuple[str, ...]
    whole: list[ReadEpisode] = field(default_factory=list)
    old: list[ReadEpisode] = field(default_factory=list)
    points: Counter[str] = field(default_factory=Counter)

    def copy(self, to: Path) -> Path:
        return Path(shutil.copytree(self.folder, to, copy_function=os.link))


def make(folder: Path, *flags: str) -> World:
    broker = FakeBroker(2)
    publish(broker, 0, SESSIONS[:2])
    root = consume(broker, folder / "start" / "root")
    world = World(folder / "start", flags)
    settings: dict[str, Any] = {"compact": "--compact" in flags, "update": "--update" in flags}
    if "--update" in flags:
        run(folder / "start", settings)
        world.old = read_episodes(folder / "start" / "out")
    publish(broker, 0, SESSIONS[2:4])
    publish(broker, 1, SESSIONS[4:])
    consume(broker, root)
    counted = world.copy(folder / "counted")
    probe = files.probe
    try:
        files.probe = lambda point, path: world.points.update([point])
        run(counted, settings)
    finally:
        files.probe = probe
    world.whole = read_episodes(counted / "out")
    return world


def run(folder: Path, settings: Mapping[str, Any]) -> None:
    chosen = load(MergeSettings, {"output": folder / "out", **settings})
    merge([folder / "root"], chosen, lambda step, done, total: None)


@pytest.fixture(scope="module", params=["", "--compact", "--update"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    return make(tmp_path_factory.mktemp("world"), *request.param.split())


def command(folder: Path, flags: tuple[str, ...], crash: str = "") -> tuple[int, str]:
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PATH": os.environ["PATH"]}
    if crash:
        environment["PADREEL_CRASH_POINT"] = crash
    arguments = ["merge", str(folder / "root"), "--output", str(folder / "out"), *flags]
    with closing(start("padreel.__main__", *arguments, environment=environment)) as process:
        out, err = process.communicate(300)
    return process.wait(), out + err


def loads(output: Path) -> list[ReadEpisode]:
    """What LeRobot would find: every descriptive file, row and packet is checked."""
    findings: list[Finding] = []
    tree = check_dataset(output, findings, {}, deep=False)
    assert [one for one in findings if one.verdict is not Verdict.PASS] == []
    assert tree is not None
    return read_episodes(output)[: tree.info["total_episodes"]]


def check_finished(world: World, folder: Path, before: object) -> None:
    assert loads(folder / "out") == world.whole
    (report,) = check(folder / "out")
    assert report.verdict is Verdict.PASS, report.findings
    assert not build_folder(folder / "out").exists()
    assert not list((folder / "out").rglob("*.tmp"))
    assert snapshot(folder / "root") == before


def crashes(world: World) -> list[tuple[str, int]]:
    """The first and the last time that each point is reached, and of what moves files one between them.

    What is after one operation is before the next, so `before` is enough but for the last.
    """
    found = []
    for point, count in sorted(world.points.items()):
        when, _, operation = point.partition(" ")
        between = {(count + 1) // 2} if operation in ("rename", "replace", "link") else set()
        found += [(point, n) for n in sorted({1, count} | between if when == "before" else {count})]
    return found


def test_killed_anywhere(world: World, tmp_path: Path) -> None:
    assert {"before link", "after rename", "before fsync", "before write"} <= set(world.points)
    for point, occurrence in crashes(world):
        folder = world.copy(tmp_path / "case")
        before = snapshot(folder / "root")
        code, said = command(folder, world.flags, f"{point}:{occurrence}:kill")
        assert code == -signal.SIGKILL, (point, occurrence, said)
        if (folder / "out").exists():
            assert loads(folder / "out") in (world.old, world.whole), (point, occurrence)
        else:
            assert not world.old
        assert snapshot(folder / "root") == before
        code, said = command(folder, world.flags)
        assert code == 0, (point, occurrence, said)
        check_finished(world, folder, before)
        shutil.rmtree(folder)


def test_a_full_disk_anywhere(world: World, tmp_path: Path) -> None:
    for point, occurrence in crashes(world):
        if occurrence != 1 or point not in ("before write", "before mkdir", "before link", "before rename"):
            continue
        folder = world.copy(tmp_path / "case")
        before = snapshot(folder / "root")
        code, said = command(folder, world.flags, f"{point}:{occurrence}:ENOSPC")
        assert code == 1, (point, occurrence, said)
        assert "No space left on device" in said.splitlines()[-1]
        assert "sources are untouched" in said.splitlines()[-1]
        if (folder / "out").exists():
            assert loads(folder / "out") in (world.old, world.whole), (point, occurrence)
        assert command(folder, world.flags)[0] == 0
        check_finished(world, folder, before)
        shutil.rmtree(folder)


def test_what_was_made_is_not_made_again(tmp_path: Path) -> None:
    """A run that goes on links no video a second time."""
    world = make(tmp_path / "world")
    folder = world.copy(tmp_path / "case")
    links = world.points["before link"]
    assert command(folder, (), f"after link:{links}:kill")[0] == -signal.SIGKILL
    tree = build_folder(folder / "out") / "tree"
    made = {path: path.stat().st_ctime_ns for path in tree.rglob("*.*") if path.is_file()}
    assert len(made) == links + 1  # and the rows
    # A point that is not reached any more: nothing is left to link.
    assert command(folder, (), "before link:1:kill")[0] == 0
    check_finished(world, folder, snapshot(folder / "root"))


def test_shards_that_grow_after_a_kill_are_planned_anew(tmp_path: Path) -> None:
    broker = FakeBroker(1)
    publish(broker, 0, SESSIONS[:2])
    root = consume(broker, tmp_path / "root")
    assert command(tmp_path, (), "after link:2:kill")[0] == -signal.SIGKILL
    publish(broker, 0, SESSIONS[2:])
    consume(broker, root)
    assert command(tmp_path, ())[0] == 0
    assert len(loads(tmp_path / "out")) == 5
    assert not build_folder(tmp_path / "out").exists()


def test_an_interrupted_update_is_named_by_check_and_finished_by_any_merge(tmp_path: Path) -> None:
    world = make(tmp_path / "world", "--update")
    replaces = world.points["before replace"]
    folder = world.copy(tmp_path / "case")
    assert command(folder, ("--update",), f"before replace:{replaces}:kill")[0] == -signal.SIGKILL
    (report,) = check(folder / "out")
    finding = next(one for one in report.findings if one.check == "checksums")
    assert finding.verdict is Verdict.WARN
    assert "interrupted" in finding.detail
    assert command(folder, ())[0] == 0
    check_finished(world, folder, snapshot(folder / "root"))
