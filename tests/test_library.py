"""`import padreel`, used as the batch converter's users would: by its names alone, and without lerobot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import padreel
from tests.dataset_reading import read_episodes, read_info
from tests.session_folders import FRAME_NS, START_NS, event, frame_times, write_actions, write_folder
from tests.video_source import decode

GAME = """\
game_id: test_game
display_name: Test game
classes:
  - id: default
    label: Default
    actions:
      - {id: move, label: Move, kind: vector2}
      - {id: attack, label: Attack, kind: digital}
      - {id: heavy, label: Heavy, kind: trigger}
"""
MAPPING = """\
game_id: test_game
class_ids: [default]
profile_name: test-profile
complete: false
actions:
  move: {skipped: false, bindings: [{type: stick, control: left_stick}]}
  attack: {skipped: false, bindings: [{type: button, control: south}]}
  heavy: {skipped: false, bindings: [{type: trigger, control: right_trigger, threshold: 0.5}]}
"""
LISTED = set(
    """
    convert_sessions load_game_definition load_action_mapping_profile read_sync_csv read_actions_bin open_video_reader
    collect_actions_by_class build_action_layout encode_action_vector collect_session_dirs validate_session_dir
    trim_idle_frame_indices build_features apply_converter_metadata ActionDefinition ActionBinding ActionLayoutEntry
    GamepadSnapshot GameClass GameDefinition ActionMappingProfile SessionValidationResult ConversionMetadata
    ConversionResult
    """.split()  # noqa: SIM905
)


def run_python(script: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_listed_names_are_there_and_documented() -> None:
    assert set(padreel.__all__) >= LISTED
    assert set(padreel.__all__) <= set(dir(padreel))
    for name in padreel.__all__:
        value = getattr(padreel, name)
        assert isinstance(value, str) or value.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'convert_session'"):
        getattr(padreel, "convert_" + "session")


def test_the_import_is_light_and_every_name_comes_without_torch() -> None:
    told = run_python(
        "import sys, padreel\n"
        "def loaded(names):\n"
        "    return sorted(set(names.split()) & {name.partition('.')[0] for name in sys.modules})\n"
        "print(loaded('numpy av pyarrow pydantic google yaml structlog torch lerobot'))\n"
        "for name in padreel.__all__:\n    getattr(padreel, name)\n"
        "print(loaded('torch lerobot datasets aiokafka'), 'pyarrow' in sys.modules)\n"
    )
    assert told == "[]\n[] True\n"


# ---- conversion ----------------------------------------------------------------------------------------------


@pytest.fixture
def batch(tmp_path: Path) -> dict[str, Any]:
    """What the batch converter's users give it: a valid session and one that has only its video."""
    root = tmp_path / "sessions"
    write_folder(root / "session_valid", frames=30, events=6)
    (root / "session_invalid").mkdir()
    (root / "session_invalid" / "capture.mp4").write_bytes(b"broken")
    (tmp_path / "game.yaml").write_text(GAME)
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    return {
        "session_root": root,
        "game_definition": padreel.load_game_definition(tmp_path / "game.yaml"),
        "action_mapping": padreel.load_action_mapping_profile(str(tmp_path / "mapping.yaml")),
        "output_root": tmp_path / "out",
        "repo_id": "local/test_dataset",
        "task": "Defeat enemies",
    }


def test_a_folder_of_sessions_becomes_a_dataset(batch: dict[str, Any], tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []

    result = padreel.convert_sessions(**batch, on_episode=lambda session, episode: told.append((session, episode)))

    assert result == padreel.ConversionResult(
        converted_sessions=("session_valid",),
        skipped_sessions={"session_invalid": "missing required files: actions.bin, sync.csv"},
    )
    assert (result.episodes, result.frames, told) == (1, 30, [("session_valid", 0)])
    assert result.dataset is not None
    assert (result.dataset.root, result.dataset.repo_id) == (tmp_path / "out", "local/test_dataset")
    info = read_info(tmp_path / "out")
    assert (info["fps"], info["total_episodes"], info["features"]["action"]["shape"]) == (30, 1, [4])
    kept = info["extensions"]["game_converter"]
    assert (kept["converted_sessions"], kept["settings"]["task"]) == (["session_valid"], "Defeat enemies")
    assert kept["action_layout"][2]["action_id"] == "heavy"


def test_lerobot_opens_the_result(lerobot: ModuleType, batch: dict[str, Any]) -> None:
    dataset = padreel.convert_sessions(**batch).dataset
    assert dataset is not None
    assert (len(dataset), dataset.meta.fps) == (30, 30)
    assert dataset[0]["action"].shape == (4,)


def test_equality_is_about_the_sessions_alone() -> None:
    dataset = padreel.ConvertedDataset(Path("out"), "me/game")
    assert padreel.ConversionResult(("a",), {}, dataset, 3, 90) == padreel.ConversionResult(("a",), {})
    assert padreel.ConversionResult(("a",), {}) != padreel.ConversionResult(("b",), {})
    assert padreel.ConversionResult(("a",), {}) != padreel.ConversionResult(("a",), {"b": "late"})
    assert repr(dataset) == "ConvertedDataset(root='out', repo_id='me/game')"


def test_strict_names_the_first_invalid_session(batch: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"session_invalid: missing required files: actions\.bin, sync\.csv") as caught:
        padreel.convert_sessions(**batch, strict=True)
    assert isinstance(caught.value, padreel.InputError)
    assert not batch["output_root"].exists()


def test_options_out_of_their_range_are_named(batch: dict[str, Any]) -> None:
    with pytest.raises(padreel.SettingsError, match="max-episode-seconds"):
        padreel.convert_sessions(**batch, max_episode_seconds=2_000)
    game = padreel.GameDefinition("other", "", batch["game_definition"].classes)
    with pytest.raises(padreel.ProfileError, match="game_id"):
        padreel.convert_sessions(**{**batch, "game_definition": game})


@pytest.mark.parametrize("window", [None, 0.0, 0.2, 5.0])
def test_the_steps_by_hand_give_what_the_conversion_gives(
    batch: dict[str, Any], tmp_path: Path, window: float | None
) -> None:
    """A loop over the parts, as the batch converter's own."""
    session = batch["session_root"] / "session_valid"
    write_actions(session / "actions.bin", [event(START_NS), event(START_NS + 14 * FRAME_NS, 0)])
    game, profile = batch["game_definition"], batch["action_mapping"]
    layout = padreel.build_action_layout(padreel.collect_actions_by_class(game.classes, profile.class_ids))
    times = padreel.read_sync_csv(session / "sync.csv")
    snapshots = padreel.read_actions_bin(session / "actions.bin")
    reader, fps = padreel.open_video_reader(session / "capture.mp4")
    with reader:
        assert (len(reader), fps) == (len(times), 30)
        shape = reader[0].shape
    kept = padreel.trim_idle_frame_indices(times, snapshots[1].monotonic_ns, window)
    vectors = []
    for index in kept:
        current = padreel.GamepadSnapshot(0)
        for snapshot in snapshots:
            current = snapshot if snapshot.monotonic_ns <= times[index] else current
        vectors.append(padreel.encode_action_vector(layout, profile.bindings_by_action, current).tolist())

    padreel.convert_sessions(**batch, max_pre_action_seconds=window)

    (episode,) = read_episodes(tmp_path / "out")
    assert episode.rows["action"] == vectors
    assert episode.rows["capture.time_ns"] == [times[index] - times[0] for index in kept]
    features = padreel.build_features(layout, (shape[0], shape[1], 3))
    written = read_info(tmp_path / "out")["features"]
    for name, feature in features.items():
        assert {**written[name], **feature, "shape": list(feature["shape"])} == written[name]


# ---- the parts -----------------------------------------------------------------------------------------------


def test_session_folders_are_listed_and_looked_at(batch: dict[str, Any], tmp_path: Path) -> None:
    found = padreel.collect_session_dirs(str(batch["session_root"]))
    assert [path.name for path in found] == ["session_invalid", "session_valid"]
    assert padreel.validate_session_dir(found[1]) == padreel.SessionValidationResult(ok=True)
    assert padreel.validate_session_dir(found[0]).missing_files == ("actions.bin", "sync.csv")
    with pytest.raises(padreel.InputError, match="no folder in it"):
        padreel.collect_session_dirs(found[0])
    with pytest.raises(padreel.InputError, match="No such file"):
        padreel.collect_session_dirs(tmp_path / "none")


def test_the_recorders_files_are_read(batch: dict[str, Any]) -> None:
    session = batch["session_root"] / "session_valid"
    assert padreel.read_sync_csv(session / "sync.csv") == frame_times(30)
    first, second, *_ = padreel.read_actions_bin(str(session / "actions.bin"))
    assert first == padreel.GamepadSnapshot(START_NS, (0.0,) * 6)
    assert (second.pressed_buttons, second.pressed_keys) == ((0,), ())
    (session / "sync.csv").write_text("frame_index,monotonic_ns,pts\n0,one,0\n")
    with pytest.raises(padreel.InputError, match=r"sync\.csv: line 2: monotonic_ns is 'one'"):
        padreel.read_sync_csv(session / "sync.csv")
    write_actions(session / "actions.bin", [event(1), b"\xff"])
    with pytest.raises(padreel.InputError, match=r"actions\.bin: record 1 is no GamepadState"):
        padreel.read_actions_bin(session / "actions.bin")


def test_pictures_are_read_in_any_order(batch: dict[str, Any]) -> None:
    path = batch["session_root"] / "session_valid" / "capture.mp4"
    pictures = decode(str(path))
    with padreel.open_video_reader(path)[0] as reader:
        for index in (0, 1, 2, 29, 7, 8, 9, 3, -1, 0):
            assert np.array_equal(reader[index], pictures[index]), index
        assert np.array_equal(reader.next(), pictures[1])
        assert len(list(reader)) == 28
        with pytest.raises(IndexError, match="frame 30 of 30"):
            reader[30]
    (path.parent / "none.mp4").write_bytes(b"no video")
    with pytest.raises(padreel.InputError, match=r"none\.mp4: cannot be read"):
        padreel.open_video_reader(path.parent / "none.mp4")


def test_one_snapshot_becomes_a_vector() -> None:
    actions = [
        padreel.ActionDefinition(id="move", kind="vector2"),
        padreel.ActionDefinition(id="strike", kind="digital"),
        padreel.ActionDefinition(id="aim", kind="analog"),
        padreel.ActionDefinition(id="heavy", kind="trigger"),
        padreel.ActionDefinition(id="unmapped", kind="digital"),
        padreel.ActionDefinition(id="dodge", kind="digital"),
    ]
    layout = padreel.build_action_layout(actions)
    assert layout[:2] == [
        padreel.ActionLayoutEntry(action_id="move", start=0, size=2, kind="vector2"),
        padreel.ActionLayoutEntry(action_id="strike", start=2, size=1, kind="digital"),
    ]
    dodge = padreel.ActionBinding(
        type="combo", controls=(padreel.ActionBinding(type="axis_button", control="lefty", direction="negative"),)
    )
    bindings = {
        "move": [padreel.ActionBinding(type="stick", control="left_stick")],
        "strike": [padreel.ActionBinding(type="button", control="south")],
        "aim": [padreel.ActionBinding(type="axis", control="leftx", direction="positive")],
        "heavy": [padreel.ActionBinding(type="trigger", control="right_trigger", threshold=0.5)],
        "unmapped": [],
        "dodge": [dodge],
    }
    snapshot = padreel.GamepadSnapshot(
        monotonic_ns=123, axes=(0.25, -0.75, 0.0, 0.0, 0.0, 0.8), pressed_buttons=(1,), pressed_keys=(99,)
    )

    vector = padreel.encode_action_vector(layout, bindings, snapshot, button_base=1)

    assert vector.dtype == np.float32
    assert np.allclose(vector, [0.25, -0.75, 1.0, 0.25, 0.8, 0.0, 1.0])
    assert padreel.encode_action_vector(layout, bindings, snapshot)[2] == 0
    higher = padreel.encode_action_vector(layout, bindings, snapshot, axis_button_thresholds={"lefty": 0.8})
    assert higher[6] == 0


def test_the_metadata_stands_where_padreel_has_it() -> None:
    info: dict[str, Any] = {"fps": 30, "extensions": {"mine": 1}}
    padreel.apply_converter_metadata(
        info,
        padreel.ConversionMetadata(
            game_id="poe2",
            class_ids=("default", "warrior"),
            profile_name="pad",
            task="Clear the zone",
            strict=False,
            max_pre_action_seconds=1.5,
            action_layout=(padreel.ActionLayoutEntry(action_id="move", start=0, size=2, kind="vector2"),),
            converted_sessions=("session_a",),
            skipped_sessions={"session_b": "missing actions.bin"},
        ),
    )
    block = info["extensions"].pop("game_converter")
    assert info == {"fps": 30, "extensions": {"mine": 1}}
    assert (block["game_id"], block["settings"]["max_pre_action_seconds"]) == ("poe2", 1.5)
    assert block["action_layout"] == [{"action_id": "move", "kind": "vector2", "start": 0, "size": 2}]
    assert block["skipped_sessions"] == [{"session": "session_b", "reason": "skipped", "detail": "missing actions.bin"}]


@given(
    times=st.lists(st.integers(0, 5_000_000_000), max_size=20),
    action=st.one_of(st.none(), st.integers(0, 5_000_000_000)),
    window=st.one_of(st.none(), st.sampled_from([0.0, 0.5, 1.0, 3.0])),
)
def test_what_follows_a_kept_frame_is_kept(times: list[int], action: int | None, window: float | None) -> None:
    kept = padreel.trim_idle_frame_indices(times, action, window)
    assert kept == list(range(len(times) - len(kept), len(times)))
    if action is None or window is None:
        assert len(kept) == len(times)
        return
    dropped = times[: len(times) - len(kept)]
    assert all(action - time_ns > window * 1e9 for time_ns in dropped)
    assert not kept or action - times[kept[0]] <= window * 1e9
