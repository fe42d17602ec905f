"""Actions over time, a lane for each: buttons as bars, axes as curves, with the moment that is shown. Pure.

A page shows the rows `first ... end - 1` in the whole width. Lengths are in pixels, times in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from padreel.training.show.draw import (
    CURVE,
    FAINT,
    INK,
    MARK,
    PRESSED,
    Canvas,
    Colour,
    blend,
    box,
    fitted,
    letters,
    new_canvas,
)

Kind = Literal["bar", "signed", "positive", "age"]
_LABEL, _VALUE, _AXIS, _MARGIN = 132, 48, 22, 6  # units of `scale`
_STRIPE: Final[Colour] = (22, 28, 37)
_STEPS: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)


@dataclass(frozen=True, slots=True)
class Lane:
    """A column over time; `values` (rows,) float32.

    A bar is drawn where the value is 0.5 or more. Signed and positive values are curves, from -1 or 0 to 1. An age is a
    curve up to `limit`, and a mark where it is beyond or below 0 (no EVENT yet).
    """

    name: str
    kind: Kind
    values: NDArray[np.float32]
    limit: float = 1.0


def lane_height(lanes: int) -> int:
    """Units per lane: less where there are many."""
    return 20 if lanes <= 16 else 16 if lanes <= 32 else 12


@dataclass(frozen=True, slots=True)
class Timeline:
    """Draws the lanes of one episode."""

    lanes: tuple[Lane, ...]
    fps: int
    width: int
    scale: float

    @property
    def lane(self) -> int:
        """Height of a lane."""
        return round(lane_height(len(self.lanes)) * self.scale)

    @property
    def height(self) -> int:
        return len(self.lanes) * self.lane + round((_AXIS + _MARGIN) * self.scale)

    @property
    def left(self) -> int:
        """Where the first row begins."""
        return round(_LABEL * self.scale)

    @property
    def right(self) -> int:
        """Where the last row ends."""
        return self.width - round(_VALUE * self.scale)

    def x_of(self, row: float, first: int, end: int) -> float:
        """Where a row begins on a page."""
        return self.left + (row - first) * (self.right - self.left) / (end - first)

    def page(self, first: int, end: int) -> Canvas:
        """The lanes without a moment, (height, width, 3)."""
        canvas = new_canvas(self.width, self.height)
        size = self._size
        for number, lane in enumerate(self.lanes):
            top = self._top(number)
            if number % 2 == 0:
                canvas[top : top + self.lane] = _STRIPE
            name = letters(fitted(lane.name, size, self.left - 16 * self.scale), size)
            blend(canvas, name, INK, 10 * self.scale, top + (self.lane - name.shape[0]) / 2)
            draw_lane(canvas[top + 2 : top + self.lane - 2, self.left : self.right], lane, first, end)
        self._axis(canvas, first, end)
        return canvas

    def draw_moment(self, canvas: Canvas, row: int, first: int, end: int) -> None:
        """Onto a page: a line where `row` is, and the lanes' values there."""
        x = self.x_of(row + 0.5, first, end)
        bottom = self._top(len(self.lanes))
        blend(canvas, box(max(2, round(2 * self.scale)), bottom), INK, x - self.scale, 0)
        for number, lane in enumerate(self.lanes):
            value = float(lane.values[row])
            text = letters(_said(lane, value), self._size)
            top = self._top(number) + (self.lane - text.shape[0]) / 2
            blend(canvas, text, _colour_of(lane, value), self.right + 8 * self.scale, top)

    def draw_marks(self, canvas: Canvas, rows: Sequence[int], first: int, end: int) -> None:
        """Onto a page: a thin line at each of `rows`."""
        for row in rows:
            blend(canvas, box(1, self._top(len(self.lanes))), INK, self.x_of(row + 0.5, first, end), 0, 0.6)

    def _axis(self, canvas: Canvas, first: int, end: int) -> None:
        top = self._top(len(self.lanes))
        seconds = (end - first) / self.fps
        step = next((one for one in _STEPS if seconds / one <= 12), _STEPS[-1])
        at = np.ceil(first / self.fps / step) * step
        while at * self.fps < end:
            x = self.x_of(at * self.fps, first, end)
            blend(canvas, box(1, top), FAINT, x, 0, 0.3)
            text = letters(f"{at:.1f} s" if step < 1 else f"{at:.0f} s", self._size)
            if x + text.shape[1] < self.width:
                blend(canvas, text, FAINT, x + 2 * self.scale, top + 2 * self.scale)
            at += step

    def _top(self, number: int) -> int:
        return round(_MARGIN * self.scale) + number * self.lane

    @property
    def _size(self) -> int:
        return round(min(13, lane_height(len(self.lanes)) - 3) * self.scale)


def draw_lane(canvas: Canvas, lane: Lane, first: int, end: int) -> None:
    """Fill `canvas` with the rows `first ... end - 1`: of the rows in a column of pixels the lowest and the highest."""
    height, width = canvas.shape[:2]
    low, high = _extremes(lane.values[first:end], width)
    y = np.arange(height)[:, None]
    if lane.kind == "bar":
        _fill(canvas, np.broadcast_to(high >= 0.5, (height, width)), PRESSED, 1.0)
        return
    zero = (height - 1) / 2 if lane.kind == "signed" else float(height - 1)

    def y_of(values: NDArray[np.float32]) -> NDArray[np.float64]:
        shown = np.clip(values / lane.limit, -1 if lane.kind == "signed" else 0, 1)
        found: NDArray[np.float64] = np.rint(zero - shown * zero)
        return found

    top, bottom = y_of(high), y_of(low)
    before = np.concatenate([top[:1], top[:-1]]), np.concatenate([bottom[:1], bottom[:-1]])
    joined_top, joined_bottom = np.minimum(top, before[1]), np.maximum(bottom, before[0])  # no hole at a jump
    is_used = (high != 0) | (low != 0)
    _fill(canvas, (y >= np.minimum(top, zero)) & (y <= np.maximum(bottom, zero)) & is_used, CURVE, 0.35)
    _fill(canvas, (y >= joined_top) & (y <= joined_bottom), CURVE, 1.0)
    if lane.kind == "age":
        _fill(canvas, np.broadcast_to((low < 0) | (high >= lane.limit), (height, width)), MARK, 0.6)


def _extremes(values: NDArray[np.float32], width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lowest and highest value of the rows that each of `width` columns shows, at least one."""
    rows = len(values)
    edges = np.arange(width + 1) * rows / width
    begins = np.floor(edges[:-1]).astype(np.intp)
    ends = np.maximum(begins + 1, np.ceil(edges[1:]).astype(np.intp))
    bounds = np.stack([begins, ends], axis=1).reshape(-1)
    padded = np.append(values, values[-1:])  # an end may be behind the last row
    return np.minimum.reduceat(padded, bounds)[::2], np.maximum.reduceat(padded, bounds)[::2]


def _fill(canvas: Canvas, where: NDArray[np.bool_], colour: Colour, opacity: float) -> None:
    blend(canvas, where.astype(np.float32), colour, 0, 0, opacity)


def _said(lane: Lane, value: float) -> str:
    if lane.kind == "bar":
        return "on" if value >= 0.5 else ""
    if lane.kind == "age":
        return "none" if value < 0 else f"{value:.2f} s" if value < 10 else f"{value:.0f} s"
    return f"{value:.2f}" if value else ""


def _colour_of(lane: Lane, value: float) -> Colour:
    if lane.kind == "age":
        return MARK if value < 0 or value >= lane.limit else FAINT
    return PRESSED if lane.kind == "bar" else CURVE
