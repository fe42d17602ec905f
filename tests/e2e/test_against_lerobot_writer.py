"""Our files against those that LeRobot's own writer makes of the same frames and actions, and LeRobot's decoders.

LeRobot's writer encodes its video anew, so pixels are compared with the source, not with its file.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from padreel.dataset import layout, projection, stats
from padreel.dataset.layout import CAMERA
from padreel.dataset.rows import data_file, episode_columns
from padreel.dataset.stage import Stage
from tests.test_stage import FPS, draft, fill, spec
from tests.video_source import Source, annex_b, encode, moving_pictures, read_mp4, write_span

pytestmark = pytest.mark.lerobot

ROWS = 9
TASK = "play"
SPECS = [("full", False), ("full", True), ("minimal", False), ("minimal", True)]


@pytest.fixture(scope="module")
def source() -> Source:
    return encode(moving_pictures(40), gop=12)


def user_features(what: layout.DatasetSpec) -> dict[str, Any]:
    """The features as a user of LeRobot would give them: without its own columns and what it adds to a camera."""
    own = {"timestamp", "frame_index", "episode_index", "index", "task_index"}
    return {
        name: {key: tuple(value) if key == "shape" else value for key, value in feature.items() if key != "info"}
        for name, feature in layout.features(what).items()
        if name not in own
    }


def written_by_lerobot(lerobot: ModuleType, root: Path, what: layout.DatasetSpec, source: Source) -> Path:
    """Two episodes of the same rows, through create, add_frame, save_episode, finalize."""
    columns = episode_columns(what, draft(source), episode_index=0, first_row_index=0, task_index=0)
    features = user_features(what)
    dataset = lerobot.LeRobotDataset.create(
        "tests/stage", FPS, features, root=root, robot_type="gamepad", use_videos=True
    )
    for _ in range(2):
        for row in range(ROWS):
            frame: dict[str, Any] = {
                name: np.asarray(columns[name][row]).reshape(feature["shape"])
                for name, feature in features.items()
                if name != CAMERA
            }
            frame[CAMERA] = source.pictures[20 + row]
            frame["task"] = TASK
            dataset.add_frame(frame)
        dataset.save_episode()
    dataset.finalize()
    return root


@pytest.mark.parametrize(("columns", "one_slot"), SPECS)
def test_data_file_equals_lerobot_s(
    lerobot: ModuleType, tmp_path: Path, source: Source, columns: str, one_slot: bool
) -> None:
    """Schema with its metadata, column order, types and every value, as well as the compression."""
    what = spec(columns, one_slot=one_slot)
    root = written_by_lerobot(lerobot, tmp_path / "lerobot", what, source)
    (path,) = (root / "data").glob("*/*.parquet")
    theirs = pq.ParquetFile(path)
    ours_path = tmp_path / "ours"
    one = draft(source)
    ours_path.write_bytes(data_file(what, episode_columns(what, one, episode_index=0, first_row_index=0, task_index=0)))
    ours = pq.ParquetFile(ours_path)
    assert ours.schema_arrow.names == theirs.schema_arrow.names
    assert ours.schema_arrow.types == theirs.schema_arrow.types
    assert ours.schema_arrow.equals(theirs.schema_arrow, check_metadata=False)
    found, expected = (json.loads(each.schema_arrow.metadata[b"huggingface"]) for each in (ours, theirs))
    expected.pop("fingerprint")  # names datasets' cache of the rows, differs from run to run
    assert found == expected
    assert ours.schema_arrow.metadata.keys() == theirs.schema_arrow.metadata.keys()
    assert ours.read().to_pydict() == theirs.read().slice(0, ROWS).to_pydict()
    for i in range(ours.metadata.num_columns):
        a, b = (each.metadata.row_group(0).column(i) for each in (ours, theirs))
        assert (a.path_in_schema, a.physical_type, a.compression) == (b.path_in_schema, b.physical_type, b.compression)


@pytest.mark.parametrize(("columns", "one_slot"), SPECS)
def test_episode_metadata_has_lerobot_s_columns(
    lerobot: ModuleType, tmp_path: Path, source: Source, columns: str, one_slot: bool
) -> None:
    what = spec(columns, one_slot=one_slot)
    root = written_by_lerobot(lerobot, tmp_path / "lerobot", what, source)
    (path,) = (root / "meta" / "episodes").glob("*/*.parquet")
    theirs = pq.read_schema(path)
    ours = projection.episodes_schema(what)
    assert set(theirs.names) <= set(ours.names)
    assert set(ours.names) - set(theirs.names) == set(projection.EPISODE_COLUMNS)
    for name in theirs.names:
        if theirs.field(name).type == pa.list_(pa.float64()):  # 0.6 turns the extremes of integers into these
            assert ours.field(name).type in (pa.list_(pa.float64()), pa.list_(pa.int64())), name
        else:
            assert ours.field(name).type == theirs.field(name).type, name


def test_info_has_what_lerobot_writes(lerobot: ModuleType, tmp_path: Path, source: Source) -> None:
    what = spec()
    root = written_by_lerobot(lerobot, tmp_path / "lerobot", what, source)
    theirs = json.loads((root / "meta" / "info.json").read_text())
    ours = layout.info(
        what, episodes=2, frames=2 * ROWS, tasks=1, converted=(), converted_count=0, skipped=(), skipped_count=0
    )
    assert ours.keys() - theirs.keys() == {"extensions"}
    assert theirs.keys() <= ours.keys()
    assert list(ours["features"]) == list(theirs["features"])
    for name, feature in theirs["features"].items():
        for key in ("dtype", "shape", "names"):
            assert ours["features"][name][key] == feature[key], (name, key)


def test_row_statistics_are_lerobot_s_where_those_are_exact(
    lerobot: ModuleType, tmp_path: Path, source: Source
) -> None:
    """LeRobot computes in the column's own type, and its quantiles come from a histogram."""
    what = spec()
    root = written_by_lerobot(lerobot, tmp_path / "lerobot", what, source)
    (path,) = (root / "meta" / "episodes").glob("*/*.parquet")
    theirs = pq.read_table(path).to_pylist()[0]
    columns = episode_columns(what, draft(source), episode_index=0, first_row_index=0, task_index=0)
    for name, values in columns.items():
        ours = stats.column_stats(values)
        for key in ("min", "max", "mean", "std", "count"):
            np.testing.assert_allclose(
                ours[key], theirs[f"stats/{name}/{key}"], rtol=1e-5, atol=1e-6, err_msg=f"{name} {key}"
            )


def test_aggregation_equals_lerobot_s(lerobot: ModuleType, source: Source) -> None:
    """Quantiles included: a merge by LeRobot must not change what we say."""
    theirs = importlib.import_module("lerobot.datasets.compute_stats")
    random = np.random.default_rng(3)
    episodes = [{"action": stats.column_stats(random.normal(size=(rows, 3)))} for rows in (5, 90, 31)]
    total: dict[str, stats.Stats] | None = None
    for episode in episodes:
        total = stats.aggregate_stats(total, episode)
    assert total is not None
    expected = theirs.aggregate_stats(
        [{"action": {key: np.asarray(value) for key, value in one["action"].items()}} for one in episodes]
    )["action"]
    assert expected.keys() == total["action"].keys()
    for key, value in expected.items():
        np.testing.assert_allclose(total["action"][key], value, rtol=1e-9, err_msg=key)


@pytest.fixture(params=["pyav", "torchcodec"])
def backend(request: pytest.FixtureRequest, lerobot: ModuleType) -> str:
    """A decoder of LeRobot's."""
    name: str = request.param
    if name == "torchcodec":
        try:
            importlib.import_module("torchcodec.decoders")
        except (ImportError, OSError, RuntimeError) as error:
            pytest.skip(f"torchcodec is not installed or finds no FFmpeg: {str(error).splitlines()[0]}")
    return name


def decoded(path: Path, timestamps: list[float], backend: str) -> NDArray[np.float32]:
    """What LeRobot gives for these times: (n, 3, height, width) in [0, 1]."""
    video_utils = importlib.import_module("lerobot.datasets.video_utils")
    return np.asarray(video_utils.decode_video_frames(path, timestamps, 1e-4, backend), np.float32)


SOURCES = ["recorded", "full range recorded", "annex b", "full range", "deep", "intra", "one", "slow"]


def make_source(name: str, recordings: Path) -> Source:
    sessions = recordings / "sessions"
    match name:
        case "recorded":
            return read_mp4(str(sessions / "melee_port1_480p" / "capture.mp4"))
        case "full range recorded":
            return read_mp4(str(sessions / "melee_port1_720p" / "capture.mp4"))
        case "annex b":
            return annex_b(read_mp4(str(sessions / "melee_port2_180p25" / "capture.mp4")))
        case "full range":
            return encode(moving_pictures(30), full_range=True)
        case "deep":
            return encode(moving_pictures(70), gop=40, b_frames=16)
        case "intra":
            return encode(moving_pictures(60), gop=1, b_frames=0)
        case "slow":
            return encode(moving_pictures(20), fps=7)
        case _:
            return encode(moving_pictures(1))


@pytest.mark.parametrize("name", SOURCES)
def test_lerobot_reads_the_source_s_pictures(
    lerobot: ModuleType, recordings: Path, tmp_path: Path, name: str, backend: str
) -> None:
    """At every position, one at a time and out of order, as a shuffled loader asks."""
    source = make_source(name, recordings)
    write_span(tmp_path / "span.mp4", source)
    total, fps = len(source.pictures), source.stream.fps
    times = [i / fps for i in range(total)]
    # A reader that follows the container converts to RGB in its own way: the same reader on the source is the truth.
    expected = reference(source, backend)
    order = np.random.default_rng(1).permutation(total)[:40].tolist()
    for i in order:
        (found,) = decoded(tmp_path / "span.mp4", [times[i]], backend)
        assert np.array_equal(found, expected[i]), i
    window = [times[i] for i in range(min(8, total))]
    assert np.array_equal(decoded(tmp_path / "span.mp4", window, backend), np.stack(expected[: len(window)]))


def reference(source: Source, backend: str) -> list[NDArray[np.float32]]:
    """The source file's pictures through the backend's own colour conversion, decoded from start to end."""
    if backend == "pyav":
        return [np.moveaxis(picture, 2, 0).astype(np.float32) / np.float32(255) for picture in source.pictures]
    decoders = importlib.import_module("torchcodec.decoders")
    frames = [frame.numpy() for frame in decoders.VideoDecoder(source.mp4, seek_mode="exact")]
    return [frame.astype(np.float32) / 255 for frame in frames]


@pytest.mark.parametrize("first_row", [0, 5, 20, 24])
def test_lerobot_reads_the_rows_of_a_trimmed_episode(
    lerobot: ModuleType, tmp_path: Path, source: Source, first_row: int, backend: str
) -> None:
    """Trimmed inside a GOP and past one, with packets behind the last row."""
    stage = Stage(tmp_path, spec(), 1)
    fill(stage, source)
    made = stage.episode(draft(source, first_row), episode_index=0, first_row_index=0, task_index=0)
    path = tmp_path / made.files[0].name
    found = decoded(path, [made.from_timestamp + i / FPS for i in range(ROWS)], backend)
    assert np.array_equal(found, np.stack(reference(source, backend)[first_row : first_row + ROWS]))


def test_picture_statistics_are_those_of_the_decoded_keyframes(
    lerobot: ModuleType, tmp_path: Path, source: Source
) -> None:
    write_span(tmp_path / "span.mp4", source)
    found = stats.picture_stats(tmp_path / "span.mp4", spec().schema, [0, 12, 24, 36])
    pictures = decoded(tmp_path / "span.mp4", [i / FPS for i in (0, 12, 24, 36)], "pyav").astype(np.float64)
    np.testing.assert_allclose(np.reshape(found["mean"], 3), pictures.mean(axis=(0, 2, 3)), atol=1e-7)
    np.testing.assert_allclose(np.reshape(found["std"], 3), pictures.std(axis=(0, 2, 3)), atol=1e-7)
