"""`padreel export --format hdf5`, read back with h5py, PyAV and a JSON parser; merging."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from padreel.__main__ import cli
from padreel.errors import DatasetError
from padreel.exports.hdf5.episode import Hdf5Episode, Hdf5Schema
from padreel.exports.hdf5.file import Hdf5Writer, open_hdf5
from padreel.exports.hdf5.merge import merge_hdf5
from padreel.exports.hdf5.validate import validate
from padreel.exports.record import read_record
from padreel.training.build import build_folder
from padreel.training.check.report import Verdict
from tests.dataset_reading import read_episodes
from tests.export_world import SESSIONS, TRIMMED, files_of, lines, make_sessions, make_trimmed, run, same
from tests.shard_world import snapshot
from tests.test_stage import spec
from tests.training_world import nothing
from tests.video_source import Source, decode, encode, moving_pictures

COLUMNS = {
    "actions": "action",
    "state": "observation.state",
    "frame_index": "frame_index",
    "time_ns": "capture.time_ns",
    "pad_age": "capture.pad_age",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sessions(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def source() -> Source:
    return encode(moving_pictures(40), gop=12)


@pytest.fixture(scope="module")
def trimmed(tmp_path_factory: pytest.TempPathFactory, source: Source) -> Path:
    root = tmp_path_factory.mktemp("trimmed") / "root"
    make_trimmed(root / "partition-00003", source)
    return root


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, made: Path) -> Path:
    output = tmp_path_factory.mktemp("exported") / "out"
    run(made / "merged", output, "hdf5")
    return output


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def walk(path: Path) -> tuple[dict[str, Any], dict[int, dict[str, Any]]]:
    """What a reader finds that knows h5py and nothing else: the file's attributes, and all of each episode."""
    episodes: dict[int, dict[str, Any]] = {}

    def visit(name: str, one: Any) -> None:
        parts = name.split("/")
        if parts[0] == "episodes" and len(parts) == 2:
            episodes.setdefault(int(parts[1]), {}).update(one.attrs)
        elif parts[0] == "episodes" and len(parts) == 3:
            episodes.setdefault(int(parts[1]), {})[parts[2]] = one[...]

    with h5py.File(path, "r") as file:
        file.visititems(visit)
        return dict(file.attrs), episodes


@pytest.mark.parametrize("name", ["root", "merged", "compact"])
def test_a_plain_walk_finds_every_row_and_picture(made: Path, tmp_path: Path, name: str) -> None:
    before = snapshot(made)
    run(made / name, tmp_path / "out", "hdf5")
    assert snapshot(made) == before
    told, episodes = walk(tmp_path / "out" / "episodes.hdf5")
    assert (told["fps"], told["width"], told["height"], told["codec"]) == (30, 96, 64, "h264")
    assert list(told["action_names"]) == ["attack", "move.x", "move.y"]
    expected = read_episodes(made / "merged")
    by_key = {one.key: one for one in SESSIONS}
    assert sorted(episodes) == list(range(len(expected)))
    for n, wanted in enumerate(expected):
        found, played = episodes[n], by_key[wanted.key]
        for array, column in COLUMNS.items():
            assert found[array].tolist() == wanted.rows[column], array
            assert len(found[array]) == len(wanted)
        np.testing.assert_array_equal(found["timestamps"], np.arange(len(wanted)) / 30)
        assert (found["task"], found["session"]) == (played.task or "play", played.key)
        assert (found["from_timestamp"], found["to_timestamp"]) == (0, len(wanted) / 30)
        assert found["fps"] == 30
        assert same(decode(str(tmp_path / "out" / found["video"])), played.source.pictures)
    assert {one.verdict for one in validate(tmp_path / "out").report.findings} == {Verdict.PASS}


def test_trimmed_episodes_keep_every_row(trimmed: Path, source: Source, tmp_path: Path) -> None:
    """Their mp4s begin at a keyframe before, and say where the episode begins."""
    run(trimmed, tmp_path / "out", "hdf5")
    _, episodes = walk(tmp_path / "out" / "episodes.hdf5")
    expected = read_episodes(trimmed / "partition-00003")
    begins = []
    for n, (first, rows) in enumerate(TRIMMED):
        found = episodes[n]
        assert found["actions"].tolist() == expected[n].rows["action"]
        begin, end = found["from_timestamp"] * 30, found["to_timestamp"] * 30
        assert end - begin == pytest.approx(rows)
        pictures = decode(str(tmp_path / "out" / found["video"]))
        assert len(pictures) == round(end)
        assert same(pictures[round(begin) : round(end)], source.pictures[first : first + rows])
        begins.append(round(begin))
    assert begins == [0, 7, 5, 0, 0]
    assert {one.verdict for one in validate(tmp_path / "out").report.findings} == {Verdict.PASS}


def test_two_runs_make_the_same_bytes(made: Path, tmp_path: Path) -> None:
    run(made / "root", tmp_path / "one" / "out", "hdf5")
    time.sleep(1.1)  # what stores times stores seconds
    run(made / "merged", tmp_path / "two" / "out", "hdf5")
    assert files_of(tmp_path / "one" / "out") == files_of(tmp_path / "two" / "out")
    assert set(files_of(tmp_path / "one" / "out")) == {
        "episode_video_manifest.jsonl",
        "episodes.hdf5",
        *(f"videos/episode_{i:06d}.mp4" for i in range(4)),
    }
    assert run(made / "root", tmp_path / "one" / "out", "hdf5").outcome == "unchanged"


def test_the_manifest_and_the_list_of_checksums(exported: Path) -> None:
    found = lines(exported / "episode_video_manifest.jsonl")
    _, episodes = walk(exported / "episodes.hdf5")
    assert [one["episode"] for one in found] == sorted(episodes)
    for one in found:
        content = (exported / one["video"]).read_bytes()
        assert (one["sha256"], one["bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
        episode = episodes[one["episode"]]
        assert one["video"] == episode["video"]
        assert one["rows"] == len(episode["actions"])
        assert (one["from_timestamp"], one["to_timestamp"]) == (episode["from_timestamp"], episode["to_timestamp"])
    listed = {line[66:]: line[:64] for line in (exported / "checksums.sha256").read_text().splitlines()}
    there = {str(path.relative_to(exported)) for path in exported.rglob("*") if path.is_file()}
    assert listed.keys() == there - {"checksums.sha256"}
    for name, digest in listed.items():
        assert hashlib.sha256((exported / name).read_bytes()).hexdigest() == digest


def test_without_state_there_is_none(source: Source, tmp_path: Path) -> None:
    make_trimmed(tmp_path / "root" / "partition-00003", source, dataset=spec("minimal"))
    run(tmp_path / "root", tmp_path / "out", "hdf5")
    told, episodes = walk(tmp_path / "out" / "episodes.hdf5")
    assert list(told["state_names"]) == []
    assert {"state", "keys", "time_ns", "pad_age"} & episodes[0].keys() == set()
    assert validate(tmp_path / "out").report.verdict is Verdict.PASS


def test_an_action_of_one_slot_is_a_vector(source: Source, tmp_path: Path) -> None:
    make_trimmed(tmp_path / "root" / "partition-00003", source, dataset=spec(one_slot=True))
    run(tmp_path / "root", tmp_path / "out", "hdf5")
    _, episodes = walk(tmp_path / "out" / "episodes.hdf5")
    assert episodes[0]["actions"].shape == (12, 1)


def test_without_h5py_it_says_what_to_install(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(DatasetError, match=r"pip install 'padreel\[hdf5\]'"):
        run(made / "merged", tmp_path / "out", "hdf5")
    assert not list(tmp_path.iterdir())


def test_exports_merged_are_the_export_of_all(made: Path, tmp_path: Path) -> None:
    parts = [tmp_path / name for name in ("a", "b")]
    for i, part in enumerate(parts):
        run(made / "root" / f"partition-0000{i}", part, "hdf5")
    run(made / "root", tmp_path / "all", "hdf5")
    before = [snapshot(part) for part in parts]
    result = merge_hdf5(parts, tmp_path / "merged", nothing)
    assert (result.outcome, result.record.total_episodes) == ("created", 4)
    assert [snapshot(part) for part in parts] == before
    assert files_of(tmp_path / "merged").keys() == files_of(tmp_path / "all").keys()
    (_, ours), (_, expected) = (walk(tmp_path / name / "episodes.hdf5") for name in ("merged", "all"))
    for n, episode in expected.items():
        assert ours[n].keys() == episode.keys()
        for name, value in episode.items():
            if name != "source_index":  # it is the one in its own source
                np.testing.assert_array_equal(ours[n][name], value, err_msg=name)
    for i in range(4):
        name = f"videos/episode_{i:06d}.mp4"
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "all" / name).read_bytes()
    assert {one.verdict for one in validate(tmp_path / "merged").report.findings} == {Verdict.PASS}
    assert read_record(tmp_path / "merged") == result.record
    assert merge_hdf5(parts, tmp_path / "merged", nothing).outcome == "unchanged"
    merge_hdf5(parts, tmp_path / "two" / "merged", nothing)
    assert files_of(tmp_path / "two" / "merged") == files_of(tmp_path / "merged")
    assert not build_folder(tmp_path / "merged").exists()


def test_what_cannot_be_merged_is_refused(made: Path, exported: Path, source: Source, tmp_path: Path) -> None:
    make_trimmed(tmp_path / "root" / "partition-00003", source, dataset=spec("minimal"))
    run(tmp_path / "root", tmp_path / "minimal", "hdf5")
    output = tmp_path / "merged"
    with pytest.raises(DatasetError, match="different schemas: state_names"):
        merge_hdf5([exported, tmp_path / "minimal"], output, nothing)
    run(made / "root" / "partition-00001", tmp_path / "part", "hdf5")
    with pytest.raises(DatasetError, match="both have the episode of session s-3@3"):
        merge_hdf5([exported, tmp_path / "part"], output, nothing)
    assert not output.exists()
    assert not build_folder(output).exists()
    merge_hdf5([exported], output, nothing)
    with pytest.raises(DatasetError, match="holds an export of other episodes"):
        merge_hdf5([tmp_path / "part"], output, nothing)
    with pytest.raises(DatasetError, match="something else there"):
        merge_hdf5([exported], tmp_path / "root", nothing)


def command(*arguments: str | Path) -> Any:
    return CliRunner().invoke(cli, [str(one) for one in arguments])


def test_the_commands(exported: Path, copy: Path, tmp_path: Path) -> None:
    before = snapshot(exported)
    good = command("hdf5", "validate", exported, "--output", tmp_path / "said")
    assert good.exit_code == 0, good.output
    assert good.stdout.splitlines()[-1] == "PASS"
    assert snapshot(exported) == before
    manifest = "episode_video_manifest.jsonl"
    assert (tmp_path / "said" / manifest).read_bytes() == (exported / manifest).read_bytes()
    assert json.loads((tmp_path / "said" / "hdf5_report.json").read_text())["verdict"] == "PASS"
    (copy / manifest).unlink()
    warned = command("hdf5", "validate", copy / "episodes.hdf5", "--json")
    assert warned.exit_code == 4, warned.output  # the list of checksums has it
    assert (copy / manifest).read_bytes() == (exported / manifest).read_bytes()
    assert command("hdf5", "validate", copy).exit_code == 0
    content = json.loads((copy / manifest).read_text().splitlines()[0])
    (copy / manifest).write_text(json.dumps({**content, "format_version": 9}) + "\n")
    failed = command("hdf5", "validate", copy, "--json")
    assert failed.exit_code == 4
    assert "says something else" in failed.stdout
    assert "format_version" in (copy / manifest).read_text()
    merged = command("hdf5", "merge", exported, "--output", tmp_path / "merged", "--json")
    assert json.loads(merged.stdout)["episodes"] == 4
    assert command("hdf5", "merge", tmp_path / "no", "--output", tmp_path / "x").exit_code == 1


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """A limit of the size of files, which stands for a disk that is full; lifted afterwards."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def write_all(path: Path, episodes: Sequence[Hdf5Episode], schema: Hdf5Schema) -> None:
    writer = Hdf5Writer(path, schema)
    try:
        for episode in episodes:
            writer.append(episode)
        writer.close()
    except OSError:
        writer.discard()
        raise


def test_a_full_disk_is_an_error_of_the_system_and_leaves_no_file(
    exported: Path, tmp_path: Path, small_files: Callable[[int], None], capfd: pytest.CaptureFixture[str]
) -> None:
    with open_hdf5(exported) as opened:
        episodes, schema = list(opened.episodes()), opened.schema
    whole = (exported / "episodes.hdf5").stat().st_size
    for size in (0, 700, 3000, whole // 2, whole - 1):
        small_files(size)
        with pytest.raises(OSError, match="File too large"):
            write_all(tmp_path / "file.hdf5", episodes, schema)
        assert not list(tmp_path.iterdir()), size
    assert capfd.readouterr().err == ""
    small_files(whole)
    write_all(tmp_path / "file.hdf5", episodes, schema)
    assert (tmp_path / "file.hdf5").read_bytes() == (exported / "episodes.hdf5").read_bytes()
