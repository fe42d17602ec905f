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
from padreel.training.build import build_folder
from padreel.training.check.report import Verdict
from tests.fakes import FakeBroker
from tests.shard_world import snapshot
from tests.test_merge import SESSIONS, numbers, run, two_partitions, verdicts
from tests.training_world import consume, files_of_at_most, publish


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


# ---- what an update adds to -----------------------------------------------------------------------------------

OUTPUT: dict[str, tuple[Any, str]] = {
    "torn episodes": (
        lambda out: _tear(next(out.glob("meta/episodes/*/*.parquet"))),
        r"file-000\.parquet: found sha256",
    ),
    "no episodes": (lambda out: next(out.glob("meta/episodes/*/*.parquet")).unlink(), r"file-000\.parquet: missing"),
    "torn statistics": (lambda out: _tear(out / layout.STATS), r"stats\.json: found sha256"),
    "a torn info": (lambda out: _tear(out / layout.INFO), r"info\.json: found sha256"),
    "a torn list": (lambda out: _tear(out / "checksums.sha256"), r"checksums\.sha256: line \d+ is cut short"),
    "a torn manifest": (lambda out: _tear(out / "export_manifest.json"), r"export_manifest\.json: no manifest"),
    "a newer manifest": (lambda out: _edit(out / "export_manifest.json", format_version=99), "newer than"),
}


@pytest.mark.parametrize("fault", OUTPUT)
def test_a_broken_output_is_not_added_to(root: Path, tmp_path: Path, fault: str) -> None:
    run([root], tmp_path / "out")
    broker = FakeBroker(1)
    publish(broker, 0, [SESSIONS[4]])
    consume(broker, tmp_path / "more")
    breaking, message = OUTPUT[fault]
    breaking(tmp_path / "out")
    before = snapshot(tmp_path)
    result = CliRunner().invoke(
        cli, ["merge", str(root), str(tmp_path / "more"), "--output", str(tmp_path / "out"), "--update"]
    )
    assert (result.exit_code, type(result.exception)) == (1, SystemExit), (result.output, result.exception)
    assert re.search(message, result.output), result.output
    after = {name: found for name, found in snapshot(tmp_path).items() if ".padreel-build" not in name}
    assert after == before


@pytest.mark.parametrize("flags", [[], ["--compact"], ["--update"]], ids=str)
@pytest.mark.parametrize("size", [100, 4_000, 10_000])
def test_a_disk_that_takes_no_more(root: Path, tmp_path: Path, flags: list[str], size: int) -> None:
    out = tmp_path / "out"
    roots = [str(root)]
    if flags == ["--update"]:
        run([root], out)
        broker = FakeBroker(1)
        publish(broker, 0, SESSIONS[4:])
        roots.append(str(consume(broker, tmp_path / "more")))
    before = snapshot(tmp_path)
    with files_of_at_most(size):
        result = CliRunner().invoke(cli, ["merge", *roots, "--output", str(out), *flags])
    assert (result.exit_code, type(result.exception)) == (1, SystemExit), (result.output, result.exception)
    assert "File too large; the sources are untouched, and the same command goes on" in result.output
    after = {name: found for name, found in snapshot(tmp_path).items() if ".padreel-build" not in name}
    assert after == before
    assert CliRunner().invoke(cli, ["merge", *roots, "--output", str(out), *flags]).exit_code == 0
    assert verdicts(out) == {Verdict.PASS}
    assert not build_folder(out).exists()
