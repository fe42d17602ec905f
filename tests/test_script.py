from __future__ import annotations

import struct
from itertools import pairwise

import pytest

from padreel_shim.script import PadScript, PadState

SECOND = 1_000_000_000


def script(seed: str = "a", seconds: float = 20) -> PadScript:
    return PadScript(seed, 5_000 * SECOND + 17, int(seconds * SECOND))


@pytest.mark.parametrize("seed", ["a", "b", "7/1"])
def test_state_at_equals_the_latest_event(seed: str) -> None:
    player = script(seed)
    events = list(player.events())
    times = {t + d for event in events for t in (event.time_ns,) for d in (-1, 0, 1)}
    times |= set(range(player.start_ns - SECOND, player.start_ns + 22 * SECOND, 7_777_777))
    for time_ns in sorted(times):
        latest: PadState | None = None
        for event in events:
            if event.time_ns <= time_ns:
                latest = event.state
        assert player.state_at(time_ns) == latest


def test_events_are_changes_in_order() -> None:
    events = list(script().events())
    assert events[0].time_ns == 5_000 * SECOND + 17
    assert [event.sequence for event in events] == list(range(len(events)))
    assert all(a.time_ns < b.time_ns and a.state != b.state for a, b in pairwise(events))


def test_the_pad_is_idle_first_and_then_moves_soon() -> None:
    for seed in "abcdefgh":
        player = script(seed)
        first, second, *_ = player.events()
        assert first.state == PadState()
        assert 1.0 <= (second.time_ns - player.start_ns) / SECOND < 2.0


def test_every_kind_of_control_is_used() -> None:
    states = [event.state for event in script(seconds=60).events()]
    for axis in range(6):
        assert max(state.axes[axis] for state in states) > 0.5
    assert min(state.axes[0] for state in states) < -0.5
    assert {button for state in states for button in state.buttons} == {0, 1, 2, 3, 6, 9, 10, 11, 12, 13, 14}
    assert max(len(state.buttons) for state in states) == 2


def test_axes_are_exact_in_float32_and_in_range() -> None:
    for event in script().events():
        assert struct.unpack("<6f", struct.pack("<6f", *event.state.axes)) == event.state.axes
        assert all(-1 <= value <= 1 for value in event.state.axes)


def test_a_seed_plays_the_same_again_and_others_differ() -> None:
    assert list(script("a").events()) == list(script("a").events())
    assert list(script("a").events()) != list(script("b").events())


def test_there_are_rests_longer_than_a_second() -> None:
    gaps = [b.time_ns - a.time_ns for a, b in pairwise(script(seconds=120).events())]
    assert sum(gap > SECOND for gap in gaps) >= 2


@pytest.mark.parametrize(("duration_ns", "poll_hz"), [(0, 60), (SECOND, 0)])
def test_impossible_scripts_are_refused(duration_ns: int, poll_hz: int) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        PadScript("a", 0, duration_ns, poll_hz=poll_hz)
