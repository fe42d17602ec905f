from __future__ import annotations

import numpy as np
import pytest

from padreel_shim.scene import MAX_FRAME_NUMBER, draw, read_frame_number
from padreel_shim.script import PadState

PAD = PadState((0.5, -1.0, 0.25, 0.75, 0.5, 1.0), (0, 3, 20))
SIZES = [(160, 120), (320, 180), (480, 270), (1280, 720), (1920, 1080), (162, 734)]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_number_drawn_is_the_number_read(width: int, height: int) -> None:
    for number in (0, 1, 2, 255, 256, 54_321, MAX_FRAME_NUMBER):
        assert read_frame_number(draw(number, width, height, PAD)) == number


def test_noise_and_blur_do_not_change_the_number() -> None:
    random = np.random.default_rng(7)
    for number in range(0, 4000, 97):
        picture = draw(number, 160, 120, PAD, variant=0.3).astype(np.float32)
        blurred = (picture + np.roll(picture, 1, axis=0) + np.roll(picture, 1, axis=1)) / 3
        noisy = np.clip(blurred + random.normal(0, 25, picture.shape), 0, 255).astype(np.uint8)
        assert read_frame_number(noisy) == number


def test_pictures_without_a_number_give_none() -> None:
    random = np.random.default_rng(3)
    for level in (0, 60, 128, 255):
        assert read_frame_number(np.full((120, 160, 3), level, dtype=np.uint8)) is None
    assert read_frame_number(random.integers(0, 256, (720, 1280, 3), dtype=np.uint8)) is None
    assert read_frame_number(np.zeros((20, 20, 3), dtype=np.uint8)) is None


def test_any_one_wrong_cell_is_noticed() -> None:
    picture = draw(1234, 160, 120, PAD)
    for row in range(2):
        for column in range(16):
            damaged = picture.copy()
            cell = damaged[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]
            cell[:] = 255 - cell
            assert read_frame_number(damaged) is None


def test_a_picture_of_two_frames_gives_none() -> None:
    first, second = draw(0, 320, 180, PAD), draw(0xFFFFFF, 320, 180, PAD)
    mixed = ((first.astype(np.uint16) + second) // 2).astype(np.uint8)
    assert read_frame_number(mixed) is None


def test_the_pad_and_the_variant_are_visible() -> None:
    still = draw(5, 320, 180, PadState())
    assert np.any(still != draw(5, 320, 180, PAD))
    assert np.mean(still != draw(5, 320, 180, PadState(), variant=0.4)) > 0.5
    assert np.any(still[40:] != draw(6, 320, 180, PadState())[40:])


def test_extreme_pads_stay_inside_every_size() -> None:
    for width, height in SIZES:
        for value in (-1.0, 1.0):
            state = PadState((value, value, value, value, 1.0, 1.0), tuple(range(21)))
            picture = draw(9, width, height, state)
            assert picture.shape == (height, width, 3)
            assert read_frame_number(picture) == 9


@pytest.mark.parametrize(
    ("number", "width", "height"), [(0, 159, 120), (0, 160, 119), (-1, 160, 120), (MAX_FRAME_NUMBER + 1, 160, 120)]
)
def test_what_cannot_be_drawn_is_refused(number: int, width: int, height: int) -> None:
    with pytest.raises(ValueError, match=r"is too small|is not within"):
        draw(number, width, height, PAD)
