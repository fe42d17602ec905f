"""The pairing of rows and EVENTs is found again from what a dataset keeps of it."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from padreel.training.relabel.pairing import NO_EVENT, recover_pairing

FRAME_NS = 33_333_333


@st.composite
def episodes(draw: st.DrawFn) -> tuple[list[int], list[int], list[int], int]:
    """Row times, EVENT times from the one in force at the first row on, pairing, the session's first time."""
    session_ns = draw(st.integers(0, 2**55))
    begin = session_ns + draw(st.integers(0, 3600 * 10**9))
    frames = draw(st.lists(st.sampled_from([FRAME_NS, FRAME_NS - 1_000_000, 900_000_000]), max_size=30))
    changes = draw(st.lists(st.sampled_from([0, 1_000_000, 8_333_333, 16_666_667, 2_000_000_000]), max_size=30))
    times = [begin + sum(frames[:i]) for i in range(len(frames) + 1)]
    first = begin + draw(st.integers(-900 * 10**9, 2 * 10**9))
    events = [at for i in range(len(changes) + 1) if (at := first + sum(changes[:i])) <= times[-1]]
    in_force = bisect_right(events, times[0]) - 1
    events = events[max(0, in_force) :]
    pairing = [bisect_right(events, t) - 1 for t in times]
    if draw(st.booleans()):  # a row that was decided by force keeps an earlier one
        row = draw(st.integers(0, len(times) - 1))
        pairing[row] = max(0 if row == 0 and pairing[0] >= 0 else NO_EVENT, pairing[row] - draw(st.integers(0, 2)))
    return times, events, pairing, session_ns


def ages(times: list[int], events: list[int], pairing: list[int]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    values = [(t - events[p]) / 1e9 if p >= 0 else -1.0 for t, p in zip(times, pairing, strict=True)]
    return np.asarray(values, np.float32)


@given(episode=episodes(), data=st.data())
def test_every_row_finds_its_event(episode: tuple[list[int], list[int], list[int], int], data: st.DataObject) -> None:
    """Up to EVENTs that show the same and lie closer together than a float32 age can tell."""
    times, events, pairing, session_ns = episode
    kinds = data.draw(st.lists(st.integers(0, 3), min_size=len(events), max_size=len(events)))
    states = np.asarray([[kind] for kind in kinds], np.float32).reshape(len(events), 1)
    rows = np.asarray([states[p] if p >= 0 else [9.0] for p in pairing], np.float32)
    age = ages(times, events, pairing)
    found = recover_pairing(np.asarray(times, np.int64) - session_ns, age, np.asarray(events, np.int64), rows, states)
    assert found is not None
    for row, (p, q) in enumerate(zip(pairing, found.tolist(), strict=True)):
        if p != q:
            assert p >= 0
            assert q >= 0
            assert states[p] == states[q]
            assert abs(events[p] - events[q]) <= 2 + (times[row] - events[p]) * 2.0**-21 or _could_be(times, events)


def _could_be(times: list[int], events: list[int]) -> bool:
    """Where no row is paired at first, equally spaced EVENTs may fit in several ways."""
    return events[0] > times[0]


def test_rows_without_an_event_have_none() -> None:
    age = np.full(3, -1, np.float32)
    found = recover_pairing(
        np.arange(3), age, np.zeros(0, np.int64), np.zeros((3, 1), np.float32), np.zeros((0, 1), np.float32)
    )
    assert found is not None
    assert found.tolist() == [-1, -1, -1]


def test_what_does_not_belong_together_is_noticed() -> None:
    times, one = np.asarray([0, FRAME_NS]), np.ones((2, 1), np.float32)
    age = np.asarray([0.001, 0.002], np.float32)
    events = np.asarray([5, 5 + FRAME_NS // 2])
    assert recover_pairing(times, age, events, one, one) is None
    assert recover_pairing(times, age, np.zeros(0, np.int64), one, np.zeros((0, 1), np.float32)) is None
    right = np.asarray([5, 5 + FRAME_NS - 1_000_000])
    assert recover_pairing(times, age, right, one, one) is not None
    assert recover_pairing(times, age, right, one, np.zeros((2, 1), np.float32)) is None
