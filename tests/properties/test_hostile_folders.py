"""Damaged session folders and YAML files: each is a session, or an error that names the file and what is wrong in it.

As in test_hostile_bytes, PADREEL_HOSTILE_ROUNDS and PADREEL_HOSTILE_SEED say how many seeded rounds there are and where
they begin.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from padreel.convert import convert as convert_folder
from padreel.core.decode import Decoder
from padreel.errors import InputError, ProfileError
from padreel.model import Record, Rejected
from padreel.profiles import load_action_mapping_profile, load_game_definition
from padreel.settings import ConvertSettings
from padreel_schemas.recording import PADS, SYNC, VIDEO, PublishedRecord, Recording, RecordingError
from tests.dataset_reading import read_episodes, read_info
from tests.properties.hostile_world import FIRST_SEED, ROUNDS, flip, repeatable
from tests.session_folders import write_folder

GAME = """\
game_id: game
display_name: A game
classes:
  - id: main
    label: Main
    actions:
      - {id: attack, label: Attack, kind: digital}
      - {id: move, kind: vector2, description: "where to"}
"""
MAPPING = """\
game_id: game
class_ids: [main]
profile_name: pad
complete: true
axis_button_thresholds: {leftx: 0.5}
actions:
  attack:
    bindings:
      - {type: button, control: south}
      - {type: combo, controls: [{type: button, control: east}, {type: axis_button, control: leftx, direction: any}]}
  move:
    bindings: [{type: stick, control: left_stick}]
"""
FOLDER_ROUNDS = 5 * ROUNDS  # they are quick
# What the grammar allows and an editor never writes.
STRANGE = (
    "game_id: !!int foo",
    "game_id: !!float x",
    "? !!bool maybe\n: 1",
    "game_id: !!timestamp x",
    "game_id: !!binary é",
    "game_id: !!python/name:os.system x",
    'game_id: "\\ud800"\nclasses: [{id: a, actions: [{id: b, kind: digital}]}]',
    'game_id: "\\U00110000"',
    'game_id: "\\UFFFFFFFF"',
    "[" * 5_000,
    "- " * 5_000,
    "&a [*a]",
    "&a {*a : b}",
    "? [a]\n: b",
    "<<: 5",
    "!!map five",
    "%YAML 9.9\n---\na: b",
    "a: b\n---\nc: d",
    "\0",
    "",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("sessions") / "good", frames=12, events=6)


def damaged_copies(folder: Path, tmp_path: Path, name: str) -> Callable[[random.Random], Path]:
    copy = tmp_path / "session"
    shutil.copytree(folder, copy)
    content = (folder / name).read_bytes()

    def damage(rng: random.Random) -> Path:
        (copy / name).write_bytes(flip(rng, content))
        return copy

    return damage


def read(session: Path) -> tuple[list[PublishedRecord], str | None]:
    try:
        return list(Recording(session).records()), None
    except RecordingError as error:
        return [], str(error)


@pytest.mark.parametrize("name", [PADS, SYNC, VIDEO])
def test_a_damaged_file_of_a_session_is_read_or_named(folder: Path, tmp_path: Path, name: str) -> None:
    damage = damaged_copies(folder, tmp_path, name)
    outcomes: set[str] = set()
    for seed in range(FIRST_SEED, FIRST_SEED + FOLDER_ROUNDS):
        with repeatable(seed):
            session = damage(random.Random(seed))
            records, fault = read(session)
            if fault is not None:
                # Where two files do not match either may be to blame.
                assert any(str(session / one) in fault for one in {name, SYNC})
                assert len(fault) < 1_000
                outcomes.add("error")
                continue
            decoder = Decoder()
            frames = [Record(i, 0, b"a@1", one.value) for i, one in enumerate(records) if one.topic == "frames"]
            pads = [Record(i, 0, b"a@1", one.value) for i, one in enumerate(records) if one.topic == "pads"]
            items = [*decoder.frames(frames), *decoder.pads(pads)]
            assert len(items) == len(records)
            outcomes.add("rejected" if any(isinstance(item, Rejected) for item in items) else "whole")
    assert FOLDER_ROUNDS < 100 or {"error", "whole"} <= outcomes


@pytest.mark.parametrize("load", [load_game_definition, load_action_mapping_profile])
def test_a_damaged_yaml_file_is_read_or_named(tmp_path: Path, load: Callable[[Path], object]) -> None:
    content = (GAME if load is load_game_definition else MAPPING).encode()
    path = tmp_path / "file.yaml"
    path.write_bytes(content)
    load(path)
    for seed in range(FIRST_SEED, FIRST_SEED + FOLDER_ROUNDS):
        with repeatable(seed):
            path.write_bytes(flip(random.Random(seed), content))
            load_or_named(load, path)


@pytest.mark.parametrize("load", [load_game_definition, load_action_mapping_profile])
@pytest.mark.parametrize("text", STRANGE)
def test_strange_yaml_is_read_or_named(tmp_path: Path, text: str, load: Callable[[Path], object]) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    assert not load_or_named(load, path)


def load_or_named(load: Callable[[Path], object], path: Path) -> bool:
    try:
        load(path)
    except ProfileError as error:
        fault = str(error)
    else:
        return True
    assert fault.startswith(f"{path}: ")
    assert len(fault) < 1_000
    return False


def test_tagged_values_are_text_like_all_others(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(MAPPING.replace("complete: true", "complete: !!bool yes").replace("0.5", "!!float 0.25"))
    profile = load_action_mapping_profile(path)
    assert profile.complete
    assert profile.axis_button_thresholds["leftx"] == 0.25


# ---- convert, whole ------------------------------------------------------------------------------------------


def convert(root: Path, output: Path) -> tuple[list[str], list[str]]:
    """Names of the sessions converted and skipped."""
    (root.parent / "game.yaml").write_text(GAME)
    (root.parent / "mapping.yaml").write_text(MAPPING)
    values = {
        "session_root": root,
        "game_definition": root.parent / "game.yaml",
        "action_mapping": root.parent / "mapping.yaml",
        "output_root": output,
        "repo_id": "tests/hostile",
        "task": "play",
    }
    result = convert_folder(ConvertSettings.model_validate(values))
    return list(result.converted_sessions), list(result.skipped_sessions)


def test_a_damaged_session_leaves_the_others_as_they_are(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "sessions"
    shutil.copytree(folder, root / "a-good")
    convert(root, tmp_path / "alone")
    (wanted,) = read_episodes(tmp_path / "alone")
    for number in range(max(1, ROUNDS // 10)):
        seed = FIRST_SEED + number
        rng = random.Random(seed)
        for n, name in enumerate([PADS, SYNC, VIDEO]):
            session = root / f"bad-{n}"
            shutil.rmtree(session, ignore_errors=True)
            shutil.copytree(folder, session)
            (session / name).write_bytes(flip(rng, (folder / name).read_bytes()))
        with repeatable(seed):
            converted, skipped = convert(root, tmp_path / f"out-{seed}")
            assert sorted({*converted, *skipped}) == ["a-good", "bad-0", "bad-1", "bad-2"]
            assert read_episodes(tmp_path / f"out-{seed}")[0] == wanted


def test_a_folder_whose_name_is_no_text_is_skipped_by_name(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "sessions"
    shutil.copytree(folder, root / "good")
    shutil.copytree(folder, os.fsdecode(os.fsencode(root) + b"/bad-\xff"))
    assert convert(root, tmp_path / "out") == (["good"], ["bad-\\udcff"])
    skipped = read_info(tmp_path / "out")["extensions"]["game_converter"]["skipped_sessions"]
    assert [one["session"] for one in skipped] == ["bad-\\udcff"]
    shutil.rmtree(root / "good")
    with pytest.raises(InputError, match="no session can be converted"):
        convert(root, tmp_path / "none")
