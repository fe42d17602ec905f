"""Tells what became of episodes, after they are committed and again after a recovery. Recording never waits for it.

Everything that is told comes from the shards' logs: that a commit was made is only the occasion to look. So what could
not be told waits in the log, in order, whoever has the shard by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog

from padreel.core.episodes import EpisodeEvent
from padreel.dataset.told import Told
from padreel.errors import DatasetError, EpisodesTopicError

_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 30.0
_LAST_SECONDS = 10.0  # to tell the last of it when the consumer stops

_log = structlog.get_logger("padreel.announcer")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Announcing:
    """Where events go, and how far which partition's were told."""

    open_told: Callable[[int], Told]
    send: Callable[[Sequence[EpisodeEvent]], Awaitable[None]]


class Announcer:
    """Tells the events of the partitions that are this consumer's; nothing where it is not said where to."""

    def __init__(
        self,
        announcing: Announcing | None,
        threads: Executor,
        told: Callable[[int, Sequence[EpisodeEvent]], None],
        failed: Callable[[int], None],
    ) -> None:
        self._announcing, self._threads = announcing, threads
        self._told, self._failed = told, failed
        self._logs: dict[int, Told] = {}
        self._untold: set[int] = set()  # partitions in whose logs there may be something
        self._wake = asyncio.Event()

    def begin(self, number: int) -> None:
        """A partition's shard was opened: tell what its last owner may not have told."""
        if self._announcing is not None:
            self._logs[number] = self._announcing.open_told(number)
            self.committed(number)

    def committed(self, number: int) -> None:
        """Something was committed."""
        if number in self._logs:
            self._untold.add(number)
            self._wake.set()

    def end(self, number: int) -> None:
        """The partition is another consumer's, and so is what is left to tell."""
        self._logs.pop(number, None)
        self._untold.discard(number)

    async def run(self) -> None:
        """Tell whatever is committed."""
        failures = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            if await self._tell_all():
                failures = 0
                continue
            await asyncio.sleep(min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0 ** min(failures, 10)))
            failures += 1
            self._wake.set()

    async def finish(self) -> None:
        """Try once to tell what is left; what stays is told when a shard is opened next."""
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                await self._tell_all()
        except TimeoutError:
            _log.warning("events of episodes are left to be told", partitions=sorted(self._untold))

    async def _tell_all(self) -> bool:
        """Whether nothing failed; what is committed meanwhile is looked for again."""
        is_well = True
        for number in sorted(self._untold):
            try:
                await self._tell(number)
            except (EpisodesTopicError, OSError, DatasetError) as error:
                is_well = False
                self._failed(number)
                _log.warning("telling of episodes failed, waiting", partition=number, error=str(error))
        return is_well

    async def _tell(self, number: int) -> None:
        while self._announcing is not None and (log := self._logs.get(number)) is not None:
            self._untold.discard(number)  # what is committed from here on is looked for again
            try:
                untold = await self._in_thread(log.ahead)
                if untold is None:
                    return
                if untold.events:
                    await self._announcing.send(untold.events)
                    self._told(number, untold.events)
                await self._in_thread(partial(log.save, untold))
            except BaseException:
                if number in self._logs:
                    self._untold.add(number)
                raise

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)
