"""`padreel check` of a recorder's session folder: what it says of a whole one, and of every way to break one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from padreel.training.check.check import check
from padreel.training.check.report import Verdict
from padreel_schemas.recording import PADS, SYNC
from padreel_schemas.v1.gamepad_pb2 import GamepadState
from tests.session_folders import START_NS, event, frame_times, write_actions, write_folder, write_sync, write_video
from tests.training_world import failing, findings


def test_a_whole_session_passes_with_its_figures(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "one", frames=20, events=10)
    (found,) = check(folder, deep=True)
    assert found.verdict is Verdict.PASS, found.findings
    assert found.kind == "session"
    figures = dict(found.figures)
    assert figures.pop("fps_measured") == pytest.approx(30, rel=1e-3)
    assert figures.pop("jitter_ms") == pytest.approx(0, abs=1e-6)
    assert figures.pop("duration_seconds") == pytest.approx(19 / 30, rel=1e-6)
    assert figures.pop("events_per_second") == pytest.approx(10 / (19 / 30), rel=1e-3)
    assert figures.pop("longest_idle_seconds") == pytest.approx(2 / 30, rel=1e-3)
    assert figures == {
        "frames": 20,
        "dropped_frames": 0,
        "dead_periods": 0,
        "dead_seconds": 0,
        "events": 10,
        "buttons": ["south"],
        "axes": [],
        "keys": [],
    }


def _cut_video(folder: Path) -> None:
    content = (folder / "capture.mp4").read_bytes()
    (folder / "capture.mp4").write_bytes(content[: len(content) // 2])


def _damage_slices(folder: Path) -> None:
    content = bytearray((folder / "capture.mp4").read_bytes())
    begin = content.index(b"mdat") + 900
    content[begin : begin + 200] = b"\xff" * 200
    (folder / "capture.mp4").write_bytes(content)


def _times(change: Callable[[list[int]], list[int]]) -> Callable[[Path], None]:
    return lambda folder: write_sync(folder / SYNC, change(frame_times(20)))


SESSION_FAULTS: dict[str, tuple[Callable[[Path], object], dict[str, Verdict]]] = {
    "no video": (lambda folder: (folder / "capture.mp4").unlink(), {"video": Verdict.FAIL}),
    "no actions": (lambda folder: (folder / PADS).unlink(), {"actions": Verdict.FAIL}),
    "no rows": (lambda folder: (folder / SYNC).unlink(), {"sync": Verdict.FAIL}),
    "a torn video": (_cut_video, {"video": Verdict.FAIL}),
    "a cut record": (
        lambda folder: (folder / PADS).write_bytes((folder / PADS).read_bytes()[:-3]),
        {"actions": Verdict.WARN},
    ),
    "no GamepadState": (lambda folder: write_actions(folder / PADS, [b"\xff"]), {"pad": Verdict.FAIL}),
    "a row too many": (_times(lambda times: [*times, times[-1] + 33_333_333]), {"frame count": Verdict.FAIL}),
    "a clock that steps back": (
        _times(lambda times: [*times[:5], times[3], *times[6:]]),
        {"frame clock": Verdict.WARN, "jitter": Verdict.WARN, "dropped frames": Verdict.WARN},
    ),
    "another rate": (
        _times(lambda times: [START_NS + 2 * (t - START_NS) for t in times]),
        {"rate": Verdict.WARN, "dropped frames": Verdict.WARN},
    ),
    "a dead period": (
        _times(lambda times: [*times[:10], *(t + 3_000_000_000 for t in times[10:])]),
        {"rate": Verdict.WARN, "jitter": Verdict.WARN, "dropped frames": Verdict.WARN, "dead periods": Verdict.WARN},
    ),
    "an idle player": (lambda folder: write_actions(folder / PADS, [event(START_NS)]), {"input": Verdict.WARN}),
}


@pytest.mark.parametrize("fault", SESSION_FAULTS)
def test_a_broken_session_is_named(tmp_path: Path, fault: str) -> None:
    folder = write_folder(tmp_path / "one", frames=20, events=10)
    breaking, expected = SESSION_FAULTS[fault]
    breaking(folder)
    found = {name: one.verdict for name, one in findings(folder).items() if one.verdict is not Verdict.PASS}
    assert found == expected


def test_pictures_are_decoded_when_asked(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    write_folder(folder, frames=20, events=10)
    _damage_slices(folder)
    assert failing(folder) == {}
    assert "decodable" in failing(folder, deep=True)


def test_keys_and_axes_are_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "one", frames=20, events=10)
    state = GamepadState(monotonic_ns=START_NS, axes=[0, 0.5, 0, -0.05, 0, 1], pressed_buttons=[6], pressed_keys=[44])
    write_actions(folder / PADS, [state.SerializeToString()])
    (found,) = check(folder)
    figures = found.figures
    assert (figures["buttons"], figures["axes"], figures["keys"]) == (["start"], ["lefty", "right_trigger"], ["Space"])


def test_a_folder_of_sessions_gives_a_report_each(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_folder(tmp_path / name, frames=8, events=4)
    (tmp_path / "notes").mkdir()
    assert [Path(one.path).name for one in check(tmp_path)] == ["a", "b"]


@pytest.mark.recordings
def test_the_real_recordings(recordings: Path) -> None:
    reports = check(recordings / "sessions", deep=True)
    assert len(reports) == 5
    assert all(one.verdict is not Verdict.FAIL for one in reports), reports
    frames = {Path(one.path).name: one.figures["frames"] for one in reports}
    assert frames["melee_port1_720p"] == 30
    assert np.isclose(reports[0].figures["fps_measured"], 29.97, rtol=0.01)


def test_a_second_video_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "one", frames=8, events=4)
    write_video(folder / "capture.mkv", 8)
    assert "expected one video file" in failing(folder)["video"]
