"""`padreel export` and `padreel hdf5 merge` as real processes that are killed, or meet a full disk, at each named step.

There is either no output or a whole one, the sources are as they were, and the same command then finishes.
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

import pytest

from padreel.dataset import files
from padreel.exports.hdf5.merge import merge_hdf5
from padreel.training.build import build_folder
from padreel.training.checksums import checksums_text, read_checksums
from tests.commands import start
from tests.export_world import files_of, make_trimmed, run
from tests.fakes import FakeBroker
from tests.shard_world import snapshot
from tests.training_world import Played, consume, nothing, publish
from tests.video_source import encode, moving_pictures

SESSIONS = [Played(f"s-{i}@{i}", f"rig-{i}", encode(moving_pictures(8, seed=i), gop=4, b_frames=i)) for i in range(3)]


@dataclass
class World:
    """What all cases begin with, what the output shall be, and how often each step is reached on the way."""

    folder: Path
    arguments: tuple[str, ...]
    whole: Mapping[str, bytes] = field(default_factory=dict)
    points: Counter[str] = field(default_factory=Counter)

    def copy(self, to: Path) -> Path:
        return Path(shutil.copytree(self.folder, to, copy_function=os.link))


def make(folder: Path, what: str) -> World:
    start_folder = folder / "start"
    broker = FakeBroker(2)
    publish(broker, 0, SESSIONS[:2])
    publish(broker, 1, SESSIONS[2:])
    consume(broker, start_folder / "root")
    make_trimmed(start_folder / "root" / "partition-00007", encode(moving_pictures(40), gop=12), [(7, 20)])
    arguments = {
        "v2.1": ("export", "root", "--format", "v2.1", "--chunks-size", "2"),
        "hdf5": ("export", "root", "--format", "hdf5"),
        "merge": ("hdf5", "merge", "a", "b"),
    }[what]
    if what == "merge":
        for name, shard in (("a", "partition-00000"), ("b", "partition-00001")):
            run(start_folder / "root" / shard, start_folder / name, "hdf5")
    world = World(start_folder, arguments)
    counted = world.copy(folder / "counted")
    probe = files.probe
    try:
        files.probe = lambda point, path: world.points.update([point])
        if what == "merge":
            merge_hdf5([counted / "a", counted / "b"], counted / "out", nothing)
        else:
            more = {"chunks_size": 2} if what == "v2.1" else {}
            run(counted / "root", counted / "out", what, **more)
    finally:
        files.probe = probe
    world.whole = files_of(counted / "out")
    return world


@pytest.fixture(scope="module", params=["v2.1", "hdf5", "merge"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    return make(tmp_path_factory.mktemp("world"), request.param)


def command(folder: Path, arguments: tuple[str, ...], crash: str = "") -> tuple[int, str]:
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PATH": os.environ["PATH"]}
    if crash:
        environment["PADREEL_CRASH_POINT"] = crash
    given = (*arguments, "--output", "out")
    with closing(start("padreel.__main__", *given, environment=environment, folder=folder)) as process:
        out, err = process.communicate(300)
    return process.wait(), out + err


def sources(folder: Path) -> dict[str, object]:
    """Every file of the sources, without its number of names: that changes while it is linked."""
    found: dict[str, object] = {}
    for name in ("root", "a", "b"):
        if (folder / name).exists():
            found |= {f"{name}/{one}": what for one, what in snapshot(folder / name).items()}
    return found


def check_whole(world: World, folder: Path) -> None:
    assert files_of(folder / "out") == world.whole
    listed = read_checksums(folder / "out" / "checksums.sha256")
    found = {name: files.sha256_of(folder / "out" / name) for name in listed}
    assert found == listed
    assert set(listed) == world.whole.keys() | {"export_run.json"}
    assert (folder / "out" / "checksums.sha256").read_text() == checksums_text(listed)


def crashes(world: World) -> list[tuple[str, int]]:
    """The first and the last time that each point is reached, and of what makes files one between them."""
    found = []
    for point, count in sorted(world.points.items()):
        between = {(count + 1) // 2} if point.endswith((" write", " rename", " link")) else set()
        found += [(point, n) for n in sorted({1, count} | between)]
    return found


def test_killed_anywhere(world: World, tmp_path: Path) -> None:
    assert {"before write", "after rename", "before fsync", "before link"} <= set(world.points)
    for number, (point, occurrence) in enumerate(crashes(world)):
        folder = world.copy(tmp_path / str(number))
        before = sources(folder)
        code, said = command(folder, world.arguments, f"{point}:{occurrence}:kill")
        assert code == -signal.SIGKILL, (point, occurrence, said)
        if (folder / "out").exists():
            check_whole(world, folder)
        assert sources(folder) == before, (point, occurrence)
        code, said = command(folder, world.arguments)
        assert code == 0, (point, occurrence, said)
        check_whole(world, folder)
        assert sources(folder) == before
        names = {path.name for path in folder.iterdir()}
        assert names == {path.name for path in world.folder.iterdir()} | {"out"}, (point, occurrence)
        shutil.rmtree(folder)


def test_what_was_made_is_not_made_again(world: World, tmp_path: Path) -> None:
    """Killed at the end, the next run writes no video."""
    folder = world.copy(tmp_path / "world")
    last = world.points["before rename"]
    assert command(folder, world.arguments, f"before rename:{last}:kill")[0] == -signal.SIGKILL
    made = {path: path.stat().st_ino for path in build_folder(folder / "out").rglob("*.mp4")}
    assert len(made) == sum(name.endswith(".mp4") for name in world.whole)
    assert command(folder, world.arguments)[0] == 0
    assert {path.stat().st_ino for path in (folder / "out").rglob("*.mp4")} == set(made.values())
    check_whole(world, folder)


@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EROFS"])
def test_a_disk_that_fails_is_named(world: World, tmp_path: Path, error: str) -> None:
    folder = world.copy(tmp_path / "world")
    before = sources(folder)
    last = world.points["before write"]
    code, said = command(folder, world.arguments, f"before write:{(last + 1) // 2}:{error}")
    assert code == 1, said
    assert "the sources are untouched, and the same command goes on where it stopped" in said
    assert not (folder / "out").exists()
    assert sources(folder) == before
    assert command(folder, world.arguments)[0] == 0
    check_whole(world, folder)
