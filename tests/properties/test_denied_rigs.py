"""Random worlds in which rigs are denied, from the start or later: the others' episodes stay the oracle's."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from padreel.core import session as session_module
from padreel.core.denial import Denial
from padreel.core.offsets import Ledger
from padreel.core.pipeline import Limits, Pipeline
from padreel.core.rigs import NO_RIGS, UNKNOWN, RigList
from padreel.core.rules import Rules
from padreel.model import CloseReason, EndReason, Fate, Frame, PartitionState, SessionInfo
from tests.properties.player import Player, ViolationError, frame_item, play_out, schema_of
from tests.properties.worlds import World, oracle, random_world


class DenyingPlayer(Player):
    """Each session's rig is called like the session, and says so at its IDRs."""

    def __init__(self, world: World, rules: Rules, limits: Limits, rng: random.Random) -> None:
        self.rng = rng
        self.keys = sorted({record[1] for record in world.frames})
        self.from_start = frozenset(key for key in self.keys if rng.random() < 0.4)
        self.rigs = RigList(frozenset(self.keys), self.from_start)
        self.episodes_when_denied: dict[str, int] = {}
        self.has_crashed = False
        super().__init__(world, rules, limits, gives_up=True)

    def recover(self) -> None:
        self.has_crashed = bool(self.log) or self.has_crashed
        super().recover()
        state = self.log[-1].state if self.log else PartitionState()
        self.pipeline = Pipeline(self.rules, self.limits, state, rigs=self.rigs)

    def read_frame(self) -> None:
        if self.rng.random() < 0.05:
            self.deny(self.rng.choice(self.keys))
        at = self.pipeline.at.frames
        item = frame_item(self.world, at)
        if isinstance(item, Frame):
            item = replace(item, session=SessionInfo(rig_id=item.key) if item.stream is not None else None)
        self.pipeline.read_frames([item], at + 1, 0)

    def deny(self, key: str) -> None:
        if key not in self.rigs.denied:
            self.rigs = replace(self.rigs, denied=self.rigs.denied | {key})
            self.pipeline.use_rigs(self.rigs)
            self.episodes_when_denied[key] = len(self.episodes.get(key, ()))

    def check_outcome(self) -> None:
        world, rules = self.world, self.rules
        for key in self.from_start:
            if key in self.episodes:
                raise ViolationError(f"{key} was denied, and has an episode")
        for key, count in self.episodes_when_denied.items():
            if len(self.episodes.get(key, ())) != count:
                raise ViolationError(f"{key} was denied, and has another episode")
        forced: dict[tuple[str, int], Any] = {}
        if not self.forced:
            want, _ = oracle(world, rules.max_episode_ns, rules.max_pre_action_ns, set(self.silences.values()), forced)
            for key in sorted(set(self.keys) - self.rigs.denied):
                if want.get(key) != self.episodes.get(key):
                    raise ViolationError(f"episodes of {key}: {self.episodes.get(key)}, should be {want.get(key)}")
        last = self.log[-1].state if self.log else PartitionState()
        if (last.frames_next, last.pads_next) != (len(world.frames), len(world.pads)):
            raise ViolationError(f"pinned at {last.frames_next}, {last.pads_next}")
        if sum(self.accounted.values()) != len(world.frames):
            raise ViolationError(f"counted {self.accounted}, should be {len(world.frames)} in all")
        rows = sum(len(rows) for episodes in self.episodes.values() for rows in episodes)
        if self.accounted[Fate.ROW] != rows:
            raise ViolationError(f"counted {self.accounted[Fate.ROW]} rows, should be {rows}")
        self.check_labels()

    def check_labels(self) -> None:
        by_rig = self.pipeline.ledger.by_rig
        if {rig for rig, _ in by_rig} - self.rigs.labels:
            raise ViolationError(f"labels that are not listed: {by_rig}")
        if not self.has_crashed and sum(by_rig.values()) != len(self.world.frames):
            raise ViolationError(f"counted by rig {by_rig}, should be {len(self.world.frames)} in all")
        if any(fate is Fate.DENIED and rig not in self.rigs.denied | {UNKNOWN} for rig, fate in by_rig):
            raise ViolationError(f"denied, though it is not: {by_rig}")


def play_denied(seed: int) -> DenyingPlayer:
    rng = random.Random(seed)
    world = random_world(rng)
    rules = Rules(
        schema=schema_of(world),
        max_episode_ns=rng.choice([2, 4, 9, 1000]),
        max_pre_action_ns=rng.choice([None, 0, 2, 6]),
        dedupe_horizon=world.horizon(),
        silent_after_records=10**9,
    )
    limits = Limits() if rng.random() < 0.5 else Limits(frames=rng.randint(1, 5), pads=rng.randint(1, 5))
    return play_out(rng, lambda: DenyingPlayer(world, rules, limits, rng))


@given(st.integers(0, 2**32))
@example(0)
@example(537077)  # a rig restarts, and sends a number again with a picture of another kind
@settings(max_examples=300, deadline=None)
def test_a_denied_rig_has_no_episode_and_every_record_is_counted_once(seed: int) -> None:
    play_denied(seed)


def test_the_worlds_have_denied_rigs_in_all_ways() -> None:
    players = [play_denied(seed) for seed in range(60)]
    assert any(one.accounted[Fate.DENIED] for one in players)
    assert any(one.episodes_when_denied.get(key, 0) for one in players for key in one.keys)  # an episode, then denied
    assert any(one.has_crashed and one.from_start for one in players)
    assert any(one.episodes for one in players)


def _no_segments_are_let_go(p: pytest.MonkeyPatch) -> None:
    """The session is closed, but what it has goes on to become episodes."""

    def deny(self: Any, info: SessionInfo, offset: int) -> None:
        self.info, self.closing, self.closed_at = info, CloseReason.DENIED, offset
        self._cut(EndReason.SCHEMA)

    p.setattr(session_module.Session, "deny", deny)


def _frames_of_segments_are_not_counted(p: pytest.MonkeyPatch) -> None:
    original = Denial.deny

    def deny(self: Any, info: SessionInfo, offset: int) -> None:
        released = dict(self._released)
        original(self, info, offset)
        self._released = released

    p.setattr(Denial, "deny", deny)


def _a_list_is_used_for_new_sessions_only(p: pytest.MonkeyPatch) -> None:
    p.setattr(Pipeline, "use_rigs", lambda self, rigs: setattr(self.ledger, "rigs", rigs))


def _the_list_is_forgotten_by_a_crash(p: pytest.MonkeyPatch) -> None:
    original = Pipeline.__init__

    def init(self: Pipeline, rules: Rules, limits: Limits, state: PartitionState, rigs: RigList = NO_RIGS) -> None:
        original(self, rules, limits, state)

    p.setattr(Pipeline, "__init__", init)


def _closed_sessions_count_twice(p: pytest.MonkeyPatch) -> None:
    original = Ledger.close

    def close(self: Ledger, session: Any, reason: CloseReason, at: Any) -> None:
        original(self, session, reason, at)
        entry = self.closed[session.key]
        self.closed[session.key] = replace(entry, frames=0)

    p.setattr(Ledger, "close", close)


@pytest.mark.parametrize(
    "mutate",
    [
        _no_segments_are_let_go,
        _frames_of_segments_are_not_counted,
        _a_list_is_used_for_new_sessions_only,
        _the_list_is_forgotten_by_a_crash,
        _closed_sessions_count_twice,
    ],
    ids=lambda mutate: mutate.__name__.strip("_"),
)
def test_a_mutant_is_caught(mutate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch)

    def play_all() -> None:
        for seed in range(300):
            play_denied(seed)

    with pytest.raises(ViolationError):
        play_all()
