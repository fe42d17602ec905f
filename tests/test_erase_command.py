"""`padreel erase` on real shards: LeRobot reads what is left, and nothing of the session is anywhere below the root."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from padreel.__main__ import cli
from padreel.core.erase import is_erased
from padreel.dataset import files
from padreel.dataset.commit_log import CommitLog
from padreel.dataset.layout import shard_folder
from padreel.errors import DatasetError
from padreel.exports.augment.bundle import make_bundle
from padreel.exports.augment.settings import AugmentBundleSettings
from padreel.exports.export import export
from padreel.exports.settings import ExportSettings
from padreel.options import load
from padreel.training.check.check import check
from padreel.training.check.report import Verdict
from padreel.training.erase.command import erase, run_erase
from padreel.training.merge.merge import merge
from padreel.training.settings import EraseSettings, MergeSettings, ShowSettings
from padreel.training.show.show import show
from tests.dataset_reading import read_episodes, read_info
from tests.erase_world import held_of as held
from tests.fakes import FakeBroker
from tests.shard_world import snapshot
from tests.training_world import (
    Played,
    check_against_sources,
    consume,
    failing,
    messages,
    publish,
)
from tests.video_source import encode, moving_pictures

SESSIONS = [
    Played(
        f"session-{i}@{i + 1}",
        f"rig-{i % 2}",
        encode(moving_pictures(12 + i, seed=i), gop=6, b_frames=i % 3),
        pad=((0, 0.5 + i / 64, (0,)), (7, -0.25 - i / 64, ()), (9, 1.0 - i / 64, (1,))),
    )
    for i in range(5)
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    broker = FakeBroker(2)
    publish(broker, 0, SESSIONS[:4])
    publish(broker, 1, SESSIONS[4:])
    return consume(broker, tmp_path_factory.mktemp("made") / "root")


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "root"))


def settings(**given: Any) -> EraseSettings:
    return load(EraseSettings, {"session": "session-1", **given})


def merged(root: Path, output: Path, **more: Any) -> Any:
    return merge([root], load(MergeSettings, {"output": output, **more}), lambda step, done, total: None)


def command(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["erase", *arguments])


def order(shard: Path) -> list[str]:
    return [one.key for one in read_episodes(shard)]


@pytest.mark.parametrize("number", range(4))
def test_lerobot_reads_the_others_pixel_for_pixel(root: Path, lerobot: ModuleType, number: int) -> None:
    shard = root / shard_folder(0)
    gone = SESSIONS[number]
    before = order(shard)
    assert held(root, gone)
    columns = {name.name: pq.read_schema(name) for name in (shard / "data").rglob("*.parquet")}
    found = erase([root], settings(session=gone.key, yes=True))
    assert held(root, gone) == []
    assert [one["sessions"][0]["key"] for one in found["shards"]] == [gone.key]
    left = [key for key in before if key != gone.key]
    assert order(shard) == left
    by_key = {one.key: one for one in SESSIONS}
    check_against_sources(lerobot, shard, [(by_key[key], 0, len(by_key[key].source.units)) for key in left])
    for name in (shard / "data").rglob("*.parquet"):
        assert pq.read_schema(name).equals(columns[name.name], check_metadata=True)
    assert failing(shard, deep=True) == {}
    assert all(held(root, one) for one in SESSIONS if one is not gone)


@pytest.mark.parametrize("gone", [0, 2])
def test_lerobot_loads_it_at_any_moment(
    root: Path, lerobot: ModuleType, gone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first episode is taken out there is none before it: then, and only then, there is nothing to load."""
    shard, before = root / shard_folder(0), order(root / shard_folder(0))
    by_key = {one.key: one for one in SESSIONS}
    left = [key for i, key in enumerate(before) if i != gone]
    loaded: list[int] = []

    def look(point: str, path: Path) -> None:
        if not point.startswith("after") or point in ("after fsync", "after write", "after unlink"):
            return
        count = read_info(shard)["total_episodes"]
        shown = before if count == len(before) else left[:count]
        loaded.append(count)
        if shown:
            check_against_sources(lerobot, shard, [(by_key[key], 0, len(by_key[key].source.units)) for key in shown])

    monkeypatch.setattr(files, "probe", look)
    erase([root], settings(session=before[gone], yes=True))
    assert list(dict.fromkeys(loaded)) == [len(before), gone, len(left)]
    assert loaded.count(gone) > 10


def test_renderings_of_it_go_and_of_what_has_moved(root: Path, tmp_path: Path) -> None:
    shard = root / shard_folder(0)
    keys = order(shard)
    show(shard, load(ShowSettings, {"all_episodes": True, "picture_format": "png"}), lambda step, done, total: None)
    other = {"all_episodes": True, "picture_format": "png", "output_dir": tmp_path / "sets" / "looked-at"}
    show(root, load(ShowSettings, other), lambda step, done, total: None)
    (shard / "vis" / "episode-000099.png").write_bytes(b"begun")  # by a process that was killed then
    gone = settings(session=keys[1], merged=str(tmp_path / "sets"))
    elsewhere = tmp_path / "sets" / "looked-at" / shard_folder(0)
    name = "episode-000001.png"
    planned = erase([root], gone)["renderings"]
    assert planned == [{"path": str(path), "names": [name]} for path in (shard / "vis", elsewhere)]
    assert (shard / "vis" / name).exists()
    erase([root], gone.model_copy(update={"yes": True}))
    assert {one.name for one in (shard / "vis").glob("*.png")} == {"episode-000000.png"}
    assert keys[1] not in (shard / "vis" / "show.json").read_text()
    assert not (elsewhere / name).exists()
    assert len(list(elsewhere.glob("*.png"))) == 3
    assert failing(shard) == {}
    merged(root, tmp_path / "out")
    assert {one.name for one in (tmp_path / "out" / "vis").glob("*.png")} == {"episode-000000.png"}
    assert erase([root], gone)["outcome"] == "nothing left"


def test_it_shows_what_it_would_do_and_does_it_once(root: Path, tmp_path: Path) -> None:
    merged(root, tmp_path / "sets" / "all")
    before = snapshot(root)
    shown = command(str(root), "--session", "session-1", "--merged", str(tmp_path / "sets"))
    assert shown.exit_code == 0, shown.output
    assert "would erase session-1@2 of rig rig-1" in shown.output
    assert "nothing was changed" in shown.output
    assert f"to be made anew: {tmp_path / 'sets' / 'all'}" in shown.output
    assert "padreel.frames, partition 0" in shown.output
    assert "dead letters were not looked for" in shown.output
    assert snapshot(root) == before

    done = command(str(root), "--session", "session-1", "--merged", str(tmp_path / "sets"), "--yes", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output[done.output.index("{\n") :])
    assert found["outcome"] == "erased"
    assert found["merged"][0]["sessions"] == ["session-1@2"]
    assert found["shards"][0]["other_links"] == 2  # the merged set's video and gamepad states
    shard = root / shard_folder(0)
    report = json.loads((shard / "runs" / f"{found['run']}.json").read_bytes())
    assert (report["command"], report["commit"]) == ("erase", found["shards"][0]["commit"])
    assert report["settings"]["session"] == ["session-1"]
    assert report["sessions"] == found["shards"][0]["sessions"]
    listed = f"runs/{found['run']}.sha256"
    assert subprocess.run(["sha256sum", "--check", "--quiet", listed], cwd=shard, check=False).returncode == 0
    assert len((shard / listed).read_text().splitlines()) > 9

    before = snapshot(root)
    again = command(str(root), "--session", "session-1", "--merged", str(tmp_path / "sets"), "--yes")
    assert again.exit_code == 0, again.output
    assert "nothing is left to erase" in again.output
    assert "to be made anew" in again.output  # it still holds it
    assert snapshot(root) == before


def test_a_report_that_a_crash_took_is_written_by_the_next(root: Path) -> None:
    found = erase([root], settings(yes=True))
    report = root / shard_folder(0) / "runs" / f"{found['run']}.json"
    content = report.read_bytes()
    shutil.rmtree(report.parent)
    assert erase([root], settings(yes=True))["outcome"] == "nothing left"
    assert report.read_bytes() == content


def test_a_rig_of_several_shards(root: Path) -> None:
    found = erase([root], settings(session=None, rig="rig-0", yes=True))
    keys = {session["key"] for shard in found["shards"] for session in shard["sessions"]}
    assert keys == {"session-0@1", "session-2@3", "session-4@5"}
    assert len(found["shards"]) == 2
    assert order(root / shard_folder(0)) == ["session-1@2", "session-3@4"]
    assert not any(held(root, SESSIONS[i]) for i in (0, 2, 4))
    (report,) = check(root / shard_folder(1))
    assert report.verdict is Verdict.WARN  # no episode is left


def test_what_reads_kafka_again_does_not_bring_it_back(made: Path, tmp_path: Path) -> None:
    broker = FakeBroker(1)
    publish(broker, 0, SESSIONS[:2])
    root = consume(broker, tmp_path / "root")
    erase([root], settings(yes=True))
    publish(broker, 0, [SESSIONS[1], SESSIONS[2]])  # a publisher sends it again
    consume(broker, root)
    shard = root / shard_folder(0)
    assert order(shard) == ["session-0@1", "session-2@3"]
    assert held(root, SESSIONS[1]) == []
    last = CommitLog(shard).last()
    assert last is not None
    assert is_erased(last.state, "session-1@2")


def test_a_session_that_is_being_recorded_is_refused_unless_it_is_closed(tmp_path: Path) -> None:
    broker = FakeBroker(1)
    publish(broker, 0, SESSIONS[:1])
    records = list(messages(SESSIONS[1]))
    begun = [*records[:11], records[15]]  # a gap before the last keyframe: its first episode is whole
    for at, (topic, value) in enumerate(begun):
        broker.produce((topic, 0), SESSIONS[1].key.encode(), value, 1_700_000_100_000 + at)
    root = consume(broker, tmp_path / "root")
    assert any(name.split("/")[1] == "commits" for name in held(root, SESSIONS[1]))  # its pad, by value
    with pytest.raises(DatasetError, match="session-1@2: still being recorded"):
        erase([root], settings(yes=True))
    with pytest.raises(DatasetError, match="--close"):
        erase([root], settings())
    erase([root], settings(yes=True, close=True))
    assert held(root, SESSIONS[1]) == []
    for at, (topic, value) in enumerate(records[16:]):
        broker.produce((topic, 0), SESSIONS[1].key.encode(), value, 1_700_000_200_000 + at)
    publish(broker, 0, SESSIONS[2:3])
    consume(broker, root)
    shard = root / shard_folder(0)
    assert order(shard) == ["session-0@1", "session-2@3"]
    assert held(root, SESSIONS[1]) == []
    last = CommitLog(shard).last()
    assert last is not None
    counted = sum(last.totals.accounted.values())
    assert counted == len(broker.records[next(pair for pair in broker.records if pair[0].value == "frames")])


def test_a_merged_set_with_it_is_refused_by_name(root: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    merged(root, output)
    erase([root], settings(yes=True))
    for more in ({}, {"update": True}):
        with pytest.raises(DatasetError, match="session-1@2, erased in"):
            merged(root, output, **more)
    shutil.rmtree(output)
    assert merged(root, output).manifest.total_episodes == 4
    assert held(tmp_path, SESSIONS[1]) == []


def test_exports_with_it_are_listed(root: Path, tmp_path: Path) -> None:
    merged(root, tmp_path / "sets" / "all")
    exporting = load(ExportSettings, {"output": tmp_path / "sets" / "exported", "format": "v2.1"})
    export(tmp_path / "sets" / "all", exporting, lambda step, done, total: None)
    bundling = {"output": tmp_path / "sets" / "bundle", "variants_per_episode": 1, "base_seed": 1}
    make_bundle(tmp_path / "sets" / "all", load(AugmentBundleSettings, bundling), lambda step, done, total: None)
    found = erase([root], settings(merged=str(tmp_path / "sets")))["merged"]
    made = {Path(one["path"]).name: one["command"] for one in found}
    assert made == {"all": "merge", "exported": "export", "bundle": "augment bundle"}
    assert {one["sessions"] for one in found} == {("session-1@2",)}
    (tmp_path / "sets" / "exported" / "export_run.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"export_run\.json: does not say which"):
        erase([root], settings(merged=str(tmp_path / "sets")))


def test_an_update_goes_on_where_what_it_has_not_was_erased(tmp_path: Path) -> None:
    broker = FakeBroker(1)
    publish(broker, 0, SESSIONS[:3])
    root = consume(broker, tmp_path / "root")
    output = tmp_path / "out"
    flags = {"rig": "rig-0"}
    merged(root, output, **flags)  # sees session-1, does not take it
    erase([root], settings(yes=True))
    publish(broker, 0, SESSIONS[4:])
    consume(broker, root)
    assert merged(root, output, update=True, **flags).added == 1
    assert {one.key for one in read_episodes(output)} == {"session-0@1", "session-2@3", "session-4@5"}
    assert failing(output) == {}


def test_what_is_wrong_is_said(root: Path, tmp_path: Path) -> None:
    nothing = command(str(root))
    assert nothing.exit_code == 2
    assert "--session or --rig" in nothing.output
    unknown = command(str(root), "--session", "nobody", "--yes")
    assert unknown.exit_code == 0
    assert "nothing is left to erase" in unknown.output
    no_shard = command(str(tmp_path / "nowhere"), "--session", "x")
    assert no_shard.exit_code == 1
    assert "is no folder" in no_shard.output
    with pytest.raises(DatasetError, match="sets: is no folder"):
        run_erase([root], settings(merged=str(tmp_path / "sets"), yes=True), print)
    assert order(root / shard_folder(0)).count("session-1@2") == 1  # nothing was begun
