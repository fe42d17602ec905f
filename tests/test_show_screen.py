"""What a whole rendering looks like: the picture's middle stays free, what is to be noticed is said, sheets."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from padreel.core.pad import OBSERVATION_NAMES
from padreel.training.show.draw import resized
from padreel.training.show.read import ShownEpisode
from padreel.training.show.screen import Screen, lanes_of


def episode(rows: int = 40, size: tuple[int, int] = (640, 360)) -> ShownEpisode:
    """Rows with everything; the pad does something in all of them."""
    random = np.random.default_rng(1)
    return ShownEpisode(
        index=0,
        task="Win the match",
        told={"session": "session-1@1f", "rig": "lab-3", "forced": 0, "late": 0},
        fps=30,
        size=size,
        action_names=("attack", "move.x", "move.y"),
        action_kinds=("digital", "vector2", "vector2"),
        action=random.uniform(-1, 1, (rows, 3)).astype(np.float32),
        pad=random.uniform(-1, 1, (rows, len(OBSERVATION_NAMES))).astype(np.float32),
        key_names=("W", "A", "S", "D"),
        keys=random.integers(0, 2, (rows, 4)).astype(np.float32),
        time_ns=np.arange(rows, dtype=np.int64) * 33_366_667,
        pad_age=random.uniform(0, 0.1, rows).astype(np.float32),
        video=Path("none.mp4"),
        first_picture=0,
    )


SIZES = [
    (320, 180),
    (480, 270),
    (640, 360),
    (1280, 720),
    (1920, 1080),
    (3840, 2160),
    (640, 480),
    (96, 64),
    (1080, 1920),
]


@pytest.mark.parametrize("size", SIZES)
def test_the_middle_of_the_picture_stays_free(size: tuple[int, int]) -> None:
    width, height = size
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    screen = Screen(episode(size=size))
    (first, end) = screen.pages()[0]
    canvas = screen.moment(picture, 3, screen.page(first, end), first, end)
    assert canvas.shape[1::-1] == screen.size
    shown_width, shown_height = screen.picture_size
    assert all(length % 2 == 0 for length in (*screen.size, shown_width, shown_height))
    assert shown_width <= 1280
    assert shown_height <= 720
    assert abs(shown_width / shown_height - width / height) < 0.02
    left = (canvas.shape[1] - shown_width) // 2
    shown = canvas[:shown_height, left : left + shown_width]
    free = np.s_[shown_height // 10 : shown_height * 6 // 10, :]
    assert np.array_equal(shown[free], resized(picture, shown_width, shown_height)[free])
    assert not np.array_equal(shown, resized(picture, shown_width, shown_height))


def test_a_long_episode_turns_pages_and_every_row_is_on_one() -> None:
    for rows in (1, 29, 900, 901, 27_000):
        pages = Screen(episode(rows)).pages()
        assert pages[0][0] == 0
        assert all(a[1] == b[0] for a, b in pairwise(pages))
        assert pages[-1][1] == rows
        assert all(0 < end - first <= 900 for first, end in pages)


def test_what_is_to_be_noticed_is_said() -> None:
    usual = episode()
    assert Screen(usual).marks(0) == []
    assert usual.pad_age is not None
    marked = replace(usual, told={**usual.told, "forced": 3, "late": 2}, pad_age=np.array([-1, 0.1, 31], np.float32))
    screen = Screen(marked)
    assert screen.marks(0) == ["forced 3", "late 2", "no pad yet"]
    assert screen.marks(1) == ["forced 3", "late 2"]
    assert screen.marks(2) == ["forced 3", "late 2", "pad is old"]
    assert screen.title == "session-1  |  lab-3  |  Win the match"
    assert screen.figures(1) == "frame 2/40   0.03 s   clock 0.033 s   pad 0.100 s ago"


def test_a_keyboard_alone_has_no_pad_and_minimal_columns_have_neither() -> None:
    usual = episode()
    picture = np.zeros((360, 640, 3), np.uint8)

    def corners(one: ShownEpisode) -> tuple[bool, bool]:
        screen = Screen(one)
        canvas = screen.moment(picture, 0, screen.page(0, 40), 0, 40)
        width, height = screen.picture_size
        lower = np.asarray(canvas[height - 60 : height - 12]).max(axis=2) > 0
        return bool(lower[:, : width // 3].any()), bool(lower[:, width * 2 // 3 :].any())

    assert usual.pad is not None
    assert corners(usual) == (True, True)
    assert corners(replace(usual, keys=None, key_names=())) == (False, True)
    assert corners(replace(usual, pad=np.zeros_like(usual.pad))) == (False, True)
    assert corners(replace(usual, pad=None, keys=None, key_names=(), time_ns=None, pad_age=None)) == (False, False)


def test_lanes_are_of_the_kind_that_the_layout_says() -> None:
    usual = episode()
    assert [(lane.name, lane.kind) for lane in lanes_of(usual)] == [
        ("attack", "bar"),
        ("move.x", "signed"),
        ("move.y", "signed"),
        ("pad age", "age"),
    ]
    action = np.array([[0, 0.5, -0.5], [1, 0.2, 1]], np.float32)
    forgotten = replace(usual, action=action, action_kinds=(), pad_age=None)
    assert [lane.kind for lane in lanes_of(forgotten)] == ["bar", "positive", "signed"]


@pytest.mark.parametrize(("count", "expected"), [(1, [0]), (2, [0, 39]), (3, [0, 20, 39]), (99, list(range(40)))])
def test_a_sheet_has_the_first_and_the_last_picture(count: int, expected: list[int]) -> None:
    screen = Screen(episode())
    rows = screen.sheet_rows(count)
    assert rows == expected
    sheet = screen.sheet([np.full((360, 640, 3), row, np.uint8) for row in rows], rows)
    assert sheet.shape[1] == 3 * 480 + 2 * 6
    for number, row in enumerate(rows):
        x, y = number % min(3, len(rows)) * 486, 36 + number // min(3, len(rows)) * 276
        assert tuple(sheet[y + 120, x + 200]) == (row, row, row)
