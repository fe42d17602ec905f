"""Shapes and letters on a picture, without a display: masks with smooth edges, and blending them in. Pure.

A canvas is (height, width, 3) uint8 RGB; a mask is (height, width) float32 from 0 to 1. The same calls give the same
pixels. Lengths are in pixels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Canvas = NDArray[np.uint8]
Mask = NDArray[np.float32]
Colour = tuple[int, int, int]

INK: Final[Colour] = (235, 239, 244)
FAINT: Final[Colour] = (140, 150, 162)
PANEL: Final[Colour] = (13, 17, 23)
PRESSED: Final[Colour] = (255, 186, 66)
CURVE: Final[Colour] = (88, 176, 255)
MARK: Final[Colour] = (255, 105, 97)


def new_canvas(width: int, height: int, colour: Colour = PANEL) -> Canvas:
    """A canvas of one colour."""
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = colour
    return canvas


def blend(canvas: Canvas, mask: Mask, colour: Colour, x: float, y: float, opacity: float = 1.0) -> None:
    """Put `colour` onto the canvas where the mask says, its upper left corner at (x, y); what lies outside is cut."""
    left, top = round(x), round(y)
    height, width = mask.shape
    x0, y0 = max(0, left), max(0, top)
    x1, y1 = min(canvas.shape[1], left + width), min(canvas.shape[0], top + height)
    if x0 >= x1 or y0 >= y1:
        return
    part = mask[y0 - top : y1 - top, x0 - left : x1 - left, None] * np.float32(opacity)
    region = canvas[y0:y1, x0:x1]
    region[:] = np.rint(region + (np.asarray(colour, np.float32) - region) * part).astype(np.uint8)


def centred(canvas: Canvas, mask: Mask, colour: Colour, x: float, y: float, opacity: float = 1.0) -> None:
    """`blend` with the mask's centre at (x, y)."""
    blend(canvas, mask, colour, x - mask.shape[1] / 2, y - mask.shape[0] / 2, opacity)


@lru_cache(maxsize=512)
def box(width: float, height: float, radius: float = 0.0) -> Mask:
    """A filled rectangle with round corners; with half of the height as radius, a pill or a disc."""
    return _inside(width, height, radius, 0.0)


@lru_cache(maxsize=512)
def frame(width: float, height: float, radius: float, line: float) -> Mask:
    """The outline of `box`, `line` thick, inside of it."""
    return _inside(width, height, radius, 0.0) - _inside(width, height, radius, line)


def _inside(width: float, height: float, radius: float, inset: float) -> Mask:
    """How much of each pixel lies in the rectangle, by its distance from the edge."""
    columns, rows = max(1, round(width)), max(1, round(height))
    x = np.abs(np.arange(columns) + 0.5 - columns / 2)[None, :]
    y = np.abs(np.arange(rows) + 0.5 - rows / 2)[:, None]
    radius = min(radius, columns / 2, rows / 2)
    dx, dy = x - (columns / 2 - radius), y - (rows / 2 - radius)
    distance = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + np.minimum(np.maximum(dx, dy), 0) - radius + inset
    covered: Mask = np.clip(0.5 - distance, 0, 1).astype(np.float32)
    return covered


@lru_cache(maxsize=4096)
def letters(text: str, size: int) -> Mask:
    """A line of text in the built-in font, which has few letters: what is not ASCII is drawn as `?`."""
    plain = text.encode("ascii", "replace").decode("ascii") or " "
    font = _font(size)
    width = max(1, round(font.getlength(plain)))
    image = Image.new("L", (width, size * 5 // 4))
    ImageDraw.Draw(image).text((0, size), plain, 255, font, anchor="ls")
    return np.asarray(image, np.float32) / np.float32(255)


def text_width(text: str, size: int) -> int:
    """How wide `letters` is."""
    return int(letters(text, size).shape[1])


def fitted(text: str, size: int, width: float) -> str:
    """The text, cut with dots if it is wider than that."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "...", size) > width:
        text = text[:-1]
    return text + "..."


@lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # the builds of Pillow for pip have FreeType
    return font


def resized(picture: Canvas, width: int, height: int) -> Canvas:
    """The picture in another size, smooth."""
    if picture.shape[:2] == (height, width):
        return picture.copy()
    return np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR), np.uint8)
