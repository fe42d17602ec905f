"""The episodes that an export is made of: the same from shards and merged sets, and a damaged source is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padreel.dataset import layout
from padreel.errors import DatasetError, FormatVersionError
from padreel.exports.clips import write_clip
from padreel.exports.cuts import cut_of
from padreel.exports.episodes import Source, columns_of, open_source
from padreel.options import load
from padreel.training.manifest import FORMAT_VERSION, MANIFEST
from padreel.training.merge.merge import merge
from padreel.training.settings import MergeSettings
from tests.dataset_reading import read_episodes
from tests.fakes import FakeBroker
from tests.shard_world import snapshot
from tests.training_world import Played, consume, nothing, publish
from tests.video_source import decode, encode, moving_pictures

SESSIONS = [
    Played(f"s-{i}@{i}", f"rig-{i % 2}", encode(moving_pictures(9 + i, seed=i), gop=5), task="Win" if i == 2 else "")
    for i in range(4)
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`root`, `merged` and `compact`."""
    folder = tmp_path_factory.mktemp("made")
    broker = FakeBroker(2)
    publish(broker, 0, SESSIONS[:3])
    publish(broker, 1, SESSIONS[3:])
    consume(broker, folder / "root")
    for name in ("merged", "compact"):
        settings = load(MergeSettings, {"output": folder / name, "compact": name == "compact"})
        merge([folder / "root"], settings, nothing)
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


@pytest.mark.parametrize("name", ["root", "merged", "compact"])
def test_rows_pictures_and_origin_of_every_episode(made: Path, tmp_path: Path, name: str) -> None:
    before = snapshot(made)
    expected = read_episodes(made / "merged")
    by_name = {one.key: one for one in SESSIONS}
    with open_source(made / name, tmp_path / "out", nothing) as source:
        episodes = list(source.episodes())
        assert [one.session for one in episodes] == [one.key for one in expected]
        assert episodes == list(source.episodes())
        for one, wanted in zip(episodes, expected, strict=True):
            played = by_name[one.session]
            assert (one.record.rig, one.task) == (played.rig, played.task or "play")
            assert (one.length, one.record.end_reason) == (len(wanted), "end")
            assert one.record.quality is not None
            rows = columns_of(source.rows(one))
            assert rows["action"].shape == (one.length, 3)
            assert rows["action"].tolist() == wanted.rows["action"]
            assert rows["capture.time_ns"].tolist() == wanted.rows["capture.time_ns"]
            assert set(rows["episode_index"].tolist()) == {one.index}
            video = source.video(one)
            write_clip(video, cut_of(video.order, one.picture, one.length), tmp_path / f"{one.index}.mp4")
            found = decode(str(tmp_path / f"{one.index}.mp4"))
            assert len(found) == one.length
            assert all(map(np.array_equal, found, played.source.pictures))
            np.testing.assert_allclose(one.stats["action"]["mean"], rows["action"].astype(float).mean(0))
            assert source.read(one.gamepad)
    assert snapshot(made) == before
    assert {path.suffix for path in tmp_path.iterdir()} == {".mp4"}


def test_one_shard_alone(made: Path, tmp_path: Path) -> None:
    with open_source(made / "root" / layout.shard_folder(1), tmp_path / "out", nothing) as source:
        assert [one.session for one in source.episodes()] == ["s-3@3"]


def test_what_a_killed_run_left_is_not_believed(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "compact", tmp_path / ".out.padreel-source")
    with open_source(made / "root", tmp_path / "out", nothing) as source:
        assert len({one.video for one in source.episodes()}) == 4
    assert not list(tmp_path.iterdir())


def test_there_has_to_be_something_to_export(made: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, said in ((tmp_path / "no", "is no folder"), (tmp_path / "empty", "found no shard")):
        with pytest.raises(DatasetError, match=said), open_source(path, tmp_path / "out", nothing):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def read_all(source: Source) -> None:
    for one in source.episodes():
        source.rows(one)
        source.video(one)


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("pattern", ["data/*/*.parquet", "videos/*/*/*.mp4", "meta/episodes/*/*.parquet"])
@pytest.mark.parametrize("missing", [False, True])
def test_a_damaged_source_is_named(copy: Path, tmp_path: Path, pattern: str, missing: bool) -> None:
    path = sorted((copy / "merged").glob(pattern))[0]
    path.unlink() if missing else spoil(path)
    said = "missing by" if missing else "found sha256"
    if missing and "episodes" in pattern:
        said = "4 episodes"
    with (
        open_source(copy / "merged", tmp_path / "o", nothing) as source,
        pytest.raises(DatasetError, match=said) as raised,
    ):
        read_all(source)
    if said != "4 episodes":
        assert str(path) in str(raised.value)


def test_a_manifest_of_a_newer_version_is_refused(copy: Path, tmp_path: Path) -> None:
    path = copy / "merged" / MANIFEST
    content: dict[str, Any] = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "format_version": FORMAT_VERSION + 1}))
    with pytest.raises(FormatVersionError, match="is newer"), open_source(copy / "merged", tmp_path / "o", nothing):
        pass
