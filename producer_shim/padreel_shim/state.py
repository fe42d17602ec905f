"""What a publisher must remember of a session folder to go on where it was stopped.

One JSON file per folder, named after the folder's absolute path, replaced by rename after an fsync: whatever moment
the machine dies at, the file is whole and its position is acknowledged.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from padreel_schemas.capture import video_path
from padreel_schemas.recording import PADS, SYNC
from padreel_shim import locks

FORMAT_VERSION = 1
_MAX_NAME = 100


class StateError(Exception):
    """The state of a session cannot be read, written or used; says what to do."""


@dataclass(frozen=True, slots=True)
class FileMark:
    """By what a file is known again: its content, or faster, that it was not touched."""

    name: str
    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FollowState:
    """How far a session is published that was followed while it grew, each topic for itself.

    `frames` and `pads` count the records of each topic that the broker has acknowledged. `sync` and `actions` are
    the beginnings of the two files that were read by then, `first_ns` the first row's time: by these a recording is
    known again, whatever its folder is called. `stream` is the stream block as it was published, in hexadecimal.
    """

    video: str  # "inline" or "reference"
    sync: FileMark
    actions: FileMark
    first_ns: int = -1
    frames: int = 0
    pads: int = 0
    stream: str = ""


@dataclass(frozen=True, slots=True)
class PublishState:
    """How far a session is published.

    `position` counts the records, in the recording's order, that the broker has acknowledged; everything before it
    is in the topics. What decides the records' bytes and place is kept too, so that it cannot change half way. A
    session that is followed while it grows has `follow` instead of `position` and `files`, until it is finished.
    """

    folder: str
    run: str
    files: tuple[FileMark, ...]
    rig_id: str
    task: str
    game_id: str
    cluster_id: str
    frames_topic: str
    pads_topic: str
    position: int = 0
    finished: bool = False
    heartbeats: bool = True
    session: str = ""  # its name in the key, where the folder was renamed since
    follow: FollowState | None = None

    @property
    def session_name(self) -> str:
        """The session's name in its key."""
        return self.session or Path(self.folder).name


def new_run() -> str:
    """Return a random run id: 64 bits in hexadecimal."""
    return f"{secrets.randbits(64):016x}"


def default_state_dir() -> Path:
    """Return `$XDG_STATE_HOME/padreel-shim`, by default below `~/.local/state`."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "padreel-shim"


def mark_files(folder: Path, known: tuple[FileMark, ...] = ()) -> tuple[FileMark, ...]:
    """Return the marks of a session's files; files as old and as long as `known` says are not read again.

    Raises OSError and RecordingError.
    """
    earlier = {mark.name: mark for mark in known}
    marks = []
    for name in (video_path(folder).name, SYNC, PADS):
        status = (folder / name).stat()
        mark = earlier.get(name)
        if mark is None or (mark.size, mark.mtime_ns) != (status.st_size, status.st_mtime_ns):
            with (folder / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            mark = FileMark(name, status.st_size, status.st_mtime_ns, digest)
        marks.append(mark)
    return tuple(marks)


def changed_files(before: tuple[FileMark, ...], after: tuple[FileMark, ...]) -> list[str]:
    """Return the names of the files whose content differs; being touched is no difference."""
    contents = {mark.name: (mark.size, mark.sha256) for mark in before}
    return [mark.name for mark in after if contents.get(mark.name) != (mark.size, mark.sha256)]


class StateFile:
    """The state file of one session folder, held exclusively inside its `with` block.

    Raises StateError where another publisher holds it or the file cannot be read or written.
    """

    def __init__(self, state_dir: Path, folder: Path) -> None:
        self.folder = folder.resolve()
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        self.path = state_dir / f"{self.folder.name[:_MAX_NAME]}-{digest}.json"
        self._lock: int | None = None

    @classmethod
    def at(cls, path: Path) -> Self:
        """The state file with that path, whatever folder it is of: to `load` it."""
        file = cls(path.parent, Path(path.stem))
        file.path = path
        return file

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = locks.take(self.path.with_suffix(".lock"))
        except BlockingIOError as error:
            raise StateError(f"{self.folder}: another padreel-shim publishes this session") from error
        except OSError as error:
            raise StateError(f"state directory {self.path.parent}: cannot be written: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)  # and with it the lock
            self._lock = None

    def load(self) -> PublishState | None:
        """Return the saved state, None where the folder was never published."""
        try:
            data = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise self._unusable(str(error)) from error
        if not isinstance(data, dict):
            raise self._unusable(f"is a {type(data).__name__}, expected an object")
        version = data.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise self._unusable(f"format_version is {version}, expected {FORMAT_VERSION}")
        return self._parse(data)

    def save(self, state: PublishState) -> None:
        """Replace the saved state; on return it survives a power loss."""
        text = json.dumps({"format_version": FORMAT_VERSION, **dataclasses.asdict(state)}, indent=1)
        temporary = self.path.with_suffix(".tmp")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
            if os.name != "nt":  # Windows opens no folder
                directory = os.open(self.path.parent, os.O_RDONLY)
                try:
                    os.fsync(directory)
                finally:
                    os.close(directory)
        except OSError as error:
            raise StateError(f"{self.path}: cannot be written: {error.strerror}") from error

    def _parse(self, data: dict[str, Any]) -> PublishState:
        try:
            files = tuple(FileMark(**mark) for mark in data.pop("files"))
            follow = data.pop("follow", None)
            if follow is not None:
                follow = FollowState(
                    sync=FileMark(**follow.pop("sync")), actions=FileMark(**follow.pop("actions")), **follow
                )
            state = PublishState(files=files, follow=follow, **data)
        except (AttributeError, KeyError, TypeError) as error:
            raise self._unusable(str(error)) from error
        for name, kind in (("run", str), ("position", int), ("finished", bool)):
            found = getattr(state, name)
            if type(found) is not kind:
                raise self._unusable(f"{name} is {found!r}, expected {kind.__name__}")
        if state.position < 0:
            raise self._unusable(f"position is {state.position}, expected an integer from 0")
        return state

    def _unusable(self, why: str) -> StateError:
        return StateError(f"{self.path}: {why}; delete it to publish {self.folder} from the start under a new run")
