"""The vectorised encoder against an oracle that takes one snapshot, one action and one binding at a time."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from padreel.core.action import ActionEncoder
from padreel.core.pad import AXES, BUTTONS, decode_states, encode_observation
from padreel.core.profile import parse_action_mapping, parse_game_definition
from padreel_schemas.v1.gamepad_pb2 import GamepadState

KIND_SLOTS = {"digital": 1, "analog": 1, "trigger": 1, "vector2": 2}
# As the USB HID usage table numbers them; written by name, in another case, and by number.
SCANCODES = {"A": 4, "z": 29, "1": 30, "space": 44, "Left Shift": 225, "26": 26, "300": 300}
STICK_AXES = {"left_stick": ("leftx", "lefty"), "right_stick": ("rightx", "righty")}


@dataclass(frozen=True)
class Snapshot:
    """A pad as a person would write it down: every axis by name, the names of the buttons that are down, and keys."""

    axes: dict[str, float]
    down: frozenset[str]
    keys: frozenset[int] = frozenset()


def single(value: float) -> float:
    """The nearest float32."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def directed(value: float, direction: str) -> float:
    if direction == "positive":
        return value if value > 0 else 0.0
    if direction == "negative":
        return -value if value < 0 else 0.0
    return value


def part_is_pressed(part: dict[str, object], pad: Snapshot, thresholds: dict[str, float]) -> bool:
    control = str(part["control"])
    if part["type"] == "button":
        return control in pad.down
    if part["type"] == "key":
        return SCANCODES[control] in pad.keys
    value = pad.axes[control]
    threshold = single(thresholds.get(control, 0.5))
    beyond = {"positive": value >= threshold, "negative": value <= -threshold}
    default = "positive" if control.endswith("_trigger") else "any"
    direction = str(part.get("direction", default))
    return beyond["positive"] or beyond["negative"] if direction == "any" else beyond[direction]


def level(binding: dict[str, object], pad: Snapshot, thresholds: dict[str, float]) -> float:
    kind = binding["type"]
    if kind == "combo":
        parts = binding["controls"]
        assert isinstance(parts, list)
        return 1.0 if all(part_is_pressed(part, pad, thresholds) for part in parts) else 0.0
    control = str(binding["control"])
    if kind == "button":
        return 1.0 if control in pad.down else 0.0
    if kind == "key":
        return 1.0 if SCANCODES[control] in pad.keys else 0.0
    if kind == "axis":
        return directed(pad.axes[control], str(binding.get("direction", "any")))
    if kind == "trigger":
        value = pad.axes[control]
        threshold = binding.get("threshold", 0.5)
        assert isinstance(threshold, float)
        return value if value >= single(threshold) else 0.0
    return 0.0


def expected_slots(
    kind: str, bindings: list[dict[str, object]], pad: Snapshot, thresholds: dict[str, float]
) -> list[float]:
    if kind == "vector2":
        for binding in bindings:
            if binding["type"] == "stick":
                return [pad.axes[axis] for axis in STICK_AXES[str(binding["control"])]]
        return [0.0, 0.0]
    levels = [level(binding, pad, thresholds) for binding in bindings]
    if kind == "digital":
        return [1.0 if any(levels) else 0.0]
    if kind == "analog":
        return [next((value for value in levels if value != 0), 0.0)]
    return [max([0.0, *levels])]


directions = st.sampled_from(["positive", "negative", "any"])
thresholds_of_axes = st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.7, 1.0])
buttons = st.sampled_from(BUTTONS)
axes = st.sampled_from(AXES)
keys_of_bindings = st.fixed_dictionaries({"type": st.just("key"), "control": st.sampled_from(sorted(SCANCODES))})
parts = st.one_of(
    keys_of_bindings,
    st.fixed_dictionaries({"type": st.just("button"), "control": buttons}),
    st.fixed_dictionaries({"type": st.just("axis_button"), "control": axes}, optional={"direction": directions}),
)
bindings_of_actions = st.lists(
    st.one_of(
        keys_of_bindings,
        st.fixed_dictionaries({"type": st.just("button"), "control": buttons}),
        st.fixed_dictionaries({"type": st.just("axis"), "control": axes}, optional={"direction": directions}),
        st.fixed_dictionaries({"type": st.just("stick"), "control": st.sampled_from(sorted(STICK_AXES))}),
        st.fixed_dictionaries(
            {"type": st.just("trigger"), "control": axes}, optional={"threshold": thresholds_of_axes}
        ),
        st.fixed_dictionaries({"type": st.just("combo"), "controls": st.lists(parts, min_size=1, max_size=3)}),
    ),
    max_size=4,
)
# Values at, just beside and far from the thresholds; a drawn float alone would hardly ever be at one.
axis_values = st.one_of(
    st.sampled_from([0.0, -0.0, 0.1, 0.25, 0.3, 0.5, 0.7, 1.0, -0.1, -0.3, -0.5, -0.7, -1.0]).map(single),
    st.floats(-1, 1, width=32),
)
snapshots = st.builds(
    Snapshot,
    st.fixed_dictionaries(dict.fromkeys(AXES, axis_values)),
    st.frozensets(buttons, max_size=5),
    st.frozensets(st.sampled_from([*SCANCODES.values(), 5, 4_000_000_000]), max_size=4),
)
games = st.lists(st.lists(st.sampled_from(sorted(KIND_SLOTS)), min_size=1, max_size=5), min_size=1, max_size=3)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[dict[str, object], dict[str, object], list[str]]:
    """A game, a mapping of some of its classes in any order, and the ids of the mapping's classes."""
    kinds = draw(games)
    classes: list[dict[str, object]] = []
    ids: list[str] = []
    for number, class_kinds in enumerate(kinds):
        actions = [{"id": f"a{number}{place}", "kind": kind} for place, kind in enumerate(class_kinds)]
        ids += [str(action["id"]) for action in actions]
        classes.append({"id": f"c{number}", "actions": actions})
    all_class_ids = [str(entry["id"]) for entry in classes]
    class_ids = draw(st.lists(st.sampled_from(all_class_ids), min_size=1, unique=True))
    mapped = draw(st.lists(st.sampled_from(ids), unique=True))
    mapping: dict[str, object] = {
        "game_id": "game",
        "class_ids": class_ids,
        "axis_button_thresholds": draw(st.dictionaries(axes, thresholds_of_axes)),
        "actions": {action_id: {"bindings": draw(bindings_of_actions)} for action_id in mapped},
    }
    return {"game_id": "game", "classes": classes}, mapping, class_ids


def payload(pad: Snapshot, button_base: int) -> bytes:
    state = GamepadState(
        axes=[pad.axes[axis] for axis in AXES],
        pressed_buttons=[BUTTONS.index(name) + button_base for name in sorted(pad.down)],
        pressed_keys=sorted(pad.keys),
    )
    return state.SerializeToString()


@given(world=worlds(), pads=st.lists(snapshots, max_size=6), button_base=st.sampled_from([0, 1]))
def test_the_encoder_equals_a_reading_of_the_rules(
    world: tuple[dict[str, object], dict[str, object], list[str]], pads: list[Snapshot], button_base: int
) -> None:
    game, mapping, class_ids = world
    profile = parse_action_mapping(mapping, "mapping.yaml", button_base=button_base)
    encoder = ActionEncoder(parse_game_definition(game, "game.yaml"), profile)

    axes_array, buttons_array, keys = decode_states(
        [payload(pad, button_base) for pad in pads], button_base=encoder.button_base
    )
    vectors = encoder.encode(axes_array, buttons_array, keys)

    classes = game["classes"]
    actions = mapping["actions"]
    thresholds = mapping["axis_button_thresholds"]
    assert isinstance(classes, list)
    assert isinstance(actions, dict)
    assert isinstance(thresholds, dict)
    flattened = [
        action for class_id in class_ids for entry in classes if entry["id"] == class_id for action in entry["actions"]
    ]
    expected = [
        [
            slot
            for action in flattened
            for slot in expected_slots(
                action["kind"], actions.get(action["id"], {"bindings": []})["bindings"], pad, thresholds
            )
        ]
        for pad in pads
    ]
    assert encoder.size == sum(KIND_SLOTS[action["kind"]] for action in flattened)
    assert vectors.shape == (len(pads), encoder.size)
    assert vectors.dtype == np.float32
    assert vectors.tolist() == expected
    assert len(set(encoder.names)) == encoder.size
    if not encoder.scancodes:  # as before there were keys
        assert encoder.encode(axes_array, buttons_array).tolist() == expected


@given(pads=st.lists(snapshots, min_size=1, max_size=5))
def test_the_observation_is_the_pad_as_it_is(pads: list[Snapshot]) -> None:
    axes_array, buttons_array, _ = decode_states([payload(pad, 0) for pad in pads])

    observation = encode_observation(axes_array, buttons_array)

    assert observation.tolist() == [
        [pad.axes[axis] for axis in AXES] + [float(name in pad.down) for name in BUTTONS] for pad in pads
    ]
