"""Renderings and what becomes of them: beside a live shard, in merged sets, after a process that died."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest

from padreel.dataset import files
from padreel.dataset.layout import shard_folder
from padreel.options import load
from padreel.training.build import build_folder
from padreel.training.check.check import check
from padreel.training.check.report import Verdict
from padreel.training.checksums import CHECKSUMS, read_checksums
from padreel.training.merge.merge import merge
from padreel.training.settings import MergeSettings
from padreel.training.show.listing import SHOW_LIST, VIS, read_show_list
from tests.commands import start
from tests.fakes import FakeBroker
from tests.shard_world import snapshot
from tests.show_world import LATER, SESSIONS, make, names_in, run
from tests.training_world import check_against_sources, consume, failing, nothing, publish


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "root", tmp_path / "root"))


# ---- what becomes of the dataset -----------------------------------------------------------------------------


def test_a_shard_goes_on_recording_and_stays_whole(tmp_path: Path) -> None:
    broker = FakeBroker(1)
    publish(broker, 0, SESSIONS[:1])
    root = consume(broker, tmp_path / "root")
    shard = root / shard_folder(0)
    before = snapshot(shard)
    run(root, picture_format="png")
    assert {name: was for name, was in snapshot(shard).items() if not name.startswith("vis/")} == before
    publish(broker, 0, [LATER])
    consume(broker, root)
    assert [one.outcome for one in run(root, picture_format="png", skip_existing=True)] == ["there", "made"]
    assert failing(shard) == {}
    (shard / VIS / "episode-000001.png").unlink()  # thrown away: nobody minds
    assert failing(shard) == {}
    (shard / VIS / "episode-000000.png").write_bytes(b"something else")
    assert list(failing(shard)) == ["renderings"]
    (report,) = check(shard)
    assert report.verdict is Verdict.WARN


def test_merge_takes_renderings_along(root: Path, tmp_path: Path) -> None:
    shown = [*run(root), *run(root, picture_format="png", pictures=2)]
    (root / shard_folder(1) / VIS / "episode-000000.png").write_bytes(b"cut short")
    before = snapshot(root)
    merge([root], load(MergeSettings, {"output": tmp_path / "out"}), nothing)
    assert snapshot(root) == before
    vis = tmp_path / "out" / VIS
    listed = read_show_list(vis)
    by_session = {(one.rendering.session, one.path.suffix): one.path for one in shown}
    assert [one.name for one in listed.renderings] == [
        *("episode-000000.mp4", "episode-000000.png", "episode-000001.mp4", "episode-000001.png"),
        "episode-000002.mp4",  # its sheet is not what the list says
    ]
    for one in listed.renderings:
        assert one.session == f"session-{one.episode}@{one.episode}"
        source = by_session[one.session, Path(one.name).suffix]
        assert (vis / one.name).stat().st_ino == source.stat().st_ino
        assert one.run in {made.id for made in listed.runs}
    assert names_in(vis) == sorted([*(one.name for one in listed.renderings), str(CHECKSUMS), str(SHOW_LIST)])
    assert failing(tmp_path / "out", deep=True) == {}
    assert not any(name.startswith("vis/") for name in read_checksums(tmp_path / "out" / CHECKSUMS))
    # Shown again in the merged set, they are its own: the shard's stay, and the set stays as its list says.
    assert [one.outcome for one in run(tmp_path / "out")] == ["made", "made", "made"]
    assert snapshot(root) == before
    assert failing(tmp_path / "out") == {}


def test_update_adds_those_of_the_new_episodes(tmp_path: Path) -> None:
    broker = FakeBroker(1)
    publish(broker, 0, SESSIONS[:1])
    root = consume(broker, tmp_path / "root")
    run(root, picture_format="png", output_dir=root / VIS)  # into the root, a folder for each shard
    settings = load(MergeSettings, {"output": tmp_path / "out", "update": True})
    merge([root], settings, nothing)
    assert names_in(tmp_path / "out" / VIS) == [str(CHECKSUMS), "episode-000000.png", str(SHOW_LIST)]
    publish(broker, 0, [LATER])
    consume(broker, root)
    run(root, picture_format="png", output_dir=root / VIS, skip_existing=True)
    assert merge([root], settings, nothing).outcome == "updated"
    listed = read_show_list(tmp_path / "out" / VIS)
    assert [(one.episode, one.session) for one in listed.renderings] == [(0, "session-0@0"), (1, "session-3@3")]
    assert len(listed.runs) == 2
    assert failing(tmp_path / "out", deep=True) == {}
    before = snapshot(tmp_path / "out")
    assert merge([root], settings, nothing).outcome == "unchanged"
    assert snapshot(tmp_path / "out") == before


def test_a_merge_that_died_takes_along_what_there_is_now(root: Path, tmp_path: Path) -> None:
    """Between the two runs one rendering was made anew, and one thrown away."""
    run(root, picture_format="png")
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PATH": os.environ["PATH"]}
    links = 3 * 2 + 3  # videos and gamepad files, then renderings
    environment["PADREEL_CRASH_POINT"] = f"after link:{links}:kill"
    arguments = ("merge", str(root), "--output", str(tmp_path / "out"))
    with closing(start("padreel.__main__", *arguments, environment=environment)) as process:
        process.communicate(300)
    assert process.wait() == -signal.SIGKILL
    begun = build_folder(tmp_path / "out") / "tree"
    assert len(list((begun / VIS).glob("episode-*.png"))) == 3
    run(root / shard_folder(0), picture_format="png", pictures=2, episode=0)
    (root / shard_folder(0) / VIS / "episode-000001.png").unlink()
    merge([root], load(MergeSettings, {"output": tmp_path / "out"}), nothing)
    listed = read_show_list(tmp_path / "out" / VIS)
    assert [one.episode for one in listed.renderings] == [0, 2]
    again, was = tmp_path / "out" / VIS / "episode-000000.png", root / shard_folder(0) / VIS / "episode-000000.png"
    assert again.read_bytes() == was.read_bytes()
    assert names_in(tmp_path / "out" / VIS) == [
        str(CHECKSUMS),
        "episode-000000.png",
        "episode-000002.png",
        str(SHOW_LIST),
    ]
    assert failing(tmp_path / "out") == {}


def test_without_renderings_there_is_no_folder_for_them(made: Path, root: Path, tmp_path: Path) -> None:
    assert not (made / "merged" / VIS).exists()
    run(root, picture_format="png")
    for shard in root.glob("partition-*"):
        (shard / VIS / SHOW_LIST).write_text("[]")  # of no use: not taken along, and merging goes on
    merge([root], load(MergeSettings, {"output": tmp_path / "out"}), nothing)
    assert not (tmp_path / "out" / VIS).exists()


@pytest.mark.lerobot
def test_lerobot_loads_what_has_renderings(lerobot: ModuleType, root: Path, tmp_path: Path) -> None:
    run(root, picture_format="png")
    merge([root], load(MergeSettings, {"output": tmp_path / "out"}), nothing)
    expected = [(session, 0, len(session.source.pictures)) for session in SESSIONS]
    check_against_sources(lerobot, tmp_path / "out", expected)
    check_against_sources(lerobot, root / shard_folder(1), expected[2:])


# ---- real processes that die ---------------------------------------------------------------------------------


def command(root: Path, output: Path, crash: str = "") -> tuple[int, str]:
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PATH": os.environ["PATH"]}
    if crash:
        environment["PADREEL_CRASH_POINT"] = crash
    flags = ["--all", "--skip-existing", "--output-dir", str(output)]
    with closing(start("padreel.__main__", "show", str(root), *flags, environment=environment)) as process:
        out, err = process.communicate(300)
    return process.wait(), out + err


def test_killed_or_out_of_room_anywhere(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = made / "root" / shard_folder(0)
    points: Counter[str] = Counter()
    with monkeypatch.context() as patch:
        patch.setattr(files, "probe", lambda point, path: points.update([point]))
        whole = {one.path.name: one.path.read_bytes() for one in run(shard, output_dir=tmp_path / "whole")}
    cases = [
        (point, n, action)
        for point, count in sorted(points.items())
        for n, action in ((1, "kill"), (count, "kill"), (count, "ENOSPC"))
        if action == "kill" or point in ("before write", "before fsync")
    ]
    assert len(cases) > 12
    for i, (point, n, action) in enumerate(cases):
        output = tmp_path / str(i)
        code, said = command(shard, output, f"{point}:{n}:{action}")
        assert code == (-signal.SIGKILL if action == "kill" else 1), (point, n, said)
        if action != "kill":
            assert "No space left on device" in said.splitlines()[-1]
        there = {path.name: path.read_bytes() for path in output.glob("episode-*")}
        assert there.items() <= whole.items(), (point, n)
        code, said = command(shard, output)
        assert code == 0, (point, n, said)
        assert names_in(output) == sorted([*whole, str(CHECKSUMS), str(SHOW_LIST)])
        assert {path.name: path.read_bytes() for path in output.glob("episode-*")} == whole


def test_a_disk_that_fills_up_in_the_middle_of_a_video(root: Path, tmp_path: Path) -> None:
    """A real limit on the size of files, met by the encoder's own writing."""
    code = (
        "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\n"
        "from padreel.__main__ import main\nmain()\n"
    )
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PATH": os.environ["PATH"]}
    flags = ["show", str(root / shard_folder(0)), "--all", "--output-dir", str(tmp_path / "vis")]
    done = subprocess.run(
        [sys.executable, "-c", code, *flags], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert "File too large" in done.stderr.splitlines()[-1]
    assert names_in(tmp_path / "vis") == []
