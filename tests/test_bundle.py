"""`padreel export --format bundle` read back with json and PyAV alone, and `padreel bundle validate`."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from padreel.__main__ import cli
from padreel.dataset import files
from padreel.exports.bundle.names import rig_folder
from padreel.exports.bundle.rules import validate
from padreel.options import load
from padreel.training.merge.merge import merge
from padreel.training.relabel.relabel import relabel
from padreel.training.settings import MergeSettings, RelabelSettings
from tests.bundle_world import SESSIONS, names_in, parsed, played, silent, write
from tests.commands import start
from tests.shard_world import snapshot
from tests.training_world import OTHER_MAPPING, episodes_of
from tests.video_source import decode


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`root` with two shards of two rigs, `merged` and `packed`; `one` with one rig; `bundle`, of `root`."""
    folder = tmp_path_factory.mktemp("made")
    played(folder / "root", [SESSIONS[:2], SESSIONS[2:]])
    played(folder / "one", [SESSIONS[:1]])
    for name, compact in (("merged", False), ("packed", True)):
        merge([folder / "root"], load(MergeSettings, {"output": folder / name, "compact": compact}), silent)
    write(folder / "root", folder / "out", bundle_job="monday")
    (folder / "out" / "padreel_monday").rename(folder / "bundle")
    return folder


# ---- what is written -------------------------------------------------------------------------------------------


def test_the_tree_of_one_rig_and_of_several(made: Path, tmp_path: Path) -> None:
    write(made / "one", tmp_path / "one", bundle_prefix="game", bundle_job="7")
    assert names_in(tmp_path / "one") == [
        "checksums.sha256",
        "export_run.json",
        "game_7/checksums.json",
        "game_7/lerobot/dataset_info.json",
        "game_7/lerobot/episodes.jsonl",
        "game_7/lerobot/meta/episode_index.json",
        "game_7/lerobot/videos/episode_0001.mp4",
        "game_7/recordings/episode_0001.json",
    ]
    videos = [name for name in names_in(made / "bundle") if name.endswith(".mp4")]
    assert videos == [
        "lerobot/videos/lab%2F2/episode_0002.mp4",
        "lerobot/videos/lab-1/episode_0001.mp4",
        "lerobot/videos/lab-1/episode_0003.mp4",
    ]


@pytest.mark.parametrize("source", ["root", "merged", "packed"])
def test_recordings_have_the_rows_and_videos_the_pictures(made: Path, tmp_path: Path, source: str) -> None:
    before = snapshot(made)
    write(made / source, tmp_path / "out")
    assert snapshot(made) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (root,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir())
    index = parsed(root / "lerobot/meta/episode_index.json")
    assert index["total_episodes"] == len(SESSIONS)
    for i, (entry, session, original) in enumerate(
        zip(index["episodes"], SESSIONS, episodes_of(made / "root"), strict=True), 1
    ):
        assert (entry["recording"], entry["session"]) == (f"recordings/episode_{i:04d}.json", session.key)
        recording = parsed(root / entry["recording"])
        rows = len(session.source.units)
        assert recording["frame_count"] == rows == entry["num_frames"]
        frames = recording["frames"]
        assert [frame["step"] for frame in frames] == list(range(rows))
        assert [frame["timestamp"] for frame in frames] == [i / 30 for i in range(rows)]
        for key, column in (("action", "action"), ("time_ns", "capture.time_ns"), ("pad_age", "capture.pad_age")):
            assert [frame[key] for frame in frames] == original.rows[column]
        assert [frame["observation"]["state"] for frame in frames] == original.rows["observation.state"]
        assert recording["end_reason"] == original.end_reason
        assert recording["times_ns"] == [original.rows["capture.time_ns"][0], original.rows["capture.time_ns"][-1]]
        assert recording["task_name"] == (session.task or "play")
        assert 0 <= recording["quality_score"] <= 1
        first, last = recording["offsets"]["frames"]
        assert last - first + 1 >= rows
        pictures = decode(str(root / recording["video"]))
        assert recording["video"] == f"lerobot/{entry['file']}"
        assert all(np.array_equal(a, b) for a, b in zip(pictures, session.source.pictures, strict=True))


def test_what_a_reader_of_such_bundles_insists_on(made: Path) -> None:
    """The importer that these bundles are for wants these fields, of these types."""
    episode: dict[str, type] = {"episode_id": str, "episode_index": int, "num_frames": int, "duration_seconds": float}
    episode |= {"quality_score": float, "validation_passed": bool, "file": str}
    info: dict[str, type] = {
        "dataset_type": str,
        "format_version": str,
        "schema_version": str,
        "scene_id": str,
        "run_id": str,
    }
    info |= {"pipeline_commit": str, "export_schema_version": str, "episodes": list, "total_frames": int}
    info |= {"average_quality_score": float, "source": str, "converted_at": str, "total_episodes": int}
    info |= {"skipped_episodes": int}
    frame = {"step": int, "observation": dict, "action": list, "timestamp": float}
    root = made / "bundle"
    content = parsed(root / "lerobot/dataset_info.json")
    lines = [json.loads(line) for line in (root / "lerobot/episodes.jsonl").read_text().splitlines()]
    assert content["episodes"] == lines == parsed(root / "lerobot/meta/episode_index.json")["episodes"]
    given: list[tuple[Any, dict[str, type]]] = [(content, info), *((line, episode) for line in lines)]
    for path in (root / "recordings").iterdir():
        recording = parsed(path)
        wanted = {"episode_id": str, "task_name": str, "frames": list, "frame_count": int}
        given += [(recording, wanted | {"quality_score": float, "validation_passed": bool})]
        given += [(one, frame) for one in recording["frames"]]
    for value, wanted in given:
        for name, kind in wanted.items():
            assert type(value[name]) is kind, (name, value[name])


def test_checksums_json_has_every_file(made: Path) -> None:
    content = parsed(made / "bundle/checksums.json")
    assert content["algorithm"] == "sha256"
    assert {*content["files"], "checksums.json"} == {*names_in(made / "bundle")}
    for name, digest in content["files"].items():
        assert hashlib.sha256((made / "bundle" / name).read_bytes()).hexdigest() == digest


def test_two_bundles_are_byte_identical_but_for_the_run(made: Path, tmp_path: Path) -> None:
    first = write(made / "root", tmp_path / "a")
    second = write(made / "merged", tmp_path / "b")
    names = names_in(tmp_path / "a")
    assert names == names_in(tmp_path / "b")
    own = {"export_run.json", "checksums.sha256"}
    assert {
        name for name in names if (tmp_path / "a" / name).read_bytes() != (tmp_path / "b" / name).read_bytes()
    } == own
    assert first.record.run != second.record.run
    before = snapshot(tmp_path)
    assert write(made / "root", tmp_path / "a").outcome == "unchanged"
    assert snapshot(tmp_path) == before
    refused = CliRunner().invoke(
        cli, ["export", str(made / "one"), "--format", "bundle", "--output", str(tmp_path / "a")]
    )
    assert refused.exit_code == 1
    assert "holds an export of other episodes" in refused.output
    assert snapshot(tmp_path) == before


def test_a_relabelled_set_is_another_job(made: Path, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(OTHER_MAPPING)
    values = {"action_mapping": tmp_path / "other.yaml", "output": tmp_path / "relabelled"}
    relabel(made / "merged", load(RelabelSettings, values), silent)
    for name in ("merged", "relabelled"):
        write((made if name == "merged" else tmp_path) / name, tmp_path / "out" / name)
    folders = {path.name for path in (tmp_path / "out").glob("*/padreel_*")}
    assert len(folders) == 2


@pytest.mark.parametrize("flag", ["--bundle-prefix", "--bundle-job"])
@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "x" * 65, ""])
def test_names_that_are_no_part_of_a_folder_s_are_refused(made: Path, tmp_path: Path, flag: str, name: str) -> None:
    flags = ["--format", "bundle", "--output", str(tmp_path / "out"), flag, name]
    result = CliRunner().invoke(cli, ["export", str(made / "one"), *flags])
    assert result.exit_code == 2, result.output
    assert flag in result.output
    assert not (tmp_path / "out").exists()


@given(
    rigs=st.lists(st.text(max_size=8) | st.sampled_from(["", ".", "..", "%none", "%2E", "a/b", "a%2Fb"]), unique=True)
)
def test_every_rig_has_a_folder_of_its_own_inside(rigs: list[str]) -> None:
    rigs = [rig for rig in rigs if not any("\ud800" <= letter <= "\udfff" for letter in rig)]
    folders = [rig_folder(rig) for rig in rigs]
    assert len(set(folders)) == len(rigs)
    for folder in folders:
        assert folder
        assert folder not in (".", "..")
        assert not {"/", "\0"} & set(folder)


# ---- real processes that die -----------------------------------------------------------------------------------


def test_killed_or_out_of_room_anywhere(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points: Counter[str] = Counter()
    (tmp_path / "whole").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(files, "probe", lambda point, path: points.update([point]))
        write(made / "merged", tmp_path / "whole" / "out", bundle_job="monday")
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PATH": os.environ["PATH"]}
    cases = [
        (point, n, action)
        for point, count in sorted(points.items())
        if point.startswith("before")
        for n, action in ((1, "ENOSPC"), ((count + 1) // 2, "kill"), (count, "kill"))
        if action == "kill" or point == "before write"
    ]
    for i, (point, n, action) in enumerate(cases):
        folder = tmp_path / str(i)
        folder.mkdir()
        flags = ["--format", "bundle", "--output", str(folder / "out"), "--bundle-job", "monday"]
        for crash in (f"{point}:{n}:{action}", ""):
            given = environment | ({"PADREEL_CRASH_POINT": crash} if crash else {})
            with closing(
                start("padreel.__main__", "export", str(made / "merged"), *flags, environment=given)
            ) as process:
                out, err = process.communicate(300)
            expected = 0 if not crash else -signal.SIGKILL if action == "kill" else 1
            assert process.wait() == expected, (crash, out + err)
            if (folder / "out").exists() or not crash:
                assert validate(folder / "out" / "padreel_monday").problems == ()
                assert names_in(folder / "out") == names_in(tmp_path / "whole" / "out")
        assert [path.name for path in folder.iterdir()] == ["out"]
