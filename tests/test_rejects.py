"""When so many records are rejected that going on would lose nearly all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import padreel.rejects
from padreel.errors import TooManyRejectedError
from padreel.rejects import RejectLimit


def stops(batches: list[list[bool]]) -> int | None:
    """The first batch at which the limit is reached; None if it never is."""
    limit = RejectLimit()
    for number, batch in enumerate(batches):
        try:
            limit.add(len(batch), [place for place, is_rejected in enumerate(batch) if is_rejected])
        except TooManyRejectedError:
            return number
    return None


def expected(batches: list[list[bool]], consecutive: int, window: int) -> int | None:
    """The same, looking at all records again at each that is rejected and at the end of each batch."""
    seen: list[bool] = []
    for number, batch in enumerate(batches):
        for place, is_rejected in enumerate(batch):
            seen.append(is_rejected)
            if not is_rejected and place + 1 < len(batch):
                continue
            last = seen[-window:]
            if seen[-consecutive:] == [True] * consecutive or (len(last) == window and sum(last) >= 0.95 * window):
                return number
    return None


MOSTLY = st.integers(0, 9).map(bool)


@given(batches=st.lists(st.lists(MOSTLY, min_size=1, max_size=30), max_size=12))
def test_it_stops_where_counting_anew_says(batches: list[list[bool]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(padreel.rejects, "CONSECUTIVE", 12)
        patch.setattr(padreel.rejects, "WINDOW", 20)
        assert stops(batches) == expected(batches, 12, 20)


def test_the_limits_are_those_that_are_documented() -> None:
    assert stops([[True] * 999, [False], [True] * 999, [False]]) is None
    assert stops([[True] * 600, [True] * 399, [True]]) == 2
    nearly = [[*[True] * 19, False]] * 500  # 95 %
    assert stops(nearly) == 499
    assert stops([[*[True] * 18, False, False], *nearly[:499]]) is None
