"""A power loss at any moment, after any deaths and takeovers: what was reported as committed is there, and the shard
goes on to the same end. What a power loss may leave is in `tests.power`."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from padreel.dataset import shard
from tests.power import recording
from tests.shard_world import PlainStage
from tests.storage_lives import Life, live, lose_power, record

lives = st.lists(st.builds(Life, st.sampled_from(["dies", "is overtaken"]), st.integers(0, 340)), max_size=2)


@pytest.fixture(autouse=True)
def _plain_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard, "Stage", PlainStage)


@given(lives, st.floats(0, 1), st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0]), st.integers(0, 2**32))
def test_a_power_loss_at_any_moment_is_recovered(before: list[Life], when: float, survival: float, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder, recording(Path(folder) / "root") as recorder:
        path = recorder.top / "shard"
        record(path, recorder, before)
        live(path, recorder)
        dice = random.Random(seed)
        end = len(recorder.events)
        for cut in {round(when * end), dice.randrange(end), dice.randrange(end)}:
            lose_power(recorder, cut, dice, survival)
