"""Keys of a keyboard, known by their SDL3 scancodes: which key it is by its place, whatever the layout prints on it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from string import ascii_uppercase
from typing import Final

import numpy as np

from padreel.core.pad import FloatArray

FIRST_SCANCODE: Final = 4  # those below are no keys
LAST_SCANCODE: Final = 511

_FROM_FIRST: Final = (
    *ascii_uppercase,
    *"1234567890",
    *("Return", "Escape", "Backspace", "Tab", "Space"),
    *"-=[]\\#;'`,./",
    "CapsLock",
    *(f"F{number}" for number in range(1, 13)),
    *("PrintScreen", "ScrollLock", "Pause", "Insert", "Home", "PageUp", "Delete", "End", "PageDown"),
    *("Right", "Left", "Down", "Up", "Numlock"),
    *(f"Keypad {name}" for name in ("/", "*", "-", "+", "Enter", *"1234567890", ".")),
)
_FROM_APPLICATION: Final = (
    *("Application", "Power", "Keypad ="),
    *(f"F{number}" for number in range(13, 25)),
    *("Execute", "Help", "Menu", "Select", "Stop", "Again", "Undo", "Cut", "Copy", "Paste", "Find"),
    *("Mute", "VolumeUp", "VolumeDown"),
)
_MODIFIERS: Final = ("Ctrl", "Shift", "Alt", "GUI")
_FROM_LEFT_CTRL: Final = tuple(f"{side} {name}" for side in ("Left", "Right") for name in _MODIFIERS)

KEY_NAMES: Final[Mapping[int, str]] = {
    **dict(enumerate(_FROM_FIRST, FIRST_SCANCODE)),
    **dict(enumerate(_FROM_APPLICATION, 101)),
    **dict(enumerate(_FROM_LEFT_CTRL, 224)),
}
"""SDL3's names of scancodes. Rarer keys have none here; they go by their number."""

_BY_NAME: Final = {name.lower(): code for code, name in KEY_NAMES.items()}


def scancode(control: str) -> int:
    """The scancode that a binding's control means: a name, in any case as SDL has it, or a number.

    Raises ValueError that says what was expected. The digits 4 to 9 are refused: each is the name of one key and the
    number of another, and a file does not tell which was meant.
    """
    code = _BY_NAME.get(control.lower())
    number = int(control) if re.fullmatch(r"[0-9]{1,4}", control) else None
    if number is None and code is None:
        raise ValueError("the name of a key as SDL has it, such as Space or Left Shift, or its scancode")
    if code is not None and number is not None and number in KEY_NAMES:
        raise ValueError(f"{code} for the key {control}, or {KEY_NAMES[number]} for the key of scancode {number}")
    if code is not None:
        return code
    assert number is not None
    if not FIRST_SCANCODE <= number <= LAST_SCANCODE:
        raise ValueError(f"a scancode from {FIRST_SCANCODE} to {LAST_SCANCODE}")
    return number


def key_name(code: int) -> str:
    """What a key is called: its name, else its number."""
    return KEY_NAMES.get(code, str(code))


def encode_keys(pressed: Sequence[Collection[int]], scancodes: Sequence[int]) -> FloatArray:
    """Which of `scancodes` are down, (n, len(scancodes)) float32 of 0 or 1; `pressed` has those of each snapshot."""
    rows = [[code in keys for code in scancodes] for keys in pressed]
    return np.array(rows, dtype=np.float32).reshape(len(pressed), len(scancodes))
