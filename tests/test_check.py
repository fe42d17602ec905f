"""`padreel check`: what it says of whole folders, and of every way in which one can be broken."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from padreel.__main__ import cli
from padreel.dataset import layout
from padreel.dataset.commit_log import CommitLog
from padreel.dataset.layout import shard_folder
from padreel.training.check import report
from padreel.training.check.check import check
from padreel.training.check.report import Finding, Report, Verdict, judged, worst
from padreel_schemas.recording import PADS
from tests.dataset_reading import read_episodes
from tests.fakes import FakeBroker
from tests.session_folders import START_NS, event, write_actions, write_folder
from tests.training_world import Played, consume, failing, findings, publish
from tests.video_source import encode, moving_pictures, write_span


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root of two partitions, three sessions in the first."""
    root = tmp_path_factory.mktemp("made") / "root"
    broker = FakeBroker(2)
    sources = [encode(moving_pictures(14, seed=seed), gop=6) for seed in range(4)]
    publish(broker, 0, [Played(f"session-{i}@{i}", f"rig-{i}", sources[i]) for i in range(3)])
    publish(broker, 1, [Played("session-3@3", "rig-3", sources[3])])
    return consume(broker, root)


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "root"))


# ---- reports -------------------------------------------------------------------------------------------------


def test_the_worst_finding_is_the_verdict() -> None:
    ok, bad = Finding("a", Verdict.PASS, ""), Finding("b", Verdict.WARN, "")
    assert Report("p", "shard", (ok,)).verdict is Verdict.PASS
    assert Report("p", "shard", (ok, bad, ok)).verdict is Verdict.WARN
    assert worst([Verdict.WARN, Verdict.FAIL, Verdict.PASS]) is Verdict.FAIL
    assert worst([]) is Verdict.PASS


def test_many_problems_are_counted_and_the_first_ones_named() -> None:
    finding = judged("rows", [f"row {i}" for i in range(9)], "good")
    assert finding.detail == "row 0; row 1; row 2; row 3; row 4; and 4 more"
    assert judged("rows", [], "good") == Finding("rows", Verdict.PASS, "good")


def test_the_json_has_every_finding_and_figure() -> None:
    one = Report("p", "session", (Finding("a", Verdict.WARN, "odd"),), {"frames": 3})
    assert report.as_json([one]) == {
        "format_version": 1,
        "verdict": "WARN",
        "reports": [
            {
                "path": "p",
                "kind": "session",
                "verdict": "WARN",
                "findings": [{"check": "a", "verdict": "WARN", "detail": "odd"}],
                "figures": {"frames": 3},
            }
        ],
    }


# ---- shards --------------------------------------------------------------------------------------------------


def test_whole_shards_pass(root: Path) -> None:
    reports = check(root, deep=True)
    assert [(one.kind, one.verdict) for one in reports] == [("shard", Verdict.PASS)] * 2, reports
    figures = reports[0].figures
    assert (figures["episodes"], figures["frames"], figures["committed_episodes"], figures["fps"]) == (3, 42, 3, 30)


def shard_file(shard: Path, kind: Any, episode: int = 1) -> Path:
    log = CommitLog(shard)
    last = log.last()
    assert last is not None
    numbers = [entry.n for entry in reversed(list(log.episodes_back(last)))]
    return shard / layout.final_path(kind, numbers[episode])


def _edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _edit_table(path: Path, column: str, change: Callable[[list[Any]], list[Any]]) -> None:
    table = pq.read_table(path)
    at = table.schema.get_field_index(column)
    values = pa.array(change(table.column(column).to_pylist()), table.schema.field(column).type)
    pq.write_table(table.set_column(at, table.schema.field(column), values), path)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)


def _last_episode(shard: Path) -> Path:
    log = CommitLog(shard)
    last = log.last()
    assert last is not None
    return layout.commit_path(next(log.episodes_back(last)).n)


EPISODES = Path("meta/episodes/chunk-000/file-000.parquet")
SHARD_FAULTS: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "no info": (lambda shard: (shard / layout.INFO).unlink(), {"metadata", "projection"}),
    "info is cut": (lambda shard: (shard / layout.INFO).write_text("{"), {"metadata", "projection"}),
    "another count": (
        lambda shard: _edit_json(shard / layout.INFO, lambda info: info.update(total_frames=41)),
        {"metadata", "projection"},
    ),
    "a float rate": (
        lambda shard: _edit_json(shard / layout.INFO, lambda info: info.update(fps=30.0)),
        {"metadata"},
    ),
    "no tasks": (lambda shard: (shard / layout.TASKS).unlink(), {"metadata"}),
    "a figure less": (
        lambda shard: _edit_json(shard / layout.STATS, lambda stats: stats["action"].pop("q50")),
        {"statistics", "projection"},
    ),
    "no statistics of the camera": (
        lambda shard: _edit_json(shard / layout.STATS, lambda stats: stats.pop(layout.CAMERA)),
        {"statistics", "projection"},
    ),
    "episodes are torn": (lambda shard: (shard / EPISODES).write_bytes(b"PAR1"), {"metadata", "projection"}),
    "another length": (
        lambda shard: _edit_table(shard / EPISODES, "length", lambda all_: [all_[0] - 1, *all_[1:]]),
        {"metadata", "rows", "packets", "projection"},
    ),
    "another place in the video": (
        lambda shard: _edit_table(
            shard / EPISODES, f"videos/{layout.CAMERA}/to_timestamp", lambda all_: [all_[0] + 1, *all_[1:]]
        ),
        {"packets", "projection"},
    ),
    "a damaged video": (lambda shard: _flip(shard_file(shard, "video")), {"checksums"}),
    "a video is gone": (lambda shard: shard_file(shard, "video").unlink(), {"checksums", "packets"}),
    "rows are torn": (
        lambda shard: shard_file(shard, "data").write_bytes(shard_file(shard, "data").read_bytes()[:-9]),
        {"checksums", "rows"},
    ),
    "other timestamps": (
        lambda shard: _edit_table(shard_file(shard, "data"), "timestamp", lambda all_: [t + 0.001 for t in all_]),
        {"checksums", "rows"},
    ),
    "gamepad states are damaged": (lambda shard: _flip(shard_file(shard, "gamepad")), {"checksums"}),
    "a file of another tool": (
        lambda shard: shutil.copy(shard_file(shard, "data"), shard / "data/chunk-000/file-900.parquet"),
        {"strangers"},
    ),
    "a commit of another version": (
        lambda shard: _edit_json(shard / _last_episode(shard), lambda entry: entry["episode"]["columns"].pop("rig")),
        {"projection"},
    ),
    "a commit is missing": (lambda shard: (shard / "commits/1.json").unlink(), {"log"}),
    "a newer format": (
        lambda shard: _edit_json(shard / "commits/2.json", lambda entry: entry.update(format_version=99)),
        {"log"},
    ),
}


@pytest.mark.parametrize("fault", SHARD_FAULTS)
def test_a_broken_shard_is_named(root: Path, fault: str) -> None:
    shard = root / shard_folder(0)
    breaking, expected = SHARD_FAULTS[fault]
    breaking(shard)
    found = findings(shard)
    assert {name for name, one in found.items() if one.verdict is not Verdict.PASS} == expected
    assert all(found[name].verdict is Verdict.FAIL for name in expected)


def test_what_is_missing_behind_the_last_row_is_no_fault(tmp_path: Path) -> None:
    """A B-frame was lost: the episode ends before it, and has the picture behind it that its last rows need."""
    source = encode(moving_pictures(14), gop=6)
    broker = FakeBroker(1)
    publish(broker, 0, [Played("session-0@0", "rig-0", source, lost=frozenset({3}))])
    shard = consume(broker, tmp_path / "root") / shard_folder(0)
    first = read_episodes(shard)[0]
    assert (first.end_reason, len(first), len(first.packets)) == ("gap", 1, 3)
    assert failing(shard, deep=True) == {}
    write_span(first.video, source, [replace(unit, index=min(1, unit.index)) for unit in source.units[:3]])
    assert "a picture is shown at frame 1, expected" in failing(shard)["packets"]


def test_a_stream_that_contradicts_the_rate_is_a_warning(tmp_path: Path) -> None:
    from dataclasses import replace

    slow = encode(moving_pictures(14), fps=15, gop=6)
    broker = FakeBroker(1)
    said = replace(slow, stream=replace(slow.stream, fps=30))
    publish(broker, 0, [Played("session-0@0", "rig-0", said)])
    root = consume(broker, tmp_path / "root")
    found = findings(root / shard_folder(0))
    assert found["stream timing"].verdict is Verdict.WARN
    assert "15 Hz" in found["stream timing"].detail
    assert [one for name, one in found.items() if one.verdict is not Verdict.PASS] == [found["stream timing"]]


def test_what_waits_to_be_published_is_a_warning_and_repair_publishes_it(root: Path) -> None:
    shard = root / shard_folder(0)
    before = read_episodes(shard)
    last = CommitLog(shard).last()
    assert last is not None
    latest = next(CommitLog(shard).episodes_back(last))
    assert latest.episode is not None
    for file in latest.episode.files:
        kind: Any = file.kind
        (shard / layout.final_path(kind, latest.n)).rename(shard / layout.STAGING / file.name)
    _edit_json(shard / layout.INFO, lambda info: info.update(total_episodes=2, total_frames=28))
    (shard / layout.STATS).write_bytes(json.dumps(_stats_of(shard, 1)).encode())
    assert "published" in failing(shard)
    assert "checksums" not in failing(shard)
    result = CliRunner().invoke(cli, ["check", str(shard), "--repair"])
    assert result.exit_code == 0, result.output
    assert read_episodes(shard) == before


def _stats_of(shard: Path, episode: int) -> Any:
    log = CommitLog(shard)
    last = log.last()
    assert last is not None
    return list(reversed(list(log.episodes_back(last))))[episode].totals.stats


REPAIRABLE = [
    name
    for name, (_, checks) in SHARD_FAULTS.items()
    if not checks & {"checksums", "strangers", "log"} and "version" not in name
]


@pytest.mark.parametrize("fault", REPAIRABLE)
def test_repair_makes_lerobot_s_files_anew(root: Path, made: Path, fault: str) -> None:
    shard = root / shard_folder(0)
    SHARD_FAULTS[fault][0](shard)
    result = CliRunner().invoke(cli, ["check", str(shard), "--repair", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["verdict"] == "PASS"
    original = made / shard_folder(0)
    for name in (layout.TASKS, layout.STATS, EPISODES):
        assert (shard / name).read_bytes() == (original / name).read_bytes(), name
    mended, whole = (json.loads((one / layout.INFO).read_text()) for one in (shard, original))
    assert mended == whole


def test_repair_leaves_its_run_its_settings_and_a_list(root: Path) -> None:
    shard = root / shard_folder(0)
    (shard / layout.INFO).unlink()
    assert CliRunner().invoke(cli, ["check", str(shard), "--repair"]).exit_code == 0
    (path,) = (shard / "runs").glob("*.json")
    told = json.loads(path.read_text())
    assert (told["run"], told["command"], told["settings"]["repair"]) == (path.stem, "check --repair", True)
    assert (told["episodes"], told["frames"], told["not_restored"]) == (3, 42, [])
    claim = CommitLog(shard).read(told["claim"])
    assert claim is not None
    assert told["run"][:8] in claim.writer
    listed = path.with_suffix(".sha256")
    files = [one for one in shard.rglob("*") if one.is_file() and one.parent.name not in ("commits", "runs")]
    assert len(listed.read_text().splitlines()) == len(files)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", listed], cwd=shard, check=True)


def test_repair_rewrites_every_episodes_file(
    root: Path, made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With files of two episodes, of which the first is gone."""
    monkeypatch.setattr(layout, "EPISODES_PER_FILE", 2)
    monkeypatch.setattr("padreel.dataset.commit_log.EPISODES_PER_FILE", 2)
    shard = root / shard_folder(0)
    (shard / EPISODES).unlink()
    assert CliRunner().invoke(cli, ["check", str(shard), "--repair"]).exit_code == 0
    names = sorted(path.name for path in (shard / EPISODES).parent.iterdir())
    assert names == ["file-000.parquet", "file-001.parquet"]
    assert read_episodes(shard) == read_episodes(made / shard_folder(0))


def test_repair_without_any_info_says_what_is_lost(root: Path) -> None:
    shard = root / shard_folder(0)
    shutil.rmtree(root / shard_folder(1))
    (shard / layout.INFO).unlink()
    result = CliRunner().invoke(cli, ["check", str(shard), "--repair"])
    assert result.exit_code == 0, result.output
    assert "action layout, profile name and settings are lost" in result.stderr


def test_repair_does_not_hide_a_damaged_episode(root: Path) -> None:
    shard = root / shard_folder(0)
    _flip(shard_file(shard, "video", 2))
    result = CliRunner().invoke(cli, ["check", str(shard), "--repair"])
    assert result.exit_code == 1
    assert "sha256" in result.output


# ---- the command ---------------------------------------------------------------------------------------------


def test_exit_codes_say_the_verdict(root: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    assert run(cli, ["check", str(root)]).exit_code == 0
    _flip(shard_file(root / shard_folder(0), "gamepad"))
    failed = run(cli, ["check", str(root)])
    assert failed.exit_code == 4
    assert failed.output.splitlines()[-1] == "FAIL"
    odd = write_folder(tmp_path / "odd", frames=20, events=10)
    write_actions(odd / PADS, [event(START_NS)])
    assert run(cli, ["check", str(odd)]).exit_code == 3
    nothing = run(cli, ["check", str(tmp_path / "nowhere")])
    assert nothing.exit_code == 1
    assert "nowhere" in nothing.output


def test_json_is_one_object(root: Path) -> None:
    result = CliRunner().invoke(cli, ["check", str(root), "--json"])
    content = json.loads(result.stdout)
    assert content["verdict"] == "PASS"
    assert [Path(one["path"]).name for one in content["reports"]] == [shard_folder(0), shard_folder(1)]


def test_checking_changes_nothing(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    check(root, deep=True)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
