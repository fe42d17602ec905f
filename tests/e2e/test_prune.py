"""Rigs prune while consumers are killed: no session goes of which an episode is not in a shard."""

from __future__ import annotations

import random
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from padreel.dataset import points
from padreel.dataset.commit_log import CommitLog
from padreel.status import find_shards
from padreel_shim.state import StateFile
from tests.conftest import TopicNames
from tests.e2e.processes import Rig, consumer, run_shim, shim
from tests.e2e.streams import demo_flags
from tests.session_folders import START_NS, event, write_actions, write_folder

FRAMES = 40
ROUNDS = 10
KILLS = (1, 200), (200, 2000)  # which operation on the disk is a consumer's last


@dataclass(frozen=True, slots=True)
class World:
    """One rig with its recordings, and the output root of its consumers."""

    rig: Rig
    recordings: Path
    states: Path
    output: Path

    @property
    def flags(self) -> list[str]:
        """Of a consumer that makes several episodes of a session and trims its beginning."""
        cuts = ("--size", "64x48", "--max-episode-seconds", "0.4", "--max-pre-action-seconds", "0.1", "--until", "end")
        return demo_flags(self.rig, self.output, "prune", *cuts, "--episodes-topic", self.topic)

    @property
    def topic(self) -> str:
        return f"{self.rig.frames}.episodes"

    def record(self, name: str, frames: int = FRAMES) -> None:
        """A session whose player presses a button after a third of a second, published."""
        folder = write_folder(self.recordings / name, frames)
        presses = [event(START_NS), event(START_NS + 333_333_333, 0), event(START_NS + 700_000_000)]
        write_actions(folder / "actions.bin", presses)
        shim("publish", str(folder), *self.rig.flags, "--speed", "max", "--state-dir", str(self.states))

    def prune(self, *more: str) -> str:
        brokers = ("--bootstrap-servers", self.rig.broker, "--episodes-topic", self.topic, "--group-id", "prune")
        return shim("prune", str(self.recordings), *brokers, "--state-dir", str(self.states), *more)

    def left(self) -> set[str]:
        return {path.name for path in self.recordings.iterdir()}

    def in_shards(self) -> Counter[str]:
        """Rows of each session that the logs have, by key."""
        rows: Counter[str] = Counter()
        for _, path in find_shards(self.output):
            log, n = CommitLog(path), 0
            while (entry := log.read(n)) is not None:
                if entry.episode is not None:
                    rows[entry.episode.columns["session"]] += entry.episode.length
                n += 1
        return rows

    def key(self, name: str) -> str:
        with StateFile(self.states, self.recordings / name) as file:
            state = file.load()
        assert state is not None
        return f"{state.session_name}@{state.run}"


@pytest.fixture
def world(broker: str, topics: TopicNames, tmp_path: Path) -> World:
    rig = Rig(broker, topics.frames, topics.pads)
    rig.create_topics(partitions=2)
    return World(rig, tmp_path / "recordings", tmp_path / "states", tmp_path / "out")


# The first eight frames come more than a tenth of a second before the first action.
ROWS = FRAMES - 8


def test_no_session_goes_before_its_episodes_are_in_a_shard(world: World) -> None:
    with consumer(world.flags) as running:  # from here on the topic is there
        assert running.finish() == 0, running.lines[-5:]
    rng = random.Random(20)
    names: list[str] = []
    pruned: set[str] = set()
    kills = partial = early = 0
    while len(names) < ROUNDS * 2 or world.left():
        assert len(names) <= ROUNDS * 2
        if len(names) < ROUNDS * 2:
            for _ in range(2):
                names.append(f"session-{len(names):02d}")
                world.record(names[-1])
        is_last = len(names) == ROUNDS * 2
        crash = {} if is_last else {points.VARIABLE: f"*:{rng.randint(*rng.choice(KILLS))}:kill"}
        with consumer(world.flags, crash) as running:
            if rng.random() < 0.3:  # while it works
                world.prune()
            code = running.finish()
        assert code in (0, -signal.SIGKILL), running.lines[-5:]
        kills += code != 0
        # From here on nothing is committed: what goes now was in the shards before.
        rows = world.in_shards()
        partial += any(0 < rows[world.key(name)] < ROWS for name in names)
        said = world.prune()
        gone = set(names) - world.left()
        assert pruned <= gone
        for name in gone:
            assert rows[world.key(name)] == ROWS, (name, said)
        early += bool(gone - pruned) and not is_last
        pruned = gone
    assert kills >= ROUNDS // 2
    assert partial, "a consumer was killed between two episodes of a session"
    assert early, "something was pruned while consumers still died"
    assert world.left() == set()


def test_events_that_were_not_told_are_told_by_the_next_consumer(world: World) -> None:
    """Killed after a commit is linked: the log has it, nobody has heard of it."""
    world.record("one")
    with consumer(world.flags, {points.VARIABLE: "after link:4:kill"}) as running:
        assert running.finish() == -signal.SIGKILL
    assert sum(world.in_shards().values()) > 0
    assert "kept" in world.prune()
    with consumer(world.flags) as running:
        assert running.finish() == 0, running.lines[-5:]
    assert "1 sessions deleted, 0 kept" in world.prune()


def test_what_is_rejected_or_idle_is_kept(world: World, tmp_path: Path) -> None:
    world.record("good")
    folder = write_folder(world.recordings / "idle", FRAMES)
    write_actions(folder / "actions.bin", [event(START_NS)])
    shim("publish", str(folder), *world.rig.flags, "--speed", "max", "--state-dir", str(world.states))
    other = [*world.flags, "--size", "128x96"]  # all of them are of another size than this root's
    rejecting = [word if word != str(world.output) else str(tmp_path / "other") for word in other]
    rejecting[rejecting.index("prune")] = "rejects"
    with consumer(rejecting) as running:
        assert running.finish() == 0, running.lines[-5:]
    with consumer(world.flags) as running:
        assert running.finish() == 0, running.lines[-5:]
    flags = ("--bootstrap-servers", world.rig.broker, "--episodes-topic", world.topic, "--state-dir", str(world.states))
    said = shim("prune", str(world.recordings), *flags, "--group-id", "rejects")
    assert said.count("kept: it was rejected (schema)") == 2
    said = shim("prune", str(world.recordings), *flags, "--group-id", "rejects", "--rejected", "--dry-run")
    assert "2 sessions would be deleted, 0 kept" in said
    attic = tmp_path / "attic"
    attic.mkdir()
    said = world.prune("--move-to", str(attic))
    assert f"{world.recordings / 'good'}: moved" in said
    assert f"{world.recordings / 'idle'}: kept: nothing was told of it" in said
    assert (attic / "good" / "capture.mp4").exists()


def test_a_topic_that_nobody_made_is_an_error(world: World) -> None:
    world.record("one")
    brokers = ("--bootstrap-servers", world.rig.broker, "--episodes-topic", "nobody.episodes")
    _, err = run_shim("prune", str(world.recordings), *brokers, "--state-dir", str(world.states), code=1)
    assert "topic nobody.episodes does not exist; a consumer makes it when it starts" in err
    assert world.left() == {"one"}
