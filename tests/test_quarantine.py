"""Quarantine in a shard: what its log, its dataset and its readers say, whatever happens while somebody releases."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from padreel.__main__ import cli
from padreel.core.episodes import EpisodeEvent, EventKind
from padreel.core.gate import EpisodeQuality
from padreel.dataset import files, layout, shard
from padreel.dataset.commit_log import CommitLog, Entry, Kind, decode_entry, encode_entry
from padreel.dataset.entries import claim
from padreel.dataset.lost import commit_lost
from padreel.dataset.quarantine import held_back, release, releases, releasing
from padreel.dataset.root import RootIdentity, open_root
from padreel.dataset.shard import Shard
from padreel.dataset.told import Told
from padreel.errors import CorruptShardError, FencedError, SettingsError
from padreel.model import EpisodeDraft
from padreel.quality_config import quality_gate
from padreel.status import read_status
from padreel.training.check_shard import check_shard
from padreel.training.quarantine import list_held, release_held
from padreel.training.repair import repair
from padreel_shim.coverage import collect, why_kept
from padreel_shim.events import parse_event
from tests.shard_world import (
    SPEC,
    Crash,
    CrashAt,
    MadeEpisode,
    PlainStage,
    episode_effects,
    open_shard,
    progress_effects,
    read_shard,
    snapshot,
)

GATED = replace(SPEC, gate=quality_gate(0.6, "flag"))
BAD = EpisodeQuality(0.4, {"forced": 0.1, "duration": 1.0}, "forced", 0.6, True)
GOOD = EpisodeQuality(0.9, {"forced": 0.9, "duration": 0.9}, "forced", 0.6, False)


class JudgingStage(PlainStage):
    """Episodes whose session has an odd number are bad."""

    def episode(self, draft: EpisodeDraft, **numbers: int) -> MadeEpisode:
        number = int(draft.key.partition("@")[0].rpartition("-")[2])
        return replace(super().episode(draft, **numbers), quality=BAD if number % 2 else GOOD)


@pytest.fixture(autouse=True)
def judging_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tiny files instead of video, and a disk that is always in time."""
    monkeypatch.setattr(shard, "Stage", JudgingStage)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    yield
    files.probe = files._silent


def opened(path: Path, **changes: Any) -> Shard:
    return open_shard(path, dataset=GATED, partition=0, partitions=1, **changes)


def make(root: Path, sessions: Sequence[int] = range(5), name: str = layout.shard_folder(0)) -> Path:
    """A shard with an episode of each session."""
    identity = RootIdentity(
        cluster_id="cluster",
        frames_topic="padreel.frames",
        pads_topic="padreel.gamepad",
        partitions=1,
        group="recorders",
        schema=GATED.schema,
        columns=GATED.columns,
        game_id=GATED.game_id,
        class_ids=GATED.class_ids,
        action_names=GATED.encoder.names,
        key_names=GATED.key_names,
    )
    open_root(root, identity)
    with closing(opened(root / name)) as writer:
        for i in sessions:
            writer.apply(episode_effects(i))
    return root / name


def last_of(path: Path) -> Entry:
    last = CommitLog(path).last()
    assert last is not None
    return last


def held(path: Path) -> list[int]:
    """Indices of the episodes in quarantine, by the log."""
    found = held_back(CommitLog(path), last_of(path))
    return [entry.episode.index for entry in found if entry.episode is not None]


def indices(path: Path, commits: Iterable[int]) -> list[int]:
    found = [entry for n in commits if (entry := CommitLog(path).read(n)) is not None]
    return [entry.episode.index for entry in found if entry.episode is not None]


def said(path: Path) -> tuple[int, list[int]]:
    """What info.json says of them."""
    game = json.loads((path / layout.INFO).read_text())["extensions"]["game_converter"]
    return game["quarantined_episode_count"], game["quarantined_episodes"]


# ---- in the shard


def test_an_episode_in_quarantine_is_in_the_dataset_and_the_log_says_why(tmp_path: Path) -> None:
    path = make(tmp_path)
    assert len(read_shard(path).sessions) == 5
    assert held(path) == [1, 3]
    assert said(path) == (2, [1, 3])
    game = json.loads((path / layout.INFO).read_text())["extensions"]["game_converter"]
    assert game["quality_gate"] == {"threshold": 0.6, "range": [0.5, 0.95], "origin": "flag"}
    entries = list(CommitLog(path).episodes_back(last_of(path)))
    assert [entry.episode.quality for entry in entries if entry.episode] == [GOOD, BAD, GOOD, BAD, GOOD]
    assert {entry.kind for entry in entries} == {Kind.EPISODE}
    report = check_shard(path)
    assert report.figures["quarantined_episodes"] == 2


def test_a_release_is_a_commit_and_touches_no_episode(tmp_path: Path) -> None:
    path = make(tmp_path)
    before, state = snapshot(path), last_of(path).state
    assert [one.episode for one in release_held([tmp_path], ["session-3"], [])] == [3]
    assert held(path) == [1]
    assert said(path) == (1, [1])
    last = last_of(path)
    assert (last.kind, last.state) == (Kind.RELEASED, state)
    assert last.released == 4
    after = snapshot(path)
    changed = {name for name in after if after[name] != before.get(name)}
    projection = {"meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/episodes/chunk-000/file-000.parquet"}
    told = {name for name in changed if name.startswith("runs/")}
    assert changed - told == projection | {f"commits/{last.n - 1}.json", f"commits/{last.n}.json"}
    run = json.loads((path / next(name for name in told if name.endswith(".json"))).read_bytes())
    assert (run["command"], run["settings"], run["released"]) == (
        "quarantine release",
        {"session": ["session-3"], "episode": []},
        [4],
    )
    assert {f"runs/{run['run']}.json", f"runs/{run['run']}.sha256"} == told
    for name in projection - {"meta/info.json"}:
        assert after[name][2] == before[name][2], name
    assert len(read_shard(path).sessions) == 5


def test_recording_goes_on_behind_a_release(tmp_path: Path) -> None:
    path = make(tmp_path, range(3))
    writer = opened(path, writer="consumer")
    release_held([path], [], [1])
    with pytest.raises(FencedError):
        writer.check_tail()
    with closing(opened(path)) as again:
        assert again.state is not None
        assert again.state.frames_next == 3
        again.apply(episode_effects(3) + progress_effects(4) + episode_effects(5))
        assert again.totals.quarantined == (3, 4)
    assert held(path) == [3, 4]
    assert said(path) == (2, [3, 4])
    release_held([path], ["session-3@3", "session-5"], [])
    assert held(path) == []
    assert indices(path, releases(CommitLog(path), last_of(path))) == [4, 3, 1]


@pytest.mark.parametrize("part", range(4))
def test_a_release_that_dies_anywhere_is_done_by_the_next_one(tmp_path: Path, part: int) -> None:
    def count() -> int:
        path = make(tmp_path / "count")
        files.probe = probe = CrashAt()
        release_held([path], [], [1, 3])
        files.probe = files._silent
        return probe.count

    points = count()
    assert points > 60
    seen, fresh = set(), make(tmp_path / "fresh").parent
    for point in range(part, points, 4):
        path = Path(shutil.copytree(fresh, tmp_path / str(point))) / layout.shard_folder(0)
        files.probe = CrashAt(point)
        with pytest.raises(Crash):
            release_held([path], [], [1, 3])
        files.probe = files._silent
        left = held(path)
        seen.add(tuple(left))
        assert len(read_shard(path).sessions) == 5
        with closing(opened(path, writer="consumer")):  # whoever opens it next tells the dataset
            assert said(path) == (len(left), left), point
        if left:
            release_held([path], [], left)
        assert held(path) == []
        assert indices(path, releases(CommitLog(path), last_of(path))) == [3, 1], point
        assert said(path) == (0, [])
        assert [name for name in snapshot(path) if name.startswith("staging")] == []
    assert seen == {(1, 3), (3,), ()}


def test_a_repair_keeps_gate_and_quarantine(tmp_path: Path) -> None:
    path = make(tmp_path)
    release_held([path], [], [1])
    info = json.loads((path / layout.INFO).read_text())
    (path / layout.STATS).unlink()
    assert repair(path, "run", {}) == []
    assert json.loads((path / layout.INFO).read_text()) == info
    (path / layout.INFO).unlink()
    assert len(repair(path, "run", {})) == 1  # the gate is lost with the settings, what was judged is not
    assert said(path) == (1, [3])
    assert held(path) == [3]


def test_of_more_than_250_the_latest_are_listed_and_all_can_be_released(tmp_path: Path) -> None:
    path = make(tmp_path, range(1, 521, 2))  # all bad
    assert said(path)[0] == 260
    assert said(path)[1] == list(range(10, 260))
    assert held(path) == list(range(260))
    release_held([path], [], [2, 255])
    assert said(path) == (258, [one for one in range(10, 260) if one != 255])
    assert held(path) == [one for one in range(260) if one not in (2, 255)]


def test_a_log_of_the_version_before_has_no_quarantine(tmp_path: Path) -> None:
    path = make(tmp_path)
    for file in (path / "commits").iterdir():
        body = json.loads(file.read_bytes())
        del body["released"], body["previous_release"], body["totals"]["quarantined"]
        del body["totals"]["quarantined_count"]
        if body["episode"]:
            del body["episode"]["quality"]
        file.write_text(json.dumps({**body, "format_version": 1}))
    assert held(path) == []
    with closing(opened(path)) as writer:
        writer.apply(episode_effects(5))
    assert held(path) == [5]
    assert said(path) == (1, [5])


@pytest.mark.parametrize(("field", "value"), [("released", 1), ("kind", "released")])
def test_a_release_that_says_nothing_is_no_commit(tmp_path: Path, field: str, value: object) -> None:
    path = make(tmp_path)
    body = json.loads(encode_entry(last := last_of(path)))
    changed = json.dumps({**body, "episode": None, "kind": "progress", field: value}).encode()
    with pytest.raises(CorruptShardError, match="released: must be there for kind released"):
        decode_entry(changed, Path(f"{last.n}.json"))


# ---- any order of things


def commits(draw_from: int) -> st.SearchStrategy[list[tuple[str, int]]]:
    what = st.sampled_from(["good", "bad", "progress", "claim", "lost", "release"])
    return st.lists(st.tuples(what, st.integers(0, draw_from)), max_size=25)


@settings(max_examples=60, deadline=None)
@given(steps=commits(30))
def test_whatever_comes_the_log_knows_what_is_held_back(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """Against a set: episodes, claims, skips and releases in any order."""
    path = make(tmp_path_factory.mktemp("any"), ())
    expected: set[int] = set()
    episodes = 0
    writer = opened(path)
    for at, (what, which) in enumerate(steps):
        if what in ("good", "bad"):
            writer.apply(episode_effects(2 * at + (what == "bad")))
            expected |= {episodes} if what == "bad" else set()
            episodes += 1
        elif what == "progress":
            writer.apply(progress_effects(at))
        elif what == "release":
            wanted = sorted(expected)[which % len(expected)] if expected else -1
            done = release(writer, lambda entry, wanted=wanted: entry.episode.index == wanted)  # type: ignore[misc]
            assert [entry.episode.index for entry in done if entry.episode] == [wanted] * bool(expected)
            expected.discard(wanted)
        else:
            writer.close()
            if what == "lost" and (last := last_of(path)).state is not None:
                commit_lost(path, last.source, "skip", [])
            writer = opened(path)
        assert held(path) == sorted(expected)
        assert writer.totals.quarantined == tuple(sorted(expected))
        assert writer.totals.quarantined_count == len(expected)
        if episodes:
            assert said(path) == (len(expected), sorted(expected))
    writer.close()


def test_a_release_changes_nothing_but_what_it_is_about(tmp_path: Path) -> None:
    path = make(tmp_path)
    last = claim(last_of(path), "somebody", last_of(path).source)
    (first, _) = held_back(CommitLog(path), last)
    made = releasing(last, first)
    assert (made.n, made.claim, made.writer, made.state) == (last.n + 1, last.claim, last.writer, last.state)
    assert made.previous_episode == last.previous_episode
    same = {"quarantined", "quarantined_count"}
    for name in set(made.totals.__dataclass_fields__) - same:
        assert getattr(made.totals, name) == getattr(last.totals, name)
    with pytest.raises(ValueError, match="is no episode"):
        releasing(last, last)


# ---- who hears of it


def tell(root: Path) -> list[EpisodeEvent]:
    log, events = Told(root, 0, "padreel.episodes"), list[EpisodeEvent]()
    while (untold := log.ahead()) is not None:
        events += untold.events
        log.save(untold)
    return events


def test_the_episodes_topic_is_told_of_quarantine_and_release(tmp_path: Path) -> None:
    path = make(tmp_path, range(2))
    good, bad = tell(tmp_path)
    assert (good.kind, good.detail) == (EventKind.COMMITTED, "")
    assert (bad.kind, bad.episode_index, bad.frames, bad.reason) == (EventKind.QUARANTINED, 1, 3, "end")
    assert bad.detail == "quality 0.400 is below 0.6: forced 0.100, duration 1.000"
    release_held([path], [], [1])
    (event,) = tell(tmp_path)
    assert event == replace(bad, kind=EventKind.COMMITTED, detail="", commit=last_of(path).n)


def test_a_rig_may_delete_a_session_whose_episode_is_in_quarantine(tmp_path: Path) -> None:
    """Its files are in the shard, and a release needs nothing of the rig's."""
    make(tmp_path, [1])
    (event,) = tell(tmp_path)
    told = parse_event(event.key.encode(), event.message())
    assert told is not None
    session = collect([told], "recorders")["session-1@1"]
    assert why_kept(session, [0, 1, 2], rejected_too=False) is None
    assert why_kept(session, [0, 1, 2, 3], rejected_too=False) == "frames 3 to 3 are in no episode yet"


def test_status_marks_it(tmp_path: Path) -> None:
    make(tmp_path, range(2))
    committed = read_status(tmp_path, 0.0).committed
    assert [(row.quality, row.quarantined) for row in committed] == [(0.9, False), (0.4, True)]


# ---- the command


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["quarantine", *arguments])
    return done.exit_code, done.output


def test_list_says_what_is_held_back_and_why_and_writes_nothing(tmp_path: Path) -> None:
    path = make(tmp_path)
    before = snapshot(tmp_path)
    code, text = run("list", str(tmp_path))
    assert code == 0
    assert text.splitlines()[-1] == "2 episodes in quarantine"
    assert "session-1@1" in text
    assert "forced 0.100" in text
    code, text = run("list", str(tmp_path), "--json")
    body = json.loads(text)
    assert body["format_version"] == 1
    assert body["episodes"][0] == {
        "shard": str(path),
        "episode": 1,
        "commit": 2,
        "session": "session-1@1",
        "rig": "rig-1",
        "frames": 3,
        "seconds": 0.1,
        "end_reason": "end",
        "score": 0.4,
        "threshold": 0.6,
        "weakest": "forced",
        "components": {"forced": 0.1, "duration": 1.0},
    }
    assert snapshot(tmp_path) == before


def test_release_says_what_it_did(tmp_path: Path) -> None:
    path = make(tmp_path)
    code, text = run("release", str(tmp_path), "--session", "session-1,session-3@3")
    assert (code, text.count("is released")) == (0, 2)
    assert "episode 1 of session-1@1 is released" in text
    assert held(path) == []
    assert run("list", str(tmp_path)) == (0, "0 episodes in quarantine\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "found neither --session nor --episode"),
        (["--session", "session-2"], "--session: session-2: no episode of it is in quarantine"),
        (["--session", "session-1,session-9"], "--session: session-9: no episode"),
        (["--episode", "1,2"], "--episode: 2: not in quarantine"),
        (["--episode", "first"], "--episode (PADREEL_EPISODE): found 'first'"),
    ],
)
def test_what_is_not_in_quarantine_is_named_and_nothing_released(
    tmp_path: Path, arguments: list[str], expected: str
) -> None:
    make(tmp_path)
    before = snapshot(tmp_path)
    code, text = run("release", str(tmp_path), *arguments)
    assert code == 2
    assert expected in " ".join(text.split())
    assert snapshot(tmp_path) == before


def test_an_index_is_of_one_shard(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make(tmp_path / name)
    assert len(list_held([tmp_path])) == 4
    with pytest.raises(SettingsError, match="found 2 shards, expected one"):
        release_held([tmp_path], [], [1])
    assert len(release_held([tmp_path], ["session-1"], [])) == 2
    assert [one.episode for one in list_held([tmp_path])] == [3, 3]
