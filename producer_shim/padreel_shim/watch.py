"""Watching a session folder that is being written: when it is closed, and patience with a share that fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from padreel_schemas.capture import RecordingError, video_path
from padreel_schemas.recording import PADS, SYNC, Recording
from padreel_shim.producer import FRAMES_TOPIC, PADS_TOPIC, Publisher

VideoMode = Literal["inline", "reference"]
_CLOSED_AT_ONCE = 2  # closed recordings that are published at the same time
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FollowOptions:
    """How to follow. `media_root` is what `--video reference` names files below; times are seconds.

    A session is closed once nothing in its folder has changed for `closed_after_seconds` and its video can be read
    and has as many frames as there are rows.
    """

    video: VideoMode = "inline"
    media_root: Path | None = None
    poll_seconds: float = 0.2
    closed_after_seconds: float = 5.0
    rig_id: str = ""
    task: str = ""
    game_id: str = ""
    frames_topic: str = FRAMES_TOPIC
    pads_topic: str = PADS_TOPIC

    def media_uri(self, folder: Path) -> str:
        """Where a folder's video lies below the media root, with forward slashes on every system; inline: empty.

        Raises RecordingError where it is not below it.
        """
        if self.video == "inline" or self.media_root is None:
            return ""
        path = video_path(folder)
        try:
            return path.resolve().relative_to(self.media_root.resolve()).as_posix()
        except ValueError:
            raise RecordingError(f"{path}: is not below --media-root {self.media_root}") from None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What following a session needs: where to publish, where states are kept, whom to tell what, and the time."""

    publisher: Publisher
    state_dir: Path
    options: FollowOptions
    tell: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    closed_at_once: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_CLOSED_AT_ONCE))
    told: set[str] = field(default_factory=set)

    def tell_once(self, text: str) -> None:
        """Tell what may be so for a while."""
        if text not in self.told:
            self.told.add(text)
            self.tell(text)

    async def patiently(self, call: Callable[[], T]) -> T:
        """Call in a thread, again and again while the system fails, as a stale share does for a while."""
        while True:
            try:
                return await in_thread(call)
            except OSError as error:
                self.tell_once(f"{error}; trying again")
            await self.sleep(self.options.poll_seconds)


async def in_thread(call: Callable[[], T]) -> T:
    """Call in a thread; when cancelled, wait for the call all the same: what it changes is used afterwards."""
    calling = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(calling)
    except asyncio.CancelledError:
        await asyncio.wait([calling])
        raise


class Stillness:
    """Says when a folder's files have not changed for some time and are a whole recording."""

    def __init__(self, folder: Path, around: Surroundings) -> None:
        self._folder = folder
        self._around = around
        self._seen: object = None
        self._since = 0.0
        self._refused: object = None  # what the files were when they were found not to be a whole recording

    def is_closed(self, *, moved: bool) -> bool:
        """Look again; `moved` is whether something was just published. Blocking. Raises RecordingError, OSError."""
        now = self._around.clock()
        if not self._folder.is_dir():
            raise RecordingError(f"{self._folder}: is gone; if it was renamed, it goes on under its new name")
        seen = tuple(_status(path) for path in (video_path(self._folder), self._folder / SYNC, self._folder / PADS))
        if moved or seen != self._seen:
            self._seen, self._since = seen, now
            return False
        if now - self._since < self._around.options.closed_after_seconds or seen == self._refused:
            return False
        try:
            Recording(self._folder).check()
        except RecordingError as error:
            self._refused = seen
            self._around.tell_once(f"{error}; waiting for more")
            return False
        return True


def _status(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return path.name, -1, 0
    return path.name, status.st_size, status.st_mtime_ns
