"""`padreel bundle validate`: what is accepted, and that whatever is missing is named with the rule that wants it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from padreel.__main__ import cli
from padreel.exports.bundle.rules import RULES, BundleReport, validate
from tests.bundle_world import INDEX, INFO, RECORDING, SESSIONS, names_in, parsed, played, write
from tests.shard_world import snapshot


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bundle`, of two shards of two rigs."""
    folder = tmp_path_factory.mktemp("made")
    write(played(folder / "root", [SESSIONS[:2], SESSIONS[2:]]), folder / "out", bundle_job="monday")
    (folder / "out" / "padreel_monday").rename(folder / "bundle")
    return folder


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "bundle", tmp_path / "bundle"))


def problems(report: BundleReport) -> list[tuple[str, str]]:
    return [(one.rule, one.file) for one in report.problems]


def test_an_exported_bundle_is_accepted(made: Path) -> None:
    report = validate(made / "bundle")
    assert (report.kind, report.episodes, report.problems) == ("index", 3, ())


def test_recordings_alone_are_accepted(bundle: Path) -> None:
    shutil.rmtree(bundle / "lerobot")
    (bundle / "checksums.json").unlink()
    report = validate(bundle)
    assert (report.kind, report.episodes, report.problems) == ("recordings", 3, ())


@pytest.mark.parametrize("folder", [".", "data/chunk-000"])
def test_the_older_form_is_accepted_and_each_missing_file_named(bundle: Path, folder: str) -> None:
    shutil.rmtree(bundle / "lerobot/meta")
    shutil.rmtree(bundle / "lerobot/videos")
    for name in ("checksums.json", "lerobot/episodes.jsonl"):
        (bundle / name).unlink()
    (bundle / "lerobot/dataset_info.json").write_text('{"format": "lerobot", "version": "2.0", "episodes": 3}')
    (bundle / "lerobot" / folder).mkdir(parents=True, exist_ok=True)
    for i in range(1, 4):
        (bundle / "lerobot" / folder / f"episode_{i:04d}.parquet").write_bytes(b"PAR1")
    report = validate(bundle)
    assert (report.kind, report.problems) == ("legacy", ())
    (bundle / "lerobot" / folder / "episode_0002.parquet").unlink()
    assert problems(validate(bundle)) == [("legacy", "lerobot/episode_0002.parquet")]
    (bundle / "lerobot/dataset_info.json").unlink()
    assert ("dataset-info", "lerobot/dataset_info.json") in problems(validate(bundle))


@given(data=st.data())
def test_whatever_is_missing_is_named_with_a_rule(made: Path, data: st.DataObject) -> None:
    names = names_in(made / "bundle")
    gone = data.draw(st.sets(st.sampled_from(names), max_size=len(names)))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(made / "bundle", Path(folder) / "bundle"))
        for name in gone:
            (copy / name).unlink()
        report = validate(copy)
    missing = {one.file: one.rule for one in report.problems if one.said == "missing"}
    assert {*missing.values()} <= {*RULES}
    assert {*missing} == wanted(names, gone) & gone
    assert bool(report.problems) == bool(gone)


def wanted(names: list[str], gone: set[str]) -> set[str]:
    """What a rule wants of a bundle without `gone`: all, while there is a list of all."""
    if "checksums.json" not in gone:
        return {*names}
    found = {INDEX, INFO} | (set() if INFO in gone else {"checksums.json"})
    if INDEX not in gone:
        found |= {name for name in names if name.endswith(("mp4", "jsonl")) or name.startswith("recordings/")}
    recordings = {name for name in names if name.startswith("recordings/")}
    return found | ({"recordings/episode_0001.json"} if recordings <= gone else set())


def edit(name: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    def apply(bundle: Path) -> None:
        content = parsed(bundle / name)
        change(content)
        (bundle / name).write_text(json.dumps(content))

    return apply


def set_to(*path: Any) -> Callable[[Any], None]:
    *steps, last, value = path

    def change(content: Any) -> None:
        for step in steps:
            content = content[step]
        content[last] = value

    return change


@pytest.mark.parametrize(
    ("spoil", "rule", "said"),
    [
        (edit(RECORDING, set_to("format_version", 2)), "version", "format_version 2, expected 1"),
        (edit(INDEX, set_to("format_version", 9)), "version", "format_version 9, expected 1"),
        (edit("checksums.json", set_to("format_version", 0)), "version", "format_version 0, expected 1"),
        (edit(RECORDING, set_to("frame_count", 3)), "recording", "16 frames, frame_count says 3"),
        (edit(RECORDING, lambda content: content.pop("task_name")), "recording", "task_name: found None, expected str"),
        (lambda bundle: (bundle / RECORDING).write_text("[]"), "recording", "found list, expected an object"),
        (lambda bundle: (bundle / RECORDING).write_text("{"), "recording", "no JSON"),
        (lambda bundle: (bundle / INFO).write_text('"text"'), "dataset-info", "found a text"),
        (edit(INDEX, set_to("episodes", 3)), "index", "episodes: found 3, expected a list of objects"),
        (edit(INDEX, set_to("episodes", 0, "file", "../../x.mp4")), "indexed", "expected a path inside the bundle"),
        (edit(INDEX, set_to("episodes", 0, "file", "videos/x.mp4")), "indexed", "missing"),
        (edit(INDEX, set_to("total_episodes", 4)), "counts", "total_episodes 4, the index has 3"),
        (edit(INFO, set_to("total_frames", 4)), "counts", "total_frames 4, the index has 48"),
        (edit(INDEX, lambda content: content["episodes"].pop()), "episodes", "3 episodes, the index has 2"),
        (lambda bundle: (bundle / "lerobot/episodes.jsonl").write_text("{}\n"), "episodes", "found no list of objects"),
        (lambda bundle: (bundle / "lerobot/more.txt").touch(), "checksums", "is not in the list"),
        (lambda bundle: (bundle / "lerobot/episodes.jsonl").open("a").close(), None, ""),
        (edit(RECORDING, set_to("late", 7)), "checksums", "found sha256"),
        (edit("checksums.json", set_to("files", "../x", "0")), "checksums", "missing"),
        (edit("checksums.json", set_to("files", [])), "checksums", "files: found [], expected an object"),
    ],
)
def test_what_is_not_as_a_rule_wants_it_is_said(bundle: Path, spoil: Any, rule: str | None, said: str) -> None:
    spoil(bundle)
    found = [one for one in validate(bundle).problems if one.rule == rule and said in one.said]
    assert bool(found) == (rule is not None), validate(bundle).problems


def test_the_command(made: Path, bundle: Path) -> None:
    result = CliRunner().invoke(cli, ["bundle", "validate", str(made / "bundle")])
    assert (result.exit_code, result.output) == (0, f"PASS  {made / 'bundle'} (index, 3 recordings)\n")
    before = snapshot(bundle)
    (bundle / RECORDING).unlink()
    result = CliRunner().invoke(cli, ["bundle", "validate", str(bundle.parent)])  # the folder that it lies in
    assert result.exit_code == 4
    assert f"{RECORDING}: missing; wanted by 'indexed': what the index names as recording" in result.output
    result = CliRunner().invoke(cli, ["bundle", "validate", str(bundle), "--json"])
    content = json.loads(result.stdout)
    assert (result.exit_code, content["verdict"], content["bundles"][0]["kind"]) == (4, "FAIL", "index")
    assert {"rule": "indexed", "file": RECORDING, "said": "missing"} in content["bundles"][0]["problems"]
    assert {name: value for name, value in before.items() if name != RECORDING} == snapshot(bundle)
    for path, said in (
        (made / "bundle/lerobot/meta", "expected an episode bundle"),
        (made / "nothing", "is no folder"),
    ):
        result = CliRunner().invoke(cli, ["bundle", "validate", str(path)])
        assert result.exit_code == 1
        assert said in result.output
