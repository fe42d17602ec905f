"""The keyboard: which key a binding means, what it does to a vector, and the column of the bound keys."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import padreel
from padreel.core.action import ActionEncoder
from padreel.core.keys import KEY_NAMES, LAST_SCANCODE, encode_keys, key_name, scancode
from padreel.core.pad import snapshot_arrays
from padreel.core.profile import parse_action_mapping, parse_game_definition
from padreel.dataset.root import RootIdentity, open_root
from padreel.errors import ProfileError, RootMismatchError
from padreel.model import Schema
from padreel_schemas.v1.gamepad_pb2 import GamepadState
from tests.dataset_reading import read_episodes, read_info
from tests.session_folders import FRAME_NS, START_NS, write_actions, write_folder

GAME = {
    "game_id": "game",
    "classes": [{"id": "all", "actions": [{"id": "jump", "kind": "digital"}, {"id": "run", "kind": "digital"}]}],
}


def mapping(*jump: dict[str, Any], run: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    actions = {"jump": {"bindings": list(jump)}, "run": {"bindings": list(run)}}
    return {"game_id": "game", "class_ids": ["all"], "profile_name": "keys", "actions": actions}


def key(control: object) -> dict[str, Any]:
    return {"type": "key", "control": control}


def encoder_of(data: dict[str, Any]) -> ActionEncoder:
    return ActionEncoder(parse_game_definition(GAME, "game.yaml"), parse_action_mapping(data, "mapping.yaml"))


def vector(encoder: ActionEncoder, *pressed: int, buttons: tuple[int, ...] = ()) -> list[float]:
    (row,) = encoder.encode(*snapshot_arrays([padreel.GamepadSnapshot(0, (), buttons, pressed)])).tolist()
    return [float(value) for value in row]


def test_names_stand_at_the_scancodes_of_the_usb_usage_table() -> None:
    expected = {
        "A": 4,
        "Z": 29,
        "1": 30,
        "0": 39,
        "Return": 40,
        "Space": 44,
        "/": 56,
        "CapsLock": 57,
        "F1": 58,
        "F12": 69,
    }
    expected |= {"PrintScreen": 70, "Right": 79, "Up": 82, "Keypad Enter": 88, "Keypad 0": 98, "Keypad .": 99}
    expected |= {"Application": 101, "F13": 104, "F24": 115, "VolumeDown": 129, "Left Ctrl": 224, "Right GUI": 231}
    assert {name: scancode(name) for name in expected} == expected
    assert len(set(KEY_NAMES.values())) == len(KEY_NAMES)


def test_every_number_from_10_on_is_its_key() -> None:
    for code in range(10, LAST_SCANCODE + 1):
        name = key_name(code)
        assert scancode(str(code)) == code
        assert name in {str(code), *"456789"} or scancode(name) == scancode(name.upper()) == code


@pytest.mark.parametrize("digit", "456789")
def test_a_digit_that_is_a_name_and_a_number_is_refused(digit: str) -> None:
    with pytest.raises(ValueError, match=f"{scancode('3') + int(digit) - 3} for the key {digit}, or [A-F] for the key"):
        scancode(digit)


@pytest.mark.parametrize("control", ["", "Spacebar", "-1", "1.5", "٣", "1" * 5_000, "512", "0x2c"])
def test_what_is_no_key_is_refused(control: str) -> None:
    with pytest.raises(ValueError, match="scancode"):
        scancode(control)


@pytest.mark.parametrize(
    ("control", "words"),
    [
        ("Spacebar", ["action 'jump'", "control of type key", "found 'Spacebar'", "such as Space or Left Shift"]),
        ("7", ["found '7'", "36 for the key 7, or D for the key of scancode 7"]),
        (True, ["found True", "scancode"]),
        (None, ["found nothing", "scancode"]),
        (["A"], ["found a list"]),
    ],
)
def test_a_bad_key_names_file_action_and_control(control: object, words: list[str]) -> None:
    with pytest.raises(ProfileError) as caught:
        parse_action_mapping(mapping(key(control)), "mapping.yaml")
    for word in ["mapping.yaml", *words]:
        assert word in str(caught.value)


def test_a_key_performs_a_digital_action_alone_and_in_a_combo() -> None:
    combo = {"type": "combo", "controls": [key("left shift"), key(26), {"type": "button", "control": "south"}]}
    encoder = encoder_of(mapping(key("Space"), {"type": "button", "control": "east"}, run=(combo,)))

    assert encoder.scancodes == (26, 44, 225)
    assert encoder.key_names == ("W", "Space", "Left Shift")
    assert vector(encoder) == [0, 0]
    assert vector(encoder, 44) == [1, 0]
    assert vector(encoder, buttons=(1,)) == [1, 0]
    assert vector(encoder, 225, 26, buttons=(0,)) == [0, 1]
    assert vector(encoder, 225, 26) == [0, 0]
    assert vector(encoder, 26, buttons=(0,)) == [0, 0]
    assert encode_keys([(44, 9), (), (26, 225)], encoder.scancodes).tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 1]]


def test_keys_that_are_not_given_are_no_silent_zero() -> None:
    axes, buttons, keys = snapshot_arrays([padreel.GamepadSnapshot(0)])
    with pytest.raises(ValueError, match="no keys are given"):
        encoder_of(mapping(key("A"))).encode(axes, buttons)
    with pytest.raises(ValueError, match="keys of 2 snapshots, expected 1"):
        encoder_of(mapping(key("A"))).encode(axes, buttons, keys * 2)
    binding = padreel.ActionBinding(type="key", control="Any key")
    layout = padreel.build_action_layout([padreel.ActionDefinition("jump", "digital")])
    with pytest.raises(ProfileError, match="found 'Any key'"):
        padreel.encode_action_vector(layout, {"jump": [binding]}, padreel.GamepadSnapshot(0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One session: Space from frame 10 on, Space and W from 20 on."""
    session = write_folder(tmp_path / "sessions" / "one", frames=30)
    pressed = {0: [], 10: [44], 20: [26, 44, 300]}
    states = [GamepadState(monotonic_ns=START_NS + at * FRAME_NS, pressed_keys=keys) for at, keys in pressed.items()]
    write_actions(session / "actions.bin", [state.SerializeToString() for state in states])
    (tmp_path / "game.yaml").write_text(yaml.safe_dump(GAME))
    return tmp_path


def converted(folder: Path, data: dict[str, Any], name: str, **more: Any) -> Path:
    (folder / "mapping.yaml").write_text(yaml.safe_dump(data))
    padreel.convert_sessions(
        session_root=folder / "sessions",
        game_definition=padreel.load_game_definition(folder / "game.yaml"),
        action_mapping=padreel.load_action_mapping_profile(folder / "mapping.yaml"),
        output_root=folder / name,
        repo_id="tests/keys",
        task="play",
        **more,
    )
    return folder / name


def test_the_bound_keys_are_a_column(folder: Path) -> None:
    data = mapping(key("Space"), run=({"type": "combo", "controls": [key("W"), key("space")]},))
    output = converted(folder, data, "out")
    (episode,) = read_episodes(output)
    assert episode.rows["action"] == [[0, 0]] * 10 + [[1, 0]] * 10 + [[1, 1]] * 10
    assert episode.rows["observation.keys"] == [[0, 0]] * 10 + [[0, 1]] * 10 + [[1, 1]] * 10
    features = read_info(output)["features"]
    assert features["observation.keys"] == {"dtype": "float32", "shape": [2], "names": ["W", "Space"]}
    (episode,) = read_episodes(converted(folder, data, "minimal", columns="minimal"))
    assert "observation.keys" not in episode.rows
    (episode,) = read_episodes(converted(folder, mapping(key("W")), "one"))
    assert episode.rows["observation.keys"] == [0] * 20 + [1] * 10


def test_a_mapping_without_keys_makes_what_it_made(folder: Path) -> None:
    output = converted(folder, mapping({"type": "button", "control": "south"}), "out")
    assert "observation.keys" not in read_info(output)["features"]
    (episode,) = read_episodes(output)
    assert episode.rows["action"] == [[0, 0]] * 30


def test_shards_of_one_root_have_the_same_keys(tmp_path: Path) -> None:
    identity = RootIdentity("", "", "", 1, "", Schema("h264", 64, 48, 30), "full", "game", ("all",), ("jump",), ("W",))
    open_root(tmp_path, identity)
    with pytest.raises(RootMismatchError, match=r'key_names: found \["W"\], expected \["A"\].*--action-mapping'):
        open_root(tmp_path, replace(identity, key_names=("A",)))
    # Roots made before there was such a field bind none.
    body = json.loads((tmp_path / "padreel.json").read_text())
    del body["key_names"]
    (tmp_path / "padreel.json").write_text(json.dumps(body))
    open_root(tmp_path, replace(identity, key_names=()))
