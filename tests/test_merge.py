"""`padreel merge` on real shards, read back with pyarrow and PyAV: the same episodes, whatever happens on the way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from padreel.__main__ import cli
from padreel.dataset import layout
from padreel.dataset.commit_log import CommitLog
from padreel.dataset.layout import shard_folder
from padreel.errors import DatasetError
from padreel.options import load
from padreel.training.build import build_folder
from padreel.training.check.check import check
from padreel.training.check.report import Verdict
from padreel.training.manifest import read_manifest
from padreel.training.merge.merge import Merged, merge
from padreel.training.settings import MergeSettings
from tests.dataset_reading import CAMERA, read_episodes, read_info
from tests.fakes import FakeBroker
from tests.shard_world import snapshot
from tests.training_world import Played, consume, episodes_of, publish
from tests.video_source import encode, moving_pictures

SOURCES = [encode(moving_pictures(14 + seed, seed=seed), gop=6, b_frames=seed % 4) for seed in range(6)]
SESSIONS = [
    Played(f"session-{i}@{i}", f"rig-{i % 3}", source, task="Win the match" if i == 2 else "")
    for i, source in enumerate(SOURCES)
]


def numbers(shard: Path) -> list[int]:
    """The commits of a shard's episodes, oldest first."""
    log = CommitLog(shard)
    last = log.last()
    assert last is not None
    return [entry.n for entry in reversed(list(log.episodes_back(last)))]


def two_partitions(root: Path) -> Path:
    """An output root; three rigs play at the same time in the first partition."""
    broker = FakeBroker(2)
    publish(broker, 0, SESSIONS[:3])
    publish(broker, 1, SESSIONS[3:4])
    return consume(broker, root)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_partitions(tmp_path_factory.mktemp("made") / "root")


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "root"))


def run(roots: Sequence[Path], output: Path, **more: Any) -> Merged:
    return merge(roots, load(MergeSettings, {"output": output, **more}), lambda step, done, total: None)


def files_of(output: Path) -> Mapping[str, bytes]:
    """Every file of a dataset but those that name the run."""
    own = {"export_manifest.json", "checksums.sha256"}
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.name not in own
    }


def verdicts(output: Path) -> set[Verdict]:
    (report,) = check(output, deep=True)
    assert report.kind == "merged"
    return {one.verdict for one in report.findings}


@pytest.mark.parametrize("more", [{}, {"compact": True}, {"image_stats": "full"}])
def test_all_episodes_in_order_and_the_sources_untouched(root: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    before = snapshot(root)
    found = run([root], tmp_path / "out", **more)
    assert (found.outcome, found.added) == ("created", 4)
    assert snapshot(root) == before
    assert verdicts(tmp_path / "out") == {Verdict.PASS}
    merged, expected = read_episodes(tmp_path / "out"), episodes_of(root)
    assert [(one.session, one.rows, one.events) for one in merged] == [
        (one.session, one.rows, one.events) for one in expected
    ]
    if more.get("compact"):
        assert len({one.video for one in merged}) == 1
    else:
        assert [one.packets for one in merged] == [one.packets for one in expected]
        assert all(a.video.stat().st_ino == b.video.stat().st_ino for a, b in zip(merged, expected, strict=True))
    info = read_info(tmp_path / "out")
    assert (info["total_episodes"], info["total_tasks"], info["splits"]) == (4, 2, {"train": "0:4"})
    assert info["features"] == read_info(root / shard_folder(0))["features"]
    game = info["extensions"]["game_converter"]
    assert game["converted_sessions"] == [one.key for one in expected]


def test_one_data_file_and_one_episodes_file(root: Path, tmp_path: Path) -> None:
    run([root], tmp_path / "out")
    names = [str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.parquet")]
    assert sorted(names) == [
        "data/chunk-000/file-000.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/tasks.parquet",
    ]
    ours = pq.read_schema(tmp_path / "out/data/chunk-000/file-000.parquet")
    shard = next((root / shard_folder(0)).glob("data/*/*.parquet"))
    assert ours.equals(pq.read_schema(shard), check_metadata=True)


def test_statistics_are_those_of_all_rows(root: Path, tmp_path: Path) -> None:
    run([root], tmp_path / "out")
    stats = json.loads((tmp_path / "out" / layout.STATS).read_text())
    rows = pq.read_table(tmp_path / "out/data/chunk-000/file-000.parquet").to_pydict()
    for name in ("action", "index", "episode_index", "task_index", "frame_index", "timestamp", "capture.pad_age"):
        values = np.asarray(rows[name], np.float64).reshape(len(rows["index"]), -1)
        for key in ("min", "max", "mean", "std"):
            figure = getattr(values, key)(axis=0)
            np.testing.assert_allclose(stats[name][key], figure, rtol=1e-9, atol=1e-12, err_msg=f"{name} {key}")
        assert stats[name]["count"] == [len(values)]


def test_full_image_statistics_are_those_of_every_picture(root: Path, tmp_path: Path) -> None:
    run([root], tmp_path / "out", image_stats="full")
    stats = json.loads((tmp_path / "out" / layout.STATS).read_text())[CAMERA]
    pictures = np.concatenate([np.stack(source.pictures) for source in SOURCES[:4]]).astype(np.float64) / 255
    assert stats["count"] == [len(pictures)]
    for key in ("min", "max", "mean", "std"):
        figure = getattr(pictures, key)(axis=(0, 1, 2))
        np.testing.assert_allclose(np.reshape(stats[key], 3), figure, rtol=1e-9, err_msg=key)
    assert "every frame" in (tmp_path / "out" / layout.CARD).read_text()


def test_the_manifest_says_where_each_episode_is_from(root: Path, tmp_path: Path) -> None:
    run([root], tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    assert [one.session for one in manifest.episodes] == [one.key for one in episodes_of(root)]
    assert {one.rig for one in manifest.episodes} == {"rig-0", "rig-1", "rig-2"}
    for one in manifest.episodes:
        shard = next(shard for shard in manifest.shards if shard.id == one.shard)
        entry = CommitLog(Path(shard.path)).read(one.commit)
        assert entry is not None
        assert entry.episode is not None
        assert one.sha256 == {file.kind: file.sha256 for file in entry.episode.files}
        assert one.frames_first_offset == entry.episode.columns["frames_first_offset"]
        assert (one.run, one.config_hash) == (manifest.run, shard.config_hash)
        assert (tmp_path / "out" / one.video).exists()
    assert (manifest.total_episodes, manifest.sessions, manifest.rigs) == (4, 4, 3)


def test_the_same_again_changes_nothing_and_elsewhere_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    run([root], tmp_path / "out")
    before = snapshot(tmp_path / "out")
    assert run([root], tmp_path / "out").outcome == "unchanged"
    assert run([root], tmp_path / "out", update=True).outcome == "unchanged"
    assert snapshot(tmp_path / "out") == before
    run([root], tmp_path / "two" / "out")
    assert files_of(tmp_path / "two" / "out") == files_of(tmp_path / "out")
    assert not build_folder(tmp_path / "out").exists()


@pytest.mark.parametrize("compact", [False, True])
def test_an_update_adds_what_is_new_and_reads_nothing_else(tmp_path: Path, compact: bool) -> None:
    broker = FakeBroker(2)
    publish(broker, 0, SESSIONS[:2])
    root, out = consume(broker, tmp_path / "root"), tmp_path / "out"
    run([root], out, compact=compact)
    first = read_episodes(out)
    merged_already = numbers(root / shard_folder(0))
    publish(broker, 0, SESSIONS[2:4])
    publish(broker, 1, SESSIONS[4:])
    consume(broker, root)
    with pytest.raises(DatasetError, match="--update"):
        run([root], out, compact=compact)
    for n in merged_already:  # what is merged is not needed any more
        for kind in layout.FILE_KINDS:
            (root / shard_folder(0) / layout.final_path(kind, n)).unlink()
    found = run([root], out, compact=compact, update=True)
    assert (found.outcome, found.added, found.manifest.total_episodes) == ("updated", 4, 6)
    assert verdicts(out) == {Verdict.PASS}
    merged = read_episodes(out)
    assert merged[:2] == first
    sessions = [one.session for one in merged]
    assert sorted(sessions) == [f"session-{i}" for i in range(6)]
    assert [run_.episodes for run_ in found.manifest.runs] == [2, 4]
    assert [one.episodes for one in found.manifest.shards] == [4, 2]
    assert run([root], out, compact=compact, update=True).outcome == "unchanged"


def test_an_updated_dataset_says_the_same_as_one_made_at_once(tmp_path: Path) -> None:
    """Of one shard, whose order cannot differ: but for the files that rows and videos lie in."""
    broker = FakeBroker(1)
    publish(broker, 0, SESSIONS[:2])
    root = consume(broker, tmp_path / "root")
    run([root], tmp_path / "a")
    publish(broker, 0, SESSIONS[2:])
    consume(broker, root)
    run([root], tmp_path / "a", update=True)
    run([root], tmp_path / "b")
    for name in (layout.STATS, layout.TASKS, layout.INFO):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert read_episodes(tmp_path / "a") == read_episodes(tmp_path / "b")


FILTERED: list[tuple[dict[str, Any], list[int]]] = [
    ({"session": "session-1,session-3@3"}, [1, 3]),
    ({"rig": "rig-0"}, [0, 3]),
    ({"where": "length >= 16"}, [2, 3]),
    ({"min_progress": 1.0}, [0, 1, 2, 3]),
    ({"since": "1970-01-01T00:00:00+00:00"}, [0, 1, 2, 3]),
    ({"min_quality": 0.9103}, [2, 3]),
    ({"top_k": 1}, [3]),
]


@pytest.mark.parametrize(("filters", "expected"), FILTERED, ids=lambda value: str(value)[:30])
def test_filters_let_in_what_they_say(root: Path, tmp_path: Path, filters: dict[str, Any], expected: list[int]) -> None:
    found = run([root], tmp_path / "out", **filters)
    merged = read_episodes(tmp_path / "out")
    assert {one.session for one in merged} == {f"session-{i}" for i in expected}
    assert verdicts(tmp_path / "out") == {Verdict.PASS}
    rejected = sum(sum(one.rejected.values()) for one in found.manifest.shards)
    assert rejected == 4 - len(expected)
    with pytest.raises(DatasetError, match="other settings"):
        run([root], tmp_path / "out", where="length >= 1", update=True)


def test_nothing_let_in_leaves_nothing(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="none of 4 episodes is let in: 4 by rig"):
        run([root], tmp_path / "out", rig="nobody")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]


def test_only_what_is_committed_enters_even_before_it_is_published(root: Path, tmp_path: Path) -> None:
    """The latest episode's files may still have their staged names."""
    shard = root / shard_folder(0)
    log = CommitLog(shard)
    last = log.last()
    assert last is not None
    latest = next(log.episodes_back(last))
    assert latest.episode is not None
    for file in latest.episode.files:
        kind: Any = file.kind
        (shard / layout.final_path(kind, latest.n)).rename(shard / layout.STAGING / file.name)
    (shard / layout.STAGING / "00000000-0123456789abcdef0123456789abcdef.mp4").write_bytes(b"open session")
    before = snapshot(root)
    assert run([root], tmp_path / "out").added == 4
    assert snapshot(root) == before
    assert verdicts(tmp_path / "out") == {Verdict.PASS}


# ---- packing -------------------------------------------------------------------------------------------------


def test_files_are_not_packed_beyond_their_limit(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("padreel.training.merge.plan.MAX_PACKED_SECONDS", 1)  # thirty pictures
    run([root], tmp_path / "out", compact=True)
    merged = read_episodes(tmp_path / "out")
    assert [sum(other.video == one.video for other in merged) for one in merged] == [2, 2, 1, 1]
    assert verdicts(tmp_path / "out") == {Verdict.PASS}


# ---- the command ---------------------------------------------------------------------------------------------


def test_the_summary_is_a_table_or_json(root: Path, tmp_path: Path) -> None:
    first = CliRunner().invoke(cli, ["merge", str(root), "--output", str(tmp_path / "a"), "--rig", "rig-0"])
    assert first.exit_code == 0, first.output
    lines = first.stdout.splitlines()
    assert lines[0].split() == ["shard", "episodes", "frames", "quality", "not", "let", "in"]
    assert lines[1].split()[1:] == ["1", "14", "0.909", "2", "rig"]  # nothing is wrong but that it is short
    assert lines[3].startswith("created: 2 episodes, 31 frames")
    second = CliRunner().invoke(cli, ["merge", str(root), "--output", str(tmp_path / "b"), "--json"])
    content = json.loads(second.stdout)
    assert (content["outcome"], content["episodes"], content["frames"]) == ("created", 4, 62)
    assert [one["episodes"] for one in content["shards"]] == [3, 1]
    wrong = CliRunner().invoke(cli, ["merge", str(root), "--output", str(tmp_path / "c"), "--where", "colour = red"])
    assert wrong.exit_code == 2
    assert "--where" in wrong.output
