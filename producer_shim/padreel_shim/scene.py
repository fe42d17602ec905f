"""Pictures that say which frame they are, in pure numpy.

Every picture carries its frame number in its upper left corner as black and white cells, with a checksum, so
that a test can read it back from decoded pixels after a lossy codec. The rest is for people: a ball that
moves, and the pad as it is.
"""

from __future__ import annotations

import colorsys
import math
import zlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from padreel_shim.script import PadState

Picture = npt.NDArray[np.uint8]
Color = tuple[int, int, int]

MIN_WIDTH, MIN_HEIGHT = 160, 120
MAX_FRAME_NUMBER = (1 << 24) - 1

_COLUMNS, _ROWS = 16, 2  # 24 bits of number, 8 of checksum
_CHECKSUM_MASK = 0xA5
_WHITE: Color = (240, 240, 240)
_DARK: Color = (40, 40, 48)
_LIT: Color = (250, 210, 60)


def _cell_size(width: int, height: int) -> int:
    """Side of one cell in pixels: 8 in the smallest picture, 30 at 720p; all columns fit into every width."""
    return max(8, min(height // 24, width // 20))


def _word(number: int) -> int:
    """The 32 bits that stand for a frame number: number above, checksum below."""
    checksum = (zlib.crc32(number.to_bytes(3, "big")) & 0xFF) ^ _CHECKSUM_MASK
    return number << 8 | checksum


def _draw_number(picture: Picture, number: int) -> None:
    cell = _cell_size(picture.shape[1], picture.shape[0])
    word = _word(number)
    bits = np.array([word >> shift & 1 for shift in range(31, -1, -1)], dtype=np.uint8).reshape(_ROWS, _COLUMNS)
    cells = np.kron(bits * np.uint8(255), np.ones((cell, cell), dtype=np.uint8))
    picture[: cells.shape[0], : cells.shape[1]] = cells[:, :, None]


def read_frame_number(rgb: npt.NDArray[np.uint8]) -> int | None:
    """Read the frame number back from a picture of shape (height, width, 3), uint8.

    Returns None where there is no number: a picture of something else, or one too damaged to be sure.
    """
    height, width = rgb.shape[:2]
    cell = _cell_size(width, height)
    if height < MIN_HEIGHT or width < MIN_WIDTH:
        return None
    grid = rgb[: _ROWS * cell, : _COLUMNS * cell].astype(np.float32).mean(axis=2)
    inner = slice(cell // 4, cell - cell // 4)  # a cell's edge is where a codec rings
    levels = grid.reshape(_ROWS, cell, _COLUMNS, cell)[:, inner, :, inner].mean(axis=(1, 3)).ravel()
    if bool(np.any((levels > 96) & (levels < 160))):
        return None
    word = 0
    for level in levels:
        word = word << 1 | int(level >= 160)
    number = word >> 8
    return number if _word(number) == word else None


def _disc(picture: Picture, x: float, y: float, radius: float, color: Color) -> None:
    """Fill a circle; parts beyond the picture's edge are left out."""
    height, width = picture.shape[:2]
    left, right = max(0, int(x - radius)), min(width, int(x + radius) + 1)
    top, bottom = max(0, int(y - radius)), min(height, int(y + radius) + 1)
    ys, xs = np.ogrid[top:bottom, left:right]
    picture[top:bottom, left:right][(xs - x) ** 2 + (ys - y) ** 2 <= radius * radius] = color


def _box(picture: Picture, x: float, y: float, width: float, height: float, color: Color) -> None:
    picture[int(y) : int(y + height), int(x) : int(x + width)] = color


@lru_cache(maxsize=64)
def _background(width: int, height: int, hue: float) -> Picture:
    """Sky above ground in shades of one hue; shared, so never drawn on."""
    sky = np.array(colorsys.hsv_to_rgb(hue, 0.55, 0.75)) * 255
    ground = np.array(colorsys.hsv_to_rgb(hue, 0.7, 0.3)) * 255
    shade = np.linspace(0.45, 1.0, height)[:, None] * sky
    shade[int(height * 0.72) :] = ground
    picture = np.repeat(shade.astype(np.uint8)[:, None, :], width, axis=1)
    picture.flags.writeable = False
    return picture


def _draw_pad(picture: Picture, state: PadState) -> None:
    """Two sticks, 21 buttons and two triggers along the lower edge."""
    height, width = picture.shape[:2]
    unit = min(height / 12, width / 16)
    y = height - 1.5 * unit
    lx, ly, rx, ry, left_trigger, right_trigger = state.axes
    for center, (dx, dy) in ((1.7 * unit, (lx, ly)), (width - 1.7 * unit, (rx, ry))):
        _disc(picture, center, y, unit, _DARK)
        _disc(picture, center + dx * 0.6 * unit, y + dy * 0.6 * unit, 0.4 * unit, _WHITE)
    for x, value in ((3.0 * unit, left_trigger), (width - 3.4 * unit, right_trigger)):
        _box(picture, x, y - unit, 0.4 * unit, 2 * unit, _DARK)
        _box(picture, x, y + unit - 2 * unit * value, 0.4 * unit, 2 * unit * value, _LIT)
    side = 0.7 * unit
    first = width / 2 - 3.5 * side
    for button in range(21):
        color = _LIT if button in state.buttons else _DARK
        row, column = divmod(button, 7)
        _box(picture, first + column * side, y - unit + row * side, 0.8 * side, 0.8 * side, color)


def draw(number: int, width: int, height: int, state: PadState, *, variant: float = 0.0) -> Picture:
    """Draw frame `number` with the pad in `state`; returns (height, width, 3) uint8 RGB.

    `variant` in [0, 1) sets the colours and the ball's path, so that rigs can be told apart.
    Raises ValueError for a picture too small for the number, or a number of more than 24 bits.
    """
    if width < MIN_WIDTH or height < MIN_HEIGHT:
        raise ValueError(f"size {width}x{height} is too small: the frame number needs {MIN_WIDTH}x{MIN_HEIGHT}")
    if not 0 <= number <= MAX_FRAME_NUMBER:
        raise ValueError(f"frame number {number} is not within 0 to {MAX_FRAME_NUMBER}")
    picture = _background(width, height, variant).copy()
    ball = colorsys.hsv_to_rgb((variant + 0.5) % 1.0, 0.8, 0.95)
    x = width * (0.5 + 0.4 * math.sin(number * (0.031 + 0.02 * variant)))
    y = height * (0.46 + 0.22 * math.sin(number * 0.057 + 6.28 * variant))
    _disc(picture, x, y, height / 14, (int(255 * ball[0]), int(255 * ball[1]), int(255 * ball[2])))
    _draw_pad(picture, state)
    _draw_number(picture, number)
    return picture
