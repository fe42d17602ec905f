"""Several consumers of one group over one output root join, leave and stand still; every picture is there once."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from padreel.dataset import points
from padreel.dataset.commit_log import CommitLog
from tests.conftest import TopicNames
from tests.dataset_reading import by_session, shards
from tests.e2e.processes import WAIT_SECONDS, Consumer, Rig, consumer, wait_for
from tests.e2e.streams import demo_flags, messages, numbers_shown, publish, streams
from tests.shard_world import snapshot

PARTITIONS = 4


@pytest.fixture
def rig(broker: str, topics: TopicNames) -> Rig:
    made = Rig(broker, topics.frames, topics.pads)
    made.create_topics(partitions=PARTITIONS)
    return made


def follow(running: Consumer) -> threading.Thread:
    """Read the log lines of a consumer in the background: `lines` then grows by itself."""
    thread = threading.Thread(target=lambda: [None for _ in running.lines_until_end()])
    thread.start()
    return thread


def events(running: Consumer, event: str) -> list[dict[str, object]]:
    return [line for line in list(running.lines) if line["event"] == event]


def assigned(running: Consumer) -> list[int]:
    """The partitions that it was assigned last."""
    found = events(running, "assigned")
    partitions = found[-1]["partitions"] if found else []
    assert isinstance(partitions, list)
    return partitions


def episodes(output: Path) -> int:
    """Episodes in the logs of all shards."""
    lasts = [CommitLog(commits.parent).last() for commits in output.glob("partition-*/commits")]
    return sum(last.totals.episodes for last in lasts if last is not None)


def stop(running: Consumer, thread: threading.Thread) -> None:
    running.process.send_signal(signal.SIGTERM)
    thread.join(WAIT_SECONDS)
    assert running.process.wait(WAIT_SECONDS) == 0, running.lines[-5:]


def check(output: Path, names: list[str]) -> None:
    """Each session is one episode, whole."""
    found = by_session(shards(output))
    assert {name: [numbers_shown(one) for one in made] for name, made in found.items()} == {
        name: [list(range(90))] for name in names
    }


def test_consumers_join_and_leave_in_the_middle_of_sessions(rig: Rig, topics: TopicNames, tmp_path: Path) -> None:
    output = tmp_path / "out"
    names = [f"session-{number}" for number in range(12)]
    made = {name: streams(name) for name in names}
    flags = demo_flags(rig, output, "scaling")

    def send(some: list[str], *, since: int = 0, to: int | None = None) -> None:
        publish(rig.broker, [one for name in some for one in messages(topics, made[name], since=since, until=to)])

    with consumer(flags) as first, consumer(flags) as second:
        reading = follow(first), follow(second)
        wait_for(lambda: sorted(assigned(first) + assigned(second)) == list(range(PARTITIONS)), "both have partitions")
        send(names[:4], to=45)
        with consumer(flags) as third:
            reading_third = follow(third)
            wait_for(
                lambda: (
                    bool(assigned(third))
                    and sorted(assigned(first) + assigned(second) + assigned(third)) == list(range(PARTITIONS))
                ),
                "all three have partitions",
            )
            send(names[:4], since=45)
            send(names[4:8], to=45)
            wait_for(lambda: episodes(output) == 4, "the first four sessions")
            stop(third, reading_third)
        send(names[4:8], since=45)
        wait_for(lambda: episodes(output) == 8, "the next four, of which the third consumer had read a half")
        stop(first, reading[0])
        send(names[8:])
        wait_for(lambda: episodes(output) == 12, "all sessions")
        assert assigned(second) == list(range(PARTITIONS))
        stop(second, reading[1])
    check(output, names)


@pytest.mark.parametrize("point", ["before link:5:stop", "after link:5:stop", "before rename:1:stop"])
def test_a_consumer_that_stood_still_past_its_session_timeout(
    rig: Rig, topics: TopicNames, tmp_path: Path, point: str
) -> None:
    """It stops in the middle of a commit of a shard that it holds; the first link is that of the root's own file."""
    output = tmp_path / "out"
    names = [f"session-{number}" for number in range(6)]
    flags = demo_flags(rig, output, "standing")
    publish(rig.broker, [one for name in names[:3] for one in messages(topics, streams(name))])
    with consumer(flags, {points.VARIABLE: point}) as slow:
        reading_slow = follow(slow)
        wait_for(lambda: stands(slow.process.pid), "the first consumer stands still")
        with consumer(flags) as quick:
            reading_quick = follow(quick)
            wait_for(lambda: assigned(quick) == list(range(PARTITIONS)), "the second one has every partition")
            wait_for(lambda: episodes(output) == 3 and len(events(quick, "shard open")) >= PARTITIONS, "its sessions")
            before = {path.name: snapshot(path) for path in output.glob("partition-*")}
            assignments = len(events(slow, "assigned"))
            os.kill(slow.process.pid, signal.SIGCONT)
            wait_for(lambda: len(events(slow, "assigned")) > assignments, "the first one is a member again")
            wait_for(lambda: sorted(assigned(slow) + assigned(quick)) == list(range(PARTITIONS)), "they share")
            wait_for(lambda: bool(events(slow, "fenced")), "it has learnt of the fence")
            assert unchanged(before, output)
            publish(rig.broker, [one for name in names[3:] for one in messages(topics, streams(name))])
            wait_for(lambda: episodes(output) == len(names), "the later sessions")
            stop(quick, reading_quick)
        stop(slow, reading_slow)
    check(output, names)
    assert not list(output.glob("partition-*/staging/*"))


@pytest.mark.parametrize("point", sorted(points.POINTS - points.SHARD_POINTS))
def test_a_consumer_that_is_killed_while_partitions_move(
    rig: Rig, topics: TopicNames, tmp_path: Path, point: str
) -> None:
    """A second consumer joins in the middle of sessions; the first one is killed meanwhile, at its second partition."""
    output = tmp_path / "out"
    names = [f"session-{number}" for number in range(3)]
    made = {name: streams(name) for name in names}
    flags = demo_flags(rig, output, "moving")
    publish(rig.broker, [one for name in names for one in messages(topics, made[name], until=45)])
    with consumer(flags, {points.VARIABLE: f"{point}:2:kill"}) as first:
        reading_first = follow(first)
        wait_for(
            lambda: len(events(first, "shard open")) == PARTITIONS or not reading_first.is_alive(),
            "the first one has every partition, or is dead already",
        )
        with consumer(flags) as second:
            reading_second = follow(second)
            reading_first.join(WAIT_SECONDS)
            assert first.process.wait(WAIT_SECONDS) == -signal.SIGKILL
            publish(rig.broker, [one for name in names for one in messages(topics, made[name], since=45)])
            wait_for(lambda: episodes(output) == len(names), "all sessions")
            stop(second, reading_second)
    check(output, names)


def stands(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def unchanged(before: dict[str, dict[str, tuple[int, int, str]]], output: Path) -> bool:
    """Whether every commit and every file of an episode that was there is there, byte for byte."""
    return all(
        snapshot(output / shard).get(name) == was
        for shard, files in before.items()
        for name, was in files.items()
        if name.startswith(("commits/", "data/", "videos/", "gamepad/"))
    )
