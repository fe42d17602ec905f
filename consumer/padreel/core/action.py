"""From pad snapshots to action vectors, a whole episode at a time. Pure.

The vector of a game is the actions of the profile's `class_ids`, in that order and in the order of the game
definition: two slots for a `vector2`, one for a `digital`, `analog` or `trigger`. An action without bindings keeps its
slots, as zeros.

Every binding has a *level*, from 0 to 1, or from -1 to 1 for an axis in `any` direction:

    button    1 while it is down, else 0
    axis      positive: max(x, 0); negative: max(-x, 0); any: x
    trigger   x while it is at or above the binding's threshold, else 0
    combo     1 while all parts are pressed, else 0; an `axis_button` part is pressed while its axis is at or beyond the
              profile's threshold in the part's direction (positive: x, negative: -x, any: |x|)
    stick     has two axes and no level: 0

and every kind of action makes one value of its bindings' levels:

    digital   1 if any level is not 0, else 0
    analog    the first level that is not 0, in the profile's order
    trigger   the greatest level, at least 0
    vector2   x and y of the first stick binding; other bindings are passed over

A digital action on a plain axis therefore counts the smallest deflection; a combo of one `axis_button` has a threshold.
Thresholds are compared as float32, which is what axes are: an axis sent as 0.7 is at a threshold of 0.7.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from padreel.errors import ProfileError
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
DEFAULT_THRESHOLD: Final = 0.5

Kind = Literal["digital", "analog", "trigger", "vector2"]
BindingType = Literal["button", "axis", "stick", "trigger", "combo", "axis_button"]
Direction = Literal["positive", "negative", "any"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
DIRECTIONS: Final[tuple[Direction, ...]] = get_args(Direction)

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ActionDefinition:
    """One action of a game."""

    id: str
    label: str
    kind: Kind
    description: str = ""


@dataclass(frozen=True, slots=True)
class GameClass:
    """A set of actions that are available together, say one character's."""

    id: str
    label: str
    actions: tuple[ActionDefinition, ...]


@dataclass(frozen=True, slots=True)
class GameDefinition:
    """The actions that a game knows."""

    game_id: str
    display_name: str
    classes: tuple[GameClass, ...]


@dataclass(frozen=True, slots=True)
class ActionBinding:
    """One way to perform an action with the pad, or one part of a combo.

    `control` names a button, axis or stick, and is empty for a combo; `parts` are a combo's, of type `button` or
    `axis_button`; `direction` counts for `axis` and `axis_button`, `threshold` for `trigger`.
    """

    type: BindingType
    control: str = ""
    direction: Direction = "any"
    threshold: float = DEFAULT_THRESHOLD
    parts: tuple[ActionBinding, ...] = ()


@dataclass(frozen=True, slots=True)
class ActionMappingProfile:
    """How one player's pad performs a game's actions.

    `axis_button_thresholds` has every axis. `button_base` is the id that `south` has in the recorded payloads: 0, or 1
    for recordings and profiles that were made for a converter whose table of buttons starts at 1.
    """

    game_id: str
    class_ids: tuple[str, ...]
    profile_name: str
    axis_button_thresholds: Mapping[str, float]
    actions: Mapping[str, tuple[ActionBinding, ...]]
    complete: bool = False
    button_base: int = 0


@dataclass(frozen=True, slots=True)
class ActionLayoutEntry:
    """Where an action lies in the vector: slots `start` to `start + size - 1`."""

    action_id: str
    kind: Kind
    start: int
    size: int


def collect_actions_by_class(game: GameDefinition, class_ids: Sequence[str]) -> tuple[ActionDefinition, ...]:
    """The actions of `class_ids`, flattened, in the vector's order. Raises ProfileError for an unknown class."""
    return tuple(action for game_class in _classes(game, class_ids) for action in game_class.actions)


def build_action_layout(game: GameDefinition, class_ids: Sequence[str]) -> tuple[ActionLayoutEntry, ...]:
    """Lay out the action vector, one entry per action. Raises ProfileError for an unknown class."""
    layout: list[ActionLayoutEntry] = []
    start = 0
    for action in collect_actions_by_class(game, class_ids):
        size = 2 if action.kind == "vector2" else 1
        layout.append(ActionLayoutEntry(action.id, action.kind, start, size))
        start += size
    return tuple(layout)


class ActionEncoder:
    """Encodes snapshots of the pad as action vectors of one game and profile.

    `layout` and `names` (one per slot: `<id>`, or `<id>.x` and `<id>.y` of a vector2) describe the vector of `size`
    slots. An id that stands in two of the classes is written `<class>.<id>`.

    Raises ProfileError where profile and game do not belong together: another game id, an unknown class, an action that
    the game does not define. `source` names the profile's file in such a message.
    """

    def __init__(self, game: GameDefinition, profile: ActionMappingProfile, source: str = "action mapping") -> None:
        _check_profile(game, profile, source)
        self.game = game
        self.profile = profile
        self.layout = build_action_layout(game, profile.class_ids)
        self.names = _slot_names(game, profile.class_ids, source)
        self.size = len(self.names)
        self.button_base = profile.button_base
        thresholds = profile.axis_button_thresholds
        self._thresholds = [np.float32(thresholds.get(axis, DEFAULT_THRESHOLD)) for axis in AXES]

    def encode(self, axes: FloatArray, buttons: BoolArray) -> FloatArray:
        """Action vectors, (n, size) float32, of n snapshots: axes (n, 6) float32, buttons (n, 21) bool."""
        rows = _row_count(axes, buttons)
        vectors = np.zeros((rows, self.size), dtype=np.float32)
        for entry in self.layout:
            bindings = self.profile.actions.get(entry.action_id, ())
            if not bindings:
                continue
            slots = vectors[:, entry.start : entry.start + entry.size]
            if entry.kind == "vector2":
                stick = next((binding for binding in bindings if binding.type == "stick"), None)
                if stick is not None:
                    slots[:] = axes[:, STICKS[stick.control]]
            else:
                levels = [self._level(binding, axes, buttons) for binding in bindings]
                slots[:, 0] = _combine(entry.kind, levels)
        return vectors

    def _level(self, binding: ActionBinding, axes: FloatArray, buttons: BoolArray) -> FloatArray:
        """The binding's level per snapshot, (n,) float32; the module's docstring defines it."""
        if binding.type == "button":
            return buttons[:, BUTTONS.index(binding.control)].astype(np.float32)
        if binding.type == "axis":
            return _directed(axes[:, AXES.index(binding.control)], binding.direction)
        if binding.type == "trigger":
            value = axes[:, AXES.index(binding.control)]
            return np.where(value >= np.float32(binding.threshold), value, np.float32(0))
        if binding.type == "combo":
            pressed: BoolArray = np.logical_and.reduce([self._pressed(part, axes, buttons) for part in binding.parts])
            return pressed.astype(np.float32)
        return np.zeros(len(axes), dtype=np.float32)

    def _pressed(self, part: ActionBinding, axes: FloatArray, buttons: BoolArray) -> BoolArray:
        """Whether a combo's part is pressed, (n,) bool."""
        if part.type == "button":
            return buttons[:, BUTTONS.index(part.control)]
        axis = AXES.index(part.control)
        value = axes[:, axis]
        if part.direction == "any":
            value = np.abs(value)
        elif part.direction == "negative":
            value = -value
        pressed: BoolArray = value >= self._thresholds[axis]
        return pressed


def decode_states(
    payloads: Sequence[bytes], *, button_base: int = 0
) -> tuple[FloatArray, BoolArray, tuple[tuple[int, ...], ...]]:
    """Read serialised `GamepadState` payloads into arrays.

    Returns axes (n, 6) float32, buttons (n, 21) bool, and per payload the scancodes of the keys that are down. An axis
    that a payload lacks is 0; axes beyond the sixth and buttons beyond the table are left out, they stay in the raw
    payload. `button_base` is subtracted from the button ids (see `ActionMappingProfile`).

    Raises ValueError that names the payload which is no `GamepadState`.
    """
    axes = np.zeros((len(payloads), len(AXES)), dtype=np.float32)
    buttons = np.zeros((len(payloads), len(BUTTONS)), dtype=np.bool_)
    keys: list[tuple[int, ...]] = []
    for row, payload in enumerate(payloads):
        try:
            state = gamepad_pb2.GamepadState.FromString(payload)
        except DecodeError as error:
            raise ValueError(f"payload {row} of {len(payloads)} is no GamepadState: {error}") from error
        values = state.axes[: len(AXES)]
        axes[row, : len(values)] = values
        for button in state.pressed_buttons:
            if button_base <= button < button_base + len(BUTTONS):
                buttons[row, button - button_base] = True
        keys.append(tuple(state.pressed_keys))
    return axes, buttons, tuple(keys)


def encode_observation(axes: FloatArray, buttons: BoolArray) -> FloatArray:
    """The raw pad as vectors, (n, 27) float32 with the slots of `OBSERVATION_NAMES`; buttons are 0 or 1."""
    _row_count(axes, buttons)
    return np.concatenate([axes, buttons], axis=1, dtype=np.float32)


def _directed(value: FloatArray, direction: Direction) -> FloatArray:
    if direction == "any":
        return value
    if direction == "negative":
        value = -value
    return np.where(value > 0, value, np.float32(0))  # unlike maximum, it never gives -0.0


def _combine(kind: Kind, levels: Iterable[FloatArray]) -> FloatArray:
    """One value per snapshot, (n,) float32, of the levels of an action's bindings."""
    stacked = np.stack(list(levels))
    value: FloatArray
    if kind == "digital":
        value = np.any(stacked != 0, axis=0).astype(np.float32)
    elif kind == "trigger":
        value = np.max(stacked, axis=0, initial=np.float32(0))
    else:
        first = np.argmax(stacked != 0, axis=0)
        value = stacked[first, np.arange(stacked.shape[1])]
    return value


def _row_count(axes: FloatArray, buttons: BoolArray) -> int:
    rows = len(axes)
    if axes.shape != (rows, len(AXES)) or buttons.shape != (rows, len(BUTTONS)):
        raise ValueError(
            f"axes are {axes.shape} and buttons {buttons.shape}, expected (n, {len(AXES)}) and (n, {len(BUTTONS)})"
        )
    return rows


def _classes(game: GameDefinition, class_ids: Sequence[str]) -> list[GameClass]:
    by_id = {game_class.id: game_class for game_class in game.classes}
    for class_id in class_ids:
        if class_id not in by_id:
            raise ProfileError(f"class {class_id!r} is not defined by game {game.game_id!r}, which has {_list(by_id)}")
    return [by_id[class_id] for class_id in class_ids]


def _check_profile(game: GameDefinition, profile: ActionMappingProfile, source: str) -> None:
    if profile.game_id != game.game_id:
        raise ProfileError(
            f"{source}: game_id is {profile.game_id!r}, but the game definition is of {game.game_id!r}; "
            "give the mapping and the definition of one game"
        )
    try:
        _classes(game, profile.class_ids)
    except ProfileError as error:
        raise ProfileError(f"{source}: class_ids: {error}") from error
    defined = {action.id for game_class in game.classes for action in game_class.actions}
    for action_id in profile.actions:
        if action_id not in defined:
            raise ProfileError(
                f"{source}: action {action_id!r} is not defined by game {game.game_id!r}, which has {_list(defined)}"
            )


def _slot_names(game: GameDefinition, class_ids: Sequence[str], source: str) -> tuple[str, ...]:
    placed = [(game_class.id, action) for game_class in _classes(game, class_ids) for action in game_class.actions]
    ids = [action.id for _, action in placed]
    names: list[str] = []
    for class_id, action in placed:
        name = action.id if ids.count(action.id) == 1 else f"{class_id}.{action.id}"
        names += [f"{name}.x", f"{name}.y"] if action.kind == "vector2" else [name]
    for name in names:
        if names.count(name) > 1:
            raise ProfileError(
                f"{source}: two slots of the action vector are called {name!r}; rename an action or class of the game"
            )
    if not names:
        raise ProfileError(f"{source}: class_ids {list(class_ids)} have no actions, so the action vector has no slots")
    return tuple(names)


def _list(ids: Iterable[str]) -> str:
    return ", ".join(sorted(ids)) or "none"
