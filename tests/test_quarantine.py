"""Quarantine in a shard: what its log and its dataset say, whatever happens while somebody releases."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from padreel.dataset import files, layout
from padreel.dataset.commit_log import CommitLog, Kind, decode_entry, encode_entry
from padreel.dataset.entries import claim
from padreel.dataset.lost import commit_lost
from padreel.dataset.quarantine import held_back, release, releases, releasing
from padreel.errors import CorruptShardError, FencedError
from padreel.training.check.repair import repair
from padreel.training.check.shard import check_shard
from padreel.training.erase.erase import erase_shard
from padreel.training.quarantine import list_held, release_held
from padreel.training.source import SourceShard
from tests.quarantine_world import BAD, GOOD, held, indices, judging_stage, last_of, make, opened, said, tell
from tests.shard_world import (
    Crash,
    CrashAt,
    episode_effects,
    progress_effects,
    read_shard,
    snapshot,
)

__all__ = ["judging_stage"]  # a fixture that is used by being there


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


# ---- and erasing


def erase(path: Path, *sessions: int) -> None:
    erase_shard(path, {f"session-{i}@{i:x}" for i in sessions}, "run", {})


def test_erasing_keeps_what_is_held_back_under_its_new_number(tmp_path: Path) -> None:
    path = make(tmp_path, range(7))
    release_held([path], ["session-1"], [])
    erase(path, 0)
    assert held(path) == [2, 4]
    assert said(path) == (2, [2, 4])
    assert indices(path, releases(CommitLog(path), last_of(path))) == [0]
    erase(path, 3)
    assert held(path) == [3]
    assert said(path) == (1, [3])
    assert [one.session for one in list_held([path])] == ["session-5@5"]
    release_held([path], [], [3])
    assert (held(path), said(path)) == ([], (0, []))
    with closing(opened(path)) as again:
        again.apply(episode_effects(7))
    assert held(path) == [5]
    assert len(read_shard(path).sessions) == 6


def test_a_released_episode_that_is_erased_is_neither_told_nor_merged(tmp_path: Path) -> None:
    path = make(tmp_path, range(4))
    release_held([path], ["session-1"], [])
    erase(path, 1)
    assert held(path) == [2]
    assert [one.session for one in SourceShard(path, "id", last_of(path), {}).readmitted(5)] == []
    assert {event.key for event in tell(tmp_path)} == {"session-0@0", "session-2@2", "session-3@3"}


# ---- any order of things


def commits(draw_from: int) -> st.SearchStrategy[list[tuple[str, int]]]:
    what = st.sampled_from(["good", "bad", "progress", "claim", "lost", "release", "erase"])
    return st.lists(st.tuples(what, st.integers(0, draw_from)), max_size=25)


@settings(max_examples=60, deadline=None)
@given(steps=commits(30))
def test_whatever_comes_the_log_knows_what_is_held_back(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """Against a list: episodes, claims, skips, releases and erasures in any order."""
    path = make(tmp_path_factory.mktemp("any"), ())
    there: list[tuple[int, bool]] = []  # the number of each episode's session, and whether it is held back
    writer = opened(path)
    for at, (what, which) in enumerate(steps):
        expected = [i for i, (_, is_held) in enumerate(there) if is_held]
        if what in ("good", "bad"):
            number = 2 * at + (what == "bad")
            writer.apply(episode_effects(number))
            there.append((number, what == "bad"))
        elif what == "progress":
            writer.apply(progress_effects(at))
        elif what == "release":
            wanted = expected[which % len(expected)] if expected else -1
            done = release(writer, lambda entry, wanted=wanted: entry.episode.index == wanted)  # type: ignore[misc]
            assert [entry.episode.index for entry in done if entry.episode] == [wanted] * bool(expected)
            there = [(number, is_held and i != wanted) for i, (number, is_held) in enumerate(there)]
        else:
            writer.close()
            if what == "lost" and (last := last_of(path)).state is not None:
                commit_lost(path, last.source, "skip", [])
            if what == "erase" and there:
                erase(path, there.pop(which % len(there))[0])
            writer = opened(path)
        expected = [i for i, (_, is_held) in enumerate(there) if is_held]
        assert held(path) == expected
        assert writer.totals.quarantined == tuple(expected)
        assert writer.totals.quarantined_count == len(expected)
        if there:
            assert said(path) == (len(expected), expected)
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
