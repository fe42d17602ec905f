"""A pad that plays by itself, from a seed: the right answer is known for every moment.

The pad's state at poll k is a function of the seed and k alone; nothing is accumulated. So `state_at` answers
without looking at the EVENTs, and a test that joins EVENTs to frames has something independent to compare with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from random import Random

_AXIS_STEPS = 32768  # as a pad's 16-bit axes; multiples of 1/32768 are exact in float32
_BUTTONS = (0, 1, 2, 3, 6, 9, 10, 11, 12, 13, 14)  # SDL3: face buttons, start, shoulders, d-pad

_STICK_SLOT_NS = 450_000_000
_TRIGGER_SLOT_NS = 1_100_000_000
_BUTTON_SLOT_NS = 380_000_000
_REST_SLOT_NS = 3_000_000_000  # now and then the player's hands are still


@dataclass(frozen=True, slots=True)
class PadState:
    """A pad: six axes in SDL3 order (sticks in [-1, 1], triggers in [0, 1]) and the SDL3 ids of buttons down."""

    axes: tuple[float, float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    buttons: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ScriptEvent:
    """The pad changed: `sequence` counts from 0, `state` is the full state from `time_ns` on."""

    sequence: int
    time_ns: int
    state: PadState


def _smooth(x: float) -> float:
    """Ease from 0 to 1 while x goes from 0 to 1."""
    x = min(1.0, max(0.0, x))
    return x * x * (3 - 2 * x)


def _quantise(value: float) -> float:
    return max(-_AXIS_STEPS, min(_AXIS_STEPS - 1, round(value * _AXIS_STEPS))) / _AXIS_STEPS


class PadScript:
    """A seeded player, polled at `poll_hz`, whose hands are still for the first `idle_ns`.

    Raises ValueError for a rate or a duration that is not positive.
    """

    def __init__(
        self, seed: str, start_ns: int, duration_ns: int, *, poll_hz: int = 60, idle_ns: int = 1_000_000_000
    ) -> None:
        if poll_hz <= 0 or duration_ns <= 0:
            raise ValueError(f"poll_hz {poll_hz} and duration_ns {duration_ns} must be positive")
        self.seed = seed
        self.start_ns = start_ns
        self.poll_hz = poll_hz
        self.idle_ns = idle_ns
        self.polls = max(1, duration_ns * poll_hz // 1_000_000_000)
        # Bounded: a slot is asked for only while its polls are near.
        self._draws = lru_cache(maxsize=256)(self._draw_uncached)

    def poll_ns(self, poll: int) -> int:
        """When poll number `poll` happens: evenly spaced, with up to a fifth of a period of jitter after poll 0."""
        period = 1_000_000_000 // self.poll_hz
        jitter = int(self._draws("jitter", poll)[0] * period / 5) if poll else 0
        return self.start_ns + poll * 1_000_000_000 // self.poll_hz + jitter

    def state_at(self, time_ns: int) -> PadState | None:
        """The state in force at `time_ns`, that of the last poll at or before it; None before the first poll."""
        if time_ns < self.start_ns:
            return None
        poll = min(self.polls - 1, (time_ns - self.start_ns) * self.poll_hz // 1_000_000_000 + 1)
        while self.poll_ns(poll) > time_ns:
            poll -= 1
        return self._state(poll)

    def events(self) -> Iterator[ScriptEvent]:
        """The first state, then every change, in order of time."""
        last: PadState | None = None
        sequence = 0
        for poll in range(self.polls):
            state = self._state(poll)
            if state != last:
                yield ScriptEvent(sequence, self.poll_ns(poll), state)
                last = state
                sequence += 1

    def _draw_uncached(self, channel: str, slot: int) -> tuple[float, float, float, float]:
        """Four numbers in [0, 1) that belong to a channel's slot."""
        random = Random(f"{self.seed}/{channel}/{slot}")
        return (random.random(), random.random(), random.random(), random.random())

    def _still(self, slot_start_ns: int) -> bool:
        if slot_start_ns < self.idle_ns:
            return True
        rest = slot_start_ns // _REST_SLOT_NS
        return slot_start_ns - self.idle_ns > _REST_SLOT_NS and self._draws("rest", rest)[0] < 0.15

    def _state(self, poll: int) -> PadState:
        at = poll * 1_000_000_000 // self.poll_hz  # the nominal time decides, not the jittered
        left, right = self._stick("left", at), self._stick("right", at)
        axes = (*left, *right, self._trigger("left_trigger", at), self._trigger("right_trigger", at))
        pressed = {self._button(channel, at) for channel in ("button_a", "button_b")}
        return PadState(axes, tuple(sorted(button for button in pressed if button is not None)))

    def _target(self, channel: str, slot: int) -> tuple[float, float]:
        """Where a stick goes in a slot: often to rest, else some way in some direction."""
        start = slot * _STICK_SLOT_NS
        angle, radius, rests, _ = self._draws(channel, slot)
        first = start - _STICK_SLOT_NS < self.idle_ns  # the player begins with a move
        if self._still(start) or (rests < 0.35 and not first):
            return (0.0, 0.0)
        radius = 0.35 + 0.65 * radius
        return (radius * math.cos(2 * math.pi * angle), radius * math.sin(2 * math.pi * angle))

    def _stick(self, channel: str, at: int) -> tuple[float, float]:
        slot, rest = divmod(at, _STICK_SLOT_NS)
        (x0, y0), (x1, y1) = self._target(channel, slot - 1), self._target(channel, slot)
        share = _smooth(rest / _STICK_SLOT_NS / (0.25 + 0.35 * self._draws(channel, slot)[3]))
        return (_quantise(x0 + (x1 - x0) * share), _quantise(y0 + (y1 - y0) * share))

    def _trigger(self, channel: str, at: int) -> float:
        slot, rest = divmod(at, _TRIGGER_SLOT_NS)
        pulls, peak, begin, length = self._draws(channel, slot)
        if self._still(slot * _TRIGGER_SLOT_NS) or pulls < 0.55:
            return 0.0
        x = (rest / _TRIGGER_SLOT_NS - 0.4 * begin) / (0.25 + 0.3 * length)
        return _quantise(min(1.0, 0.5 + 0.7 * peak) * math.sin(math.pi * x)) if 0 < x < 1 else 0.0

    def _button(self, channel: str, at: int) -> int | None:
        slot, rest = divmod(at, _BUTTON_SLOT_NS)
        presses, which, begin, length = self._draws(channel, slot)
        if self._still(slot * _BUTTON_SLOT_NS) or presses < 0.5:
            return None
        x = rest / _BUTTON_SLOT_NS - 0.4 * begin
        return _BUTTONS[int(which * len(_BUTTONS))] if 0 <= x < 0.15 + 0.4 * length else None
