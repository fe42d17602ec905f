"""What is told of episodes: from the logs alone, in order, at least once, and never in recording's way."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import padreel.announcer
from padreel.announcer import Announcer, Announcing
from padreel.core.episodes import EpisodeEvent, EventKind
from padreel.dataset import layout, shard, told
from padreel.dataset.shard import Shard
from padreel.dataset.told import ANNOUNCED, Told, Untold
from padreel.errors import EpisodesTopicError
from padreel.model import ClosedSession, CloseReason, Commit, Effect, SessionRejection
from padreel_schemas.v1.episodes_pb2 import EpisodeEvent as Message
from tests.shard_world import PlainStage, episode_effects, open_shard, progress_effects, rejected_effects

TOPIC = "padreel.episodes"


@pytest.fixture(autouse=True)
def _plain_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard, "Stage", PlainStage)
    monkeypatch.setattr(padreel.announcer, "_FIRST_WAIT_SECONDS", 0.01)


def opened(root: Path, partition: int = 3) -> Shard:
    return open_shard(root / layout.shard_folder(partition), partition=partition)


def tell(log: Told) -> list[EpisodeEvent]:
    """Everything that is not told yet, told."""
    events: list[EpisodeEvent] = []
    while (untold := log.ahead()) is not None:
        events += untold.events
        log.save(untold)
    return events


def ends(effects: list[Effect], **changes: Any) -> list[Effect]:
    """The same, its commit changed."""
    *before, commit = effects
    assert isinstance(commit, Commit)
    return [*before, replace(commit, **changes)]


# ---- what a commit says


def test_an_episode_is_told_with_what_it_holds(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    effects = episode_effects(1, 30)
    (commit,) = [one for one in effects if isinstance(one, Commit)]
    assert commit.episode is not None
    draft = replace(commit.episode, first_frame_index=90, idle_until_ns=77, first_frame_offset=5, last_frame_offset=34)
    (done,) = writer.apply(ends(effects, episode=draft))
    (event,) = tell(Told(tmp_path, 3, TOPIC))
    assert event == EpisodeEvent(
        key="session-1@1",
        kind=EventKind.COMMITTED,
        group="recorders",
        partition=3,
        commit=done.n,
        rig_id="rig-1",
        reason="end",
        first_frame_offset=5,
        last_frame_offset=34,
        episode_index=0,
        first_frame_index=90,
        frames=30,
        idle_until_ns=77,
        seconds=1.0,
    )
    message = Message.FromString(event.message())
    assert message.kind == Message.COMMITTED
    for name in ("partition", "commit", "rig_id", "reason", "detail", "first_frame_index", "frames", "idle_until_ns"):
        assert getattr(message, name) == getattr(event, name)
    assert (message.consumergroup, message.episode_index, message.seconds) == ("recorders", 0, 1.0)
    assert (message.first_frame_offset, message.last_frame_offset) == (5, 34)


def test_a_session_that_takes_no_more_is_rejected_and_one_that_goes_on_has_an_episode_in_quarantine(
    tmp_path: Path,
) -> None:
    writer = opened(tmp_path)
    effects = rejected_effects(1)
    (commit,) = [one for one in effects if isinstance(one, Commit)]
    bad = SessionRejection("two@2", "rig-2", CloseReason.UNDECODABLE, "shows nothing", 7, 9)
    closed = {"session-1@1": ClosedSession(2, 0, CloseReason.SCHEMA), "two@2": ClosedSession(9, 0, CloseReason.END)}
    state = replace(commit.state, closed=closed)
    writer.apply(ends(effects, state=state, rejections=(*commit.rejections, bad)))
    first, second = tell(Told(tmp_path, 3, TOPIC))
    assert (first.key, first.kind, first.reason) == ("session-1@1", EventKind.REJECTED, "schema")
    assert (second.key, second.kind, second.reason) == ("two@2", EventKind.QUARANTINED, "undecodable")
    assert (second.detail, second.rig_id, second.first_frame_offset, second.last_frame_offset) == (
        "shows nothing",
        "rig-2",
        7,
        9,
    )
    kinds = [Message.FromString(event.message()).kind for event in (first, second)]
    assert kinds == [Message.REJECTED, Message.QUARANTINED]


# ---- how far it was told


def world(root: Path, steps: Sequence[int]) -> list[str]:
    """A log of so many commits, some of them claims of another writer; the sessions to be told, in order."""
    keys: list[str] = []
    writer = opened(root)
    for i, step in enumerate(steps):
        if step == 0:
            writer.apply(progress_effects(i))
        elif step == 1:
            writer.close()
            writer = opened(root)
        else:
            writer.apply(episode_effects(i) if step == 2 else rejected_effects(i))
            keys.append(f"session-{i}@{i:x}")
    writer.close()
    return keys


@given(st.lists(st.integers(0, 3), max_size=12), st.data())
@settings(max_examples=40, deadline=None)
def test_whatever_dies_everything_is_told_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], data: st.DataObject
) -> None:
    """A teller may die before or after an event was taken; the next one goes on where that was remembered."""
    with pytest.MonkeyPatch.context() as patcher:
        patcher.setattr(shard, "Stage", PlainStage)
        patcher.setattr(told, "_MOST_COMMITS", data.draw(st.integers(1, 4)))
        root = tmp_path_factory.mktemp("root")
        keys = world(root, steps)
        heard: list[str] = []
        log = Told(root, 3, TOPIC)
        while True:
            untold = log.ahead()
            dies = data.draw(st.sampled_from(["", "", "before it is taken", "before it is remembered"]))
            if dies == "before it is taken":
                log = Told(root, 3, TOPIC)
                continue
            if untold is None:
                break
            heard += [event.key for event in untold.events]
            if dies:
                log = Told(root, 3, TOPIC)
                continue
            log.save(untold)
    assert list(dict.fromkeys(heard)) == keys
    again = Told(root, 3, TOPIC)
    assert again.ahead() is None
    shutil.rmtree(root)


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"topic": "padreel.episodes"}', '{"topic":1,"commit":"x","uuid":2}']
)
def test_where_it_is_not_known_everything_is_told_once_more(tmp_path: Path, damage: str) -> None:
    keys = world(tmp_path, [2, 2])
    assert [event.key for event in tell(Told(tmp_path, 3, TOPIC))] == keys
    assert tell(Told(tmp_path, 3, TOPIC)) == []
    (path,) = (tmp_path / ANNOUNCED).iterdir()
    path.write_text(damage)
    assert [event.key for event in tell(Told(tmp_path, 3, TOPIC))] == keys


def test_another_topic_and_a_shard_from_a_copy_are_told_everything(tmp_path: Path) -> None:
    world(tmp_path, [2])
    path = tmp_path / layout.shard_folder(3)
    shutil.copytree(path, tmp_path / "copy")
    writer = opened(tmp_path)
    writer.apply(episode_effects(1))
    writer.close()
    assert len(tell(Told(tmp_path, 3, TOPIC))) == 2
    assert len(tell(Told(tmp_path, 3, "other"))) == 2
    tell(Told(tmp_path, 3, TOPIC))
    shutil.rmtree(path)
    (tmp_path / "copy").rename(path)
    writer = opened(tmp_path)  # its commit 2 is another one than the one that was told
    writer.apply(episode_effects(2))
    writer.close()
    assert [event.key for event in tell(Told(tmp_path, 3, TOPIC))] == ["session-0@0", "session-2@2"]


# ---- the announcer


class Topic:
    """The episodes topic, which may fail."""

    def __init__(self) -> None:
        self.events: list[EpisodeEvent] = []
        self.fails = False
        self.told: list[str] = []
        self.failures = 0

    async def send(self, events: Sequence[EpisodeEvent]) -> None:
        if self.fails:
            raise EpisodesTopicError("out of reach")
        self.events += events

    def failed(self, number: int) -> None:
        self.failures += 1

    def note(self, number: int, events: Sequence[EpisodeEvent]) -> None:
        self.told += [event.key for event in events]


def announce(root: Path, scene: Callable[[Announcer, Topic], Coroutine[Any, Any, None]]) -> Topic:
    topic = Topic()

    async def run() -> None:
        with ThreadPoolExecutor(2) as threads:
            announcing = Announcing(lambda number: Told(root, number, TOPIC), topic.send)
            announcer = Announcer(announcing, threads, topic.note, topic.failed)
            running = asyncio.create_task(announcer.run())
            try:
                await scene(announcer, topic)
            finally:
                running.cancel()
                await asyncio.wait([running])
                await announcer.finish()

    asyncio.run(run())
    return topic


def told_until(root: Path) -> int:
    """The last commit that was told, -1 where none was."""
    path = root / ANNOUNCED / "partition-00003.json"
    return int(json.loads(path.read_text())["commit"]) if path.exists() else -1


def heard(topic: Topic) -> list[str]:
    """The sessions in the order in which they were first told; a stop in the middle makes the last be told again."""
    return list(dict.fromkeys(event.key for event in topic.events))


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not reached():  # noqa: ASYNC110 - what is waited for happens in threads too
            await asyncio.sleep(0.005)


def test_what_a_recovery_finds_is_told_and_then_what_is_committed(tmp_path: Path) -> None:
    world(tmp_path, [2, 3])

    async def scene(announcer: Announcer, topic: Topic) -> None:
        writer = opened(tmp_path)
        announcer.begin(3)
        await until(lambda: len(topic.events) == 2)
        writer.apply(episode_effects(2))
        announcer.committed(3)
        await until(lambda: told_until(tmp_path) == 4)
        announcer.end(3)
        writer.apply(episode_effects(3))
        announcer.committed(3)  # another's by now
        writer.close()

    topic = announce(tmp_path, scene)
    assert heard(topic) == ["session-0@0", "session-1@1", "session-2@2"]
    assert topic.told == [event.key for event in topic.events]
    assert told_until(tmp_path) == 4
    assert len(list((tmp_path / ANNOUNCED).iterdir())) == 1


def test_a_topic_that_fails_is_told_later_in_order(tmp_path: Path) -> None:
    async def scene(announcer: Announcer, topic: Topic) -> None:
        writer = opened(tmp_path)
        topic.fails = True
        announcer.begin(3)
        for i in range(3):
            writer.apply(episode_effects(i))
            announcer.committed(3)
            await until(lambda i=i: topic.failures > i)  # type: ignore[misc]
        topic.fails = False
        await until(lambda: len(topic.events) == 3)
        writer.close()

    topic = announce(tmp_path, scene)
    assert heard(topic) == [f"session-{i}@{i}" for i in range(3)]


def test_a_log_or_a_disk_that_fails_keeps_no_other_partition_from_being_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Told.save
    broken = True

    def save(self: Told, untold: Untold) -> None:
        if broken and self._path.stem.endswith("2"):
            raise OSError(28, "No space left on device")
        original(self, untold)

    monkeypatch.setattr(Told, "save", save)

    async def scene(announcer: Announcer, topic: Topic) -> None:
        nonlocal broken
        for number in (2, 3):
            writer = opened(tmp_path, number)
            writer.apply(episode_effects(number))
            writer.close()
            announcer.begin(number)
        await until(lambda: topic.failures > 2)
        assert (tmp_path / ANNOUNCED / "partition-00003.json").exists()
        broken = False
        await until(lambda: (tmp_path / ANNOUNCED / "partition-00002.json").exists())

    topic = announce(tmp_path, scene)
    assert {event.key for event in topic.events} == {"session-2@2", "session-3@3"}
    assert topic.events.count(topic.events[-1]) > 1, "at least once"


def test_the_last_of_it_is_told_when_the_consumer_stops(tmp_path: Path) -> None:
    async def scene(announcer: Announcer, topic: Topic) -> None:
        writer = opened(tmp_path)
        writer.apply(episode_effects(0))
        writer.close()
        announcer.begin(3)  # and the loop is not run again

    assert heard(announce(tmp_path, scene)) == ["session-0@0"]
