"""Crash points: a process that kills, stops or fails itself at a named step. For tests only.

    PADREEL_CRASH_POINT="after link:3:kill" padreel consume ...

Every operation of `OPERATIONS` and `GROUP_OPERATIONS` announces itself to `files.probe` as "before ..." and
"after ...", with the path it is about. The third time that the point `after link` is reached, this process kills
itself. `*` is any point. Actions: `kill` (SIGKILL), `stop` (SIGSTOP; after SIGCONT it goes on from there) and the
name of an errno such as `ENOSPC` or `EIO`, raised once as an OSError. Raised after an operation it is the operation
whose reply was lost.

The variable is read once, when `files` is imported. Without it nothing here is ever called.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

Probe = Callable[[str, Path], None]

VARIABLE = "PADREEL_CRASH_POINT"
ANY = "*"
OPERATIONS = {
    "mkdir": "a folder is made",
    "write": "a file is written whole; a small one with its fsync",
    "fsync": "a file's content, or a folder's names, are made durable",
    "stage": "something is written to an episode's mp4: its head, a unit, its index",
    "claim": "a claim gets its name in the log",
    "link": "another commit gets its name in the log, or a file its name in a merged dataset",
    "rename": "a staged file gets its final name, or a merged dataset does",
    "replace": "a metadata file is replaced out of the publish folder, or an update's file is moved into its dataset",
    "unlink": "a file of one's own is removed",
    "rmdir": "a folder of one's own is removed",
    "fence unlink": "a file in another writer's publish folder is removed",
    "fence rmdir": "another writer's publish folder is removed",
    "sweep": "a staged file of an older claim is removed",
    "fold": "the log is read to its end",
}
GROUP_OPERATIONS = {
    "seek": "reading of a partition begins where its shard's log says",
    "park": "a partition that the group took away is kept, in case it comes back",
    "return": "reading of a partition that came back goes on where it was",
}
SHARD_POINTS = frozenset(f"{when} {operation}" for operation in OPERATIONS for when in ("before", "after"))
POINTS = SHARD_POINTS | {f"{when} {operation}" for operation in GROUP_OPERATIONS for when in ("before", "after")}


class CrashPoint:
    """A probe that acts the `count`-th time that its point is reached, and never again."""

    def __init__(self, point: str, count: int, action: str) -> None:
        """Raises ValueError if there is no such point or action."""
        if point != ANY and point not in POINTS:
            raise ValueError(f"point: found {point!r}, expected {ANY} or one of {', '.join(sorted(POINTS))}")
        if count < 1:
            raise ValueError(f"count: found {count}, expected 1 or more")
        if action not in ("kill", "stop") and not hasattr(errno, action):
            raise ValueError(f"action: found {action!r}, expected kill, stop or an errno's name such as ENOSPC")
        self._point = point
        self._left = count
        self._action = action
        self._lock = threading.Lock()  # several shards write at a time

    def __call__(self, point: str, path: Path) -> None:
        if self._point not in (ANY, point):
            return
        with self._lock:
            self._left -= 1
            if self._left:
                return
        if self._action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self._action == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            number = getattr(errno, self._action)
            raise OSError(number, f"{os.strerror(number)} ({VARIABLE}, {point})", str(path))


def parse(text: str) -> CrashPoint:
    """The probe that `point:count:action` describes. Raises ValueError that names the variable."""
    try:
        point, count, action = text.rsplit(":", 2)
        return CrashPoint(point, int(count), action)
    except ValueError as error:
        raise ValueError(f"{VARIABLE}={text}: expected point:count:action; {error}") from error


def from_environment(environment: Mapping[str, str]) -> Probe | None:
    """The probe that the variable asks for, None where it is not set. Raises ValueError."""
    text = environment.get(VARIABLE)
    return parse(text) if text else None
