"""Reading game definitions and action mappings: what is taken, what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from padreel.core.action import ActionBinding
from padreel.core.pad import AXES
from padreel.errors import ProfileError
from padreel.profiles import load_action_mapping_profile, load_game_definition

GAME = """
game_id: racer
classes:
  - id: car
    label: Car
    actions:
      - {id: steer, label: Steer, kind: analog}
      - {id: honk, label: Honk, kind: digital}
"""
MAPPING = """
game_id: racer
class_ids: [car]
profile_name: pad
actions:
  steer:
    bindings: [{type: axis, control: leftx}]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def mapping_with(bindings: str) -> str:
    return MAPPING + f"  honk:\n    bindings: {bindings}\n"


def test_the_recorded_game_is_read_whole(recordings: Path) -> None:
    game = load_game_definition(recordings / "melee-game-definition.yaml")

    assert (game.game_id, game.display_name) == ("melee", "Super Smash Bros. Melee")
    assert [(entry.id, entry.label, len(entry.actions)) for entry in game.classes] == [
        ("default", "Every character", 8),
        ("menus", "Menus", 3),
    ]
    move = game.classes[0].actions[0]
    assert (move.id, move.label, move.kind, move.description) == ("move", "Move", "vector2", "Control stick")


def test_the_recorded_mapping_is_read_whole(recordings: Path) -> None:
    profile = load_action_mapping_profile(recordings / "melee-action-mapping.yaml")

    assert (profile.game_id, profile.class_ids, profile.profile_name) == ("melee", ("default", "menus"), "tournament")
    assert not profile.complete
    assert profile.axis_button_thresholds["left_trigger"] == 0.3
    assert profile.axis_button_thresholds["leftx"] == 0.5
    assert profile.bindings_by_action["jump"] == (ActionBinding("button", "east"), ActionBinding("button", "north"))
    assert profile.bindings_by_action["walk_right"] == (ActionBinding("axis", "leftx", direction="positive"),)
    assert profile.bindings_by_action["shield"][1] == ActionBinding("trigger", "right_trigger", threshold=0.3)
    assert profile.bindings_by_action["taunt"] == ()
    (combo,) = profile.bindings_by_action["shield_grab"]
    assert combo.type == "combo"
    assert combo.controls == (
        ActionBinding("button", "south"),
        ActionBinding("axis_button", "left_trigger", direction="positive"),
    )


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    profile = load_action_mapping_profile(write(tmp_path, mapping_with("[{type: trigger, control: left_trigger}]")))

    assert profile.axis_button_thresholds == dict.fromkeys(AXES, 0.5)
    assert profile.bindings_by_action["steer"] == (ActionBinding("axis", "leftx", direction="any"),)
    assert profile.bindings_by_action["honk"] == (ActionBinding("trigger", "left_trigger", threshold=0.5),)
    assert (profile.complete, profile.button_base) == (False, 0)
    assert load_game_definition(write(tmp_path, GAME)).display_name == ""


def test_unknown_fields_are_ignored(tmp_path: Path) -> None:
    text = "schema_version: 7\nmood: fine\n" + mapping_with("[{type: button, control: north, colour: red}]")

    assert load_action_mapping_profile(write(tmp_path, text)).bindings_by_action["honk"] == (
        ActionBinding("button", "north"),
    )


@pytest.mark.parametrize(("text", "complete"), [("true", True), ("True", True), ("false", False), ("no", False)])
def test_complete_is_a_truth_value(tmp_path: Path, text: str, complete: bool) -> None:
    assert load_action_mapping_profile(write(tmp_path, MAPPING + f"complete: {text}\n")).complete is complete


def test_ids_that_yaml_takes_for_something_else_stay_text(tmp_path: Path) -> None:
    actions = "[{id: on, kind: digital}, {id: null, kind: analog}]"
    game = load_game_definition(write(tmp_path, f"game_id: 2048\nclasses: [{{id: 007, actions: {actions}}}]"))

    assert game.game_id == "2048"
    assert game.classes[0].id == "007"
    assert [action.id for action in game.classes[0].actions] == ["on", "null"]


def test_button_base_is_kept(tmp_path: Path) -> None:
    assert load_action_mapping_profile(write(tmp_path, MAPPING), button_base=1).button_base == 1
    with pytest.raises(ProfileError, match="button_base: found 2, expected 0 or 1"):
        load_action_mapping_profile(write(tmp_path, MAPPING), button_base=2)


@pytest.mark.parametrize(
    ("bindings", "words"),
    [
        ("[{type: button, control: nrth}]", ["action 'honk'", "bindings[0]", "button", "'nrth'", "south, east"]),
        ("[{type: button, control: leftx}]", ["action 'honk'", "'leftx'"]),
        ("[{type: axis, control: north}]", ["action 'honk'", "axis", "'north'", "leftx, lefty"]),
        ("[{type: stick, control: leftx}]", ["action 'honk'", "stick", "'leftx'", "left_stick, right_stick"]),
        ("[{type: trigger, control: south}]", ["action 'honk'", "trigger", "'south'"]),
        ("[{type: button}]", ["action 'honk'", "control of type button: found nothing"]),
        ("[{control: north}]", ["action 'honk'", "control 'north'", "type: found nothing", "button, axis"]),
        ("[{type: wheel, control: north}]", ["action 'honk'", "control 'north'", "found 'wheel'", "combo"]),
        ("[{type: axis_button, control: leftx}]", ["action 'honk'", "control 'leftx'", "found 'axis_button'"]),
        (
            "[{type: axis, control: leftx, direction: up}]",
            ["action 'honk'", "control 'leftx'", "direction: found 'up'", "positive, negative, any"],
        ),
        (
            "[{type: trigger, control: left_trigger, threshold: 0}]",
            ["action 'honk'", "control 'left_trigger'", "threshold: found '0'"],
        ),
        ("[{type: trigger, control: left_trigger, threshold: .nan}]", ["control 'left_trigger'", "threshold"]),
        ("[{type: trigger, control: left_trigger, threshold: nan}]", ["control 'left_trigger'", "found 'nan'"]),
        ("[{type: combo}]", ["action 'honk'", "controls: found nothing, expected a list"]),
        ("[{type: combo, controls: []}]", ["action 'honk'", "controls: found empty"]),
        ("[{type: combo, controls: [{type: stick, control: left_stick}]}]", ["controls[0]", "found 'stick'"]),
        (
            "[{type: combo, controls: [{type: button, control: south}, {type: button, control: soth}]}]",
            ["action 'honk'", "controls[1]", "'soth'"],
        ),
        (
            "[{type: combo, controls: [{type: axis_button, control: lefty, direction: down}]}]",
            ["action 'honk'", "control 'lefty'", "direction: found 'down'"],
        ),
        ("{type: button, control: south}", ["action 'honk'", "bindings: found a mapping, expected a list"]),
        ("[south]", ["action 'honk'", "bindings[0]: found 'south', expected a mapping"]),
    ],
)
def test_a_bad_binding_names_file_action_and_control(tmp_path: Path, bindings: str, words: list[str]) -> None:
    path = write(tmp_path, mapping_with(bindings))

    with pytest.raises(ProfileError) as caught:
        load_action_mapping_profile(path)

    for word in [str(path), *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a list", ["found a list, expected a mapping"]),
        ("", ["found nothing, expected a mapping"]),
        (MAPPING.replace("game_id: racer", ""), ["game_id: found nothing"]),
        (MAPPING.replace("class_ids: [car]", ""), ["class_ids: found nothing, expected a list"]),
        (MAPPING.replace("[car]", "car"), ["class_ids: found 'car', expected a list"]),
        (MAPPING.replace("[car]", "[]"), ["class_ids: found empty"]),
        (MAPPING.replace("[car]", "[car, car]"), ["class_ids: found 'car' twice"]),
        (MAPPING + "complete: perhaps\n", ["complete: found 'perhaps'", "true or false"]),
        (MAPPING + "axis_button_thresholds: {pedal: 0.5}\n", ["axis_button_thresholds", "'pedal'", "leftx"]),
        (MAPPING + "axis_button_thresholds: {leftx: 1.5}\n", ["axis_button_thresholds: leftx: found '1.5'"]),
        (MAPPING + "axis_button_thresholds: 0.5\n", ["axis_button_thresholds: found '0.5', expected a mapping"]),
        (MAPPING + "  steer: {bindings: []}\n", ["line 8, column 3", "'steer' stands twice"]),
        (MAPPING + "  honk: !!map five\n", ["line 8", "no usable YAML"]),
        (MAPPING + "  honk: 5\n", ["action 'honk': found '5', expected a mapping"]),
        (MAPPING + "  honk: [\n", ["line 9", "no usable YAML"]),
        (MAPPING + "  honk: \x01\n", ["YAML"]),
    ],
)
def test_a_bad_mapping_names_file_and_place(tmp_path: Path, text: str, words: list[str]) -> None:
    path = write(tmp_path, text)

    with pytest.raises(ProfileError) as caught:
        load_action_mapping_profile(path)

    for word in [str(path), *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GAME.replace("digital", "digitl"), ["class 'car'", "action 'honk'", "kind: found 'digitl'", "analog"]),
        (GAME.replace(", kind: digital", ""), ["action 'honk'", "kind: found nothing"]),
        (GAME.replace("id: honk", "id: steer"), ["class 'car'", "action 'steer'", "twice"]),
        (GAME.replace("id: honk, ", ""), ["classes[0]", "actions[1]", "id: found nothing"]),
        (GAME + "  - {id: car}\n", ["class 'car'", "twice"]),
        (GAME.replace("  - id: car\n", "  - name: car\n"), ["classes[0]: id: found nothing"]),
        ("game_id: racer\n", ["classes: found nothing, expected a list"]),
        ("game_id: racer\nclasses: []\n", ["classes: found empty"]),
        ("game_id: [racer]\nclasses: []\n", ["game_id: found a list, expected a text"]),
        ("game_id: racer\nclasses: [{id: car, actions: honk}]\n", ["actions: found 'honk', expected a list"]),
        ("game_id: racer\n  classes: x: y\n", ["line 2"]),
    ],
)
def test_a_bad_game_names_file_and_place(tmp_path: Path, text: str, words: list[str]) -> None:
    path = write(tmp_path, text)

    with pytest.raises(ProfileError) as caught:
        load_game_definition(path)

    for word in [str(path), *words]:
        assert word in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    with pytest.raises(ProfileError, match="cannot be read: No such file"):
        load_game_definition(missing)

    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"game_id: \xff\xfe")
    with pytest.raises(ProfileError, match=r"binary\.yaml: byte 9 is not UTF-8"):
        load_action_mapping_profile(binary)
