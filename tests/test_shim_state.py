"""The publisher's state file and how a session's files are known again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from padreel_shim.state import PublishState, StateError, StateFile, changed_files, mark_files, new_run
from tests.session_folders import write_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "session", frames=3, events=1)


def state_of(folder: Path, position: int = 0) -> PublishState:
    return PublishState(
        folder=str(folder),
        run="00ff",
        files=mark_files(folder),
        rig_id="r",
        task="ü",
        game_id="",
        cluster_id="c",
        frames_topic="f",
        pads_topic="p",
        position=position,
    )


def test_what_is_saved_is_loaded(tmp_path: Path, folder: Path) -> None:
    with StateFile(tmp_path / "state", folder) as file:
        assert file.load() is None
        file.save(state_of(folder, 7))
        file.save(state_of(folder, 9))
        assert file.load() == state_of(folder, 9)
    assert sorted(path.suffix for path in (tmp_path / "state").iterdir()) == [".json", ".lock"]


def test_folders_of_one_name_have_files_of_their_own(tmp_path: Path) -> None:
    paths = {StateFile(tmp_path, tmp_path / parent / "session").path for parent in "ab"}
    assert len(paths) == 2
    assert StateFile(tmp_path, tmp_path / "a" / ".." / "a" / "session").path in paths


def test_only_one_publisher_at_a_time(tmp_path: Path, folder: Path) -> None:
    with StateFile(tmp_path, folder):
        with (
            pytest.raises(StateError, match="another padreel-shim publishes this session"),
            StateFile(tmp_path, folder),
        ):
            pass
        other = write_folder(tmp_path / "other", frames=1, events=0)
        with StateFile(tmp_path, other):
            pass
    with StateFile(tmp_path, folder):
        pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "format_version is 2, expected 1"),
        ({"position": -1}, "position is -1"),
        ({"position": "3"}, "position is '3'"),
        ({"finished": 0}, "finished is 0, expected bool"),
        ({"files": [{"name": "x"}]}, "missing"),
        ({"more": 1}, "more"),
    ],
)
def test_unusable_states_are_named(tmp_path: Path, folder: Path, change: dict[str, object], message: str) -> None:
    with StateFile(tmp_path / "state", folder) as file:
        file.save(state_of(folder))
        file.path.write_text(json.dumps(json.loads(file.path.read_text()) | change))
        with pytest.raises(StateError, match=message) as caught:
            file.load()
    assert str(file.path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_state_is_named(tmp_path: Path, folder: Path, text: str) -> None:
    with StateFile(tmp_path / "state", folder) as file:
        file.path.write_text(text)
        with pytest.raises(StateError, match="delete it to publish"):
            file.load()


def test_a_state_directory_that_is_a_file(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="cannot be written"), StateFile(tmp_path / "file", folder):
        pass


def test_content_counts_and_being_touched_does_not(folder: Path) -> None:
    before = mark_files(folder)
    os.utime(folder / "sync.csv", ns=(1, 1))
    assert changed_files(before, mark_files(folder, before)) == []
    data = bytearray((folder / "actions.bin").read_bytes())
    data[-1] ^= 1
    (folder / "actions.bin").write_bytes(data)
    os.utime(folder / "actions.bin", ns=(2, 2))
    assert changed_files(before, mark_files(folder, before)) == ["actions.bin"]


def test_runs_are_random_and_valid() -> None:
    runs = {new_run() for _ in range(100)}
    assert len(runs) == 100
    assert all(len(run) == 16 and int(run, 16) >= 0 for run in runs)
