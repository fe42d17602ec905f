"""The keys of a keyboard as a panel over a picture: those that the action mapping binds, the pressed ones lit. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from padreel.training.show.draw import (
    FAINT,
    INK,
    PANEL,
    PRESSED,
    Canvas,
    blend,
    box,
    fitted,
    frame,
    letters,
    text_width,
)
from padreel.training.show.pad import OPACITY, WIDTH

_CAP: Final = 24  # height of a key, with what is between two
_MARGIN: Final = 10


@dataclass(frozen=True, slots=True)
class Cap:
    """A key's place in the panel, in pixels."""

    name: str
    x: int
    y: int
    width: int


@dataclass(frozen=True, slots=True)
class KeysPanel:
    """Draws keys as wide as the pad's panel, in at most `max_rows` rows; what does not fit is left out."""

    scale: float
    names: tuple[str, ...]
    max_rows: int = 6

    @property
    def width(self) -> int:
        return round(WIDTH * self.scale)

    @property
    def height(self) -> int:
        rows = 1 + max((cap.y for cap in self.caps(self.names)), default=0) // self._row
        return rows * self._row + 2 * self._margin

    def shown(self, pressed: Sequence[str]) -> tuple[str, ...]:
        """The keys to draw: all, or where these are too many the pressed ones."""
        return self.names if len(self.caps(self.names)) == len(self.names) else tuple(pressed)

    def caps(self, names: Sequence[str]) -> list[Cap]:
        """Where the keys go, row by row; without those that do not fit."""
        found: list[Cap] = []
        x = y = 0
        room = self.width - 2 * self._margin
        for name in names:
            width = min(room, max(self._row, text_width(name, self._size) + round(12 * self.scale)))
            if x and x + width > room:
                x, y = 0, y + self._row
            if y >= self.max_rows * self._row:
                break
            found.append(Cap(name, x, y, width))
            x += width + round(4 * self.scale)
        return found

    def draw(self, canvas: Canvas, left: int, top: int, pressed: Sequence[str]) -> None:
        """Draw which keys are down, with the panel's corner at (left, top)."""
        blend(canvas, box(self.width, self.height, 10 * self.scale), PANEL, left, top, OPACITY)
        height, radius = self._row - round(4 * self.scale), 4 * self.scale
        for cap in self.caps(self.shown(pressed)):
            x, y = left + self._margin + cap.x, top + self._margin + cap.y
            is_pressed = cap.name in pressed
            if is_pressed:
                blend(canvas, box(cap.width, height, radius), PRESSED, x, y)
            else:
                blend(canvas, frame(cap.width, height, radius, max(1.0, 1.5 * self.scale)), FAINT, x, y)
            text = letters(fitted(cap.name, self._size, cap.width - 4 * self.scale), self._size)
            text_x, text_y = x + (cap.width - text.shape[1]) / 2, y + (height - text.shape[0]) / 2
            blend(canvas, text, PANEL if is_pressed else INK, text_x, text_y)

    @property
    def _size(self) -> int:
        return round(12 * self.scale)

    @property
    def _row(self) -> int:
        return round(_CAP * self.scale)

    @property
    def _margin(self) -> int:
        return round(_MARGIN * self.scale)
