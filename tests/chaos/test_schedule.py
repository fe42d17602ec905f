"""The schedule is a function of its seed, and asks for nothing that a round cannot do."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from padreel.dataset import points
from tests.chaos.schedule import (
    BAD_RECORDINGS,
    GROUP_TIMEOUT_SECONDS,
    PARTITIONS,
    PLAY_SECONDS,
    RECORDINGS,
    SESSIONS,
    FillDisk,
    Join,
    Kill,
    Kind,
    RestartBroker,
    SessionPlan,
    Stop,
    Term,
    plan,
)

SEEDS = st.integers(0, 2**32)


@given(SEEDS)
def test_a_seed_gives_the_same_round_again(seed: int) -> None:
    assert plan(seed) == plan(seed)
    assert plan(seed).sessions != plan(seed + 1).sessions


@given(SEEDS)
def test_a_dozen_sessions_some_of_them_bad_and_some_interleaved(seed: int) -> None:
    sessions = plan(seed).sessions
    assert len({one.name for one in sessions}) == SESSIONS
    assert 2 <= sum(one.kind is not Kind.GOOD for one in sessions) <= 3
    assert any(overlap(one, other) for one, other in combinations(sessions, 2))
    for one in sessions:
        assert one.recording < (RECORDINGS if one.kind is Kind.GOOD else BAD_RECORDINGS)
        assert 0 <= one.partition < PARTITIONS
        assert one.lasts >= 1
        assert 0 <= one.starts <= one.starts + one.lasts <= PLAY_SECONDS


def overlap(one: SessionPlan, other: SessionPlan) -> bool:
    is_at_once = one.starts < other.starts + other.lasts and other.starts < one.starts + one.lasts
    return is_at_once and one.partition == other.partition and Kind.GOOD == one.kind == other.kind


@given(SEEDS)
def test_events_come_in_order_while_there_is_something_to_disturb(seed: int) -> None:
    times = [event.at for event in plan(seed).events]
    assert times == sorted(times)
    assert min(times) > 0
    assert max(times) < PLAY_SECONDS + 2


@given(SEEDS)
def test_every_fault_is_one_that_the_consumer_knows(seed: int) -> None:
    made = plan(seed)
    faults = [*made.points, *(event.point for event in made.events if isinstance(event, Join))]
    for fault in faults:
        if fault is not None:
            points.parse(fault)  # raises where there is none
            operation, _, action = fault.split(" ", 1)[1].split(":")
            assert action in ("kill", "stop") or operation not in points.GROUP_OPERATIONS


def test_everything_happens_now_and_then() -> None:
    """Each kind of event, of session and of pause, in a hundred rounds more than a few times."""
    made = [plan(seed) for seed in range(100)]
    events = Counter(type(event) for one in made for event in one.events)
    assert min(events[kind] for kind in (Kill, Stop, Term, Join, RestartBroker, FillDisk)) > 9
    kinds = Counter(session.kind for one in made for session in one.sessions)
    assert min(kinds[kind] for kind in Kind) > 30
    pauses = [pause for one in made for pause in one.pauses]
    assert sum(pause > GROUP_TIMEOUT_SECONDS for pause in pauses) == pytest.approx(len(pauses) / 2, rel=0.2)
    named = Counter((fault or "").split(":")[0] for one in made for fault in one.points)
    assert set(named) >= points.POINTS
    assert sum(session.resend > 0 for one in made for session in one.sessions) > 300
