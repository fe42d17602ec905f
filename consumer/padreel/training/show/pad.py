"""The gamepad as a panel over a picture: sticks, triggers, buttons in their places, and what is pressed by name.

Lengths are in units of the panel; `scale` says how many pixels one is. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from padreel.core.pad import AXES, BUTTONS, STICKS
from padreel.training.show.draw import (
    FAINT,
    INK,
    PANEL,
    PRESSED,
    Canvas,
    blend,
    box,
    centred,
    fitted,
    frame,
    letters,
)

WIDTH: Final = 300
HEIGHT: Final = 150
OPACITY: Final = 0.72  # of the panel over the picture
_STICK_RADIUS: Final = 32
_DOT: Final = 15
_STICK_CENTRES: Final = {"left_stick": (46, 88), "right_stick": (184, 88)}
_TRIGGERS: Final = {"left_trigger": (12, 11), "right_trigger": (228, 11)}  # upper left corner
_TRIGGER_SIZE: Final = (60, 11)
_PRESSED_LINE: Final = 128


@dataclass(frozen=True, slots=True)
class Control:
    """A button's place: its centre, its size, its letters."""

    x: float
    y: float
    width: float
    height: float
    letters: str = ""


CONTROLS: Final = {
    "south": Control(258, 108, 23, 23, "S"),
    "east": Control(278, 88, 23, 23, "E"),
    "west": Control(238, 88, 23, 23, "W"),
    "north": Control(258, 68, 23, 23, "N"),
    "back": Control(119, 20, 22, 11),
    "guide": Control(150, 20, 15, 15),
    "start": Control(181, 20, 22, 11),
    "left_shoulder": Control(42, 33, 60, 14, "L"),
    "right_shoulder": Control(258, 33, 60, 14, "R"),
    "dpad_up": Control(115, 72, 16, 18),
    "dpad_down": Control(115, 104, 16, 18),
    "dpad_left": Control(99, 88, 18, 16),
    "dpad_right": Control(131, 88, 18, 16),
    "misc1": Control(135, 40, 22, 9),
    "touchpad": Control(165, 40, 22, 9),
    "left_paddle1": Control(98, 40, 22, 9),
    "left_paddle2": Control(98, 52, 22, 9),
    "right_paddle1": Control(202, 40, 22, 9),
    "right_paddle2": Control(202, 52, 22, 9),
}
"""Where each button is; those of the sticks are their rings."""

_RARE: Final = ("misc1", "touchpad", "left_paddle1", "left_paddle2", "right_paddle1", "right_paddle2")


@dataclass(frozen=True, slots=True)
class PadPanel:
    """Draws the states of one episode. `used` are the buttons it presses: rare ones are drawn only then."""

    scale: float
    used: frozenset[str] = frozenset(BUTTONS)

    @property
    def width(self) -> int:
        return round(WIDTH * self.scale)

    @property
    def height(self) -> int:
        return round(HEIGHT * self.scale)

    def draw(self, canvas: Canvas, left: int, top: int, state: NDArray[np.float32]) -> None:
        """Draw one state, axes then buttons as `OBSERVATION_NAMES` has them, with the panel's corner at (left, top)."""
        axes = dict(zip(AXES, state[: len(AXES)].tolist(), strict=True))
        pressed = {name for name, value in zip(BUTTONS, state[len(AXES) :], strict=True) if value >= 0.5}
        panel = canvas[max(0, top) : top + self.height, max(0, left) : left + self.width]
        blend(panel, box(self.width, self.height, 10 * self.scale), PANEL, 0, 0, OPACITY)
        for name, (x, y) in _TRIGGERS.items():
            self._trigger(panel, x, y, axes[name])
        for name, control in CONTROLS.items():
            if name not in _RARE or name in self.used:
                self._button(panel, control, name in pressed)
        for name, (across, down) in STICKS.items():
            self._stick(panel, name, axes[AXES[across]], axes[AXES[down]], name in pressed)
        said = "  ".join(name for name in BUTTONS if name in pressed)
        size = max(9, round(12 * self.scale))
        text = letters(fitted(said, size, (WIDTH - 24) * self.scale), size)
        blend(panel, text, PRESSED, 12 * self.scale, _PRESSED_LINE * self.scale)

    def _button(self, panel: Canvas, control: Control, is_pressed: bool) -> None:
        width, height = control.width * self.scale, control.height * self.scale
        radius = min(width, height) / (4 if control.width in (16, 18) else 2)
        x, y = control.x * self.scale, control.y * self.scale
        if is_pressed:
            centred(panel, box(width, height, radius), PRESSED, x, y)
        else:
            centred(panel, frame(width, height, radius, max(1.0, 1.5 * self.scale)), FAINT, x, y)
        if control.letters:
            text = letters(control.letters, round(11 * self.scale))
            centred(panel, text, PANEL if is_pressed else INK, x, y)

    def _trigger(self, panel: Canvas, x: float, y: float, value: float) -> None:
        width, height = (length * self.scale for length in _TRIGGER_SIZE)
        outline = frame(width, height, 3 * self.scale, max(1.0, 1.5 * self.scale))
        filled = box(width, height, 3 * self.scale)[:, : round(width * min(1.0, max(0.0, value)))]
        if filled.size:
            blend(panel, filled, PRESSED, x * self.scale, y * self.scale)
        blend(panel, outline, FAINT, x * self.scale, y * self.scale)

    def _stick(self, panel: Canvas, name: str, across: float, down: float, is_pressed: bool) -> None:
        x, y = (length * self.scale for length in _STICK_CENTRES[name])
        across, down = min(1.0, max(-1.0, across)), min(1.0, max(-1.0, down))
        size = 2 * _STICK_RADIUS * self.scale
        line = (3.5 if is_pressed else 1.5) * self.scale
        centred(panel, frame(size, size, size, max(1.0, line)), PRESSED if is_pressed else FAINT, x, y)
        centred(panel, box(size * 0.8, 1), FAINT, x, y, 0.35)
        centred(panel, box(1, size * 0.8), FAINT, x, y, 0.35)
        reach = (_STICK_RADIUS - _DOT / 2) * self.scale
        dot = _DOT * self.scale
        is_moved = max(abs(across), abs(down)) >= 0.1
        centred(panel, box(dot, dot, dot), PRESSED if is_moved else INK, x + across * reach, y + down * reach)
