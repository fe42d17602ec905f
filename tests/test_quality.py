"""The score of an episode: what lowers it, and by how much."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from padreel.core.quality import COMPONENTS, EpisodeFigures, parse_quality_config, quality_of
from padreel.errors import SettingsError
from padreel.quality_config import CONFIG, load_quality_config

FPS = 30
CONFIGURED = load_quality_config()


def figures(rows: int = 300, **changes: Any) -> EpisodeFigures:
    """Of an episode with nothing wrong: an even clock, a pad that is used and young."""
    good: dict[str, Any] = {
        "forced": 0,
        "time_ns": np.rint(np.arange(rows) * 1e9 / FPS).astype(np.int64),
        "pad_age": np.full(rows, 0.01, np.float32),
        "state": np.ones((rows, 27), np.float32),
    }
    return EpisodeFigures(rows, FPS, **{**good, **changes})


def test_an_episode_with_nothing_wrong_has_1() -> None:
    found = quality_of(figures(), CONFIGURED)
    assert found.score == pytest.approx(1.0, abs=1e-6)
    assert set(found.components) == set(COMPONENTS)


def with_gap(frames: int) -> EpisodeFigures:
    times = np.arange(300)
    times[100:] += frames
    return figures(time_ns=np.rint(times * 1e9 / FPS).astype(np.int64))


WORSE: dict[str, tuple[EpisodeFigures, float]] = {
    "jitter": (
        figures(time_ns=np.rint((np.arange(300) + 0.25 * (np.arange(300) % 2)) * 1e9 / FPS).astype(np.int64)),
        0.5,
    ),
    "gaps": (with_gap(15), 1 - 15 / 315 / 0.1),
    "forced": (figures(forced=15), 0.5),
    "pad_age": (figures(pad_age=np.where(np.arange(300) < 75, -1, 0.1).astype(np.float32)), 0.75),
    "activity": (figures(state=(np.arange(300) < 30)[:, None] * np.ones((1, 27), np.float32)), 0.5),
    "duration": (figures(75), 0.5),
}


@pytest.mark.parametrize("component", WORSE)
def test_each_fault_lowers_its_own_component_alone(component: str) -> None:
    given_, expected = WORSE[component]
    found = quality_of(given_, CONFIGURED)
    assert found.components[component] == pytest.approx(expected, abs=0.01)
    others = [value for name, value in found.components.items() if name != component]
    assert others == pytest.approx([1.0] * len(others), abs=1e-6)
    assert found.score == pytest.approx(1 - CONFIGURED.weights[component] * (1 - expected), abs=0.01)


def test_without_times_and_pad_the_rest_is_weighed() -> None:
    found = quality_of(EpisodeFigures(75, FPS, 0), CONFIGURED)
    assert found.components == {"forced": 1.0, "duration": 0.5}
    assert found.score == pytest.approx((0.2 + 0.5 * 0.1) / 0.3)


@given(
    steps=st.lists(st.integers(0, 10**10), min_size=0, max_size=20),
    forced=st.integers(0, 21),
    age=st.floats(-1, 1000, width=32),
    state=st.floats(-1, 1, width=32),
)
def test_whatever_comes_the_score_is_between_0_and_1(steps: list[int], forced: int, age: float, state: float) -> None:
    rows = len(steps) + 1
    found = quality_of(
        EpisodeFigures(
            rows,
            FPS,
            min(forced, rows),
            np.cumsum([0, *steps]).astype(np.int64),
            np.full(rows, age, np.float32),
            np.full((rows, 27), state, np.float32),
        ),
        CONFIGURED,
    )
    assert 0 <= found.score <= 1
    assert all(0 <= value <= 1 for value in found.components.values())


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [("weights", "gaps", None), ("weights", "gaps", -1), ("limits", "short_seconds", 0), ("limits", "new", 1)],
)
def test_a_configuration_that_cannot_be_is_named(tmp_path: Path, part: str, name: str, value: object) -> None:
    content = json.loads(CONFIG.read_text())
    content[part][name] = value
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(SettingsError, match=rf"config\.json: {part}"):
        load_quality_config(tmp_path / "config.json")
    with pytest.raises(ValueError, match="expected"):
        parse_quality_config(content, "here")
