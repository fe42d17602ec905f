"""From pad snapshots to action vectors, a whole episode at a time. Pure.

The vector of a game is the actions of the profile's `class_ids`, in that order and in the order of the game
definition: two slots for a `vector2`, one for a `digital`, `analog` or `trigger`. An action without bindings keeps its
slots, as zeros.

Every binding has a *level*, from 0 to 1, or from -1 to 1 for an axis in `any` direction:

    button    1 while it is down, else 0
    key       the same, of the keyboard
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

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, get_args

import numpy as np

from padreel.core.keys import key_name, scancode
from padreel.core.pad import (
    AXES,
    BUTTONS,
    STICKS,
    BoolArray,
    FloatArray,
    GamepadSnapshot,
    row_count,
    snapshot_arrays,
)
from padreel.errors import ProfileError

DEFAULT_THRESHOLD: Final = 0.5

Kind = Literal["digital", "analog", "trigger", "vector2"]
BindingType = Literal["button", "axis", "stick", "trigger", "combo", "axis_button", "key"]
Direction = Literal["positive", "negative", "any"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
DIRECTIONS: Final[tuple[Direction, ...]] = get_args(Direction)


@dataclass(frozen=True, slots=True)
class ActionDefinition:
    """One action of a game. `label` is for people; a definition without one has its id there."""

    id: str
    kind: Kind
    label: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class GameClass:
    """A set of actions that are available together, say one character's."""

    id: str
    actions: tuple[ActionDefinition, ...]
    label: str = ""


@dataclass(frozen=True, slots=True)
class GameDefinition:
    """The actions that a game knows."""

    game_id: str
    display_name: str
    classes: tuple[GameClass, ...]


@dataclass(frozen=True, slots=True)
class ActionBinding:
    """One way to perform an action with pad or keyboard, or one part of a combo.

    `control` names a button, axis or stick, or a key by SDL's name of it or its scancode; it is empty for a combo.
    `controls` are a combo's parts, of type `button`, `key` or `axis_button`; `direction` counts for `axis` and
    `axis_button`, `threshold` for `trigger`.
    """

    type: BindingType
    control: str = ""
    direction: Direction = "any"
    threshold: float = DEFAULT_THRESHOLD
    controls: tuple[ActionBinding, ...] = ()


@dataclass(frozen=True, slots=True)
class ActionMappingProfile:
    """How one player's pad performs a game's actions.

    An axis that `axis_button_thresholds` lacks has 0.5. `button_base` is the id that `south` has in the recorded
    payloads: 0, or 1 for recordings and profiles that were made for a converter whose table of buttons starts at 1.
    """

    game_id: str
    class_ids: tuple[str, ...]
    profile_name: str
    bindings_by_action: Mapping[str, Sequence[ActionBinding]]
    complete: bool = False
    axis_button_thresholds: Mapping[str, float] = field(default_factory=dict)
    button_base: int = 0


@dataclass(frozen=True, slots=True)
class ActionLayoutEntry:
    """Where an action lies in the vector: slots `start` to `start + size - 1`."""

    action_id: str
    kind: Kind
    start: int
    size: int


def collect_actions_by_class(game_classes: Iterable[GameClass], class_ids: Sequence[str]) -> list[ActionDefinition]:
    """The actions of `class_ids`, flattened, in the vector's order. Raises ProfileError for an unknown class."""
    return [action for game_class in _classes(game_classes, class_ids) for action in game_class.actions]


def build_action_layout(actions: Iterable[ActionDefinition]) -> list[ActionLayoutEntry]:
    """Lay out the action vector, one entry per action, in their order."""
    layout: list[ActionLayoutEntry] = []
    start = 0
    for action in actions:
        size = 2 if action.kind == "vector2" else 1
        layout.append(ActionLayoutEntry(action.id, action.kind, start, size))
        start += size
    return layout


def encode_action_vector(
    layout: Sequence[ActionLayoutEntry],
    bindings_by_action: Mapping[str, Sequence[ActionBinding]],
    snapshot: GamepadSnapshot,
    *,
    axis_button_thresholds: Mapping[str, float] | None = None,
    button_base: int = 0,
) -> FloatArray:
    """The action vector of one snapshot, (slots,) float32.

    The two options are what a profile says in the fields of the same names; a whole episode is faster in one call of
    `ActionEncoder.encode`. Raises ProfileError where a binding names no key.
    """
    axes, buttons, keys = snapshot_arrays([snapshot], button_base=button_base)
    pads = _Pads(axes, buttons, keys, _thresholds(axis_button_thresholds or {}))
    vector: FloatArray = _encode(layout, bindings_by_action, pads)[0]
    return vector


class ActionEncoder:
    """Encodes snapshots of the pad as action vectors of one game and profile.

    `layout` and `names` (one per slot: `<id>`, or `<id>.x` and `<id>.y` of a vector2) describe the vector of `size`
    slots. An id that stands in two of the classes is written `<class>.<id>`. `scancodes` are those of all keys that
    the profile binds, ascending, and `key_names` their names.

    Raises ProfileError where profile and game do not belong together: another game id, an unknown class, an action that
    the game does not define. `source` names the profile's file in such a message.
    """

    def __init__(self, game: GameDefinition, profile: ActionMappingProfile, source: str = "action mapping") -> None:
        _check_profile(game, profile, source)
        self.game = game
        self.profile = profile
        self.layout = tuple(build_action_layout(collect_actions_by_class(game.classes, profile.class_ids)))
        self.names = _slot_names(game, profile.class_ids, source)
        self.size = len(self.names)
        self.button_base = profile.button_base
        self.scancodes = _bound_scancodes(profile, source)
        self.key_names = tuple(key_name(code) for code in self.scancodes)
        self._thresholds = _thresholds(profile.axis_button_thresholds)

    def encode(self, axes: FloatArray, buttons: BoolArray, keys: Sequence[Collection[int]] | None = None) -> FloatArray:
        """Action vectors, (n, size) float32, of n snapshots: axes (n, 6) float32, buttons (n, 21) bool.

        `keys` has the scancodes that are down in each snapshot; it may be left out where the profile binds no key.
        """
        if keys is None:
            if self.scancodes:
                raise ValueError("no keys are given, though the profile binds some")
            keys = ((),) * len(axes)
        if len(keys) != len(axes):
            raise ValueError(f"keys of {len(keys)} snapshots, expected {len(axes)}")
        return _encode(self.layout, self.profile.bindings_by_action, _Pads(axes, buttons, keys, self._thresholds))


class _Pads(NamedTuple):
    """Snapshots to encode, and the threshold of each axis in a combo."""

    axes: FloatArray
    buttons: BoolArray
    keys: Sequence[Collection[int]]
    thresholds: Sequence[np.float32]


def _thresholds(given: Mapping[str, float]) -> list[np.float32]:
    return [np.float32(given.get(axis, DEFAULT_THRESHOLD)) for axis in AXES]


def _encode(
    layout: Sequence[ActionLayoutEntry], bindings_by_action: Mapping[str, Sequence[ActionBinding]], pads: _Pads
) -> FloatArray:
    """Action vectors, (n, slots) float32."""
    rows = row_count(pads.axes, pads.buttons)
    vectors = np.zeros((rows, sum(entry.size for entry in layout)), dtype=np.float32)
    for entry in layout:
        bindings = bindings_by_action.get(entry.action_id, ())
        if not bindings:
            continue
        slots = vectors[:, entry.start : entry.start + entry.size]
        if entry.kind == "vector2":
            stick = next((binding for binding in bindings if binding.type == "stick"), None)
            if stick is not None:
                slots[:] = pads.axes[:, STICKS[stick.control]]
        else:
            slots[:, 0] = _combine(entry.kind, [_level(binding, pads) for binding in bindings])
    return vectors


def _level(binding: ActionBinding, pads: _Pads) -> FloatArray:
    """The binding's level per snapshot, (n,) float32; the module's docstring defines it."""
    if binding.type == "button":
        return pads.buttons[:, BUTTONS.index(binding.control)].astype(np.float32)
    if binding.type == "key":
        return _key_down(binding, pads).astype(np.float32)
    if binding.type == "axis":
        return _directed(pads.axes[:, AXES.index(binding.control)], binding.direction)
    if binding.type == "trigger":
        value = pads.axes[:, AXES.index(binding.control)]
        return np.where(value >= np.float32(binding.threshold), value, np.float32(0))
    if binding.type == "combo":
        pressed: BoolArray = np.logical_and.reduce([_pressed(part, pads) for part in binding.controls])
        return pressed.astype(np.float32)
    return np.zeros(len(pads.axes), dtype=np.float32)


def _pressed(part: ActionBinding, pads: _Pads) -> BoolArray:
    """Whether a combo's part is pressed, (n,) bool."""
    if part.type == "button":
        return pads.buttons[:, BUTTONS.index(part.control)]
    if part.type == "key":
        return _key_down(part, pads)
    axis = AXES.index(part.control)
    value = pads.axes[:, axis]
    if part.direction == "any":
        value = np.abs(value)
    elif part.direction == "negative":
        value = -value
    pressed: BoolArray = value >= pads.thresholds[axis]
    return pressed


def _key_down(binding: ActionBinding, pads: _Pads) -> BoolArray:
    """Whether the key is down, (n,) bool."""
    code = _scancode(binding, "binding")
    return np.array([code in keys for keys in pads.keys], dtype=np.bool_)


def _scancode(binding: ActionBinding, where: str) -> int:
    try:
        return scancode(binding.control)
    except ValueError as error:
        raise ProfileError(f"{where}: control of type key: found {binding.control!r}, expected {error}") from error


def _bound_scancodes(profile: ActionMappingProfile, source: str) -> tuple[int, ...]:
    """The scancodes of all keys in the profile, ascending."""
    found: set[int] = set()
    for action_id, bindings in profile.bindings_by_action.items():
        for one in (part for binding in bindings for part in (binding, *binding.controls)):
            if one.type == "key":
                found.add(_scancode(one, f"{source}: action {action_id!r}"))
    return tuple(sorted(found))


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


def _classes(game_classes: Iterable[GameClass], class_ids: Sequence[str]) -> list[GameClass]:
    by_id = {game_class.id: game_class for game_class in game_classes}
    for class_id in class_ids:
        if class_id not in by_id:
            raise ProfileError(f"class {class_id!r} is not defined by the game, which has {_list(by_id)}")
    return [by_id[class_id] for class_id in class_ids]


def _check_profile(game: GameDefinition, profile: ActionMappingProfile, source: str) -> None:
    if profile.game_id != game.game_id:
        raise ProfileError(
            f"{source}: game_id is {profile.game_id!r}, but the game definition is of {game.game_id!r}; "
            "give the mapping and the definition of one game"
        )
    try:
        _classes(game.classes, profile.class_ids)
    except ProfileError as error:
        raise ProfileError(f"{source}: class_ids: {error}") from error
    defined = {action.id for game_class in game.classes for action in game_class.actions}
    for action_id in profile.bindings_by_action:
        if action_id not in defined:
            raise ProfileError(
                f"{source}: action {action_id!r} is not defined by game {game.game_id!r}, which has {_list(defined)}"
            )


def _slot_names(game: GameDefinition, class_ids: Sequence[str], source: str) -> tuple[str, ...]:
    placed = [
        (game_class.id, action) for game_class in _classes(game.classes, class_ids) for action in game_class.actions
    ]
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
