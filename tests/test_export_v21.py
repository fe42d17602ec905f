"""`padreel export --format v2.1`, read back with pyarrow, PyAV and a JSON parser."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from padreel.__main__ import cli
from padreel.errors import DatasetError, FormatVersionError
from padreel.exports.record import read_record
from padreel.options import load
from padreel.training.build import build_folder
from padreel.training.checksums import read_checksums
from padreel.training.relabel.command import relabel_any
from padreel.training.settings import RelabelSettings
from tests.dataset_reading import ReadEpisode, read_episodes
from tests.export_world import SESSIONS, TRIMMED, files_of, lines, make_sessions, make_trimmed, run, same
from tests.shard_world import snapshot
from tests.test_stage import spec
from tests.training_world import OTHER_MAPPING, nothing, other_action
from tests.video_source import Picture, Source, decode, encode, moving_pictures

CAMERA = "observation.images.main"


@dataclass(frozen=True)
class OldEpisode:
    """An episode as a reader of v2.1 finds it."""

    task: str
    rows: Mapping[str, list[Any]]
    pictures: list[Picture]
    stats: Mapping[str, Mapping[str, Any]]


def read_v21(root: Path) -> list[OldEpisode]:
    """A plain reading, by the patterns of info.json alone."""
    info = json.loads((root / "meta/info.json").read_text())
    tasks = {one["task_index"]: one["task"] for one in lines(root / "meta/tasks.jsonl")}
    stats = {one["episode_index"]: one["stats"] for one in lines(root / "meta/episodes_stats.jsonl")}
    found, row = [], 0
    for number, one in enumerate(lines(root / "meta/episodes.jsonl")):
        place = {"episode_index": number, "episode_chunk": number // info["chunks_size"]}
        table = pq.read_table(root / info["data_path"].format(**place))
        assert table.schema.metadata is None  # `datasets` before 4.0 fails on what newer ones say there
        assert table.column_names == [name for name in info["features"] if name != CAMERA]
        rows = table.to_pydict()
        length = one["length"]
        assert rows["frame_index"] == list(range(length))
        assert rows["index"] == list(range(row, row + length))
        assert rows["episode_index"] == [number] * length == [one["episode_index"]] * length
        np.testing.assert_array_equal(np.float32(rows["timestamp"]), np.float32(np.arange(length) / info["fps"]))
        assert {tasks[index] for index in rows["task_index"]} == set(one["tasks"])
        pictures = decode(str(root / info["video_path"].format(video_key=CAMERA, **place)))
        assert len(pictures) == length
        found.append(OldEpisode(one["tasks"][0], rows, pictures, stats[number]))
        row += length
    assert (info["total_frames"], info["total_episodes"], info["total_videos"]) == (row, len(found), len(found))
    assert info["total_tasks"] == len(tasks)
    assert info["total_chunks"] == len(list((root / "data").iterdir())) == len(list((root / "videos").iterdir()))
    assert info["splits"] == {"train": f"0:{len(found)}"}
    return found


def check_stats(episode: OldEpisode) -> None:
    for name, values in episode.rows.items():
        table = np.asarray(values, np.float64).reshape(len(values), -1)
        for key in ("min", "max", "mean", "std"):
            figure = getattr(table, key)(axis=0)
            np.testing.assert_allclose(episode.stats[name][key], figure, rtol=1e-6, atol=1e-9, err_msg=name)
        assert episode.stats[name]["count"] == [len(values)]
    assert np.shape(episode.stats[CAMERA]["mean"]) == (3, 1, 1)


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


@pytest.mark.parametrize("name", ["root", "merged", "compact"])
@pytest.mark.parametrize("chunks_size", [1000, 3])
def test_rows_and_pictures_are_the_source_s(made: Path, tmp_path: Path, name: str, chunks_size: int) -> None:
    before = snapshot(made)
    result = run(made / name, tmp_path / "out", "v2.1", chunks_size=chunks_size)
    assert snapshot(made) == before
    by_key = {one.key: one for one in SESSIONS}
    expected = read_episodes(made / "merged")
    found = read_v21(tmp_path / "out")
    assert len(found) == len(expected) == result.record.total_episodes
    for one, wanted in zip(found, expected, strict=True):
        assert {column: one.rows[column] for column in wanted.rows} == wanted.rows
        assert same(one.pictures, by_key[wanted.key].source.pictures)
        assert one.task == (by_key[wanted.key].task or "play")
        check_stats(one)
    assert len(list((tmp_path / "out" / "data").iterdir())) == (1 if chunks_size == 1000 else 2)
    listed = read_checksums(tmp_path / "out" / "checksums.sha256")
    there = {str(path.relative_to(tmp_path / "out")): path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in there.items()} == listed | {
        "checksums.sha256": hashlib.sha256(there["checksums.sha256"].read_bytes()).hexdigest()
    }


def test_the_tree_is_the_one_that_readers_expect(made: Path, tmp_path: Path) -> None:
    run(made / "merged", tmp_path / "out", "v2.1")
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")) == [
        "checksums.sha256",
        *(f"data/chunk-000/episode_{i:06d}.parquet" for i in range(4)),
        "export_run.json",
        "meta/episodes.jsonl",
        "meta/episodes_stats.jsonl",
        "meta/info.json",
        "meta/tasks.jsonl",
        "videos/chunk-000/observation.images.main",
        *(f"videos/chunk-000/observation.images.main/episode_{i:06d}.mp4" for i in range(4)),
    ]


def rows_of(trimmed: Path) -> list[ReadEpisode]:
    return read_episodes(trimmed / "partition-00003")


def test_of_trimmed_episodes_what_precedes_the_first_keyframe_can_be_dropped(
    trimmed: Path, source: Source, tmp_path: Path
) -> None:
    before = snapshot(trimmed)
    record = run(trimmed, tmp_path / "out", "v2.1", lead="dropped").record
    assert snapshot(trimmed) == before
    assert [(one.first_row, one.frames, one.source_frames) for one in record.episodes] == [
        (0, 12, 12),
        (5, 13, 20),  # from 12 on; 25 and 26 need 27, which is not in the episode
        (0, 13, 14),
        (0, 1, 2),
    ]
    assert record.left_out == (2,)
    assert not any(one.hidden for one in record.episodes)
    found, expected = read_v21(tmp_path / "out"), rows_of(trimmed)
    for one, record_of in zip(found, record.episodes, strict=True):
        wanted = expected[record_of.source_index]
        first, _ = TRIMMED[record_of.source_index]
        rows = slice(record_of.first_row, record_of.first_row + record_of.frames)
        for column in ("action", "observation.state", "capture.time_ns", "capture.pad_age"):
            assert one.rows[column] == wanted.rows[column][rows]
        assert same(one.pictures, source.pictures[first:][rows])
        check_stats(one)


def test_trimmed_episodes_are_kept_whole_behind_hidden_pictures(trimmed: Path, source: Source, tmp_path: Path) -> None:
    record = run(trimmed, tmp_path / "out", "v2.1").record
    assert [one.hidden > 0 for one in record.episodes] == [False, True, True, True, True]
    assert (record.total_episodes, record.total_frames) == (5, sum(rows for _, rows in TRIMMED))
    found, expected = read_v21(tmp_path / "out"), rows_of(trimmed)
    for one, wanted, (first, rows) in zip(found, expected, TRIMMED, strict=True):
        assert {column: one.rows[column] for column in wanted.rows} == wanted.rows
        assert same(one.pictures, source.pictures[first : first + rows])
        check_stats(one)


def test_the_same_again_and_elsewhere(made: Path, tmp_path: Path) -> None:
    first = run(made / "root", tmp_path / "out", "v2.1")
    before = snapshot(tmp_path / "out")
    again = run(made / "root", tmp_path / "out", "v2.1")
    assert (first.outcome, again.outcome, again.record) == ("created", "unchanged", first.record)
    assert snapshot(tmp_path / "out") == before
    other = run(made / "merged", tmp_path / "two" / "out", "v2.1")
    assert files_of(tmp_path / "two" / "out") == files_of(tmp_path / "out")
    assert other.record.run != first.record.run
    assert other.record.config_hash == first.record.config_hash
    assert not build_folder(tmp_path / "out").exists()


def test_the_record_says_whence_each_episode_is(made: Path, tmp_path: Path) -> None:
    record = run(made / "merged", tmp_path / "out", "v2.1").record
    assert read_record(tmp_path / "out") == record
    expected = read_episodes(made / "merged")
    assert [one.session for one in record.episodes] == [one.key for one in expected]
    assert {one.rig for one in record.episodes} == {"rig-0", "rig-1"}
    assert all(one.end_reason == "end" and one.quality is not None for one in record.episodes)
    assert record.settings == {"format": "v2.1", "chunks_size": 1000, "lead": "hidden"}
    assert record.source == str(made / "merged")


def test_without_state_it_is_refused(source: Source, tmp_path: Path) -> None:
    root = tmp_path / "root"
    make_trimmed(root / "partition-00003", source, dataset=spec("minimal"))
    with pytest.raises(DatasetError, match=r"has no observation\.state, which v2\.1 needs"):
        run(root, tmp_path / "out", "v2.1")
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_episodes_without_any_keyframe_are_refused(source: Source, tmp_path: Path) -> None:
    shard = make_trimmed(tmp_path / "root" / "partition-00003", source, [(5, 4), (13, 3)])
    with pytest.raises(DatasetError, match="--lead dropped"):
        run(shard, tmp_path / "out", "v2.1", lead="dropped")
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_a_relabelled_dataset_is_another_one(made: Path, tmp_path: Path) -> None:
    """Though its episodes are from the same commits."""
    (tmp_path / "other.yaml").write_text(OTHER_MAPPING)
    settings = load(RelabelSettings, {"output": tmp_path / "relabelled", "action_mapping": tmp_path / "other.yaml"})
    relabel_any(made / "merged", settings, nothing)
    run(made / "merged", tmp_path / "out", "v2.1")
    with pytest.raises(DatasetError, match="other episodes"):
        run(tmp_path / "relabelled", tmp_path / "out", "v2.1")
    run(tmp_path / "relabelled", tmp_path / "two", "v2.1")
    by_key = {one.key: one for one in SESSIONS}
    record = read_record(tmp_path / "two")
    assert record is not None
    for one, origin in zip(read_v21(tmp_path / "two"), record.episodes, strict=True):
        session = by_key[origin.session]
        assert one.rows["action"] == [other_action(session, row) for row in range(origin.frames)]
        check_stats(one)


def test_an_output_that_is_something_else_is_not_touched(made: Path, tmp_path: Path) -> None:
    run(made / "merged", tmp_path / "out", "v2.1")
    before = snapshot(tmp_path / "out")
    with pytest.raises(DatasetError, match="with other settings"):
        run(made / "merged", tmp_path / "out", "v2.1", chunks_size=7)
    with pytest.raises(DatasetError, match="other episodes"):
        run(made / "root" / "partition-00001", tmp_path / "out", "v2.1")
    assert snapshot(tmp_path / "out") == before
    with pytest.raises(DatasetError, match="something else there"):
        run(made / "merged", made / "root", "v2.1")
    record = tmp_path / "out" / "export_run.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "format_version": 2}))
    with pytest.raises(FormatVersionError, match="2 is newer"):
        run(made / "merged", tmp_path / "out", "v2.1")


def test_the_command_says_what_it_did(made: Path, trimmed: Path, tmp_path: Path) -> None:
    def command(path: Path, name: str, *more: str) -> str:
        arguments = ["export", str(path), "--output", str(tmp_path / name), "--format", "v2.1", *more]
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    assert command(made / "root", "a").startswith("created: 4 episodes, 66 frames as v2.1, run ")
    content = json.loads(command(trimmed, "b", "--json", "--lead", "dropped"))
    assert (content["episodes"], content["frames"]) == (4, 39)
    assert (content["episodes_left_out"], content["frames_left_out"]) == (1, 9)
    assert "left out: 1 episodes, 9 frames of the others" in command(trimmed, "b", "--lead", "dropped")
    assert "52 frames as v2.1" in (said := command(trimmed, "c"))
    assert said.strip().endswith("4 videos have pictures that their edit list hides")
    wrong = CliRunner().invoke(cli, ["export", str(trimmed), "--output", str(tmp_path / "d"), "--format", "v9"])
    assert wrong.exit_code == 2
    missing = CliRunner().invoke(cli, ["export", str(tmp_path / "no"), "--output", "x", "--format", "v2.1"])
    assert missing.exit_code == 1
    assert "is no folder" in missing.output
