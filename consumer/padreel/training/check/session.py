"""Whether a recorder's session folder can become episodes, and what its recording is worth."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from padreel.core.keys import key_name
from padreel.core.pad import AXES, BUTTONS, GamepadSnapshot, snapshot_of
from padreel.training.check.report import Finding, Report, Verdict, judged
from padreel_schemas import recording
from padreel_schemas.capture import read_video, video_path
from padreel_schemas.recording import PADS, SYNC, RecordingError
from padreel_schemas.v1.video_pb2 import VideoStream

# Beyond these a recording is worth a look. They are about players and machines, not about the format.
MAX_JITTER: Final = 0.25  # standard deviation of the intervals, as a share of the frame time
MAX_DROPPED: Final = 0.01  # share of the frames
MAX_RATE_ERROR: Final = 0.02  # of the clock's rate against the stream's
DEAD_SECONDS: Final = 1.0  # without a frame
IDLE_SECONDS: Final = 60.0  # without an EVENT
DEADZONE: Final = 0.1  # an axis that never leaves it was not used
_NS: Final = 1e9


def check_session(path: Path, *, deep: bool = False) -> Report:
    """Check one folder; with `deep` every picture is decoded. What cannot be read is a finding, never an error."""
    findings: list[Finding] = []
    figures: dict[str, Any] = {}
    video = _video(path, findings)
    rows = _read(findings, "sync", lambda: recording.read_sync_csv(path / SYNC))
    pads = _read(findings, "actions", lambda: recording.read_actions_bin(path / PADS))
    times = [row.monotonic_ns for row in rows or ()]
    if rows is not None:
        findings.append(_steps("frame clock", times, "row"))
        if video is not None:
            findings.append(_count(len(rows), video[1]))
        if len(times) > 1:
            rate = video[0].fps_num / (video[0].fps_den or 1) if video is not None else None
            _pace(times, rate, findings, figures)
    if pads is not None:
        payloads, cut = pads
        findings.append(judged("actions", [cut] if cut else [], f"{len(payloads)} EVENTs, all whole", Verdict.WARN))
        _pad(payloads, times, findings, figures)
    if deep and video is not None:
        findings.append(_decoded(video_path(path), video[1]))
    return Report(str(path), "session", tuple(findings), figures)


def _read(findings: list[Finding], check: str, read: Any) -> Any:
    try:
        return read()
    except RecordingError as error:
        findings.append(Finding(check, Verdict.FAIL, str(error)))
        return None


def _video(path: Path, findings: list[Finding]) -> tuple[VideoStream, int] | None:
    """The stream and the number of its pictures."""
    found = _read(findings, "video", lambda: read_video(video_path(path)))
    if found is None:
        return None
    stream, ranks = found
    rate = stream.fps_num / (stream.fps_den or 1)
    findings.append(
        Finding("video", Verdict.PASS, f"{stream.codec} {stream.width}x{stream.height} at {rate:g} Hz, {len(ranks)}")
    )
    return stream, len(ranks)


def _count(rows: int, pictures: int) -> Finding:
    problems = [] if rows == pictures else [f"{SYNC} has {rows} rows, the video {pictures} frames; expected as many"]
    return judged("frame count", problems, f"{rows} rows, as many frames")


def _steps(check: str, times: Sequence[int], unit: str) -> Finding:
    """A clock that steps back is mended by whoever publishes it, so it is no failure."""
    back = [f"steps back at {unit} {i}" for i, (a, b) in enumerate(itertools.pairwise(times), 1) if b < a]
    return judged(check, back, f"{len(times)} times, none steps back", Verdict.WARN)


def _pace(times: Sequence[int], rate: float | None, findings: list[Finding], figures: dict[str, Any]) -> None:
    steps = [b - a for a, b in itertools.pairwise(times)]
    duration = (times[-1] - times[0]) / _NS
    frame_ns = _NS / rate if rate else sorted(steps)[len(steps) // 2]
    mean = sum(steps) / len(steps)
    jitter = (sum((step - mean) ** 2 for step in steps) / len(steps)) ** 0.5
    dropped = sum(max(0, round(step / frame_ns) - 1) for step in steps) if frame_ns else 0
    dead = [step / _NS for step in steps if step > DEAD_SECONDS * _NS]
    measured = len(steps) / duration if duration > 0 else 0.0
    figures |= {
        "frames": len(times),
        "duration_seconds": duration,
        "fps_measured": measured,
        "jitter_ms": jitter / 1e6,
        "dropped_frames": dropped,
        "dead_periods": len(dead),
        "dead_seconds": sum(dead),
    }
    off = [f"the clock says {measured:.3f} Hz, the stream {rate:g}"] if rate and _is_off(measured, rate) else []
    findings.append(judged("rate", off, f"{measured:.3f} Hz by the clock", Verdict.WARN))
    wild = [f"deviation {jitter / 1e6:.2f} ms of {frame_ns / 1e6:.2f} ms"] if jitter > MAX_JITTER * frame_ns else []
    findings.append(judged("jitter", wild, f"deviation {jitter / 1e6:.2f} ms", Verdict.WARN))
    lost = [f"{dropped} frames are missing among {len(times)}"] if dropped > MAX_DROPPED * len(times) else []
    findings.append(judged("dropped frames", lost, f"{dropped} missing", Verdict.WARN))
    still = [f"no frame for {seconds:.1f} s" for seconds in dead]
    findings.append(judged("dead periods", still, f"none above {DEAD_SECONDS:g} s", Verdict.WARN))


def _is_off(measured: float, rate: float) -> bool:
    return abs(measured / rate - 1) > MAX_RATE_ERROR


def _pad(payloads: Sequence[bytes], times: Sequence[int], findings: list[Finding], figures: dict[str, Any]) -> None:
    snapshots: list[GamepadSnapshot] = []
    for payload in payloads:
        try:
            snapshots.append(snapshot_of(payload))
        except ValueError as error:
            findings.append(Finding("pad", Verdict.FAIL, f"{PADS}: record {len(snapshots)} is {error}"))
            return
    events = [one.monotonic_ns for one in snapshots]
    findings.append(_steps("pad clock", events, "record"))
    buttons = {button for one in snapshots for button in one.pressed_buttons}
    keys = {key for one in snapshots for key in one.pressed_keys}
    axes = {i for one in snapshots for i, value in enumerate(one.axes) if abs(value) >= DEADZONE}
    seconds = (times[-1] - times[0]) / _NS if len(times) > 1 else 0.0
    figures |= {
        "events": len(snapshots),
        "events_per_second": len(snapshots) / seconds if seconds > 0 else 0.0,
        "longest_idle_seconds": _longest_idle(events, times),
        "buttons": [_named(BUTTONS, button) for button in sorted(buttons)],
        "axes": [_named(AXES, axis) for axis in sorted(axes)],
        "keys": [key_name(key) for key in sorted(keys)],
    }
    unused = [] if buttons or keys or axes else ["no button, key or axis was used: every frame has the neutral pad"]
    used = f"{len(buttons)} buttons, {len(axes)} axes, {len(keys)} keys"
    findings.append(judged("input", unused, used, Verdict.WARN))
    idle = figures["longest_idle_seconds"]
    long = [f"no EVENT for {idle:.1f} s"] if idle > IDLE_SECONDS else []
    findings.append(judged("idle", long, f"no EVENT for {idle:.1f} s at most", Verdict.WARN))


def _named(names: Sequence[str], number: int) -> str:
    return names[number] if number < len(names) else str(number)


def _longest_idle(events: Sequence[int], times: Sequence[int]) -> float:
    """The longest time without an EVENT while the video ran, in seconds."""
    if not times:
        return 0.0
    inside = sorted(t for t in events if times[0] <= t <= times[-1])
    points = [times[0], *inside, max(times)]
    return max(b - a for a, b in itertools.pairwise(points)) / _NS


def _decoded(path: Path, expected: int) -> Finding:
    from padreel.training.pictures import count_pictures

    found = count_pictures(path)
    problems = [found] if isinstance(found, str) else []
    if not problems and found != expected:
        problems = [f"{path.name}: {found} pictures can be decoded, expected {expected}"]
    return judged("decodable", problems, f"all {expected} pictures")
