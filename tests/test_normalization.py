"""The figures that normalise actions and states: against their plain definitions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from padreel.core.normalization import BUTTON_FLOOR, STICK_FLOOR, differences, figures

BUTTONS = st.sampled_from([0.0, 0.0, 0.0, 1.0])
STICKS = st.floats(-1, 1, width=32)


@st.composite
def tables(draw: st.DrawFn) -> list[list[float]]:
    """Rows of a few slots, each a button's or a stick's."""
    kinds = draw(st.lists(st.sampled_from([BUTTONS, STICKS]), min_size=1, max_size=4))
    return [list(row) for row in draw(st.lists(st.tuples(*kinds), min_size=1, max_size=130))]


def quantile(values: Sequence[float], share: Fraction) -> Fraction:
    """By its definition: linear between the two neighbours in sorted order."""
    ordered = sorted(map(Fraction, values))
    at = share * (len(ordered) - 1)
    low, high = ordered[math.floor(at)], ordered[math.ceil(at)]
    return low + (high - low) * (at - math.floor(at))


@given(rows=tables())
def test_mean_deviation_and_quantiles_by_their_definitions(rows: list[list[float]]) -> None:
    found = figures(np.asarray(rows, np.float32), is_filtered=False)
    assert (found.rows, found.kept) == (len(rows), len(rows))
    for i, values in enumerate(zip(*rows, strict=True)):
        exact = [Fraction(value) for value in values]
        mean = sum(exact, Fraction()) / len(exact)
        std = math.sqrt(sum((value - mean) ** 2 for value in exact) / len(exact))
        assert found.mean[i] == pytest.approx(float(mean), abs=1e-12)
        assert found.q01[i] == pytest.approx(float(quantile(values, Fraction(1, 100))), abs=1e-12)
        assert found.q99[i] == pytest.approx(float(quantile(values, Fraction(99, 100))), abs=1e-12)
        is_button = all(value.denominator == 1 for value in exact) or found.q01[i] == found.q99[i]
        assert found.std[i] == pytest.approx(max(std, BUTTON_FLOOR if is_button else STICK_FLOOR), abs=1e-12)


@given(rows=tables())
def test_the_filter_drops_a_row_with_any_slot_outside_from_all_slots(rows: list[list[float]]) -> None:
    table = np.asarray(rows, np.float32)
    whole = figures(table, is_filtered=False)
    inside = [
        row
        for row in rows
        if all(low <= value <= high for value, low, high in zip(row, whole.q01, whole.q99, strict=True))
    ]
    if not inside:
        with pytest.raises(ValueError, match=f"none of {len(rows)} rows"):
            figures(table, is_filtered=True)
        return
    found, kept = figures(table, is_filtered=True), figures(np.asarray(inside, np.float32), is_filtered=False)
    assert (found.rows, found.kept) == (len(rows), len(inside))
    assert found.mean == pytest.approx(kept.mean, abs=1e-12)
    assert (found.q01, found.q99) == (whole.q01, whole.q99)  # of all rows either way


@given(rows=tables(), is_filtered=st.booleans())
def test_nothing_normalises_to_a_million(rows: list[list[float]], is_filtered: bool) -> None:
    table = np.asarray(rows, np.float32)
    try:
        found = figures(table, is_filtered=is_filtered)
    except ValueError:
        assume(False)
    scaled = np.abs((table.astype(np.float64) - found.mean) / found.std)
    assert scaled.max() <= 2 / STICK_FLOOR
    is_button = np.all(table == np.rint(table), axis=0)
    if is_button.any():
        assert scaled[:, is_button].max() <= 2 / BUTTON_FLOOR


def test_a_button_pressed_in_one_row_of_a_thousand() -> None:
    table = np.zeros((1000, 2))
    table[500, 0] = 1
    table[:, 1] = np.linspace(-1, 1, 1000)
    found = figures(table, is_filtered=True)
    assert (found.mean[0], found.std[0], found.q99[0]) == (0.0, BUTTON_FLOOR, 0.0)
    assert found.kept == 1000 - 20 - 1  # ten at each end of the other slot
    assert found.floored == (0,)
    assert found.std[1] == pytest.approx(np.linspace(-1, 1, 1000)[10:-10].std(), abs=2e-3)


@given(episodes=st.lists(st.lists(st.tuples(BUTTONS, STICKS), min_size=1, max_size=9), min_size=1, max_size=5))
def test_differences_stay_inside_their_episode(episodes: list[list[tuple[float, float]]]) -> None:
    found = differences([np.asarray(one, np.float32) for one in episodes])
    assert [len(one) for one in found] == [len(one) - 1 for one in episodes]
    for one, rows in zip(found, episodes, strict=True):
        expected = [[after - before for before, after in zip(a, b, strict=True)] for a, b in itertools.pairwise(rows)]
        assert one.tolist() == expected


def test_no_row_is_an_error() -> None:
    with pytest.raises(ValueError, match="there is no row"):
        figures(np.zeros((0, 3)), is_filtered=False)
