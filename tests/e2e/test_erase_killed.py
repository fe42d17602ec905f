"""`padreel erase` as a real process that is killed, or meets a full disk, at every named step of writing.

What it leaves is no erase, or one that the same command completes; what the shard shows is right at any moment.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from padreel.dataset import files
from padreel.dataset.layout import shard_folder
from padreel.options import load
from padreel.training.check.dataset import check_dataset
from padreel.training.check.report import Finding, Verdict
from padreel.training.erase.command import erase
from padreel.training.settings import EraseSettings
from tests.commands import start
from tests.dataset_reading import ReadEpisode, read_episodes
from tests.erase_world import held_of
from tests.fakes import FakeBroker
from tests.training_world import Played, consume, failing, publish
from tests.video_source import encode, moving_pictures

SESSIONS = [
    Played(f"session-{i}@{i}", f"rig-{i}", encode(moving_pictures(8, seed=i), gop=4), pad=((0, 0.5 + i / 64, (0,)),))
    for i in range(4)
]


@dataclass
class World:
    """A root whose second episode is to go."""

    root: Path
    old: list[ReadEpisode] = field(default_factory=list)
    points: Counter[str] = field(default_factory=Counter)

    @property
    def gone(self) -> str:
        return self.old[1].key

    @property
    def session(self) -> Played:
        return next(one for one in SESSIONS if one.key == self.gone)

    @property
    def left(self) -> list[ReadEpisode]:
        return [one for one in self.old if one.key != self.gone]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    broker = FakeBroker(1)
    publish(broker, 0, SESSIONS)
    made = World(consume(broker, folder / "root"))
    made.old = read_episodes(made.root / shard_folder(0))
    counted = Path(shutil.copytree(made.root, folder / "counted"))
    probe = files.probe
    try:
        files.probe = lambda point, path: made.points.update([point])
        erase([counted], load(EraseSettings, {"session": made.gone, "yes": True}))
    finally:
        files.probe = probe
    return made


def command(root: Path, session: str, crash: str = "") -> tuple[int, str]:
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PATH": os.environ["PATH"]}
    if crash:
        environment["PADREEL_CRASH_POINT"] = crash
    arguments = ["erase", str(root), "--session", session, "--yes"]
    with closing(start("padreel.__main__", *arguments, environment=environment)) as process:
        out, err = process.communicate(300)
    return process.wait(), out + err


def shown(shard: Path) -> list[ReadEpisode]:
    """What LeRobot would find: every descriptive file, row and packet of what info.json counts is checked."""
    findings: list[Finding] = []
    tree = check_dataset(shard, findings, {}, deep=False)
    assert [one for one in findings if one.verdict is not Verdict.PASS] == []
    assert tree is not None
    return read_episodes(shard)[: tree.info["total_episodes"]]


def crashes(world: World) -> list[tuple[str, int]]:
    """The first, a middle and the last time that each point is reached."""
    found = []
    for point, count in sorted(world.points.items()):
        times = {1, (count + 1) // 2, count} if point.startswith("before") else {count}
        found += [(point, n) for n in sorted(times)]
    return found


def check_finished(world: World, root: Path) -> None:
    shard = root / shard_folder(0)
    assert shown(shard) == world.left
    assert failing(shard) == {}
    assert held_of(root, world.session) == []
    code, said = command(root, world.gone)
    assert code == 0
    assert "nothing is left to erase" in said
    assert len(list((shard / "runs").glob("*.json"))) == 1


def test_killed_anywhere(world: World, tmp_path: Path) -> None:
    assert {"before link", "after rename", "before replace", "before claim", "after unlink"} <= set(world.points)
    for point, occurrence in crashes(world):
        root = Path(shutil.copytree(world.root, tmp_path / "case"))
        code, said = command(root, world.gone, f"{point}:{occurrence}:kill")
        assert code == -signal.SIGKILL, (point, occurrence, said)
        seen = shown(root / shard_folder(0))
        assert seen in (world.old, world.left, world.left[:1]), (point, occurrence)
        code, said = command(root, world.gone)
        assert code == 0, (point, occurrence, said)
        check_finished(world, root)
        shutil.rmtree(root)


def test_a_full_disk_anywhere(world: World, tmp_path: Path) -> None:
    for point in ("before write", "before mkdir", "before link", "before rename", "before replace"):
        for occurrence in {1, world.points[point]}:
            root = Path(shutil.copytree(world.root, tmp_path / "case"))
            code, said = command(root, world.gone, f"{point}:{occurrence}:ENOSPC")
            assert code == 1, (point, occurrence, said)
            assert "No space left on device" in said.splitlines()[-1]
            assert "completed by the same command" in said.splitlines()[-1]
            assert shown(root / shard_folder(0)) in (world.old, world.left, world.left[:1])
            assert command(root, world.gone)[0] == 0
            check_finished(world, root)
            shutil.rmtree(root)
