"""Recorded session folders as users of the library read them; see `padreel_schemas.recording` for the format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import structlog

from padreel.core.pad import GamepadSnapshot, snapshot_of
from padreel.errors import InputError
from padreel_schemas import recording
from padreel_schemas.capture import VIDEOS
from padreel_schemas.recording import PADS, SYNC, VIDEO, RecordingError

_log = structlog.get_logger("padreel.recordings")


@dataclass(frozen=True, slots=True)
class SessionValidationResult:
    """Whether a folder has the three files of a session, and the names of those it lacks, sorted."""

    ok: bool
    missing_files: tuple[str, ...] = ()


def collect_session_dirs(session_root: Path | str) -> list[Path]:
    """The immediate child folders of `session_root`, sorted by name. Raises InputError where there is none."""
    root = Path(session_root)
    found = list_session_dirs(root)
    if not found:
        raise InputError(f"--session-root: {root} has no folder in it; expected one per recorded session")
    return found


def list_session_dirs(session_root: Path) -> list[Path]:
    """The immediate child folders of `session_root`, sorted by name. Raises InputError where it cannot be listed."""
    try:
        return sorted(path for path in session_root.iterdir() if path.is_dir())
    except OSError as error:
        raise InputError(f"--session-root: {session_root}: {error.strerror or error}") from error


def validate_session_dir(session_dir: Path | str) -> SessionValidationResult:
    """See which of the three files are there. Whether they can be used shows when they are read.

    The video may also be a `capture.mkv` or a `capture.ts`.
    """
    folder = Path(session_dir)
    files = {VIDEO: VIDEOS, SYNC: (SYNC,), PADS: (PADS,)}
    missing = tuple(name for name in sorted(files) if not any((folder / one).exists() for one in files[name]))
    return SessionValidationResult(ok=not missing, missing_files=missing)


def read_sync_csv(path: Path | str) -> list[int]:
    """The capture times in `sync.csv`, nanoseconds of the rig's clock, in display order.

    Raises InputError that names the line where the file is not as the recorder writes it.
    """
    try:
        return [row.monotonic_ns for row in recording.read_sync_csv(Path(path))]
    except RecordingError as error:
        raise InputError(str(error)) from error


def read_actions_bin(path: Path | str) -> list[GamepadSnapshot]:
    """The snapshots in `actions.bin`, in the file's order; a last one that is cut short is left out with a warning.

    Raises InputError that names the record where the file is damaged.
    """
    try:
        payloads, warning = recording.read_actions_bin(Path(path))
    except RecordingError as error:
        raise InputError(str(error)) from error
    if warning is not None:
        _log.warning("repaired", detail=warning)
    snapshots: list[GamepadSnapshot] = []
    for payload in payloads:
        try:
            snapshots.append(snapshot_of(payload))
        except ValueError as error:
            raise InputError(f"{path}: record {len(snapshots)} is {error}") from error
    return snapshots
