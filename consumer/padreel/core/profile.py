"""The syntax of game definitions and action mappings, as a recorder writes them.

Fields that are not known here are ignored, values that cannot be used are a `ProfileError` which names file, action
and control. Texts, numbers and truth values may come as YAML types or, from a loader that resolves none, as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from padreel.core.action import (
    DEFAULT_THRESHOLD,
    DIRECTIONS,
    KINDS,
    ActionBinding,
    ActionDefinition,
    ActionMappingProfile,
    BindingType,
    Direction,
    GameClass,
    GameDefinition,
)
from padreel.core.keys import key_name, scancode
from padreel.core.pad import AXES, BUTTONS, STICKS, TRIGGERS
from padreel.errors import ProfileError

_BINDINGS: Final[Mapping[str, BindingType]] = {
    "button": "button",
    "axis": "axis",
    "stick": "stick",
    "trigger": "trigger",
    "combo": "combo",
    "key": "key",
}
_PARTS: Final[Mapping[str, BindingType]] = {"button": "button", "axis_button": "axis_button", "key": "key"}
_CONTROLS: Final[Mapping[BindingType, Sequence[str]]] = {
    "button": BUTTONS,
    "axis": AXES,
    "axis_button": AXES,
    "stick": tuple(STICKS),
    "trigger": AXES,
}
_TRUE: Final = ("true", "yes", "on", "y")
_FALSE: Final = ("false", "no", "off", "n")


def parse_game_definition(data: object, source: str) -> GameDefinition:
    """Read a game definition from parsed YAML; `source` is the file's name. Raises ProfileError."""
    root = _mapping(data, source)
    game_id = _text(root, "game_id", source)
    classes: list[GameClass] = []
    for position, entry in enumerate(_sequence(root, "classes", source)):
        game_class = _game_class(entry, f"{source}: classes[{position}]", source)
        if any(game_class.id == other.id for other in classes):
            _fail(f"{source}: class {game_class.id!r}", "id stands twice", "one class of that id")
        classes.append(game_class)
    if not classes:
        _fail(f"{source}: classes", "empty", "at least one class")
    return GameDefinition(game_id, _optional_text(root, "display_name", source), tuple(classes))


def parse_action_mapping(data: object, source: str, *, button_base: int = 0) -> ActionMappingProfile:
    """Read an action mapping from parsed YAML; `source` is the file's name. Raises ProfileError.

    `button_base` (0 or 1) goes into the profile; it says how the recordings number their buttons.
    """
    if button_base not in (0, 1):
        _fail(f"{source}: button_base", repr(button_base), "0 or 1")
    root = _mapping(data, source)
    class_ids = tuple(
        _as_text(value, f"{source}: class_ids[{position}]")
        for position, value in enumerate(_sequence(root, "class_ids", source))
    )
    if not class_ids:
        _fail(f"{source}: class_ids", "empty", "at least one class of the game")
    for class_id in class_ids:
        if class_ids.count(class_id) > 1:
            _fail(f"{source}: class_ids", f"{class_id!r} twice", "each class once")
    actions: dict[str, tuple[ActionBinding, ...]] = {}
    for key, entry in _mapping(root.get("actions") or {}, f"{source}: actions").items():
        action_id = _as_text(key, f"{source}: actions")
        if action_id in actions:
            _fail(f"{source}: action {action_id!r}", "a second entry", "one entry per action")
        actions[action_id] = _bindings(entry, f"{source}: action {action_id!r}")
    return ActionMappingProfile(
        game_id=_text(root, "game_id", source),
        class_ids=class_ids,
        profile_name=_optional_text(root, "profile_name", source),
        axis_button_thresholds=_axis_button_thresholds(root, source),
        bindings_by_action=actions,
        complete=_truth(root, "complete", source),
        button_base=button_base,
    )


def _game_class(entry: object, where: str, source: str) -> GameClass:
    fields = _mapping(entry, where)
    class_id = _text(fields, "id", where)
    actions: list[ActionDefinition] = []
    listed = _sequence(fields, "actions", where) if fields.get("actions") else []
    for position, item in enumerate(listed):
        place = f"{where}: actions[{position}]"
        action_fields = _mapping(item, place)
        action_id = _text(action_fields, "id", place)
        place = f"{source}: class {class_id!r}: action {action_id!r}"
        if any(action_id == other.id for other in actions):
            _fail(place, "id stands twice", "one action of that id in a class")
        kind = next((kind for kind in KINDS if kind == action_fields.get("kind")), None)
        if kind is None:
            _fail(f"{place}: kind", _found(action_fields, "kind"), _one_of(KINDS))
        label = _optional_text(action_fields, "label", place) or action_id
        actions.append(ActionDefinition(action_id, kind, label, _optional_text(action_fields, "description", place)))
    return GameClass(class_id, tuple(actions), _optional_text(fields, "label", where) or class_id)


def _axis_button_thresholds(root: Mapping[object, object], source: str) -> dict[str, float]:
    where = f"{source}: axis_button_thresholds"
    given = _mapping(root.get("axis_button_thresholds") or {}, where)
    for axis in given:
        if axis not in AXES:
            _fail(where, f"control {axis!r}", _one_of(AXES))
    return {axis: _threshold(given, axis, where) for axis in AXES}


def _bindings(entry: object, where: str) -> tuple[ActionBinding, ...]:
    if not entry:
        return ()
    listed = _mapping(entry, where).get("bindings")
    if not listed:
        return ()
    if not isinstance(listed, list):
        _fail(f"{where}: bindings", _words(listed), "a list")
    return tuple(_binding(item, f"{where}: bindings[{position}]") for position, item in enumerate(listed))


def _binding(item: object, where: str) -> ActionBinding:
    fields = _mapping(item, where)
    kind = _type(fields, _BINDINGS, where)
    if kind == "combo":
        parts = tuple(
            _part(part, f"{where}: controls[{position}]")
            for position, part in enumerate(_sequence(fields, "controls", where))
        )
        if not parts:
            _fail(f"{where}: controls", "empty", "at least one part")
        return ActionBinding(kind, controls=parts)
    control = _control(fields, kind, where)
    where = f"{where}: control {control!r}"
    if kind == "axis":
        return ActionBinding(kind, control, direction=_direction(fields, where))
    if kind == "trigger":
        return ActionBinding(kind, control, threshold=_threshold(fields, "threshold", where))
    return ActionBinding(kind, control)


def _part(item: object, where: str) -> ActionBinding:
    fields = _mapping(item, where)
    kind = _type(fields, _PARTS, where)
    control = _control(fields, kind, where)
    if kind in ("button", "key"):
        return ActionBinding(kind, control)
    if control in TRIGGERS and not fields.get("direction"):
        return ActionBinding(kind, control, direction="positive")
    return ActionBinding(kind, control, direction=_direction(fields, f"{where}: control {control!r}"))


def _type(fields: Mapping[object, object], types: Mapping[str, BindingType], where: str) -> BindingType:
    found = fields.get("type")
    kind = types.get(found) if isinstance(found, str) else None
    if kind is None:
        control = f": control {fields['control']!r}" if fields.get("control") else ""
        _fail(f"{where}{control}: type", _found(fields, "type"), _one_of(tuple(types)))
    return kind


def _control(fields: Mapping[object, object], kind: BindingType, where: str) -> str:
    if kind == "key":
        return _key(fields, where)
    control = fields.get("control")
    if not isinstance(control, str) or control not in _CONTROLS[kind]:
        _fail(f"{where}: control of type {kind}", _found(fields, "control"), _one_of(_CONTROLS[kind]))
    return control


def _key(fields: Mapping[object, object], where: str) -> str:
    """The key's name, else its number, as this program writes it."""
    control = fields.get("control")
    text = str(control) if isinstance(control, str | int) and not isinstance(control, bool) else ""
    try:
        return key_name(scancode(text))
    except ValueError as error:
        _fail(f"{where}: control of type key", _found(fields, "control"), str(error))


def _direction(fields: Mapping[object, object], where: str) -> Direction:
    found = fields.get("direction") or "any"
    direction = next((direction for direction in DIRECTIONS if direction == found), None)
    if direction is None:
        _fail(f"{where}: direction", repr(found), _one_of(DIRECTIONS))
    return direction


def _threshold(fields: Mapping[object, object], name: str, where: str) -> float:
    """A threshold above 0 and at most 1; half where it is not given."""
    found = fields.get(name)
    if found is None or found == "":
        return DEFAULT_THRESHOLD
    number = None
    if isinstance(found, int | float | str) and not isinstance(found, bool):
        try:
            number = float(found)
        except ValueError:
            number = None
    if number is None or not 0 < number <= 1:
        _fail(f"{where}: {name}", repr(found), "a number above 0 and at most 1")
    return number


def _truth(fields: Mapping[object, object], name: str, where: str) -> bool:
    found = fields.get(name)
    if found is None or found == "":
        return False
    if isinstance(found, bool):
        return found
    word = str(found).lower()
    if word not in _TRUE + _FALSE:
        _fail(f"{where}: {name}", repr(found), "true or false")
    return word in _TRUE


def _mapping(value: object, where: str) -> Mapping[object, object]:
    if not isinstance(value, dict):
        _fail(where, _words(value), "a mapping (name: value)")
    return value


def _sequence(fields: Mapping[object, object], name: str, where: str) -> list[object]:
    value = fields.get(name)
    if not isinstance(value, list):
        _fail(f"{where}: {name}", _found(fields, name), "a list")
    return value


def _text(fields: Mapping[object, object], name: str, where: str) -> str:
    if name not in fields:
        _fail(f"{where}: {name}", "nothing", "a text")
    return _as_text(fields[name], f"{where}: {name}")


def _optional_text(fields: Mapping[object, object], name: str, where: str) -> str:
    value = fields.get(name)
    return "" if value is None or value == "" else _as_text(value, f"{where}: {name}")


def _as_text(value: object, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        _fail(where, _words(value), "a text")
    text = str(value)
    if any("\ud800" <= letter <= "\udfff" for letter in text):  # YAML can escape half a character; no file takes it
        _fail(where, repr(text), "a text of whole characters")
    return text


def _found(fields: Mapping[object, object], name: str) -> str:
    return _words(fields[name]) if name in fields else "nothing"


def _words(value: object) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return "nothing" if value is None or value == "" else repr(value)


def _one_of(names: Sequence[str]) -> str:
    return "one of " + ", ".join(names)


def _fail(where: str, found: str, expected: str) -> NoReturn:
    raise ProfileError(f"{where}: found {found}, expected {expected}")
