"""What `padreel show` draws, pixel by pixel: each control in its place alone, lanes, the picture's middle free."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from padreel.core.pad import AXES, BUTTONS, OBSERVATION_NAMES, STICKS
from padreel.training.show.draw import CURVE, MARK, PRESSED, Canvas, blend, box, fitted, frame, letters, new_canvas
from padreel.training.show.keys import KeysPanel
from padreel.training.show.pad import CONTROLS, PadPanel
from padreel.training.show.timeline import Lane, Timeline, draw_lane, lane_height

SCALE = 2.0
UNIT = st.floats(-1, 1, width=32)
PRESSED_LINE = 126  # below it the names of pressed buttons are written


def state(**controls: float) -> NDArray[np.float32]:
    return np.array([controls.get(name, 0.0) for name in OBSERVATION_NAMES], np.float32)


def pad(**controls: float) -> Canvas:
    panel = PadPanel(SCALE)
    canvas = new_canvas(panel.width, panel.height, (60, 120, 180))
    panel.draw(canvas, 0, 0, state(**{name.replace("axis_", ""): value for name, value in controls.items()}))
    return canvas


def changed(a: Canvas, b: Canvas) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (a != b).any(axis=2)
    return found


def is_like(pixel: NDArray[np.uint8], colour: tuple[int, int, int], within: int = 8) -> bool:
    return bool((np.abs(pixel.astype(int) - colour) <= within).all())


# ---- shapes --------------------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0, 40), st.floats(-80, 80), st.floats(-80, 80))
def test_a_shape_changes_nothing_outside_of_itself(width: int, height: int, radius: float, x: float, y: float) -> None:
    canvas = new_canvas(50, 40, (10, 20, 30))
    mask = box(width, height, radius)
    blend(canvas, mask, (250, 240, 230), x, y)
    inside = np.zeros((40, 50), bool)
    left, top = round(x), round(y)
    inside[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)] = True
    assert not changed(canvas, new_canvas(50, 40, (10, 20, 30)))[~inside].any()
    assert 0 <= mask.min() <= mask.max() <= 1
    column, row = left + width // 2, top + height // 2
    if 0 <= column < 50 and 0 <= row < 40 and min(width, height) >= 4:
        assert tuple(canvas[row, column]) == (250, 240, 230)


def test_a_disc_is_round_and_a_frame_is_hollow() -> None:
    disc, ring = box(40, 40, 20), frame(40, 40, 20, 3)
    assert abs(disc.sum() - np.pi * 400) < 6
    assert (disc[0, 0], disc[20, 20], ring[20, 20], ring[20, 1]) == (0, 1, 0, 1)
    assert abs(ring.sum() - np.pi * (400 - 17**2)) < 6


def test_letters_differ_and_what_the_font_lacks_is_a_question_mark() -> None:
    assert letters("attack", 13).max() > 0.9
    assert letters("a", 13).shape != letters("m", 13).shape
    assert np.array_equal(letters("跳", 13), letters("?", 13))
    assert letters("", 13).sum() == 0


@given(st.text(max_size=60), st.integers(12, 400))
def test_fitted_text_fits(text: str, width: int) -> None:
    said = fitted(text, 12, width)
    assert said == text or (said.endswith("...") and text.startswith(said[:-3]))
    assert letters(said, 12).shape[1] <= width or said == "..."


# ---- the pad -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("button", CONTROLS)
def test_a_pressed_button_changes_its_place_alone(button: str) -> None:
    before, after = pad(), pad(**{button: 1.0})
    control = CONTROLS[button]
    differs = changed(before, after)
    differs[round(PRESSED_LINE * SCALE) :] = False  # its name is written there
    rows, columns = np.nonzero(differs)
    assert rows.size
    half_width, half_height = control.width / 2 * SCALE + 1, control.height / 2 * SCALE + 1
    assert abs(columns.min() - (control.x * SCALE - half_width)) <= 2
    assert abs(columns.max() - (control.x * SCALE + half_width)) <= 3
    assert abs(rows.min() - (control.y * SCALE - half_height)) <= 2
    assert abs(rows.max() - (control.y * SCALE + half_height)) <= 3
    beside = round(control.y * SCALE - half_height / 2), round(control.x * SCALE)  # above its letters
    assert is_like(after[beside], PRESSED)


def test_no_two_buttons_share_a_pixel_and_all_are_drawn() -> None:
    rings = {"left_stick", "right_stick"}
    assert CONTROLS.keys() | rings == set(BUTTONS)
    taken = np.zeros(pad().shape[:2], int)
    for button in BUTTONS:
        differs = changed(pad(), pad(**{button: 1.0}))
        differs[round(PRESSED_LINE * SCALE) :] = False
        assert differs.any(), button
        taken += differs
    assert taken.max() == 1


def test_controls_are_where_they_are_on_a_pad() -> None:
    at = {name: (control.x, control.y) for name, control in CONTROLS.items()}
    for above, below, left, right in [
        ("north", "south", "west", "east"),
        ("dpad_up", "dpad_down", "dpad_left", "dpad_right"),
    ]:
        assert at[above][1] < at[left][1] == at[right][1] < at[below][1]
        assert at[left][0] < at[above][0] == at[below][0] < at[right][0]
    for name, (x, _) in at.items():
        if name.startswith(("left_", "right_")):
            assert (x < 150) is name.startswith("left_")
    assert at["back"][0] < at["guide"][0] < at["start"][0]


def test_pressed_buttons_are_named() -> None:
    line = slice(round(PRESSED_LINE * SCALE), None)
    assert not changed(pad(), pad(leftx=1.0))[line].any()
    south, both = pad(south=1.0), pad(south=1.0, dpad_up=1.0)
    assert changed(pad(), south)[line].any()
    assert changed(south, both)[line].any()


def test_rare_buttons_are_drawn_only_where_they_are_used() -> None:
    usual = PadPanel(SCALE, frozenset({"south"}))
    canvas = new_canvas(usual.width, usual.height, (60, 120, 180))
    usual.draw(canvas, 0, 0, state())
    differs = changed(canvas, pad())
    rare = ("misc1", "touchpad", "left_paddle1", "left_paddle2", "right_paddle1", "right_paddle2")
    for name in rare:
        control = CONTROLS[name]
        assert differs[round(control.y * SCALE), round((control.x - control.width / 2) * SCALE) + 1], name
    rows, _ = np.nonzero(differs)
    assert rows.max() < 60 * SCALE  # sticks, d-pad and face buttons are the same


@pytest.mark.parametrize("stick", STICKS)
@given(across=UNIT, down=UNIT)
def test_the_dot_is_where_the_stick_is(stick: str, across: float, down: float) -> None:
    x, y = STICKS[stick]
    canvas = pad(**{AXES[x]: across, AXES[y]: down})
    centre = {"left_stick": (46, 88), "right_stick": (184, 88)}[stick]
    column, row = ((length + 24.5 * value) * SCALE for length, value in zip(centre, (across, down), strict=True))
    found = canvas[round(row - 0.5), round(column - 0.5)]
    assert is_like(found, PRESSED if max(abs(across), abs(down)) >= 0.1 else (235, 239, 244))


@pytest.mark.parametrize(("trigger", "left"), [("left_trigger", 12), ("right_trigger", 228)])
@given(value=st.floats(0, 1, width=32))
def test_a_trigger_is_filled_as_far_as_it_is_pressed(trigger: str, left: int, value: float) -> None:
    canvas = pad(**{trigger: value})
    middle = canvas[round(16 * SCALE), round((left + 3) * SCALE) : round((left + 57) * SCALE)]
    filled = [is_like(pixel, PRESSED) for pixel in middle]
    assert abs(sum(filled) - np.clip(60 * value - 3, 0, 54) * SCALE) <= 2
    assert filled == sorted(filled, reverse=True)


def test_values_beyond_the_range_are_drawn_at_its_end() -> None:
    assert np.array_equal(pad(leftx=7.0, left_trigger=3.0), pad(leftx=1.0, left_trigger=1.0))
    assert np.array_equal(pad(lefty=-7.0, left_trigger=-3.0), pad(lefty=-1.0, left_trigger=0.0))


# ---- keys ----------------------------------------------------------------------------------------------------


def test_a_pressed_key_changes_its_cap_alone() -> None:
    panel = KeysPanel(SCALE, ("W", "A", "S", "D", "Space", "Left Shift", "Keypad Enter"))

    def drawn(*pressed: str) -> Canvas:
        canvas = new_canvas(panel.width, panel.height, (60, 120, 180))
        panel.draw(canvas, 0, 0, pressed)
        return canvas

    caps = panel.caps(panel.names)
    assert [cap.name for cap in caps] == list(panel.names)
    for cap in caps:
        rows, columns = np.nonzero(changed(drawn(), drawn(cap.name)))
        assert columns.min() >= cap.x + 20 - 1
        assert columns.max() <= cap.x + 20 + cap.width
        assert columns.max() - columns.min() >= cap.width * 0.9
        assert rows.min() >= cap.y + 20 - 1
        assert rows.max() <= cap.y + 20 + 48
    assert changed(drawn("W"), drawn("W", "Space")).any()


def test_of_too_many_keys_the_pressed_ones_are_drawn() -> None:
    panel = KeysPanel(1.0, tuple(f"Keypad {number}" for number in range(200)))
    assert panel.height <= 6 * 24 + 20
    assert panel.shown(("Keypad 7", "Keypad 199")) == ("Keypad 7", "Keypad 199")
    few = KeysPanel(1.0, ("A", "B"))
    assert few.shown(("B",)) == ("A", "B")


# ---- lanes ---------------------------------------------------------------------------------------------------


def lane_of(kind: str, values: list[float], width: int, height: int = 21) -> Canvas:
    canvas = new_canvas(width, height, (0, 0, 0))
    draw_lane(canvas, Lane("a", kind, np.array(values, np.float32)), 0, len(values))  # type: ignore[arg-type]
    return canvas


@given(st.lists(st.booleans(), min_size=1, max_size=200), st.integers(10, 120))
def test_no_press_is_lost_however_many_rows_a_pixel_has(pressed: list[bool], width: int) -> None:
    canvas = lane_of("bar", [float(one) for one in pressed], width)
    lit = [tuple(pixel) == PRESSED for pixel in canvas[10]]
    for row, one in enumerate(pressed):
        columns = range(
            row * width // len(pressed), max((row + 1) * width // len(pressed), row * width // len(pressed) + 1)
        )
        if one:
            assert all(lit[column] for column in columns if column < width)
    if len(pressed) <= width:
        for column in range(width):
            first, last = column * len(pressed) // width, -(-(column + 1) * len(pressed) // width)
            assert lit[column] == any(pressed[first:last])


@given(st.lists(UNIT, min_size=1, max_size=80))
def test_a_curve_is_as_high_as_its_values(values: list[float]) -> None:
    canvas = lane_of("signed", values, 4 * len(values))
    for row, value in enumerate(values):
        line = [y for y in range(21) if tuple(canvas[y, 4 * row + 3]) == CURVE]
        assert line == [round(float(np.rint(10 - np.float32(value) * np.float32(10))))], (row, value)


def test_positive_values_begin_at_the_bottom_and_zero_is_a_line() -> None:
    canvas = lane_of("positive", [0.0, 0.0, 1.0, 1.0], 40)
    assert [y for y in range(21) if tuple(canvas[y, 5]) == CURVE] == [20]
    assert [y for y in range(21) if tuple(canvas[y, 35]) == CURVE] == [0]
    assert [y for y in range(21) if tuple(canvas[y, 20]) == CURVE] == list(range(21))  # the jump has no hole
    assert tuple(canvas[10, 35]) == tuple(np.rint(np.array(CURVE) * 0.35).astype(int))


def test_rows_without_a_pad_are_marked() -> None:
    canvas = lane_of("age", [-1.0, 0.0, 0.5, 2.0], 40)
    assert is_like(canvas[3, 5], tuple(np.rint(np.array(MARK) * 0.6)), 2)
    assert [bool(canvas[3, x, 0] > 120) for x in (5, 15, 25, 35)] == [True, False, False, True]


@given(st.integers(0, 99), st.integers(1, 30))
def test_the_moment_is_a_line_at_its_row(row: int, lanes: int) -> None:
    values = np.zeros(100, np.float32)
    timeline = Timeline(tuple(Lane(f"lane {i}", "bar", values) for i in range(lanes)), 30, 960, 1.0)
    page = timeline.page(0, 100)
    assert page.shape == (timeline.height, 960, 3)
    before = page.copy()
    timeline.draw_moment(page, row, 0, 100)
    rows, columns = np.nonzero(changed(before, page))
    assert abs(columns.mean() - (132 + 780 * (row + 0.5) / 100)) <= 1.5
    assert columns.max() - columns.min() == 1
    assert rows.min() == 0
    assert rows.max() == 6 + lanes * lane_height(lanes) - 1


def test_the_values_at_the_moment_are_written() -> None:
    lanes = (
        Lane("attack", "bar", np.array([0, 1], np.float32)),
        Lane("move", "signed", np.array([0, -0.5], np.float32)),
    )
    timeline = Timeline(lanes, 30, 960, 1.0)
    page = timeline.page(0, 2)
    idle, pressed = page.copy(), page.copy()
    timeline.draw_moment(idle, 0, 0, 2)
    timeline.draw_moment(pressed, 1, 0, 2)
    assert not changed(page, idle)[:, timeline.right :].any()
    written = changed(page, pressed)[:, timeline.right :]
    assert written[6:26].any()
    assert written[26:46].any()
