"""The shard: what it commits and publishes, what it refuses, and what it makes good again."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from padreel.dataset import files, layout, publish, shard
from padreel.dataset.commit_log import CommitLog, Kind
from padreel.errors import (
    CorruptShardError,
    FencedError,
    ForeignFileError,
    RootMismatchError,
    UndecodableError,
)
from padreel.model import CloseReason, EpisodeDraft, Fate
from tests.shard_world import (
    SPEC,
    WORLD,
    Crash,
    MadeEpisode,
    PlainStage,
    Seen,
    episode_effects,
    open_shard,
    play,
    progress_effects,
    read_shard,
    rejected_effects,
    whole_world,
)


@pytest.fixture(autouse=True)
def plain_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tiny files instead of video, and a disk that is always in time: processes die here, machines do not."""
    monkeypatch.setattr(shard, "Stage", PlainStage)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    yield
    files.probe = files._silent


def staged_files(path: Path) -> list[str]:
    return sorted(str(one.relative_to(path)) for one in (path / "staging").rglob("*") if one.is_file())


def test_a_world_is_committed_once_and_read_back(tmp_path: Path) -> None:
    opened = open_shard(tmp_path)
    assert opened.state is None
    done = play(opened)
    assert [one.kind for one in done] == [Kind.PROGRESS, Kind.EPISODE, Kind.REJECTED, Kind.EPISODE]
    assert [one.n for one in done] == [1, 2, 3, 4]
    assert [one.frames for one in done] == [0, 3, 0, 2]
    assert [one.episode_index for one in done] == [None, 0, None, 1]
    assert [one.rejections != () for one in done] == [False, False, True, False]
    assert read_shard(tmp_path) == whole_world()
    opened.close()
    assert list((tmp_path / "staging").iterdir()) == []


def test_the_steps_of_a_commit_are_timed_by_the_clock_that_is_given(tmp_path: Path) -> None:
    seconds = iter(range(100))
    opened = open_shard(tmp_path, now_ns=lambda: next(seconds) * 10**9)
    (done,) = opened.apply(episode_effects(0))
    assert done.step_seconds == {"stage": 1.0, "commit": 1.0, "publish": 1.0}
    assert done.pad_ages == (0.25,)


def test_a_step_that_failed_is_timed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0]
    opened = open_shard(tmp_path, now_ns=lambda: now[0] * 10**9)
    put_all = publish.put_all

    def fail(*arguments: Any) -> None:
        now[0] = 300
        monkeypatch.setattr(publish, "put_all", put_all)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(publish, "put_all", fail)
    with pytest.raises(OSError, match="Input/output"):
        opened.apply(episode_effects(0))
    (done,) = opened.apply(())
    assert done.step_seconds == {"stage": 0.0, "commit": 0.0, "publish": 0.0}


def test_a_shard_without_an_episode_has_no_info(tmp_path: Path) -> None:
    opened = open_shard(tmp_path)
    opened.apply(progress_effects(0) + rejected_effects(1))
    opened.close()
    open_shard(tmp_path).close()
    assert not (tmp_path / "meta").exists()
    log = CommitLog(tmp_path).last()
    assert log is not None
    assert log.totals.skipped_count == 1


def test_an_episode_that_shows_nothing_is_rejected_and_the_next_one_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retrying would not mend it, and what the other rigs send waits behind it."""
    original = PlainStage.episode

    def episode(self: PlainStage, draft: EpisodeDraft, **numbers: int) -> MadeEpisode:
        if draft.key == "session-1@1":
            raise UndecodableError("none of 2 keyframes can be decoded")
        return original(self, draft, **numbers)

    monkeypatch.setattr(PlainStage, "episode", episode)
    opened = open_shard(tmp_path)
    with pytest.raises(UndecodableError) as caught:
        play(opened)
    rejection = opened.reject(str(caught.value))
    done = [*opened.apply(()), *play(opened)]
    assert [one.kind for one in done] == [Kind.REJECTED, Kind.REJECTED, Kind.EPISODE]
    assert done[0].accounted == {Fate.ROW: 0, Fate.REJECTED: 3}
    assert done[0].rejections == (rejection,)
    assert (rejection.key, rejection.reason) == ("session-1@1", CloseReason.UNDECODABLE)
    assert rejection.detail == "none of 2 keyframes can be decoded"
    assert (rejection.first_frame_offset, rejection.last_frame_offset) == (1, 1)
    assert opened.totals.accounted == {Fate.IDLE: 1, Fate.REJECTED: 4, Fate.ROW: 2}
    assert read_shard(tmp_path) == Seen(("session-3@3",), 2, 1, 2)
    assert open_shard(tmp_path).state == opened.state


def test_state_comes_back_with_the_next_claim(tmp_path: Path) -> None:
    first = open_shard(tmp_path)
    play(first)
    again = open_shard(tmp_path, writer="writer-1")
    assert again.state == first.state
    assert again.totals == first.totals
    assert again.claim == 5


def test_files_are_named_by_their_commit(tmp_path: Path) -> None:
    play(open_shard(tmp_path))
    for n in (2, 4):
        for kind in layout.FILE_KINDS:
            assert (tmp_path / layout.final_path(kind, n)).exists()
    assert len(list((tmp_path / "data").rglob("*.parquet"))) == 2


def test_what_the_next_owner_has_swept_is_a_fence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stood still while staging finds its own files gone, which looks like an error of the disk."""
    old = open_shard(tmp_path)

    def stand_still(stage: PlainStage, *draft: object, **numbers: object) -> None:
        open_shard(tmp_path, writer="writer-1")
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(PlainStage, "episode", stand_still)
    for _ in range(2):
        with pytest.raises(FencedError):
            old.apply(episode_effects(0))
    old.close()


def test_everything_is_durable_before_what_names_it(tmp_path: Path) -> None:
    opened = open_shard(tmp_path)
    trace: list[tuple[str, str]] = []
    files.probe = lambda point, path: trace.append((point, str(path.relative_to(tmp_path))))
    opened.apply(episode_effects(0))
    link = trace.index(("before link", "commits/1.json"))
    info = next(i for i, one in enumerate(trace) if one == ("before replace", "meta/info.json"))
    assert trace.index(("after fsync", "staging")) < link
    assert (
        link
        < trace.index(("after fsync", "commits"))
        < trace.index(("before rename", "data/chunk-000/file-001.parquet"))
    )
    for folder in (
        "data/chunk-000",
        "videos/observation.images.main/chunk-000",
        "gamepad/chunk-000",
        "meta/episodes/chunk-000",
        "meta",
        ".",
    ):
        synced = [i for i, one in enumerate(trace) if one == ("after fsync", folder)]
        renamed = [
            i
            for i, (point, path) in enumerate(trace)
            if point in ("after rename", "after replace") and (os.path.dirname(path) or ".") == folder
        ]
        assert any(max((one for one in renamed if one < info), default=-1) < i < info for i in synced), folder
    assert trace[-1] == ("after fsync", "meta")


def test_two_hundred_and_fifty_episodes_fill_a_file(tmp_path: Path) -> None:
    opened = open_shard(tmp_path)
    world = [episode_effects] * 502
    play(opened, world)
    found = sorted((tmp_path / "meta/episodes").rglob("*.parquet"))
    assert [pq.read_metadata(one).num_rows for one in found] == [250, 250, 2]
    assert len({tuple(pq.read_schema(one).names) for one in found}) == 1
    seen = read_shard(tmp_path)
    assert len(seen.sessions) == 502
    before = [one.read_bytes() for one in found]
    again = open_shard(tmp_path)
    assert [one.read_bytes() for one in found] == before
    info = json.loads((tmp_path / layout.INFO).read_bytes())["extensions"]["game_converter"]
    assert info["converted_session_count"] == 502
    assert info["converted_sessions"] == [f"session-{i}@{i:x}" for i in range(252, 502)]
    size = (tmp_path / "commits/502.json").stat().st_size
    assert size < (tmp_path / "commits/251.json").stat().st_size * 1.1
    again.close()


@pytest.mark.parametrize("episodes", [250, 251])
def test_a_crash_at_a_full_episodes_file_is_recovered(tmp_path: Path, episodes: int) -> None:
    play(open_shard(tmp_path), [episode_effects] * (episodes - 1))
    opened = open_shard(tmp_path)

    def die(point: str, path: Path) -> None:
        if point == "after link":
            raise Crash

    files.probe = die
    with pytest.raises(Crash):
        play(opened, [episode_effects] * episodes)
    files.probe = files._silent
    play(open_shard(tmp_path), [episode_effects] * (episodes + 1))
    assert len(read_shard(tmp_path).sessions) == episodes + 1


def test_staging_of_older_claims_is_swept_and_nothing_else(tmp_path: Path) -> None:
    first = open_shard(tmp_path)
    play(first, WORLD[:2])
    staging = tmp_path / "staging"
    old = staging / layout.staged_name(first.claim, "video")
    young = staging / layout.staged_name(99, "video")
    other = staging / "note.txt"
    for one in (old, young, other):
        one.write_bytes(b"x")
    open_shard(tmp_path)
    assert not old.exists()
    assert young.exists()
    assert other.exists()


def test_a_file_no_commit_names_stops_the_commit(tmp_path: Path) -> None:
    opened = open_shard(tmp_path)
    play(opened, WORLD[:2])
    foreign = tmp_path / layout.final_path("data", 3)
    foreign.write_bytes(b"written by another tool")
    with pytest.raises(ForeignFileError, match=r"data/chunk-000/file-003\.parquet"):
        opened.apply(episode_effects(2))
    assert foreign.read_bytes() == b"written by another tool"
    with pytest.raises(ForeignFileError, match="no commit names"):
        open_shard(tmp_path)
    foreign.unlink()
    again = open_shard(tmp_path)
    play(again, [*WORLD[:2], episode_effects])
    assert read_shard(tmp_path).sessions == ("session-1@1", "session-2@2")


@pytest.mark.parametrize("damage", ["gone", "short", "other"])
def test_a_damaged_file_of_the_latest_commit_is_named(tmp_path: Path, damage: str) -> None:
    play(open_shard(tmp_path), WORLD[:2])
    video = tmp_path / layout.final_path("video", 2)
    content = video.read_bytes()
    video.unlink()
    if damage != "gone":
        video.write_bytes(content[:-1] if damage == "short" else content[:-1] + b"?")
    with pytest.raises(CorruptShardError, match=r"file-002\.mp4"):
        open_shard(tmp_path)


def test_a_torn_file_of_a_commit_that_was_not_published_is_named(tmp_path: Path) -> None:
    """It cannot be, as it was fsynced before the commit; it must not get a final name."""
    opened = open_shard(tmp_path)

    def die(point: str, path: Path) -> None:
        if point == "after link" and path.name == "2.json":
            raise Crash

    files.probe = die
    with pytest.raises(Crash):
        play(opened, WORLD[:2])
    files.probe = files._silent
    video = next((tmp_path / "staging").glob("*.mp4"))
    video.write_bytes(video.read_bytes()[:-1] + b"?")
    with pytest.raises(CorruptShardError, match=rf"staging/{video.name}: found sha256 \w+, expected \w+ by commit 2"):
        open_shard(tmp_path)
    assert not (tmp_path / layout.final_path("video", 2)).exists()


@pytest.mark.parametrize("name", [layout.INFO, layout.STATS, layout.TASKS, layout.episodes_path(0)], ids=str)
@pytest.mark.parametrize("damage", ["gone", "empty", "short", "zeros"])
def test_damaged_metadata_is_made_again_from_the_log(tmp_path: Path, name: Path, damage: str) -> None:
    play(open_shard(tmp_path))
    path = tmp_path / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        torn = {"empty": b"", "short": content[: len(content) // 2], "zeros": bytes(len(content))}
        path.write_bytes(torn[damage])
    open_shard(tmp_path).close()
    assert path.read_bytes() == content
    assert read_shard(tmp_path) == whole_world()


def test_closing_gives_the_shard_up_whatever_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_shard(tmp_path)

    def fail(stage: PlainStage) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(PlainStage, "close", fail)
    with pytest.raises(OSError, match="input/output"):
        opened.close()
    assert list((tmp_path / "staging").iterdir()) == []


def test_another_source_is_refused(tmp_path: Path) -> None:
    play(open_shard(tmp_path))
    with pytest.raises(RootMismatchError, match="partitions: found 4 in commit 4, expected 8"):
        open_shard(tmp_path, partitions=8)
    with pytest.raises(RootMismatchError, match="cluster_id"):
        open_shard(tmp_path, cluster_id="created anew")


def test_full_session_lists_replace_the_last_names(tmp_path: Path) -> None:
    opened = open_shard(tmp_path)
    play(opened)
    skipped = [layout.SkippedSession("b", "unreadable", "sync.csv: 3 rows, expected 4")]
    opened.write_session_lists(["a", "c"], skipped)
    info = json.loads((tmp_path / layout.INFO).read_bytes())["extensions"]["game_converter"]
    assert info["converted_sessions"] == ["a", "c"]
    assert info["skipped_sessions"] == [
        {"session": "b", "reason": "unreadable", "detail": "sync.csv: 3 rows, expected 4"}
    ]
    assert info["settings"] == dict(SPEC.settings)


def test_the_card_is_the_owner_s_to_change(tmp_path: Path) -> None:
    opened = open_shard(tmp_path)
    play(opened, WORLD[:2])
    card = tmp_path / layout.CARD
    assert "data_files: data/*/*.parquet" in card.read_text()
    card.write_text("mine")
    play(opened)
    open_shard(tmp_path)
    assert card.read_text() == "mine"
