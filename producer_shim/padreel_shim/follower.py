"""A folder in which a recorder makes session folders, watched by looking again and again: every system can do that."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from padreel_schemas.capture import VIDEOS, RecordingError
from padreel_schemas.recording import PADS, SYNC
from padreel_shim import locks
from padreel_shim.follow import follow_session
from padreel_shim.publish import Published
from padreel_shim.state import StateError
from padreel_shim.watch import Surroundings, in_thread

LOCK = ".padreel-shim-follow.lock"


async def follow_root(root: Path, around: Surroundings, published: Callable[[Published], None]) -> None:
    """Follow every session folder in `root`, those that are there and those that come, until cancelled.

    What goes wrong with a session is told, and the others go on. Raises StateError where another follower has `root`,
    and PublishError.
    """
    root = await in_thread(root.resolve)
    with _held(root, around.state_dir):
        try:
            async with asyncio.TaskGroup() as group:
                await _watch(root, around, published, group)
        except ExceptionGroup as errors:  # they share a publisher: the first failure is everybody's
            raise errors.exceptions[0] from errors


async def _watch(
    root: Path, around: Surroundings, published: Callable[[Published], None], group: asyncio.TaskGroup
) -> None:
    running: dict[Path, asyncio.Task[None]] = {}
    over: set[Path] = set()  # published, or told to be unusable

    async def follow(folder: Path) -> None:
        try:
            if (done := await follow_session(folder, around)) is not None:
                published(done)
        except (RecordingError, StateError) as error:
            around.tell(str(error))

    while True:
        over |= {folder for folder, task in running.items() if task.done()}
        running = {folder: task for folder, task in running.items() if not task.done()}
        found = await around.patiently(partial(session_folders, root, running.keys() | over))
        over &= found
        # A folder that was renamed goes on under its new name, once the one who followed the old one has let go.
        if running.keys() <= found:
            for folder in sorted(found - running.keys() - over):
                running[folder] = group.create_task(follow(folder), name=f"follow {folder.name}")
        await around.sleep(around.options.poll_seconds)


def session_folders(root: Path, seen: Collection[Path]) -> set[Path]:
    """The folders in `root` in which something was recorded; those in `seen` are not looked into again.

    A folder whose name begins with a dot is none. Raises OSError.
    """
    with os.scandir(root) as entries:
        folders = [Path(entry.path) for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    names = (SYNC, PADS, *VIDEOS)
    return {folder for folder in folders if folder in seen or any((folder / name).exists() for name in names)}


@contextmanager
def _held(root: Path, state_dir: Path) -> Iterator[None]:
    """Hold `root` against other followers, wherever they keep their states. Raises StateError."""
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    try:
        try:
            lock = locks.take(root / LOCK, holder)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            # A root that may only be read: followers of one user see each other at least.
            state_dir.mkdir(parents=True, exist_ok=True)
            lock = locks.take(state_dir / f"follow-{digest}.lock", holder)
    except BlockingIOError as error:
        raise StateError(f"{root}: is followed already, by {error}; one follower at a time") from error
    except OSError as error:
        raise StateError(f"{root}: cannot be followed: {error}") from error
    try:
        yield
    finally:
        os.close(lock)
