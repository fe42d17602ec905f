"""Action vectors: the layout, every kind of action with every type of binding, and the raw pad."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from padreel.core.action import (
    ActionBinding,
    ActionDefinition,
    ActionEncoder,
    ActionLayoutEntry,
    ActionMappingProfile,
    GameClass,
    GameDefinition,
    Kind,
    build_action_layout,
    collect_actions_by_class,
)
from padreel.core.pad import (
    AXES,
    BUTTONS,
    OBSERVATION_NAMES,
    BoolArray,
    FloatArray,
    decode_states,
    encode_observation,
)
from padreel.errors import ProfileError
from padreel.profiles import load_action_mapping_profile, load_game_definition
from padreel_schemas.v1.gamepad_pb2 import GamepadState


def game_of(*classes: tuple[str, list[tuple[str, Kind]]]) -> GameDefinition:
    return GameDefinition(
        "game",
        "",
        tuple(
            GameClass(name, tuple(ActionDefinition(action, kind) for action, kind in actions))
            for name, actions in classes
        ),
    )


def profile_of(
    class_ids: tuple[str, ...] = ("all",), game_id: str = "game", **actions: tuple[ActionBinding, ...]
) -> ActionMappingProfile:
    thresholds = {"leftx": 0.7, "left_trigger": 0.3}
    return ActionMappingProfile(game_id, class_ids, "pad", actions, axis_button_thresholds=thresholds)


def pad(*pressed: str, **axes: float) -> tuple[FloatArray, BoolArray]:
    """One snapshot as arrays."""
    values = np.array([[axes.get(name, 0.0) for name in AXES]], dtype=np.float32)
    return values, np.array([[name in pressed for name in BUTTONS]])


def value_of(kind: Kind, bindings: tuple[ActionBinding, ...], snapshot: tuple[FloatArray, BoolArray]) -> list[float]:
    encoder = ActionEncoder(game_of(("all", [("it", kind)])), profile_of(it=bindings))
    (row,) = encoder.encode(*snapshot).tolist()
    return [float(value) for value in row]


SOUTH = ActionBinding("button", "south")
EAST = ActionBinding("button", "east")
LEFT_X = ActionBinding("axis", "leftx")
RIGHT = ActionBinding("axis", "leftx", direction="positive")
LEFT = ActionBinding("axis", "leftx", direction="negative")
PULL = ActionBinding("trigger", "left_trigger", threshold=0.25)
PULL_OTHER = ActionBinding("trigger", "right_trigger", threshold=0.5)
STICK = ActionBinding("stick", "left_stick")
OTHER_STICK = ActionBinding("stick", "right_stick")


def combo(*parts: ActionBinding) -> ActionBinding:
    return ActionBinding("combo", controls=parts)


def test_controls_have_the_ids_of_sdl3() -> None:
    assert len(BUTTONS) == 21
    assert {name: BUTTONS.index(name) for name in ("south", "north", "start", "dpad_up", "touchpad")} == {
        "south": 0,
        "north": 3,
        "start": 6,
        "dpad_up": 11,
        "touchpad": 20,
    }
    assert AXES.index("righty") == 3
    assert (*AXES, *BUTTONS) == OBSERVATION_NAMES


@pytest.mark.parametrize(
    ("kind", "bindings", "snapshot", "expected"),
    [
        ("digital", (SOUTH,), pad("south"), 1),
        ("digital", (SOUTH,), pad("east"), 0),
        ("digital", (SOUTH, EAST), pad("east"), 1),
        ("digital", (RIGHT,), pad(leftx=0.125), 1),
        ("digital", (RIGHT,), pad(leftx=-1.0), 0),
        ("digital", (LEFT_X,), pad(leftx=-0.5), 1),
        ("digital", (PULL,), pad(left_trigger=0.25), 1),
        ("digital", (PULL,), pad(left_trigger=0.125), 0),
        ("digital", (STICK,), pad(leftx=1.0), 0),
        ("analog", (LEFT_X,), pad(leftx=-0.5), -0.5),
        ("analog", (RIGHT,), pad(leftx=0.5), 0.5),
        ("analog", (RIGHT,), pad(leftx=-0.5), 0),
        ("analog", (LEFT,), pad(leftx=-0.5), 0.5),
        ("analog", (SOUTH, LEFT_X), pad(leftx=0.5), 0.5),
        ("analog", (SOUTH, LEFT_X), pad("south", leftx=0.5), 1),
        ("analog", (LEFT_X, SOUTH), pad("south", leftx=0.5), 0.5),
        ("analog", (PULL, SOUTH), pad(left_trigger=0.125), 0),
        ("trigger", (PULL,), pad(left_trigger=0.25), 0.25),
        ("trigger", (PULL,), pad(left_trigger=0.125), 0),
        ("trigger", (PULL, PULL_OTHER), pad(left_trigger=0.375, right_trigger=0.625), 0.625),
        ("trigger", (PULL, PULL_OTHER), pad(left_trigger=0.375, right_trigger=0.4375), 0.375),
        ("trigger", (PULL, SOUTH), pad("south", left_trigger=0.5), 1),
        ("trigger", (LEFT_X,), pad(leftx=-0.5), 0),
    ],
)
def test_the_value_of_an_action(
    kind: Kind, bindings: tuple[ActionBinding, ...], snapshot: tuple[FloatArray, BoolArray], expected: float
) -> None:
    assert value_of(kind, bindings, snapshot) == [expected]


@pytest.mark.parametrize(
    ("parts", "snapshot", "expected"),
    [
        ((SOUTH, EAST), pad("south", "east"), 1),
        ((SOUTH, EAST), pad("south"), 0),
        ((ActionBinding("axis_button", "leftx", "positive"),), pad(leftx=0.7), 1),  # the profile's 0.7, as float32
        ((ActionBinding("axis_button", "leftx", "positive"),), pad(leftx=0.6875), 0),
        ((ActionBinding("axis_button", "leftx", "positive"),), pad(leftx=-1.0), 0),
        ((ActionBinding("axis_button", "leftx", "negative"),), pad(leftx=-0.75), 1),
        ((ActionBinding("axis_button", "leftx", "any"),), pad(leftx=-0.75), 1),
        ((ActionBinding("axis_button", "lefty", "positive"),), pad(lefty=0.5), 1),  # no threshold in the profile
        ((ActionBinding("axis_button", "lefty", "positive"),), pad(lefty=0.4375), 0),
        ((SOUTH, ActionBinding("axis_button", "left_trigger", "positive")), pad("south", left_trigger=0.375), 1),
        ((SOUTH, ActionBinding("axis_button", "left_trigger", "positive")), pad("south"), 0),
    ],
)
def test_a_combo_needs_all_its_parts(
    parts: tuple[ActionBinding, ...], snapshot: tuple[FloatArray, BoolArray], expected: float
) -> None:
    assert value_of("digital", (combo(*parts),), snapshot) == [expected]


def test_a_vector_is_its_first_stick() -> None:
    snapshot = pad("south", leftx=0.25, lefty=-0.5, rightx=0.75, righty=1.0)

    assert value_of("vector2", (STICK, OTHER_STICK), snapshot) == [0.25, -0.5]
    assert value_of("vector2", (SOUTH, OTHER_STICK, STICK), snapshot) == [0.75, 1.0]
    assert value_of("vector2", (STICK, OTHER_STICK), pad(rightx=1.0)) == [0, 0]
    assert value_of("vector2", (SOUTH,), snapshot) == [0, 0]


def test_a_direction_never_gives_minus_zero() -> None:
    encoder = ActionEncoder(game_of(("all", [("it", "analog")])), profile_of(it=(RIGHT, LEFT)))

    assert not np.signbit(encoder.encode(*pad(leftx=-0.0))).any()
    assert not np.signbit(encoder.encode(*pad(leftx=0.0))).any()


def test_the_layout_follows_the_profile_and_unmapped_actions_stay_zero() -> None:
    game = game_of(("a", [("push", "digital"), ("walk", "vector2")]), ("b", [("lean", "analog"), ("pull", "trigger")]))
    profile = profile_of(("b", "a"), push=(SOUTH,), pull=())
    encoder = ActionEncoder(game, profile)

    assert encoder.layout == (
        ActionLayoutEntry("lean", "analog", 0, 1),
        ActionLayoutEntry("pull", "trigger", 1, 1),
        ActionLayoutEntry("push", "digital", 2, 1),
        ActionLayoutEntry("walk", "vector2", 3, 2),
    )
    actions = collect_actions_by_class(game.classes, ("b", "a"))
    assert [action.id for action in actions] == ["lean", "pull", "push", "walk"]
    assert list(encoder.layout) == build_action_layout(actions)
    assert encoder.names == ("lean", "pull", "push", "walk.x", "walk.y")
    axes, buttons = pad("south", leftx=1.0, left_trigger=1.0)
    assert encoder.encode(axes, buttons).tolist() == [[0, 0, 1, 0, 0]]


def test_an_id_of_two_classes_is_written_with_its_class_and_both_have_its_bindings() -> None:
    game = game_of(("mage", [("hit", "digital"), ("move", "vector2")]), ("archer", [("hit", "digital")]))
    encoder = ActionEncoder(game, profile_of(("mage", "archer"), hit=(SOUTH,)))

    assert encoder.names == ("mage.hit", "move.x", "move.y", "archer.hit")
    assert encoder.encode(*pad("south")).tolist() == [[1, 0, 0, 1]]


def test_an_episode_is_encoded_at_once() -> None:
    encoder = ActionEncoder(
        game_of(("all", [("it", "digital"), ("go", "vector2")])), profile_of(it=(SOUTH,), go=(STICK,))
    )
    axes = np.zeros((1000, 6), dtype=np.float32)
    axes[:, 0] = np.linspace(-1, 1, 1000)
    buttons = np.zeros((1000, 21), dtype=np.bool_)
    buttons[::2, 0] = True

    vectors = encoder.encode(axes, buttons)

    assert vectors.shape == (1000, encoder.size)
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors[:, 0], buttons[:, 0])
    assert np.array_equal(vectors[:, 1], axes[:, 0])
    assert encoder.encode(axes[:0], buttons[:0]).shape == (0, 3)
    with pytest.raises(ValueError, match=r"axes are \(1000, 5\)"):
        encoder.encode(axes[:, :5], buttons)
    with pytest.raises(ValueError, match=r"buttons \(999, 21\)"):
        encode_observation(axes, buttons[1:])


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        (profile_of(game_id="chess"), ["pad.yaml", "game_id is 'chess'", "'game'"]),
        (profile_of(("all", "some")), ["pad.yaml", "class_ids", "'some'", "which has all, none"]),
        (profile_of(jmp=(SOUTH,)), ["pad.yaml", "action 'jmp'", "which has it"]),
        (profile_of(("none",)), ["pad.yaml", "no actions"]),
    ],
)
def test_a_profile_that_does_not_fit_the_game_is_refused(profile: ActionMappingProfile, words: list[str]) -> None:
    with pytest.raises(ProfileError) as caught:
        ActionEncoder(game_of(("all", [("it", "digital")]), ("none", [])), profile, "pad.yaml")

    for word in words:
        assert word in str(caught.value)


def test_actions_of_classes_that_the_profile_leaves_out_may_be_mapped() -> None:
    game = game_of(("all", [("it", "digital")]), ("menu", [("pause", "digital")]))

    assert ActionEncoder(game, profile_of(pause=(SOUTH,))).names == ("it",)


def test_slots_that_would_share_a_name_are_refused() -> None:
    game = game_of(("all", [("go", "vector2"), ("go.x", "digital")]))

    with pytest.raises(ProfileError, match=r"two slots of the action vector are called 'go\.x'"):
        ActionEncoder(game, profile_of())


def test_states_become_arrays() -> None:
    payloads = [
        GamepadState(monotonic_ns=1).SerializeToString(),
        GamepadState(
            axes=[0.5, -1], pressed_buttons=[0, 20, 21, 4_000_000_000], pressed_keys=[4, 5]
        ).SerializeToString(),
        GamepadState(axes=[0, 0, 0, 0, 0, 0.25, 9, 9]).SerializeToString(),
    ]

    axes, buttons, keys = decode_states(payloads)

    assert axes.tolist() == [[0] * 6, [0.5, -1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0.25]]
    assert axes.dtype == np.float32
    assert [np.flatnonzero(row).tolist() for row in buttons] == [[], [0, 20], []]
    assert keys == ((), (4, 5), ())
    observation = encode_observation(axes, buttons)
    assert observation.shape == (3, len(OBSERVATION_NAMES))
    assert observation.dtype == np.float32
    assert observation[1, 6] == 1
    assert observation[1, 6 + 20] == 1
    assert observation[1].sum() == np.float32(0.5 - 1 + 2)


def test_button_base_shifts_the_table() -> None:
    payload = GamepadState(pressed_buttons=[0, 1, 21]).SerializeToString()

    _, buttons, _ = decode_states([payload], button_base=1)

    assert np.flatnonzero(buttons[0]).tolist() == [0, 20]


def test_no_payloads_are_no_rows() -> None:
    axes, buttons, keys = decode_states([])

    assert (axes.shape, buttons.shape, keys) == ((0, 6), (0, 21), ())


def test_a_payload_that_is_no_state_is_named() -> None:
    with pytest.raises(ValueError, match="payload 1 of 2 is no GamepadState"):
        decode_states([b"", b"\xff"])


def test_the_recorded_profile_encodes_the_recorded_game(recordings: Path) -> None:
    encoder = ActionEncoder(
        load_game_definition(recordings / "melee-game-definition.yaml"),
        load_action_mapping_profile(recordings / "melee-action-mapping.yaml"),
    )
    payload = GamepadState(axes=[0.5, -0.25, 0, 1, 0.3, 0.75], pressed_buttons=[0, 3]).SerializeToString()

    axes, buttons, _ = decode_states([payload])
    values = dict(zip(encoder.names, encoder.encode(axes, buttons)[0].tolist(), strict=True))

    assert values == {
        "move.x": 0.5,
        "move.y": -0.25,
        "smash.x": 0,
        "smash.y": 1,
        "attack": 1,
        "special": 0,
        "jump": 1,
        "grab": 0,
        "shield": 0.75,
        "walk_right": 0.5,
        "pause": 0,
        "taunt": 0,
        "shield_grab": 1,
    }
