"""Random worlds through the real pipeline, against the batch oracle; and mutants that must be caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from padreel.core import order
from padreel.core.align import Join, PadTimeline, Verdict
from padreel.core.offsets import Ledger
from padreel.core.pipeline import Pipeline
from padreel.core.rules import Positions
from padreel.core.segment import Segment
from padreel.core.session import Session, Snapshot
from padreel.model import FoldMark, Frame, PadEnd
from tests.properties.player import ViolationError, play


@given(st.integers(0, 2**32))
@example(0)
@example(13308)  # frames older than an EVENT that had been folded
@settings(max_examples=400, deadline=None)
def test_every_world_becomes_what_the_oracle_says(seed: int) -> None:
    """Crashes, silence, force and back-pressure at random: episodes, pairings and counts equal the oracle's."""
    play(seed)


# ---- mutants: each switches one rule off --------------------------------------------------------------------

Patch = Callable[[pytest.MonkeyPatch], None]
MUTANTS: dict[str, Patch] = {}


def mutant(patch: Patch) -> Patch:
    MUTANTS[patch.__name__] = patch
    return patch


def _state(patcher: pytest.MonkeyPatch, **fields: Any) -> None:
    """Let a commit remember something else of open sessions."""
    original = Session.snapshot

    def snapshot(self: Session, at: Positions) -> Snapshot:
        taken = original(self, at)
        return taken._replace(state=replace(taken.state, **{k: v(self) for k, v in fields.items()}))

    patcher.setattr(Session, "snapshot", snapshot)


@mutant
def silent_pads_are_not_folded(p: pytest.MonkeyPatch) -> None:
    p.setattr(Session, "_fold", lambda self, at: None)


@mutant
def dormant_sessions_are_forgotten(p: pytest.MonkeyPatch) -> None:
    p.setattr(Ledger, "_expired", lambda self, session, reached: session.dormant and not session.segments)


@mutant
def pads_are_remembered_as_they_are_now(p: pytest.MonkeyPatch) -> None:
    def now(session: Session) -> Any:
        pads = session.pads
        held = len(pads._times)
        event = pads._payloads.part(held - 1, held)[0] if held else None
        return replace(
            pads.snapshot, event=event, event_ns=pads.event_ns, heartbeat_ns=pads.heartbeat_ns, ties=pads.ties
        )

    _state(p, pad=now)


@mutant
def closed_sessions_are_forgotten_at_once(p: pytest.MonkeyPatch) -> None:
    original = Ledger.__init__

    def init(self: Ledger, closed: Any, horizon: int) -> None:
        original(self, closed, 0)

    p.setattr(Ledger, "__init__", init)


@mutant
def first_action_is_not_remembered(p: pytest.MonkeyPatch) -> None:
    _state(p, first_action_ns=lambda session: None)


@mutant
def waiting_is_not_remembered(p: pytest.MonkeyPatch) -> None:
    _state(p, waiting=lambda session: False)


@mutant
def segment_start_is_not_remembered(p: pytest.MonkeyPatch) -> None:
    _state(p, segment_ns=lambda session: None)


@mutant
def pad_end_is_not_remembered(p: pytest.MonkeyPatch) -> None:
    _state(p, pad=lambda session: replace(session.pads.snapshot, ended=False))


@mutant
def own_resume_offset_is_not_remembered(p: pytest.MonkeyPatch) -> None:
    _state(p, resume=lambda session: 0)


@mutant
def received_maxima_are_remembered_as_they_are_now(p: pytest.MonkeyPatch) -> None:
    _state(
        p,
        time_ns=lambda session: session._received.time_ns,
        frame_index=lambda session: session._received.frame_index,
    )


@mutant
def heartbeats_do_not_make_late(p: pytest.MonkeyPatch) -> None:
    original = PadTimeline.event

    def event(self: PadTimeline, offset: int, time_ns: int, payload: bytes) -> Verdict:
        beat, self.heartbeat_ns = self.heartbeat_ns, None
        try:
            return original(self, offset, time_ns, payload)
        finally:
            self.heartbeat_ns = beat

    p.setattr(PadTimeline, "event", event)


@mutant
def an_event_at_a_heartbeat_is_in_time(p: pytest.MonkeyPatch) -> None:
    original = PadTimeline.event

    def event(self: PadTimeline, offset: int, time_ns: int, payload: bytes) -> Verdict:
        beat = self.heartbeat_ns
        self.heartbeat_ns = None if time_ns == beat else beat
        try:
            return original(self, offset, time_ns, payload)
        finally:
            self.heartbeat_ns = beat

    p.setattr(PadTimeline, "event", event)


@mutant
def ties_are_not_told_apart(p: pytest.MonkeyPatch) -> None:
    original = PadTimeline.event

    def event(self: PadTimeline, offset: int, time_ns: int, payload: bytes) -> Verdict:
        self.ties = ()
        return original(self, offset, time_ns, payload)

    p.setattr(PadTimeline, "event", event)


@mutant
def a_hole_is_skipped_over(p: pytest.MonkeyPatch) -> None:
    original = Segment.settle

    def settle(self: Segment, join: Join) -> Any:
        if self.cut is not None and self._pending and self.next_index not in self._pending:
            self.next_index = min(self._pending)
        return original(self, join)

    p.setattr(Segment, "settle", settle)


@mutant
def both_topics_may_be_stopped(p: pytest.MonkeyPatch) -> None:
    def allowed(self: Pipeline) -> tuple[bool, bool]:
        sessions = self.sessions.values()
        return (
            sum(s.undecided_frames for s in sessions) < self.limits.frames,
            sum(s.undecided_pads for s in sessions) < self.limits.pads,
        )

    p.setattr(Pipeline, "allowed", allowed)


@mutant
def restarts_are_taken_for_duplicates(p: pytest.MonkeyPatch) -> None:
    original = Session._frame

    def frame(self: Session, item: Frame, now_ns: int) -> None:
        if item.sequence < self._sequence and self._received.time_ns is not None:
            item = replace(item, time_ns=min(item.time_ns, self._received.time_ns))
        original(self, item, now_ns)

    p.setattr(Session, "_frame", frame)


@mutant
def duplicates_are_taken_for_restarts(p: pytest.MonkeyPatch) -> None:
    original = Session._frame

    def frame(self: Session, item: Frame, now_ns: int) -> None:
        rows = [t for s in self.segments for t in s.row_times]
        if item.sequence < self._sequence and item.time_ns > max(rows, default=-1):
            item = replace(item, time_ns=10**9)
        original(self, item, now_ns)

    p.setattr(Session, "_frame", frame)


@mutant
def clocks_that_step_are_believed(p: pytest.MonkeyPatch) -> None:
    p.setattr(order, "clock_disagrees", lambda *_: False)


@mutant
def a_pad_end_opens_nothing(p: pytest.MonkeyPatch) -> None:
    original = Pipeline.read_pads

    def read_pads(self: Pipeline, items: Any, *args: Any) -> None:
        original(self, [i for i in items if not isinstance(i, PadEnd) or i.key in self.sessions], *args)

    p.setattr(Pipeline, "read_pads", read_pads)


@mutant
def folded_with_rows_pending(p: pytest.MonkeyPatch) -> None:
    def fold(self: Session, at: Positions) -> None:
        if self.pads.unfolded:
            until_ns = self.pads.fold()
            if until_ns is not None:
                self.join.fold = FoldMark(until_ns, at.frames, at.pads)

    p.setattr(Session, "_fold", fold)


@mutant
def fold_is_not_marked(p: pytest.MonkeyPatch) -> None:
    original = Session._fold

    def fold(self: Session, at: Positions) -> None:
        before = self.join.fold
        original(self, at)
        self.join.fold = before

    p.setattr(Session, "_fold", fold)


@mutant
def frames_before_the_first_event_are_idle(p: pytest.MonkeyPatch) -> None:
    original = Join._trim

    def trim(self: Join, time_ns: int, force: bool) -> Any:
        known, self.pads.event_ns = self.pads.event_ns, self.pads.event_ns or -1
        try:
            return original(self, time_ns, force)
        finally:
            self.pads.event_ns = known

    p.setattr(Join, "_trim", trim)


@mutant
def keeping_by_force_is_not_monotone(p: pytest.MonkeyPatch) -> None:
    p.setattr(Join, "_kept_by_force", lambda self, time_ns: False)


@mutant
def counted_again_after_a_crash(p: pytest.MonkeyPatch) -> None:
    original = Session.snapshot

    def snapshot(self: Session, at: Positions) -> Snapshot:
        taken = original(self, at)
        return taken._replace(state=replace(taken.state, resume=max(0, taken.state.resume - 1)))

    p.setattr(Session, "snapshot", snapshot)


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_each_rule_switched_off_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a bounded number of worlds a mutant gives a wrong dataset, blocks, or breaks down."""
    MUTANTS[name](monkeypatch)
    for seed in range(8000):
        try:
            play(seed)
        except (ViolationError, ValueError, KeyError, IndexError, StopIteration, AssertionError, TypeError):
            return
    pytest.fail(f"no world shows that the rule matters: {name}")
