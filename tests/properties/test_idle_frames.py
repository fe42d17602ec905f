"""Which frames were trimmed can be told by their times alone, whatever died in between: rigs prune by that."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from padreel.core.align import Join
from padreel.core.pipeline import Limits
from padreel.core.rules import Rules
from padreel.model import EpisodeDraft
from tests.properties.player import Player, ViolationError, play_out, schema_of
from tests.properties.worlds import oracle, random_world


class Noting(Player):
    """Keeps what each episode says of idle frames."""

    def check_episode(self, draft: EpisodeDraft, marks: list[bool]) -> None:
        super().check_episode(draft, marks)
        self.__dict__.setdefault("idle_until", {}).setdefault(draft.key, set()).add(draft.idle_until_ns)

    def check_outcome(self) -> None:
        super().check_outcome()
        if self.forced:
            return  # such frames are decided by a deadline, not by their times
        world, rules, none = self.world, self.rules, dict[tuple[str, int], Any]()
        _, fates = oracle(world, rules.max_episode_ns, rules.max_pre_action_ns, set(self.silences.values()), none)
        for key, found in self.__dict__.get("idle_until", {}).items():
            if len(found) != 1:
                raise ViolationError(f"{key}: its episodes disagree: {found}")
            (until_ns,) = found  # no rig's clock is below 0, as some are here
            for offset, fate in fates.items():
                record = world.frames[offset]
                if record[1] != key or fate not in ("idle", "row") or record[4] < 0:
                    continue
                if (record[4] < until_ns) != (fate == "idle"):
                    raise ViolationError(f"{key}: the frame at {record[4]} is {fate}, idle until {until_ns}")


def play_noting(seed: int) -> Noting:
    rng = random.Random(seed)
    world = random_world(rng)
    rules = Rules(
        schema=schema_of(world),
        max_episode_ns=rng.choice([2, 4, 9]),
        max_pre_action_ns=rng.choice([None, 0, 2, 6]),
        dedupe_horizon=world.horizon(),
        silent_after_records=10**9,
    )
    return play_out(rng, lambda: Noting(world, rules, Limits(), gives_up=False))


@given(st.integers(0, 2**32))
@example(0)
@settings(max_examples=300, deadline=None)
def test_idle_frames_are_those_before_the_time_that_each_episode_says(seed: int) -> None:
    play_noting(seed)


def _too_late(self: Join) -> int:
    return 0 if self._window is None else max(0, self.first_action_ns or 0)


def _none(self: Join) -> int:
    return 0


@pytest.mark.parametrize("mutant", [_too_late, _none])
def test_a_mutant_is_caught(mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Join, "idle_until_ns", property(mutant))

    def play_all() -> None:
        for seed in range(200):
            play_noting(seed)

    with pytest.raises(ViolationError):
        play_all()
