"""Figures by which a reader normalises actions and states: mean, deviation, 1 % and 99 % quantile of every slot. Pure.

Everything is computed in float64 from the stored values, over all rows at once, so the quantiles are exact (linear
between neighbours in sorted order). The deviation is that of the population, with a floor.

**Why a floor.** A button that is pressed in less than a hundredth of the rows has the 99 % quantile 0; where rows
beyond the quantiles are dropped its deviation is 0 too, and a reader that divides by deviation + 1e-6 sees its next
press as a million. So the deviation of a slot never is less than `BUTTON_FLOOR` where the slot holds whole numbers only
(buttons, their differences, sticks at rest) or 98 % of its rows hold one value; elsewhere never less than
`STICK_FLOOR`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

BUTTON_FLOOR: Final = 0.1  # of a button pressed in one row of a hundred; a press is ten deviations at most
STICK_FLOOR: Final = 0.01  # of a stick that hardly leaves its centre; its full way is a hundred at most
LOW: Final = 0.01
HIGH: Final = 0.99


@dataclass(frozen=True, slots=True)
class Figures:
    """What a reader divides by, a number per slot. `floored` are the slots whose deviation was raised."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    q99: tuple[float, ...]
    q01: tuple[float, ...]
    rows: int
    kept: int
    floored: tuple[int, ...]

    def named(self) -> dict[str, list[float]]:
        """The four lists that readers know."""
        return {"mean": [*self.mean], "std": [*self.std], "q99": [*self.q99], "q01": [*self.q01]}


def differences(episodes: Sequence[NDArray[Any]]) -> list[NDArray[np.float64]]:
    """Of each episode, shape (rows, slots), every row but the first minus the row before it; one of one row has none.

    All slots, in float64; never from one episode to the next.
    """
    return [np.diff(one.astype(np.float64), axis=0) for one in episodes]


def figures(table: NDArray[Any], *, is_filtered: bool) -> Figures:
    """The figures of all rows, shape (rows, slots).

    With `is_filtered` mean and deviation are of those rows alone whose every slot lies between its two quantiles,
    both included; a row with one slot outside is dropped from all slots. The quantiles are of all rows either way.
    Raises ValueError where there is no row, or none is left.
    """
    rows, slots = table.shape
    if not rows:
        raise ValueError("there is no row")
    low, high, whole = np.empty(slots), np.empty(slots), np.empty(slots, bool)
    inside = np.ones(rows, bool)
    for i in range(slots):
        values = table[:, i].astype(np.float64)
        low[i], high[i] = np.quantile(values, [LOW, HIGH])
        whole[i] = bool(np.all(values == np.rint(values)))
        if is_filtered:
            inside &= (values >= low[i]) & (values <= high[i])
    kept = int(inside.sum())
    if not kept:
        raise ValueError(f"none of {rows} rows has every slot between its quantiles")
    mean, std = np.empty(slots), np.empty(slots)
    for i in range(slots):
        values = table[inside, i].astype(np.float64)
        mean[i], std[i] = values.mean(), values.std()
    least = np.where(whole | (low == high), BUTTON_FLOOR, STICK_FLOOR)
    return Figures(
        mean=tuple(mean.tolist()),
        std=tuple(np.maximum(std, least).tolist()),
        q99=tuple(high.tolist()),
        q01=tuple(low.tolist()),
        rows=rows,
        kept=kept,
        floored=tuple(np.flatnonzero(std < least).tolist()),
    )
