"""What a consumer watches in itself: whether its event loop stands still, and how much room its disk has."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import structlog

_NAP_SECONDS = 0.1
_ROOM_SECONDS = 30.0

_log = structlog.get_logger("padreel.vitals")


async def watch_loop(now_ns: Callable[[], int], stalled: Callable[[float], None]) -> None:
    """Sleep again and again; `stalled` takes the seconds by which the loop woke this task too late."""
    while True:
        asleep_ns = now_ns()
        await asyncio.sleep(_NAP_SECONDS)
        stalled(max(0.0, (now_ns() - asleep_ns) / 1e9 - _NAP_SECONDS))


async def watch_room(root: Path, room: Callable[[int, int], None]) -> None:
    """Ask now and then for the room below `root`; `room` takes the bytes available and the bytes in all."""
    while True:
        try:
            # In a thread of its own, not a shard's: a network filesystem may not answer for minutes.
            found = await asyncio.to_thread(shutil.disk_usage, root)
        except OSError as error:
            _log.warning("cannot ask for the room on the disk", folder=str(root), error=str(error))
        else:
            room(found.free, found.total)
        await asyncio.sleep(_ROOM_SECONDS)
