"""What `padreel relabel` refuses, by name, and a disk that takes no more: the source stays as it is, byte for byte."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from padreel.__main__ import cli
from padreel.dataset import layout
from padreel.dataset.commit_log import CommitLog
from padreel.dataset.layout import shard_folder
from padreel.options import load
from padreel.training.check.check import check
from padreel.training.check.report import Verdict
from padreel.training.merge.merge import merge
from padreel.training.settings import MergeSettings
from tests.dataset_reading import read_episodes
from tests.fakes import FakeBroker
from tests.shard_world import snapshot
from tests.training_world import MAPPING, OTHER_MAPPING, Played, consume, files_of_at_most, publish
from tests.video_source import encode, moving_pictures

DATA = Path("data/chunk-000/file-000.parquet")
EPISODES = Path("meta/episodes/chunk-000/file-000.parquet")
VIDEO = Path("videos") / layout.CAMERA / "chunk-000" / "file-001.mp4"
EVENTS = Path("gamepad/chunk-000/file-001.bin")
MANIFEST = Path("export_manifest.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`root`, of rigs that played at the same time, and `merged`."""
    folder = tmp_path_factory.mktemp("made")
    broker = FakeBroker(1)
    publish(broker, 0, [Played(f"session-{i}@{i}", f"rig-{i}", encode(moving_pictures(40, seed=i))) for i in range(3)])
    consume(broker, folder / "root")
    merge([folder / "root"], load(MergeSettings, {"output": folder / "merged"}), lambda step, done, total: None)
    (folder / "mapping.yaml").write_text(OTHER_MAPPING)
    return folder


@pytest.fixture
def world(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "world"))


def relabel(world: Path, source: str, mapping: str = "mapping.yaml") -> Result:
    flags = ["--action-mapping", str(world / mapping), "--output", str(world.parent / "out")]
    return CliRunner().invoke(cli, ["relabel", str(world / source), *flags])


def check_refused(result: Result, world: Path, message: str) -> None:
    assert (result.exit_code, type(result.exception)) == (1, SystemExit), (result.output, result.exception)
    assert re.search(message, result.output), result.output
    assert not (world.parent / "out").exists()


def _tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


MERGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a torn video": (
        lambda merged: _tear(merged / VIDEO),
        r"file-001\.mp4: \d+ bytes, where none of its boxes ends",
    ),
    "a video is gone": (lambda merged: (merged / VIDEO).unlink(), r"file-001\.mp4: missing"),
    "torn rows": (lambda merged: _tear(merged / DATA), r"file-000\.parquet"),
    "damaged rows": (lambda merged: _flip(merged / DATA), r"data/chunk-000/file-000\.parquet: found sha256"),
    "no rows": (lambda merged: (merged / DATA).unlink(), r"file-000\.parquet: missing"),
    "torn EVENTs": (lambda merged: _tear(merged / EVENTS), r"file-001\.bin: missing or damaged"),
    "torn episodes": (lambda merged: _tear(merged / EPISODES), r"episodes/chunk-000/file-000\.parquet"),
    "a torn info": (lambda merged: _tear(merged / layout.INFO), r"info\.json"),
    "an older info": (
        lambda merged: _edit(merged / layout.INFO, codebase_version="v2.1"),
        r"info\.json: found sha256",
    ),
    "no list": (lambda merged: (merged / "checksums.sha256").unlink(), r"checksums\.sha256"),
    "a torn list": (lambda merged: _tear(merged / "checksums.sha256"), r"checksums\.sha256: line \d+"),
    "a torn manifest": (lambda merged: _tear(merged / MANIFEST), r"export_manifest\.json: no manifest"),
    "a newer manifest": (lambda merged: _edit(merged / MANIFEST, format_version=99), "newer than"),
}


@pytest.mark.parametrize("fault", MERGED)
def test_bad_input_is_named_and_stays_as_it_is(world: Path, fault: str) -> None:
    breaking, message = MERGED[fault]
    breaking(world / "merged")
    before = snapshot(world)
    check_refused(relabel(world, "merged"), world, message)
    assert snapshot(world) == before


def _episode(shard: Path) -> Path:
    log = CommitLog(shard)
    last = log.last()
    assert last is not None
    return shard / layout.commit_path(next(log.episodes_back(last)).n)


SHARD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a torn video": (lambda shard: _tear(next(shard.glob("videos/*/*/*.mp4"))), r"\.mp4: found \d+ bytes, expected"),
    "damaged rows": (lambda shard: _flip(next(shard.glob("data/*/*.parquet"))), r"\.parquet: found sha256"),
    "torn EVENTs": (lambda shard: _tear(next(shard.glob("gamepad/*/*.bin"))), r"\.bin: found \d+ bytes, expected"),
    "a newer log": (lambda shard: _edit(_episode(shard), format_version=9), "newer than"),
}


@pytest.mark.parametrize("fault", SHARD)
def test_bad_shards_are_named_and_stay_as_they_are(world: Path, fault: str) -> None:
    breaking, message = SHARD[fault]
    breaking(world / "root" / shard_folder(0))
    before = snapshot(world)
    result = relabel(world, "root")
    assert (result.exit_code, type(result.exception)) == (1, SystemExit), (result.output, result.exception)
    assert re.search(message, result.output), result.output
    assert not (world.parent / "out").exists()
    assert snapshot(world) == before


def test_an_output_that_exists_is_not_touched(world: Path) -> None:
    out = world.parent / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    for source in ("merged", "root"):
        result = relabel(world, source)
        assert result.exit_code == 1
        assert "found something else there, expected nothing" in result.output
        assert [path.name for path in out.iterdir()] == ["mine.txt"]
        assert sorted(path.name for path in world.parent.iterdir()) == ["out", "world"]
    shutil.rmtree(out)
    assert relabel(world, "merged").exit_code == 0
    (world / "another.yaml").write_text(MAPPING)
    before = snapshot(out)
    assert "found something else there" in relabel(world, "merged", "another.yaml").output
    assert snapshot(out) == before
    merged = world / "merged"
    assert (
        "found something else there"
        in CliRunner()
        .invoke(cli, ["relabel", str(merged), "--action-mapping", str(world / "mapping.yaml"), "--output", str(merged)])
        .output
    )


@pytest.mark.parametrize("source", ["merged", "root"])
@pytest.mark.parametrize("size", [100, 4_000, 10_000])
def test_a_disk_that_takes_no_more(world: Path, source: str, size: int) -> None:
    before = snapshot(world)
    with files_of_at_most(size):
        result = relabel(world, source)
    assert (result.exit_code, type(result.exception)) == (1, SystemExit), (result.output, result.exception)
    assert "File too large; the sources are untouched, and the same command goes on" in result.output
    assert not (world.parent / "out").exists()
    assert snapshot(world) == before
    assert relabel(world, source).exit_code == 0
    assert check(world.parent / "out")[0].verdict is Verdict.PASS
    assert len(read_episodes(world.parent / "out")) == 3
    assert sorted(path.name for path in world.parent.iterdir()) == ["out", "world"]
    assert snapshot(world) == before
