"""Sessions that are taken out of a shard: what is left of it, and of them, whatever dies meanwhile."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import padreel.training.erase.erase
from padreel import replay
from padreel.core.erase import erased, is_erased, with_replays
from padreel.core.replay import replay_key
from padreel.dataset import commit_log, files, layout, shard
from padreel.dataset.commit_log import CommitLog, Kind
from padreel.errors import DatasetError, FencedError
from padreel.model import ClosedSession, CloseReason, OpenSession, PartitionState
from padreel.training.check.repair import repair
from padreel.training.check.shard import check_shard
from padreel.training.erase.erase import erase_shard, look
from padreel.training.erase.scan import Wanted
from padreel.training.merge.erased import erasures_of
from tests.erase_world import EPISODES, OPEN, REJECTED, goes_on, held, key, make, sessions_without
from tests.shard_world import Crash, CrashAt, PlainStage, Seen, open_shard, read_shard, snapshot

MOST = len(EPISODES)


@pytest.fixture(autouse=True)
def plain_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(shard, "Stage", PlainStage)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    yield
    files.probe = files._silent


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard, "Stage", PlainStage)
        return make(tmp_path_factory.mktemp("made")).parent


def copy_of(made: Path, to: Path) -> Path:
    shutil.copytree(made, to)
    return to / "partition-00003"


def erase(path: Path, *names: str) -> None:
    erase_shard(path, {key(name) for name in names}, "run", {"session": list(names), "close": True})


def test_an_erased_session_is_closed_for_good_and_what_was_not_accounted_counts_once() -> None:
    state = PartitionState(
        frames_next=5,
        pads_next=6,
        open={"a@1": OpenSession(resume=7, pads_resume=8), "b@2": OpenSession()},
        closed={"c@3": ClosedSession(3, 4, CloseReason.END)},
    )
    after = erased(state, {"a@1", "c@3", "d@4"})
    assert after.open == {"b@2": OpenSession()}
    assert after.closed == {
        "a@1": ClosedSession(7, 8, CloseReason.ERASED),
        "c@3": ClosedSession(3, 4, CloseReason.ERASED),
        "d@4": ClosedSession(5, 6, CloseReason.ERASED),
    }
    assert (after.frames_next, after.pads_next) == (5, 6)
    assert is_erased(after, "d@4")
    assert not is_erased(after, "b@2")
    assert erased(after, {"a@1", "c@3", "d@4"}) == after


def test_what_is_published_again_of_a_session_is_erased_with_it() -> None:
    again = replay_key("a@1")
    assert with_replays({"a@1"}) == {"a@1", again, replay_key(again)}


@pytest.mark.parametrize(
    "names",
    [("anna",), ("bert",), ("carl",), ("dora",), ("anna", "bert"), ("bert", "carl", "dora"), (REJECTED,), (OPEN,)],
)
def test_the_others_stay_and_the_shard_goes_on(made: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    path = copy_of(made, tmp_path / "root")
    assert all(held(path, name) for name in names if name != REJECTED)
    before = CommitLog(path).last()
    erase(path, *names)
    seen = read_shard(path)
    assert seen.sessions == sessions_without(*names)
    assert seen.frames == sum(i + 2 for i, name in enumerate(EPISODES) if name not in names)
    assert seen.skipped == (REJECTED not in names)
    for name in names:
        assert held(tmp_path, name) == [], name
    assert all(held(path, name) for name in {*EPISODES, OPEN} - {*names})
    last = CommitLog(path).last()
    assert before is not None
    assert last is not None
    assert (last.kind, last.erasing) == (Kind.PROGRESS, False)
    assert last.totals.accounted == before.totals.accounted  # what became of records does not change
    kept = [i for i, name in enumerate(EPISODES) if name not in names]
    assert (last.totals.forced, last.totals.late) == (sum(kept), len(kept))
    assert last.totals.converted_count == len({EPISODES[i] for i in kept})
    (act,) = erasures_of(path)
    assert act.erasure is not None
    assert {one.key for one in act.erasure.sessions} == {key(name) for name in names}
    assert all(is_erased(last.state, key(name)) for name in names)
    goes_on(path).close()
    assert read_shard(path).sessions == (*sessions_without(*names), key("dora"))
    for name in {*names} - {"dora"}:
        assert held(tmp_path, name) == [], name


def test_all_that_there_is(made: Path, tmp_path: Path) -> None:
    path = copy_of(made, tmp_path / "root")
    erase(path, "anna", "bert", "carl", "dora")
    assert not list((path / "meta" / "episodes").glob("*/*.parquet"))
    assert not [one for top in ("data", "videos", "gamepad") for one in (path / top).rglob("*") if one.is_file()]
    goes_on(path).close()
    assert read_shard(path) == Seen((key("dora"),), 6, 1, 1)


def test_one_after_the_other_and_the_same_again(made: Path, tmp_path: Path) -> None:
    path = copy_of(made, tmp_path / "root")
    for i, name in enumerate(("bert", "anna", "dora")):
        erase(path, name)
        before = snapshot(path)
        assert look([path], Wanted(frozenset({name}), frozenset())) == (with_replays({key(name)}), [], [])
        erase(path, name)
        changed = {name for name, was in snapshot(path).items() if before.get(name, ("", "", ""))[2] != was[2]}
        assert all(name.startswith("commits/") for name in changed)
        assert len(erasures_of(path)) == i + 1
    assert read_shard(path).sessions == (key("carl"), key("carl"))


def test_by_rig_and_by_what_was_erased_before(made: Path, tmp_path: Path) -> None:
    path = copy_of(made, tmp_path / "root")
    wanted = Wanted(frozenset(), frozenset({"rig-2"}))
    keys, found, unfinished = look([tmp_path], wanted)
    assert [one.key for one in found[0].sessions] == [key("carl"), key("dora")]
    assert unfinished == []
    assert not found[0].recording
    assert look([tmp_path], Wanted(frozenset(), frozenset({"rig-3"})))[1][0].recording == (key(OPEN),)
    erase_shard(path, keys, "run", {})
    assert look([tmp_path], wanted) == (keys, [], [])
    assert held(tmp_path, "carl") == held(tmp_path, "dora") == []


def count_points(path: Path, *names: str) -> int:
    files.probe = probe = CrashAt()
    erase(path, *names)
    files.probe = files._silent
    return probe.count


@pytest.mark.parametrize("names", [("bert",), ("anna", OPEN)])
@pytest.mark.parametrize("part", range(4))
def test_a_crash_at_any_operation_leaves_no_erase_or_one_that_is_completed(
    made: Path, tmp_path: Path, names: tuple[str, ...], part: int
) -> None:
    points = count_points(copy_of(made, tmp_path / "count"), *names)
    assert points > 150
    begun = 0
    for point in range(part, points, 4 * len(names)):
        path = copy_of(made, tmp_path / str(point))
        files.probe = CrashAt(point)
        with pytest.raises(Crash):
            erase(path, *names)
        files.probe = files._silent
        last = CommitLog(path).last()
        assert last is not None
        seen = read_shard(path, MOST).sessions
        if last.latest_erasure is None:
            assert seen == sessions_without(), point
        else:
            begun += 1
            whole = sessions_without(*names)
            assert seen == sessions_without() or seen == whole[: len(seen)], point
            open_shard(path, writer="writer-1").close()  # a consumer alone completes it
            assert read_shard(path).sessions == whole, point
            assert not any(held(tmp_path / str(point), name) for name in names), point
        erase(path, *names)
        assert read_shard(path).sessions == sessions_without(*names), point
        assert not any(held(tmp_path / str(point), name) for name in names), point
        assert [one.name for one in (path / "staging").iterdir()] == [], point
        assert len(erasures_of(path)) == 1, point
        goes_on(path).close()
        assert read_shard(path).sessions == (*sessions_without(*names), key("dora")), point
        shutil.rmtree(tmp_path / str(point))
    assert begun > points // 4 // 4 // len(names)


def test_crashes_while_it_is_completed(made: Path, tmp_path: Path) -> None:
    points = count_points(copy_of(made, tmp_path / "count"), "anna", "dora")
    for point in range(points // 3, points, 7):
        path = copy_of(made, tmp_path / str(point))
        files.probe = CrashAt(point)
        with pytest.raises(Crash):
            erase(path, "anna", "dora")
        for later in range(40, 400, 23):
            files.probe = CrashAt(later)
            with contextlib.suppress(Crash):
                erase(path, "anna", "dora")
                break
            read_shard(path, MOST)
        files.probe = files._silent
        erase(path, "anna", "dora")
        assert read_shard(path).sessions == sessions_without("anna", "dora"), point
        assert held(path, "anna") == held(path, "dora") == [], point


def test_one_that_has_begun_meanwhile_is_refused_too(made: Path, tmp_path: Path) -> None:
    path = copy_of(made, tmp_path / "root")
    with pytest.raises(DatasetError, match=f"{key(OPEN)}: still being recorded"):
        erase_shard(path, {key("anna"), key(OPEN)}, "run", {})
    assert read_shard(path).sessions == sessions_without()
    assert [one.name for one in (path / "staging").iterdir()] == []
    assert erasures_of(path) == []


def test_a_repair_completes_what_was_interrupted(made: Path, tmp_path: Path) -> None:
    points = count_points(copy_of(made, tmp_path / "count"), "bert")
    for point in range(points // 2, points, 17):
        path = copy_of(made, tmp_path / str(point))
        files.probe = CrashAt(point)
        with pytest.raises(Crash):
            erase(path, "bert")
        files.probe = files._silent
        last = CommitLog(path).last()
        if last is not None and last.erasing:
            repair(path, "repaired", {})
            assert look([path], Wanted(frozenset({"bert"}), frozenset()))[1:] == ([], [])
            assert read_shard(path).sessions == sessions_without("bert"), point


def test_readers_of_the_log_are_told_of_an_erase_that_was_interrupted(made: Path, tmp_path: Path) -> None:
    path = copy_of(made, tmp_path / "root")
    points = count_points(copy_of(made, tmp_path / "count"), "bert")
    told = 0
    for point in range(0, points, 5):
        shutil.rmtree(tmp_path / "root")
        copy_of(made, tmp_path / "root")
        files.probe = CrashAt(point)
        with pytest.raises(Crash):
            erase(path, "bert")
        files.probe = files._silent
        log = CommitLog(path)
        last = log.last()
        assert last is not None
        if last.erasing:
            told += 1
            with pytest.raises(DatasetError, match="padreel erase"):
                list(log.episodes_back(last))
            assert look([path], Wanted(frozenset({"bert"}), frozenset()))[2] == [path]
            with pytest.raises(DatasetError, match="being erased"):
                replay._erasures([path])
            assert "padreel erase" in check_shard(path).findings[0].detail
        else:
            list(log.episodes_back(last))
    assert told > 5


def test_a_consumer_that_takes_the_shard_again_and_again(made: Path, tmp_path: Path) -> None:
    """It is busy: whenever the erase has come a little further it is back. Whoever has the shard goes on with it."""
    path = copy_of(made, tmp_path / "root")
    count = 0

    def overtake(name: str, where: Path) -> None:
        nonlocal count
        count += 1
        if count % 61 == 0 and count < 900:
            files.probe = files._silent
            open_shard(path, writer=f"writer-{count}")
            files.probe = overtake

    files.probe = overtake
    erased = erase_shard(path, {key("bert")}, "run", {})
    files.probe = files._silent
    assert erased is not None
    assert [one.key for one in erased.sessions] == [key("bert")]
    assert count > 300
    assert len(erasures_of(path)) == 1
    assert read_shard(path).sessions == sessions_without("bert")
    assert held(tmp_path, "bert") == []


@pytest.mark.parametrize("names", [("anna",), ("bert",), ("dora",), ("carl",), ("anna", "carl", "dora")])
def test_many_files_of_metadata(
    made: Path, tmp_path: Path, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "EPISODES_PER_FILE", 2)
    monkeypatch.setattr(commit_log, "EPISODES_PER_FILE", 2)
    path = make(tmp_path / "made")
    points = count_points(copy_of(path.parent, tmp_path / "count"), *names)
    assert (
        len(list((tmp_path / "count").rglob("meta/episodes/*/*.parquet"))) == (len(sessions_without(*names)) + 1) // 2
    )
    for point in range(0, points, 5):
        copy = copy_of(path.parent, tmp_path / str(point))
        files.probe = CrashAt(point)
        with pytest.raises(Crash):
            erase(copy, *names)
        files.probe = files._silent
        seen = read_shard(copy, MOST).sessions
        assert seen == sessions_without() or seen == sessions_without(*names)[: len(seen)], point
        open_shard(copy, writer="writer-1").close()
        assert read_shard(copy).sessions in (sessions_without(), sessions_without(*names)), point
        erase(copy, *names)
        assert read_shard(copy).sessions == sessions_without(*names), point
        goes_on(copy).close()
        assert read_shard(copy).sessions == (*sessions_without(*names), key("dora")), point


@pytest.mark.parametrize("part", range(4))
def test_who_was_overtaken_while_erasing_changes_nothing(
    made: Path, tmp_path: Path, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(padreel.training.erase.erase, "_ATTEMPTS", 1)
    points = count_points(copy_of(made, tmp_path / "count"), "anna")
    for point in range(part, points, 4):
        path = copy_of(made, tmp_path / str(point))
        count = 0
        left: dict[str, tuple[int, int, str]] = {}

        def stop(name: str, where: Path, path: Path = path, point: int = point) -> None:
            nonlocal count, left
            count += 1
            if count - 1 == point:
                files.probe = files._silent
                goes_on(path)
                left = snapshot(path)
                files.probe = stop

        files.probe = stop
        ended = False
        with contextlib.suppress(FencedError):
            erase(path, "anna")
            ended = True
        files.probe = files._silent
        if ended:  # overtaken before its claim, or when it was done
            assert held(path, "anna") == [], point
        else:
            assert snapshot(path) == left, point
            erase(path, "anna")
        assert read_shard(path).sessions == (*sessions_without("anna"), key("dora")), point
        assert held(path, "anna") == [], point
        shutil.rmtree(tmp_path / str(point))
