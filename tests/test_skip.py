"""Giving records up: what a partition's state is then, and what the shard's log says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from padreel.core.pipeline import Limits, Pipeline
from padreel.core.rules import Rules
from padreel.core.skip import skipped
from padreel.dataset import shard
from padreel.dataset.commit_log import CommitLog, Kind, Lost, Source
from padreel.dataset.lost import commit_lost
from padreel.errors import DatasetError, FencedError, RootMismatchError
from padreel.model import (
    Commit,
    Frame,
    LastRecord,
    OpenSession,
    PadEvent,
    PadState,
    PartitionState,
    Schema,
    Stream,
    Topic,
)
from tests.shard_world import WORLD, PlainStage, open_shard, play, read_shard, whole_world

SOURCE = Source("cluster", "padreel.frames", "padreel.gamepad", 3, 4, "recorders")
STREAM = Stream("h264", 64, 48, 30, b"\x01extradata")
PAD = PadState(event=b"old", event_ns=7, heartbeat_ns=9, ties=(b"old",))
STATE = PartitionState(
    frames_next=10,
    pads_next=20,
    frames_position=15,
    pads_position=40,
    open={
        "before@1": OpenSession(resume=10, pads_resume=20, sequence=4, waiting=False, segment_ns=5, pad=PAD),
        "after@2": OpenSession(resume=14, pads_resume=35, waiting=False, segment_ns=6, pad=PAD),
    },
    last_frame=LastRecord(14, 0, 1),
    last_pad=LastRecord(39, 0, 2),
)


def test_lost_frames_leave_a_session_waiting_for_an_idr() -> None:
    state = skipped(STATE, Topic.FRAMES, 12)
    assert (state.frames_next, state.frames_position) == (12, 15)
    before = state.open["before@1"]
    assert (before.resume, before.waiting, before.segment_ns, before.sequence) == (12, True, None, 4)
    assert before.pad == PAD
    assert state.open["after@2"] == STATE.open["after@2"]
    assert (state.pads_next, state.last_pad) == (20, STATE.last_pad)
    assert state.last_frame is None  # the broker has it no more


def test_lost_pads_leave_it_open_which_event_is_in_force() -> None:
    state = skipped(STATE, Topic.PADS, 30)
    assert (state.pads_next, state.pads_position, state.frames_next) == (30, 40, 10)
    before = state.open["before@1"]
    assert before.pads_resume == 30
    assert before.pad == PadState(event=None, event_ns=7, heartbeat_ns=9, ties=(b"old",))
    assert state.open["after@2"] == STATE.open["after@2"]


@pytest.mark.parametrize(("topic", "until"), [(Topic.FRAMES, 10), (Topic.PADS, 20), (Topic.PADS, 0)])
def test_what_was_read_is_not_given_up(topic: Topic, until: int) -> None:
    with pytest.raises(ValueError, match="goes on at offset"):
        skipped(STATE, topic, until)


def test_after_a_hole_in_the_pads_the_pad_is_not_known_until_its_next_event() -> None:
    rules = Rules(Schema("h264", 64, 48, 30))
    key = "one@1"
    first = Pipeline(rules, Limits(), PartitionState())

    def frame(n: int, offset: int) -> Frame:
        return Frame(offset, key, n, n, 100 + n * 10, n % 2 == 0, b"unit", STREAM if n % 2 == 0 else None, None)

    first.read_pads([PadEvent(0, key, 50, b"a", False), PadEvent(1, key, 115, b"b", False)], 2, 0)
    first.read_frames([frame(0, 0), frame(1, 1), frame(2, 2)], 3, 0)
    commit = first.progress()
    assert commit is not None
    # The EVENTs at offsets 2 to 4 are lost; that at 5 is the first known again.
    second = Pipeline(rules, Limits(), skipped(commit.state, Topic.PADS, 5))
    second.read_pads([PadEvent(5, key, 135, b"c", False), PadEvent(6, key, 1_000, b"d", False)], 7, 0)
    at = commit.state.frames_next
    second.read_frames([frame(n, n) for n in range(at, 6)], 6, 0)
    second.silence(key, 0)
    (draft,) = [one.episode for one in second.effects() if isinstance(one, Commit) and one.episode is not None]
    times, pairing = list(draft.time_ns), list(draft.pairing)
    paired = {t: draft.events[p] if p >= 0 else None for t, p in zip(times, pairing, strict=True)}
    assert {t: paired[t] for t in paired if t >= 120} == {120: None, 130: None, 140: b"c", 150: b"c"}


# ---- the shard


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shard whose consumer has died: everything of WORLD is committed, frames go on at 4."""
    monkeypatch.setattr(shard, "Stage", PlainStage)
    play(open_shard(tmp_path))
    return tmp_path


def test_a_loss_is_a_commit_and_reading_goes_on_behind_it(played: Path) -> None:
    (entry,) = commit_lost(played, SOURCE, "operator", [Lost(Topic.FRAMES, len(WORLD), 90)])
    assert (entry.kind, entry.lost) == (Kind.LOST, Lost(Topic.FRAMES, 4, 90))
    assert CommitLog(played).last() == entry
    assert read_shard(played) == whole_world()
    again = open_shard(played)
    assert again.state is not None
    assert again.state.frames_next == 90
    assert read_shard(played) == whole_world()
    assert again.totals.episodes == 2


def test_both_topics_can_have_a_hole(played: Path) -> None:
    made = commit_lost(played, SOURCE, "operator", [Lost(Topic.FRAMES, 4, 90), Lost(Topic.PADS, 0, 7)])
    assert [(one.kind, one.lost and one.lost.topic) for one in made] == [
        (Kind.LOST, Topic.FRAMES),
        (Kind.LOST, Topic.PADS),
    ]
    state = made[-1].state
    assert state is not None
    assert (state.frames_next, state.pads_next) == (90, 7)


def test_a_consumer_that_has_the_shard_is_fenced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard, "Stage", PlainStage)
    running = open_shard(tmp_path)
    play(running, WORLD[:2])
    commit_lost(tmp_path, SOURCE, "operator", [Lost(Topic.FRAMES, 2, 3)])
    with pytest.raises(FencedError):
        running.apply(WORLD[2](2))
    assert list((tmp_path / "staging").glob("pub-*")) == []


def test_a_log_that_has_gone_on_is_not_skipped(played: Path) -> None:
    with pytest.raises(DatasetError, match="reading goes on at offset 4, expected 3"):
        commit_lost(played, SOURCE, "operator", [Lost(Topic.FRAMES, 3, 90)])


def test_what_is_no_shard_or_another_group_s_is_refused(played: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no shard"):
        commit_lost(tmp_path / "partition-00009", SOURCE, "operator", [Lost(Topic.FRAMES, 0, 1)])
    assert not (tmp_path / "partition-00009").exists()
    other = Source("cluster", "padreel.frames", "padreel.gamepad", 3, 4, "others")
    with pytest.raises(RootMismatchError, match="group"):
        commit_lost(played, other, "operator", [Lost(Topic.FRAMES, 4, 90)])
