"""What a consumer holds back: it says so, merge leaves it out, and takes it after a release, once."""

from __future__ import annotations

import asyncio
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from padreel.__main__ import cli
from padreel.dataset import layout
from padreel.dataset.commit_log import CommitLog
from padreel.dataset.layout import shard_folder
from padreel.errors import DatasetError
from padreel.options import load
from padreel.training.check.check import check
from padreel.training.check.report import Verdict
from padreel.training.manifest import Manifest, read_manifest
from padreel.training.merge.merge import Merged, merge
from padreel.training.quarantine import list_held, release_held
from padreel.training.settings import MergeSettings
from tests.consumer_on_disk import Member
from tests.consumer_world import be_quick, play, until
from tests.dataset_reading import read_episodes, read_info
from tests.fakes import FakeBroker
from tests.shard_world import snapshot
from tests.training_world import Played, consume, episodes_of, publish
from tests.video_source import encode, moving_pictures
from tests.video_world import check_log

SOURCES = [encode(moving_pictures(14 + seed, seed=seed), gop=6, b_frames=seed % 4) for seed in range(5)]
# A pad that never says anything costs 0.15 for its age and 0.15 for activity.
SESSIONS = [
    Played(f"session-{i}@{i}", f"rig-{i % 2}", source, pad=() if i % 2 else ((0, 0.5, (0,)), (7, -0.25, ())))
    for i, source in enumerate(SOURCES)
]
THRESHOLD = 0.7


def made_root(root: Path) -> Path:
    broker = FakeBroker(2)
    publish(broker, 0, SESSIONS[:3])
    publish(broker, 1, SESSIONS[3:4])
    return consume(broker, root, min_quality_score=THRESHOLD)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_root(tmp_path_factory.mktemp("made") / "root")


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "root"))


def run(root: Path, output: Path, **more: Any) -> Merged:
    return merge([root], load(MergeSettings, {"output": output, **more}), lambda step, done, total: None)


def names(output: Path) -> list[str]:
    return [one.session.partition("@")[0] for one in read_episodes(output)]


def in_order(root: Path, *wanted: int) -> list[str]:
    """Names of sessions in the order of their commits, shard by shard."""
    names = [one.session.partition("@")[0] for one in episodes_of(root)]
    return [name for name in names if name in {f"session-{i}" for i in wanted}]


def manifest_of(output: Path) -> Manifest:
    found = read_manifest(output)
    assert found is not None
    return found


def rejected(output: Path) -> list[dict[str, int]]:
    return [one.rejected for one in manifest_of(output).shards]


def passes(output: Path) -> bool:
    (report,) = check(output)
    return {one.verdict for one in report.findings} == {Verdict.PASS}


# ---- the consumer


def test_a_consumer_says_what_it_holds_back(tmp_path: Path) -> None:
    broker = FakeBroker(1)
    publish(broker, 0, SESSIONS[:2])

    async def record() -> Member:
        with ThreadPoolExecutor(2) as threads:
            member = Member(broker, tmp_path, threads, until="end", min_quality_score=THRESHOLD)
            async with asyncio.timeout(60):
                await member.consumer.run()
        return member

    with capture_logs() as lines:
        member = asyncio.run(record())
    assert member.episodes() == 2
    by_component = {
        name: member.value("padreel_episodes_quarantined_total", component=name)
        for name in ("jitter", "gaps", "forced", "pad_age", "activity", "duration")
    }
    assert by_component == {name: float(name == "pad_age") for name in by_component}
    (line,) = [one for one in lines if one["event"].startswith("episode quarantined")]
    assert (line["session"], line["threshold"], line["pad_age"], line["log_level"]) == (
        "session-1",
        0.7,
        0.0,
        "warning",
    )
    (held,) = list_held([tmp_path])
    assert (held.session, held.weakest, round(held.score, 3)) == ("session-1@1", "pad_age", line["quality"])


def test_a_release_while_a_consumer_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It loses the shard, takes it again, and what it was recording is there once."""
    be_quick(monkeypatch)
    broker, root = FakeBroker(1), tmp_path / "root"
    publish(broker, 0, [])
    consume(broker, root, min_quality_score=THRESHOLD)  # the root, and a shard without an episode
    shard = root / shard_folder(0)

    async def scene(threads: ThreadPoolExecutor) -> None:
        member = Member(broker, root, threads, min_quality_score=THRESHOLD)
        running = asyncio.create_task(member.consumer.run())
        publish(broker, 0, [SESSIONS[1]])
        await until(lambda: member.episodes() == 1)
        released = await asyncio.to_thread(release_held, [root], ["session-1"], [])
        assert [one.episode for one in released] == [0]
        publish(broker, 0, [SESSIONS[3], SESSIONS[0]])
        await until(lambda: member.episodes() == 3)
        assert member.value("padreel_fences_total") == 1
        member.consumer.stop()
        await running

    play(scene)
    check_log(shard)
    assert sorted(names(shard)) == ["session-0", "session-1", "session-3"]
    assert [one.session for one in list_held([root])] == ["session-3@3"]
    assert passes(shard)


def test_the_score_of_the_commit_is_merge_s(root: Path, tmp_path: Path) -> None:
    run(root, tmp_path / "out", include_quarantined=True)
    committed = {}
    for shard in sorted(root.glob("partition-*")):
        log = CommitLog(shard)
        last = log.last()
        assert last is not None
        for entry in log.episodes_back(last):
            assert entry.episode is not None
            assert entry.episode.quality is not None
            committed[entry.episode.columns["session"]] = entry.episode.quality.score
    assert committed == {one.session: one.quality for one in manifest_of(tmp_path / "out").episodes}
    assert sorted(score < THRESHOLD for score in committed.values()) == [False, False, True, True]


# ---- merge


def test_what_is_in_quarantine_does_not_enter_and_that_is_said(root: Path, tmp_path: Path) -> None:
    assert len(episodes_of(root)) == 4
    done = CliRunner().invoke(cli, ["merge", str(root), "--output", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert done.output.count("1 quarantined") == 2
    assert names(tmp_path / "out") == in_order(root, 0, 2)
    assert rejected(tmp_path / "out") == [{"quarantined": 1}, {"quarantined": 1}]
    assert passes(tmp_path / "out")
    gate = {"threshold": 0.7, "range": [0.5, 0.95], "origin": "argument"}
    assert [one.quality_gate for one in manifest_of(tmp_path / "out").shards] == [gate, gate]
    game = read_info(tmp_path / "out")["extensions"]["game_converter"]
    assert game["quality_gate"] == gate
    assert (game["quarantined_episode_count"], game["quarantined_episodes"]) == (0, [])


def test_asked_for_it_enters_and_is_marked(root: Path, tmp_path: Path) -> None:
    run(root, tmp_path / "out", include_quarantined=True)
    assert names(tmp_path / "out") == in_order(root, 0, 1, 2, 3)
    marked = {one.index: one.session for one in manifest_of(tmp_path / "out").episodes if one.quarantined}
    assert sorted(marked.values()) == ["session-1@1", "session-3@3"]
    game = read_info(tmp_path / "out")["extensions"]["game_converter"]
    assert (game["quarantined_episode_count"], game["quarantined_episodes"]) == (2, sorted(marked))
    release_held([root], ["session-1", "session-3"], [])
    assert run(root, tmp_path / "out", include_quarantined=True, update=True).outcome == "unchanged"


def test_with_nothing_else_there_is_nothing_to_merge(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="none of 1 episodes is let in: 1 by quarantined"):
        run(root / shard_folder(1), tmp_path / "out")


def test_an_update_takes_what_was_released_since(root: Path, tmp_path: Path) -> None:
    run(root, tmp_path / "out")
    release_held([root], ["session-1"], [])
    with pytest.raises(DatasetError, match="use --update to add what is new"):
        run(root, tmp_path / "out")
    before = snapshot(root)
    found = run(root, tmp_path / "out", update=True)
    assert (found.outcome, found.added) == ("updated", 1)
    assert snapshot(root) == before
    assert names(tmp_path / "out") == [*in_order(root, 0, 2), "session-1"]
    assert rejected(tmp_path / "out") == [{}, {"quarantined": 1}]
    assert passes(tmp_path / "out")
    assert run(root, tmp_path / "out", update=True).outcome == "unchanged"
    release_held([root], ["session-3"], [])
    assert run(root, tmp_path / "out", update=True).added == 1
    assert run(root, tmp_path / "out", update=True).outcome == "unchanged"
    assert rejected(tmp_path / "out") == [{}, {}]
    fresh = run(root, tmp_path / "fresh")
    assert (fresh.added, names(tmp_path / "fresh")) == (4, in_order(root, 0, 1, 2, 3))


def test_released_and_recorded_meanwhile(tmp_path: Path) -> None:
    """One update takes both, and what was released before the first merge only once."""
    root, broker = tmp_path / "root", FakeBroker(1)
    publish(broker, 0, SESSIONS[:2])
    consume(broker, root, min_quality_score=THRESHOLD)
    release_held([root], ["session-1"], [])
    assert run(root, tmp_path / "out").added == 2
    publish(broker, 0, [SESSIONS[3]])
    consume(broker, root, min_quality_score=THRESHOLD)
    assert run(root, tmp_path / "out", update=True).outcome == "unchanged"
    release_held([root], ["session-3"], [])
    publish(broker, 0, [SESSIONS[4], replace(SESSIONS[1], key="session-9@9")])
    consume(broker, root, min_quality_score=THRESHOLD)
    assert run(root, tmp_path / "out", update=True).added == 2
    assert names(tmp_path / "out") == in_order(root, 0, 1, 3, 4)
    assert rejected(tmp_path / "out") == [{"quarantined": 1}]


def test_other_filters_judge_what_was_released(root: Path, tmp_path: Path) -> None:
    run(root, tmp_path / "out", rig="rig-0")
    assert rejected(tmp_path / "out") == [{"quarantined": 1}, {"quarantined": 1}]
    release_held([root], ["session-1"], [])
    assert run(root, tmp_path / "out", rig="rig-0", update=True).outcome == "unchanged"
    assert names(tmp_path / "out") == in_order(root, 0, 2)


def test_a_shard_recorded_with_another_threshold(root: Path, tmp_path: Path) -> None:
    """Each commit has the threshold of its time; what the shards do not agree on the merged info.json leaves out."""
    info = root / shard_folder(1) / layout.INFO
    content = json.loads(info.read_text())
    content["extensions"]["game_converter"]["quality_gate"]["threshold"] = 0.9
    info.write_text(json.dumps(content))
    run(root, tmp_path / "out")
    assert read_info(tmp_path / "out")["extensions"]["game_converter"]["quality_gate"] is None
    assert [one.quality_gate["threshold"] for one in manifest_of(tmp_path / "out").shards] == [0.7, 0.9]
