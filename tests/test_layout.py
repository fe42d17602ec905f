"""Paths, names, and what the descriptive files say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from padreel.dataset import layout, projection
from padreel.dataset.commit_log import Totals
from tests.shard_world import SPEC


@pytest.mark.parametrize(
    ("n", "data"),
    [
        (0, "data/chunk-000/file-000.parquet"),
        (999, "data/chunk-000/file-999.parquet"),
        (1000, "data/chunk-001/file-000.parquet"),
        (1_000_000, "data/chunk-1000/file-000.parquet"),
    ],
)
def test_final_names_follow_from_the_commit(n: int, data: str) -> None:
    assert layout.final_path("data", n) == Path(data)


def test_each_kind_has_its_folder() -> None:
    assert layout.final_path("video", 12) == Path("videos/observation.images.main/chunk-000/file-012.mp4")
    assert layout.final_path("gamepad", 12) == Path("gamepad/chunk-000/file-012.bin")
    assert layout.episodes_path(3) == Path("meta/episodes/chunk-000/file-003.parquet")
    assert layout.shard_folder(3) == "partition-00003"


@pytest.mark.parametrize("kind", layout.FILE_KINDS)
def test_a_staged_name_tells_its_claim(kind: layout.FileKind) -> None:
    names = {layout.staged_name(41, kind) for _ in range(10)}
    assert len(names) == 10
    assert {layout.staged_claim(name) for name in names} == {41}
    assert layout.staged_claim(layout.staged_name(123_456_789, kind)) == 123_456_789


@pytest.mark.parametrize("name", ["pub-0123", "note.txt", "12-xyz.mp4", ".nfs0000", "x12-" + "0" * 32 + ".mp4"])
def test_other_names_in_staging_have_no_claim(name: str) -> None:
    assert layout.staged_claim(name) is None


def test_features_of_full_and_minimal_columns() -> None:
    full = layout.features(replace(SPEC, columns="full"))
    assert list(full) == [
        "action",
        "observation.state",
        "capture.time_ns",
        "capture.pad_age",
        "observation.images.main",
        "timestamp",
        "frame_index",
        "episode_index",
        "index",
        "task_index",
    ]
    assert full["action"] == {"dtype": "float32", "shape": [2], "names": ["move.x", "move.y"]}
    assert full["observation.state"]["shape"] == [27]
    assert full["capture.time_ns"]["dtype"] == "int64"
    assert full["observation.images.main"]["shape"] == [48, 64, 3]
    minimal = layout.features(SPEC)
    assert set(full) - set(minimal) == {"observation.state", "capture.time_ns", "capture.pad_age"}


def test_info_says_what_lerobot_and_the_converter_want() -> None:
    skipped = [layout.SkippedSession("bad", "schema", "25 fps, expected 30")]
    info = layout.info(
        SPEC,
        episodes=2,
        frames=7,
        tasks=1,
        converted=["good"],
        converted_count=300,
        skipped=skipped,
        skipped_count=1,
    )
    assert info["codebase_version"] == "v3.0"
    assert type(info["fps"]) is int
    assert info["splits"] == {"train": "0:2"}
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (2, 7, 1)
    game = info["extensions"]["game_converter"]
    assert (game["game_id"], game["class_ids"], game["profile_name"]) == ("melee", ["default"], "standard")
    assert game["action_layout"] == [{"action_id": "move", "kind": "vector2", "start": 0, "size": 2}]
    assert game["converted_sessions"] == ["good"]
    assert game["converted_session_count"] == 300
    assert game["skipped_sessions"] == [{"session": "bad", "reason": "schema", "detail": "25 fps, expected 30"}]
    video = info["video_path"].format(video_key=layout.CAMERA, chunk_index=1, file_index=2)
    assert Path(video) == layout.final_path("video", 1002)


def _plain(kind: pa.DataType) -> pa.DataType:
    """Some versions of pandas write strings as large_string, which they read alike."""
    return pa.string() if pa.types.is_large_string(kind) else kind


def test_the_tasks_file_is_one_that_pandas_reads(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    tasks = ("play", "spiele weiter", "play again")
    (tmp_path / "tasks.parquet").write_bytes(projection.tasks_file(tasks))
    found = pandas.read_parquet(tmp_path / "tasks.parquet")
    expected = pandas.DataFrame({"task_index": [0, 1, 2]}, index=pandas.Index(tasks, name="task"))
    pandas.testing.assert_frame_equal(found, expected)
    expected.to_parquet(tmp_path / "theirs.parquet")
    ours, theirs = (pq.read_schema(tmp_path / name) for name in ("tasks.parquet", "theirs.parquet"))
    assert [(one.name, _plain(one.type)) for one in ours] == [(one.name, _plain(one.type)) for one in theirs]
    assert ours.pandas_metadata["index_columns"] == theirs.pandas_metadata["index_columns"]


def test_a_live_info_lists_the_latest_names() -> None:
    totals = Totals(converted=tuple(str(i) for i in range(260)), converted_count=1000, stats={})
    content = projection.info_file(SPEC, totals).decode()
    assert '"converted_session_count": 1000' in content
    assert '"259"' in content
    assert '"9"' not in content
    assert '"10"' in content
