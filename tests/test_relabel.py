"""`padreel relabel`: the same mapping gives the same bytes, another one what it says; whatever dies meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from padreel.__main__ import cli
from padreel.dataset import files, layout
from padreel.dataset.layout import shard_folder
from padreel.errors import CorruptShardError, DatasetError, ProfileError
from padreel.options import load
from padreel.training.build import build_folder
from padreel.training.check.check import check
from padreel.training.check.report import Verdict
from padreel.training.manifest import read_manifest
from padreel.training.merge.merge import merge
from padreel.training.relabel.command import relabel_any
from padreel.training.relabel.relabel import RelabelledSet
from padreel.training.settings import MergeSettings, RelabelSettings
from tests.commands import start
from tests.dataset_reading import read_episodes
from tests.fakes import FakeBroker
from tests.shard_world import Crash, snapshot
from tests.training_world import (
    GAME,
    MAPPING,
    OTHER_MAPPING,
    Played,
    check_against_sources,
    consume,
    convert_recordings,
    nothing,
    other_action,
    publish,
)
from tests.video_source import encode, moving_pictures

SESSIONS = [
    Played(f"session-{i}@{i}", f"rig-{i}", encode(moving_pictures(14, seed=i), gop=6), pad=pad)
    for i, pad in enumerate(
        [
            ((0, 0.5, (0,)), (7, -0.25, ()), (9, 1.0, (1,))),
            ((3, 0.5, (0,)), (7, -0.25, ()), (9, 1.0, (1,))),  # the first rows have no EVENT
            (),
        ]
    )
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`root`, `merged` and the YAML files."""
    folder = tmp_path_factory.mktemp("made")
    broker = FakeBroker(2)
    publish(broker, 0, SESSIONS[:2])
    publish(broker, 1, SESSIONS[2:])
    consume(broker, folder / "root")
    merge([folder / "root"], load(MergeSettings, {"output": folder / "merged"}), nothing)
    for name, text in (("game", GAME), ("mapping", MAPPING), ("other", OTHER_MAPPING)):
        (folder / f"{name}.yaml").write_text(text)
    return folder


def relabel(made: Path, source: str, output: Path, mapping: str = "mapping", **more: Any) -> RelabelledSet:
    settings = load(RelabelSettings, {"output": output, "action_mapping": made / f"{mapping}.yaml", **more})
    return relabel_any(made / source, settings, nothing)


def contents(folder: Path) -> dict[str, bytes]:
    own = {"export_manifest.json", "checksums.sha256"}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in own
    }


@pytest.mark.parametrize("game", [False, True])
@pytest.mark.parametrize("source", ["merged", "root"])
def test_the_same_mapping_gives_the_same_bytes(made: Path, tmp_path: Path, source: str, game: bool) -> None:
    before = snapshot(made)
    more: dict[str, Any] = {"game_definition": made / "game.yaml"} if game else {}
    assert relabel(made, source, tmp_path / "out", **more).outcome == "created"
    expected, found = contents(made / "merged"), contents(tmp_path / "out")
    assert found.keys() == expected.keys()
    for name, content in found.items():
        if name != "README.md":  # it has the folder's name
            assert content == expected[name], name
    assert snapshot(made) == before
    (report,) = check(tmp_path / "out", deep=True)
    assert report.verdict is Verdict.PASS, report.findings
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_another_mapping_changes_actions_and_their_statistics_alone(made: Path, tmp_path: Path) -> None:
    relabel(made, "merged", tmp_path / "out", "other")
    old, new = read_episodes(made / "merged"), read_episodes(tmp_path / "out")
    for session, before, after in zip(SESSIONS, old, new, strict=True):
        rows = range(len(before))
        if session.pad:
            assert after.rows["action"] == [_other(session, row) for row in rows]
            assert after.rows["action"] != before.rows["action"]
        assert {k: v for k, v in after.rows.items() if k != "action"} == {
            k: v for k, v in before.rows.items() if k != "action"
        }
        assert (after.packets, after.events) == (before.packets, before.events)
        assert after.video.stat().st_ino == before.video.stat().st_ino
    a, b = (json.loads((one / layout.STATS).read_text()) for one in (made / "merged", tmp_path / "out"))
    assert {name for name in a if a[name] != b[name]} == {"action"}
    (report,) = check(tmp_path / "out", deep=True)
    assert report.verdict is Verdict.PASS, report.findings
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    assert (manifest.command, [run.command for run in manifest.runs]) == ("relabel", ["merge", "relabel"])


def _other(session: Played, row: int) -> list[float]:
    return other_action(session, row) if session.pad[0][0] <= row else [0.0, 0.0, 0.0]


def test_a_mapping_of_a_key_adds_its_column_and_back_again(made: Path, tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text(
        MAPPING.replace("{type: button, control: south}", "{type: key, control: Space}")
    )
    settings = load(RelabelSettings, {"output": tmp_path / "keys", "action_mapping": tmp_path / "keys.yaml"})
    relabel_any(made / "merged", settings, nothing)
    info = json.loads((tmp_path / "keys" / layout.INFO).read_text())
    assert info["features"]["observation.keys"]["names"] == ["Space"]
    assert check(tmp_path / "keys")[0].verdict is Verdict.PASS
    back = load(RelabelSettings, {"output": tmp_path / "back", "action_mapping": made / "mapping.yaml"})
    relabel_any(tmp_path / "keys", back, nothing)
    for name, content in contents(made / "merged").items():
        assert (tmp_path / "back" / name).read_bytes() == content, name


def test_the_same_again_changes_nothing(made: Path, tmp_path: Path) -> None:
    for source in ("merged", "root"):
        first = relabel(made, source, tmp_path / source, "other")
        before = snapshot(tmp_path / source)
        again = relabel(made, source, tmp_path / source, "other")
        assert (again.outcome, again.manifest) == ("unchanged", first.manifest)
        assert snapshot(tmp_path / source) == before
        with pytest.raises(DatasetError, match="found something else"):
            relabel(made, source, tmp_path / source, "mapping")


def test_run_settings_and_list_are_beside_what_was_made(made: Path, tmp_path: Path) -> None:
    """Of a merged and of a relabelled dataset."""
    relabelled = relabel(made, "merged", tmp_path / "out", "other")
    for folder, command in ((made / "merged", "merge"), (tmp_path / "out", "relabel")):
        listed = folder / "checksums.sha256"
        names = {line.split("  ", 1)[1] for line in listed.read_text().splitlines()}
        files_there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert names == files_there - {listed.name}
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", listed.name], cwd=folder, check=True)
        manifest = read_manifest(folder)
        assert manifest is not None
        run = manifest.runs[-1]
        assert (run.id, run.command, run.settings["output"]) == (manifest.run, command, str(folder))
    assert relabelled.manifest.runs[-1].settings["action_mapping"] == str(made / "other.yaml")


def test_updating_a_relabelled_set_is_refused(made: Path, tmp_path: Path) -> None:
    relabel(made, "merged", tmp_path / "out", "other")
    with pytest.raises(DatasetError, match="was made by relabel"):
        merge([made / "root"], load(MergeSettings, {"output": tmp_path / "out", "update": True}), nothing)


def test_what_does_not_fit_is_named(made: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(MAPPING.replace("attack:", "fly:"))
    bad = load(RelabelSettings, {"output": tmp_path / "out", "action_mapping": tmp_path / "bad.yaml"})
    with pytest.raises(ProfileError, match="fly"):
        relabel_any(made / "merged", bad, nothing)
    copy = Path(shutil.copytree(made / "merged", tmp_path / "copy"))
    events = copy / "gamepad/chunk-000/file-001.bin"
    events.write_bytes(events.read_bytes()[:-2])
    good = load(RelabelSettings, {"output": tmp_path / "out", "action_mapping": made / "mapping.yaml"})
    with pytest.raises(CorruptShardError, match=r"file-001\.bin: missing or damaged"):
        relabel_any(copy, good, nothing)
    (copy / "export_manifest.json").write_text('{"format_version": 99}')
    with pytest.raises(DatasetError, match="newer than"):
        relabel_any(copy, good, nothing)
    with pytest.raises(DatasetError, match="found no shard"):
        relabel_any(tmp_path, good, nothing)
    assert not (tmp_path / "out").exists()


def test_the_command(made: Path, tmp_path: Path) -> None:
    flags = ["--action-mapping", str(made / "other.yaml"), "--output", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(cli, ["relabel", str(made / "root" / shard_folder(0)), *flags])
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert (content["outcome"], content["episodes"], content["frames"]) == ("created", 2, 28)
    missing = CliRunner().invoke(cli, ["relabel", str(made / "merged"), "--output", str(tmp_path / "two")])
    assert missing.exit_code == 2
    assert "--action-mapping" in missing.output


@pytest.mark.parametrize("source", ["merged", "root"])
def test_what_lerobot_cannot_load_is_not_given_its_name_where_that_is_asked(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    asked: list[Path] = []
    answers = [DatasetError("lerobot cannot load it"), None]

    def ask(root: Path) -> str:
        asked.append(root)
        assert (root / "meta/info.json").exists()
        if (error := answers.pop(0)) is not None:
            raise error
        return "0.4.4"

    monkeypatch.setattr("padreel.training.relabel.relabel.load_with_lerobot", ask)
    with pytest.raises(DatasetError, match="lerobot cannot load it"):
        relabel(made, source, tmp_path / "out", "other", mode="production")
    assert len(asked) == 1
    assert not (tmp_path / "out").exists()
    unasked: tuple[dict[str, Any], ...] = ({"mode": "service", "require_lerobot": False}, {})
    for i, given in enumerate(unasked):
        done = relabel(made, source, tmp_path / f"out-{i}", "other", **given)
        assert done.manifest.runs[-1].settings["require_lerobot"] is False
    done = relabel(made, source, tmp_path / "out", "other", require_lerobot=True)
    assert (len(asked), done.manifest.runs[-1].settings["require_lerobot"]) == (2, True)


@pytest.mark.recordings
def test_the_real_recordings_give_the_same_bytes(recordings: Path, tmp_path: Path) -> None:
    """Hundreds of EVENTs a session, ages of all sizes, and a first row that is not the session's first."""
    convert_recordings(recordings, tmp_path / "root", max_pre_action_seconds=0.4)
    merge([tmp_path / "root"], load(MergeSettings, {"output": tmp_path / "merged"}), nothing)
    mapping = {"action_mapping": recordings / "melee-action-mapping.yaml", "output": tmp_path / "out"}
    relabel_any(tmp_path / "merged", load(RelabelSettings, mapping), nothing)
    assert contents(tmp_path / "out") == contents(tmp_path / "merged")


def test_killed_while_it_removes_what_it_merged(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def remove_a_file_and_die(folder: Path) -> None:
        (folder / "export_manifest.json").unlink()
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", remove_a_file_and_die)
        with pytest.raises(Crash):
            relabel(made, "root", tmp_path / "out", "other")
    whole = contents(tmp_path / "out")
    assert relabel(made, "root", tmp_path / "out", "other").outcome == "unchanged"
    assert contents(tmp_path / "out") == whole
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.lerobot
def test_lerobot_reads_it(lerobot: ModuleType, made: Path, tmp_path: Path) -> None:
    relabel(made, "root", tmp_path / "out", "other")
    expected = [(session, 0, 14) for session in SESSIONS]
    check_against_sources(
        lerobot, tmp_path / "out", expected, lambda session, row: _other(session, row) if session.pad else [0.0] * 3
    )


# ---- real processes that die ---------------------------------------------------------------------------------


def command(made: Path, folder: Path, source: str, crash: str = "") -> tuple[int, str]:
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PATH": os.environ["PATH"]}
    if crash:
        environment["PADREEL_CRASH_POINT"] = crash
    flags = ["--action-mapping", str(made / "other.yaml"), "--output", str(folder / "out")]
    with closing(start("padreel.__main__", "relabel", str(made / source), *flags, environment=environment)) as process:
        out, err = process.communicate(300)
    return process.wait(), out + err


@pytest.mark.parametrize("source", ["merged", "root"])
def test_killed_or_out_of_room_anywhere(
    made: Path, tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    points: Counter[str] = Counter()
    with monkeypatch.context() as patch:
        patch.setattr(files, "probe", lambda point, path: points.update([point]))
        relabel(made, source, tmp_path / "whole", "other")
    whole, before = read_episodes(tmp_path / "whole"), snapshot(made)
    cases = [
        (point, n, action)
        for point, count in sorted(points.items())
        if point.startswith("before")
        for n, action in ((1, "ENOSPC"), ((count + 1) // 2, "kill"), (count, "kill"))
        if action == "kill" or point in ("before write", "before link")
    ]
    for i, (point, n, action) in enumerate(cases):
        folder = tmp_path / str(i)
        folder.mkdir()
        code, said = command(made, folder, source, f"{point}:{n}:{action}")
        assert code == (-signal.SIGKILL if action == "kill" else 1), (point, n, said)
        if action != "kill":
            assert "No space left on device" in said.splitlines()[-1]
        if (folder / "out").exists():
            assert read_episodes(folder / "out") == whole
        code, said = command(made, folder, source)
        assert code == 0, (point, n, said)
        assert read_episodes(folder / "out") == whole
        assert check(folder / "out")[0].verdict is Verdict.PASS
        assert not build_folder(folder / "out").exists()
        assert [path.name for path in folder.iterdir()] == ["out"]
    assert snapshot(made) == before
