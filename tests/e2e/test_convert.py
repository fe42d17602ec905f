"""`padreel convert` on the real recordings: pixels and actions against the sources, read through lerobot."""

from __future__ import annotations

import csv
import json
import shutil
import struct
import subprocess
from bisect import bisect_right
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from padreel.core.pad import AXES, BUTTONS
from padreel.errors import InputError, RootMismatchError
from padreel_schemas.v1.gamepad_pb2 import GamepadState
from tests.dataset_reading import CAMERA, ReadEpisode, read_episodes, read_info
from tests.properties.test_action_properties import Snapshot, expected_slots
from tests.training_world import convert_recordings
from tests.video_source import decode

NAMES = ["melee_port0_480p_items", "melee_port0_480p_late", "melee_port1_480p"]
CHUNK = 30
OTHERS = {"melee_port1_720p": "1280x720 at 30", "melee_port2_180p25": "320x180 at 25"}


# ---- what a plain reading of the folder says ----------------------------------------------------------------


def frame_times(session: Path) -> list[int]:
    with (session / "sync.csv").open(newline="") as lines:
        return [int(row["monotonic_ns"]) for row in csv.DictReader(lines)]


def _payloads(session: Path) -> list[bytes]:
    content, at, found = (session / "actions.bin").read_bytes(), 0, []
    while at < len(content):
        (length,) = struct.unpack_from("<I", content, at)
        found.append(content[at + 4 : at + 4 + length])
        at += 4 + length
    return found


def pad_states(session: Path) -> list[GamepadState]:
    return [GamepadState.FromString(payload) for payload in _payloads(session)]


def is_action(state: GamepadState) -> bool:
    return bool(state.pressed_buttons or state.pressed_keys or any(abs(a) >= np.float32(0.1) for a in state.axes))


def snapshot(state: GamepadState | None) -> Snapshot:
    axes = dict.fromkeys(AXES, 0.0) | dict(zip(AXES, state.axes if state else (), strict=False))
    return Snapshot(axes, frozenset(BUTTONS[b] for b in (state.pressed_buttons if state else ())))


def expected_actions(recordings: Path, session: Path) -> list[list[float]]:
    """One vector per frame of the recording, by `bisect_right` and the two YAML files."""
    game = yaml.safe_load((recordings / "melee-game-definition.yaml").read_text())
    mapping = yaml.safe_load((recordings / "melee-action-mapping.yaml").read_text())
    classes = {one["id"]: one["actions"] for one in game["classes"]}
    actions = [action for name in mapping["class_ids"] for action in classes[name]]
    states = pad_states(session)
    times = [state.monotonic_ns for state in states]
    vectors = []
    for t in frame_times(session):
        at = bisect_right(times, t)
        pad = snapshot(states[at - 1] if at else None)
        vector: list[float] = []
        for action in actions:
            bindings = mapping["actions"].get(action["id"], {}).get("bindings", [])
            vector += expected_slots(action["kind"], bindings, pad, mapping["axis_button_thresholds"])
        vectors.append(vector)
    return vectors


def first_kept(session: Path, window_ns: int) -> int:
    first_action = next(state.monotonic_ns for state in pad_states(session) if is_action(state))
    return next(i for i, t in enumerate(frame_times(session)) if first_action <= t + window_ns)


def idr_before(session: Path, frame: int) -> int:
    """Display position of the last keyframe at or before a frame."""
    with av.open(str(session / "capture.mp4")) as container:
        packets = [(p.pts, p.is_keyframe) for p in container.demux(video=0) if p.size]
    order = sorted(pts for pts, _ in packets if pts is not None)
    keys = sorted(order.index(pts) for pts, key in packets if key and pts is not None)
    return max(k for k in keys if k <= frame)


# ---- tests --------------------------------------------------------------------------------------------------


def check_rows(recordings: Path, episode: ReadEpisode, first: int) -> None:
    session = recordings / "sessions" / episode.session
    times = frame_times(session)
    np.testing.assert_allclose(
        episode.rows["action"], np.asarray(expected_actions(recordings, session)[first:], np.float32), rtol=0, atol=0
    )
    assert episode.rows["capture.time_ns"] == [t - times[0] for t in times[first:]]
    assert episode.rows["frame_index"] == list(range(len(times) - first))
    events = [state.monotonic_ns for state in pad_states(session)]
    ages = [(t - events[bisect_right(events, t) - 1]) / 1e9 if events[0] <= t else -1.0 for t in times[first:]]
    np.testing.assert_allclose(episode.rows["capture.pad_age"], np.asarray(ages, np.float32), rtol=1e-6)


def test_three_sessions_become_one_dataset_and_two_are_named(recordings: Path, tmp_path: Path) -> None:
    result = convert_recordings(recordings, tmp_path / "out")
    assert result.converted_sessions == tuple(NAMES)
    assert list(result.skipped_sessions) == list(OTHERS)
    for session, detail in result.skipped_sessions.items():
        assert OTHERS[session] in detail
        assert "480x270 at 30" in detail
    kept = read_info(tmp_path / "out")["extensions"]["game_converter"]
    assert kept["converted_sessions"] == NAMES
    assert {one["session"]: one["reason"] for one in kept["skipped_sessions"]} == dict.fromkeys(OTHERS, "schema")
    assert kept["settings"]["task"] == "Win the match"
    assert kept["game_id"] == "melee"
    episodes = read_episodes(tmp_path / "out")
    assert [(one.session, len(one), one.end_reason) for one in episodes] == [(name, 390, "end") for name in NAMES]
    for episode in episodes:
        check_rows(recordings, episode, 0)
        assert episode.events == [
            payload
            for payload in _payloads(recordings / "sessions" / episode.session)
            if _in_time(episode, payload, recordings)
        ]


def _in_time(episode: ReadEpisode, payload: bytes, recordings: Path) -> bool:
    """Whether an EVENT is in force at a frame, or lies between two."""
    session = recordings / "sessions" / episode.session
    times, states = frame_times(session), pad_states(session)
    before = [state.monotonic_ns for state in states if state.monotonic_ns <= times[0]]
    t = GamepadState.FromString(payload).monotonic_ns
    return (before[-1] if before else 0) <= t <= times[-1]


def idle_until(recordings: Path, copy: Path, frame: int) -> Path:
    """The first session alone, with an untouched pad until a frame; the recorded players begin at once."""
    session, made = recordings / "sessions" / NAMES[0], copy / "sessions" / NAMES[0]
    shutil.copytree(session, made)
    for path in recordings.glob("*.yaml"):
        shutil.copy(path, copy)
    begin_ns = frame_times(session)[frame]
    with (made / "actions.bin").open("wb") as file:
        for state in pad_states(session):
            if state.monotonic_ns < begin_ns:
                state = GamepadState(monotonic_ns=state.monotonic_ns, axes=[0.0] * 6)
            payload = state.SerializeToString()
            file.write(struct.pack("<I", len(payload)) + payload)
    return copy


@pytest.mark.parametrize(
    ("window", "idle_frames", "gop"),
    [(None, 0, "untrimmed"), (0.0, 0, "inside the first"), (0.5, 0, "untrimmed"), (0.4, 300, "inside a later one")],
)
def test_lerobot_reads_the_captured_pixels(
    lerobot: ModuleType, recordings: Path, tmp_path: Path, window: float | None, idle_frames: int, gop: str
) -> None:
    """Every frame, whole and trimmed: inside the first GOP, and past whole ones."""
    output = tmp_path / "out"
    if idle_frames:
        recordings = idle_until(recordings, tmp_path / "in", idle_frames)
    result = convert_recordings(recordings, output, max_pre_action_seconds=window)
    sessions = [recordings / "sessions" / name for name in NAMES[: 1 if idle_frames else None]]
    kept = [one for one in sessions if window is None or any(map(is_action, pad_states(one)))]
    assert result.converted_sessions == tuple(one.name for one in kept)
    first_rows = [0 if window is None else first_kept(one, round(window * 1e9)) for one in kept]
    keys = [idr_before(one, row) for one, row in zip(kept, first_rows, strict=True)]
    match gop:
        case "untrimmed":
            assert set(first_rows) == {0}
        case "inside the first":
            assert set(keys) == {0}
            assert min(first_rows) > 0
        case _:
            assert all(0 < key < row for key, row in zip(keys, first_rows, strict=True))
    dataset = lerobot.LeRobotDataset("test/melee", root=output, video_backend="pyav")
    utils = __import__("lerobot.datasets.video_utils", fromlist=["decode_video_frames"])
    for number, episode in enumerate(read_episodes(output)):
        session = recordings / "sessions" / episode.session
        first = first_rows[number]
        check_rows(recordings, episode, first)
        assert episode.from_timestamp == float(Fraction(first - keys[number], 30))
        pixels = decode(str(session / "capture.mp4"))[first:]
        assert len(pixels) == len(episode)
        path = output / dataset.meta.get_video_file_path(number, CAMERA)
        for begin in range(0, len(episode), CHUNK):  # a chunk of floats at a time
            rows = range(begin, min(begin + CHUNK, len(episode)))
            timestamps = [episode.from_timestamp + row / 30 for row in rows]
            frames = utils.decode_video_frames(path, timestamps, dataset.tolerance_s, "pyav")
            assert np.array_equal(to_bytes(frames), np.stack(pixels[begin : rows.stop])), rows
        start = int(dataset.meta.episodes[number]["dataset_from_index"])
        for row in (0, 1, len(episode) // 2, len(episode) - 1):
            item = dataset[start + row]
            assert np.array_equal(to_bytes(item[CAMERA][None])[0], pixels[row])
            assert item["action"].tolist() == episode.rows["action"][row]
            assert item["task"] == "Win the match"


def to_bytes(frames: Any) -> NDArray[np.uint8]:
    """(n, 3, h, w) floats in [0, 1] as (n, h, w, 3) bytes."""
    pixels: NDArray[np.uint8] = np.rint(np.moveaxis(frames.numpy(), 1, 3) * 255).astype(np.uint8)
    return pixels


def test_datasets_loads_the_rows_by_the_card(lerobot: ModuleType, recordings: Path, tmp_path: Path) -> None:
    convert_recordings(recordings, tmp_path / "out")
    datasets = __import__("datasets")
    rows = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(rows) == 1170
    assert len(rows[5]["action"]) == 13


def test_strict_stops_at_the_first_invalid_session_by_name(recordings: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="melee_port1_720p"):
        convert_recordings(recordings, tmp_path / "out", strict=True)


def test_an_output_that_is_there_is_not_touched(recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(RootMismatchError, match="empty"):
        convert_recordings(recordings, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_the_same_folder_gives_the_same_bytes(recordings: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        convert_recordings(recordings, tmp_path / name)
    for path in sorted((tmp_path / "a").rglob("*.*")):
        if path.parent.name not in ("commits", "runs") and path.is_file():
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes(), path


def test_what_it_did_is_written_beside_what_it_made(recordings: Path, tmp_path: Path) -> None:
    result = convert_recordings(recordings, tmp_path / "out")
    told = json.loads((tmp_path / "out" / "runs" / f"{result.run}.json").read_text())
    assert (told["command"], told["episodes"], told["frames"]) == ("convert", result.episodes, result.frames)
    assert told["settings"]["task"] == "Win the match"
    listed = tmp_path / "out" / "runs" / f"{result.run}.sha256"
    assert len(listed.read_text().splitlines()) == 3 * result.episodes + 5  # README, info, stats, tasks, episodes
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", listed], cwd=tmp_path / "out", check=True)


def test_a_folder_with_nothing_to_convert_says_why(recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "empty").mkdir(parents=True)
    with pytest.raises(InputError, match=r"empty.*capture\.mp4"):
        convert_recordings(recordings, tmp_path / "out", session_root=tmp_path / "in")
