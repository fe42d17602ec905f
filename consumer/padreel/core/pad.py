"""The pad as it is sent: names of its controls, one snapshot, and many of them as arrays. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from padreel_schemas.v1 import gamepad_pb2

BUTTONS: Final = (
    "south",
    "east",
    "west",
    "north",
    "back",
    "guide",
    "start",
    "left_stick",
    "right_stick",
    "left_shoulder",
    "right_shoulder",
    "dpad_up",
    "dpad_down",
    "dpad_left",
    "dpad_right",
    "misc1",
    "right_paddle1",
    "left_paddle1",
    "right_paddle2",
    "left_paddle2",
    "touchpad",
)
"""Names of SDL3's gamepad buttons; a name's position is the button's id."""

AXES: Final = ("leftx", "lefty", "rightx", "righty", "left_trigger", "right_trigger")
"""Names of SDL3's gamepad axes; a name's position is the axis' index."""

TRIGGERS: Final = ("left_trigger", "right_trigger")
STICKS: Final[Mapping[str, tuple[int, int]]] = {"left_stick": (0, 1), "right_stick": (2, 3)}
OBSERVATION_NAMES: Final = AXES + BUTTONS

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
_Controls = tuple[Sequence[float], Sequence[int], Sequence[int]]  # axes, buttons and keys of a snapshot


@dataclass(frozen=True, slots=True)
class GamepadSnapshot:
    """The whole state of pad and keyboard from one moment on, until the next snapshot.

    `monotonic_ns` is the rig's clock in nanoseconds; `axes` are in SDL3's order, from -1 to 1 (triggers from 0);
    `pressed_buttons` are ids as recorded, `pressed_keys` SDL scancodes.
    """

    monotonic_ns: int
    axes: tuple[float, ...] = ()
    pressed_buttons: tuple[int, ...] = ()
    pressed_keys: tuple[int, ...] = ()


def snapshot_of(payload: bytes) -> GamepadSnapshot:
    """Read one serialised `GamepadState`. Raises ValueError where it is none."""
    state = _state_of(payload)
    return GamepadSnapshot(
        state.monotonic_ns, tuple(state.axes), tuple(state.pressed_buttons), tuple(state.pressed_keys)
    )


def _state_of(payload: bytes) -> gamepad_pb2.GamepadState:
    try:
        return gamepad_pb2.GamepadState.FromString(payload)
    except DecodeError as error:
        raise ValueError(f"no GamepadState: {error}") from error


def decode_states(
    payloads: Sequence[bytes], *, button_base: int = 0
) -> tuple[FloatArray, BoolArray, tuple[tuple[int, ...], ...]]:
    """Read serialised `GamepadState` payloads into arrays, as `snapshot_arrays` does.

    Raises ValueError that names the payload which is no `GamepadState`.
    """
    return decode_each(payloads, len(payloads), button_base=button_base)


def decode_each(
    payloads: Iterable[bytes], count: int, *, button_base: int = 0
) -> tuple[FloatArray, BoolArray, tuple[tuple[int, ...], ...]]:
    """The same of `count` payloads that are not held together."""

    def controls() -> Iterator[_Controls]:
        for number, payload in enumerate(payloads):
            try:
                state = _state_of(payload)
            except ValueError as error:
                raise ValueError(f"payload {number} of {count} is {error}") from error
            yield state.axes, state.pressed_buttons, state.pressed_keys

    return _arrays(controls(), count, button_base)


def snapshot_arrays(
    snapshots: Sequence[GamepadSnapshot], *, button_base: int = 0
) -> tuple[FloatArray, BoolArray, tuple[tuple[int, ...], ...]]:
    """Snapshots as axes (n, 6) float32, buttons (n, 21) bool, and the scancodes of the keys that are down in each.

    An axis that a snapshot lacks is 0; axes beyond the sixth and buttons beyond the table are left out. `button_base`
    is subtracted from the button ids (see `ActionMappingProfile`).
    """
    controls = ((one.axes, one.pressed_buttons, one.pressed_keys) for one in snapshots)
    return _arrays(controls, len(snapshots), button_base)


def _arrays(
    snapshots: Iterable[_Controls], count: int, button_base: int
) -> tuple[FloatArray, BoolArray, tuple[tuple[int, ...], ...]]:
    """One snapshot at a time: those of a long episode, held together, would be its largest part in memory."""
    axes = np.zeros((count, len(AXES)), dtype=np.float32)
    buttons = np.zeros((count, len(BUTTONS)), dtype=np.bool_)
    keys: list[tuple[int, ...]] = []
    for row, (all_values, pressed_buttons, pressed_keys) in enumerate(snapshots):
        values = all_values[: len(AXES)]
        axes[row, : len(values)] = values
        for button in pressed_buttons:
            if button_base <= button < button_base + len(BUTTONS):
                buttons[row, button - button_base] = True
        keys.append(tuple(pressed_keys))
    return axes, buttons, tuple(keys)


def encode_observation(axes: FloatArray, buttons: BoolArray) -> FloatArray:
    """The raw pad as vectors, (n, 27) float32 with the slots of `OBSERVATION_NAMES`; buttons are 0 or 1."""
    row_count(axes, buttons)
    return np.concatenate([axes, buttons], axis=1, dtype=np.float32)


def row_count(axes: FloatArray, buttons: BoolArray) -> int:
    """How many snapshots the arrays hold. Raises ValueError where they are not (n, 6) and (n, 21)."""
    rows = len(axes)
    if axes.shape != (rows, len(AXES)) or buttons.shape != (rows, len(BUTTONS)):
        raise ValueError(
            f"axes are {axes.shape} and buttons {buttons.shape}, expected (n, {len(AXES)}) and (n, {len(BUTTONS)})"
        )
    return rows
