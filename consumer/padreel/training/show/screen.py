"""What a rendering looks like: the picture, a line of figures and the pad over it, the actions below. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from padreel.core.pad import AXES, BUTTONS
from padreel.training.show.draw import (
    FAINT,
    INK,
    MARK,
    PANEL,
    Canvas,
    blend,
    box,
    fitted,
    letters,
    new_canvas,
    resized,
    text_width,
)
from padreel.training.show.keys import KeysPanel
from padreel.training.show.pad import OPACITY, PadPanel
from padreel.training.show.read import ShownEpisode
from padreel.training.show.timeline import Kind, Lane, Timeline

STALE_SECONDS: Final = 30.0  # as `quality_config.json` has it: an older EVENT is marked
PAGE_SECONDS: Final = 30  # a longer episode turns pages, each as long as the others
_SMALLEST: Final = (960, 540)
_LARGEST: Final = (1280, 720)
_SHEET_COLUMNS: Final = 3
_THUMB: Final = (480, 360)
_GAP: Final = 6
_UNIT: Final = 960  # a canvas so wide has the scale 1
_KIND_OF: Final[dict[str, Kind]] = {"digital": "bar", "trigger": "positive", "vector2": "signed"}


class Screen:
    """Lays out and draws one episode."""

    def __init__(self, episode: ShownEpisode) -> None:
        """For each episode a new one: what all its moments share is found here."""
        self.episode = episode
        self._lanes = tuple(lanes_of(episode))
        self._buttons = _pressed_ever(episode)

    # ---- a moment ------------------------------------------------------------------------------------------------

    @property
    def picture_size(self) -> tuple[int, int]:
        """How large pictures are shown: as they are, unless they are too small to draw on or needlessly large."""
        width, height = self.episode.size
        least = min(_SMALLEST[0] / width, _SMALLEST[1] / height)
        most = min(_LARGEST[0] / width, _LARGEST[1] / height)
        factor = min(max(1.0, least), most)
        return _even(width * factor), _even(height * factor)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of a moment; both even, for the encoder."""
        width = self._width
        height = self.picture_size[1] + self._timeline(width).height
        return width, height + height % 2

    @property
    def _width(self) -> int:
        return max(_SMALLEST[0], self.picture_size[0])

    def pages(self) -> list[tuple[int, int]]:
        """The rows of each page of the timeline."""
        rows = self.episode.length
        count = -(-rows // (PAGE_SECONDS * self.episode.fps))
        return list(pairwise(rows * i // count for i in range(count + 1)))

    def page(self, first: int, end: int) -> Canvas:
        """The timeline of these rows, to be given to `moment`."""
        return self._timeline(self._width).page(first, end)

    def moment(self, picture: Canvas, row: int, page: Canvas, first: int, end: int) -> Canvas:
        """The picture of a row with everything; `page` is that of the rows `first ... end - 1`."""
        width, height = self.size
        canvas = np.zeros((height, width, 3), np.uint8)
        shown_width, shown_height = self.picture_size
        shown = canvas[:shown_height]
        left = (width - shown_width) // 2
        shown[:, left : left + shown_width] = resized(picture, shown_width, shown_height)
        scale = width / _UNIT
        self._draw_figures(shown, row, scale)
        self._draw_controls(shown, row, scale)
        below = canvas[shown_height : shown_height + page.shape[0]]
        below[:] = page
        self._timeline(width).draw_moment(below, row, first, end)
        self._draw_progress(shown, row, scale)
        return canvas

    def _draw_figures(self, shown: Canvas, row: int, scale: float) -> None:
        """The strip on top: which session, which frame, what is to be noticed."""
        height, size = round(26 * scale), round(13 * scale)
        blend(shown, box(shown.shape[1], height), PANEL, 0, 0, OPACITY)
        edge, y = 10 * scale, (height - size * 5 // 4) / 2
        said = self.figures(row)
        right = shown.shape[1] - edge - text_width(said, size)
        blend(shown, letters(said, size), INK, right, y)
        for mark in reversed(self.marks(row)):
            right -= text_width(mark, size) + 14 * scale
            blend(shown, letters(mark, size), MARK, right, y)
        title = fitted(self.title, size, max(1, right - 2 * edge))
        blend(shown, letters(title, size), INK, edge, y)

    @property
    def title(self) -> str:
        """Which episode it is. Not its number: that changes when shards are merged."""
        told = self.episode.told
        session = str(told.get("session", "")).partition("@")[0]
        return "  |  ".join(part for part in (session, told.get("rig"), self.episode.task) if part)

    def figures(self, row: int) -> str:
        """Frame number, time in the episode, time by the rig's clock since the session's first frame, pad age."""
        episode = self.episode
        parts = [f"frame {row + 1}/{episode.length}", f"{row / episode.fps:.2f} s"]
        if episode.time_ns is not None:
            parts.append(f"clock {episode.time_ns[row] / 1e9:.3f} s")
        if episode.pad_age is not None and episode.pad_age[row] >= 0:
            parts.append(f"pad {episode.pad_age[row]:.3f} s ago")
        return "   ".join(parts)

    def marks(self, row: int) -> list[str]:
        """What makes one look twice: the episode's rows paired by force, late EVENTs, a pad that is not there."""
        episode = self.episode
        found = [f"{name} {episode.told[name]}" for name in ("forced", "late") if episode.told.get(name)]
        if episode.pad_age is not None and episode.pad_age[row] < 0:
            found.append("no pad yet")
        elif episode.pad_age is not None and episode.pad_age[row] >= STALE_SECONDS:
            found.append("pad is old")
        return found

    def _draw_controls(self, shown: Canvas, row: int, scale: float) -> None:
        """The pad in the lower right corner; the keys there, or where both are used in the lower left one."""
        episode, edge = self.episode, round(10 * scale)
        height, width = shown.shape[:2]
        pad = None if self._buttons is None else PadPanel(scale, self._buttons)
        if pad is not None and episode.pad is not None:
            pad.draw(shown, width - edge - pad.width, height - edge - pad.height, episode.pad[row])
        if episode.keys is not None and episode.key_names:
            keys = KeysPanel(scale, episode.key_names)
            pressed = [name for name, value in zip(episode.key_names, episode.keys[row], strict=True) if value >= 0.5]
            left = width - edge - keys.width if pad is None else edge
            keys.draw(shown, left, height - edge - keys.height, pressed)

    def _draw_progress(self, shown: Canvas, row: int, scale: float) -> None:
        """A line along the lower edge of the picture: how much of the episode has passed."""
        thick = max(2, round(3 * scale))
        line, top = box(shown.shape[1], thick), shown.shape[0] - thick
        done = round(shown.shape[1] * (row + 1) / self.episode.length)
        blend(shown, line, PANEL, 0, top, OPACITY)
        blend(shown, line[:, :done], INK, 0, top, 0.8)

    # ---- a sheet -------------------------------------------------------------------------------------------------

    def sheet_rows(self, count: int) -> list[int]:
        """The rows of `count` pictures: first, last, and evenly between; fewer where the episode is shorter."""
        count = min(count, self.episode.length)
        return [round(i * (self.episode.length - 1) / max(1, count - 1)) for i in range(count)]

    def sheet(self, pictures: Sequence[Canvas], rows: Sequence[int]) -> Canvas:
        """The pictures of these rows, and the whole timeline below."""
        columns = min(_SHEET_COLUMNS, len(rows))
        width = _SHEET_COLUMNS * _THUMB[0] + (_SHEET_COLUMNS - 1) * _GAP
        thumb = self._thumb_size
        head, line = 36, thumb[1] + _GAP
        timeline = self._timeline(width)
        grid = -(-len(rows) // columns) * line
        canvas = new_canvas(width, head + grid + timeline.height)
        told = self.episode
        blend(canvas, letters(fitted(self.title, 18, width * 0.7), 18), INK, 10, 8)
        said = f"{told.length} frames   {told.length / told.fps:.2f} s   end: {told.told.get('end_reason', 'unknown')}"
        blend(canvas, letters(said, 15), FAINT, width - 10 - text_width(said, 15), 10)
        for number, (row, picture) in enumerate(zip(rows, pictures, strict=True)):
            x, y = number % columns * (_THUMB[0] + _GAP), head + number // columns * line
            self._draw_thumb(canvas[y : y + thumb[1], x : x + _THUMB[0]], picture, row)
        below = canvas[head + grid :]
        below[:] = timeline.page(0, told.length)
        timeline.draw_marks(below, rows, 0, told.length)
        return canvas

    @property
    def _thumb_size(self) -> tuple[int, int]:
        width, height = self.episode.size
        factor = min(_THUMB[0] / width, _THUMB[1] / height)
        return _even(width * factor), _even(height * factor)

    def _draw_thumb(self, cell: Canvas, picture: Canvas, row: int) -> None:
        width, height = self._thumb_size
        left = (cell.shape[1] - width) // 2
        cell[:, left : left + width] = resized(picture, width, height)
        said = "   ".join([f"frame {row + 1}", f"{row / self.episode.fps:.2f} s"])
        blend(cell, box(text_width(said, 13) + 16, 22, 4), PANEL, 6, 6, OPACITY)
        blend(cell, letters(said, 13), INK, 14, 9)
        x = 6 + text_width(said, 13) + 24
        for mark in self.marks(row):
            blend(cell, letters(mark, 13), MARK, x, 9)
            x += text_width(mark, 13) + 14
        self._draw_controls(cell, row, 0.62)

    def _timeline(self, width: int) -> Timeline:
        return Timeline(self._lanes, self.episode.fps, width, width / _UNIT if width < 1400 else 1.4)


def lanes_of(episode: ShownEpisode) -> list[Lane]:
    """A lane per slot of the action, and the pad's age."""
    found: list[Lane] = []
    for slot, name in enumerate(episode.action_names):
        values = np.ascontiguousarray(episode.action[:, slot])
        kind = _KIND_OF.get(episode.action_kinds[slot]) if episode.action_kinds else None
        if kind is None and not episode.action_kinds and np.isin(values, (0, 1)).all():
            kind = "bar"
        found.append(Lane(name, kind or ("signed" if values.min() < 0 else "positive"), values))
    if episode.pad_age is not None:
        limit = float(min(STALE_SECONDS, 1.05 * max(1.0, episode.pad_age.max())))
        found.append(Lane("pad age", "age", episode.pad_age, limit))
    return found


def _pressed_ever(episode: ShownEpisode) -> frozenset[str] | None:
    """The buttons that are pressed in the episode; None without a pad: there are keys, and nothing of it ever moves."""
    pad = episode.pad
    if pad is None or (episode.key_names and not pad.any()):
        return None
    pressed = pad[:, len(AXES) :].max(axis=0) >= 0.5
    return frozenset(name for name, is_used in zip(BUTTONS, pressed, strict=True) if is_used)


def _even(length: float) -> int:
    return max(2, round(length / 2) * 2)
