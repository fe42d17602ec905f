"""What `padreel merge` refuses, by name, without touching anything; and merging where links cannot be made."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from padreel.__main__ import cli
from padreel.dataset import layout
from padreel.dataset.layout import shard_folder
from padreel.errors import DatasetError
from padreel.training.report import Verdict
from tests.fakes import FakeBroker
from tests.shard_world import snapshot
from tests.test_merge import SESSIONS, numbers, run, two_partitions, verdicts
from tests.training_world import consume, publish


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_partitions(tmp_path_factory.mktemp("made") / "root")


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "root"))


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _first_file(root: Path, kind: Any) -> Path:
    shard = root / shard_folder(0)
    return shard / layout.final_path(kind, numbers(shard)[0])


def _first_commit(root: Path) -> Path:
    shard = root / shard_folder(0)
    return shard / layout.commit_path(numbers(shard)[0])


def _without_column(path: Path, name: str) -> None:
    content = json.loads(path.read_text())
    del content["episode"]["columns"][name]
    path.write_text(json.dumps(content))


def _tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


BAD: dict[str, tuple[Any, str]] = {
    "a torn video": (lambda root: _tear(_first_file(root, "video")), r"file-\d+\.mp4: found \d+ bytes, expected"),
    "torn rows": (lambda root: _tear(_first_file(root, "data")), r"file-\d+\.parquet: found \d+ bytes, expected"),
    "damaged rows": (lambda root: _flip(_first_file(root, "data")), r"file-\d+\.parquet: found sha256"),
    "a video is gone": (lambda root: _first_file(root, "video").unlink(), r"file-\d+\.mp4: missing"),
    "a newer log": (lambda root: _edit(_first_commit(root), format_version=9), "newer than"),
    "a commit of another version": (
        lambda root: _without_column(_first_commit(root), "forced"),
        r"\d\.json: episode\.columns: missing or unknown: forced",
    ),
    "a torn commit": (lambda root: _tear(_first_commit(root)), r"\d\.json: no JSON"),
    "a missing commit": (lambda root: (_first_commit(root)).unlink(), r"\d\.json: missing"),
    "a torn info": (lambda root: _tear(root / shard_folder(1) / layout.INFO), r"info\.json: cannot be used"),
    "another rate": (lambda root: _edit(root / shard_folder(1) / layout.INFO, fps=25), "different schemas: fps"),
    "no shard": (lambda root: list(map(shutil.rmtree, root.glob("partition-*"))), "found no shard"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_input_is_named_and_the_sources_are_untouched(root: Path, tmp_path: Path, fault: str) -> None:
    breaking, message = BAD[fault]
    breaking(root)
    before = snapshot(root)
    result = CliRunner().invoke(cli, ["merge", str(root), "--output", str(tmp_path / "out")])
    assert result.exit_code == 1, result.output
    assert re.search(message, result.output), result.output
    assert not (tmp_path / "out").exists()
    assert snapshot(root) == before


def test_mixed_schemas_name_the_two_shards(root: Path, tmp_path: Path) -> None:
    info = json.loads((root / shard_folder(1) / layout.INFO).read_text())
    info["features"]["action"]["names"] = ["a", "b", "c"]
    (root / shard_folder(1) / layout.INFO).write_text(json.dumps(info))
    with pytest.raises(DatasetError, match=r"partition-00000 and .*partition-00001.*features\.action"):
        run([root], tmp_path / "out")


def test_a_copy_of_a_shard_and_a_session_that_comes_twice_are_refused(root: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    with pytest.raises(DatasetError, match="copies of one shard"):
        run([root, copy], tmp_path / "out")
    assert run([root, root, root / shard_folder(0)], tmp_path / "out").added == 4
    broker = FakeBroker(1)
    publish(broker, 0, [SESSIONS[1], SESSIONS[4]])
    other = consume(broker, tmp_path / "other")
    with pytest.raises(DatasetError, match=r"both have session session-1@1"):
        run([root, other], tmp_path / "two")
    found = run([root, other], tmp_path / "two", skip_existing=True)
    assert found.added == 5
    assert found.manifest.shards[2].rejected == {"existing": 1}


def test_an_output_that_is_something_else_is_not_touched(root: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(DatasetError, match="no merge has made"):
        run([root], tmp_path / "out")
    with pytest.raises(DatasetError, match="no merge has made"):
        run([root], tmp_path / "out", update=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    with pytest.raises(DatasetError, match="no merge has made"):
        run([root], root / shard_folder(0))


def test_two_merges_into_one_output_at_the_same_time(root: Path, tmp_path: Path) -> None:
    from padreel.training.build import open_build

    with open_build(tmp_path / "out"), pytest.raises(DatasetError, match="another process is making it"):
        run([root], tmp_path / "out")
    assert run([root], tmp_path / "out").outcome == "created"


def test_without_hard_links_videos_are_copied_and_compared(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os

    def refuse(source: Any, target: Any, **more: Any) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source))

    monkeypatch.setattr(os, "link", refuse)
    assert run([root], tmp_path / "out").added == 4
    assert verdicts(tmp_path / "out") == {Verdict.PASS}
    assert all(path.stat().st_nlink == 1 for path in (tmp_path / "out").rglob("*.mp4"))
    _flip(_first_file(root, "video"))
    with pytest.raises(DatasetError, match=r"file-\d+\.mp4: found sha256"):
        run([root], tmp_path / "two")
    assert not (tmp_path / "two").exists()
