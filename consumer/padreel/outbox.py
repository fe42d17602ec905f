"""What one partition still has to carry out, in order: effects on its shard, and dead letters.

A letter lies before every effect that releases its record's offset, so a commit that moves past the record comes after
the letter's acknowledgement.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from padreel.model import AppendUnit, Commit, DeadLetter, Effect

_EFFECTS_PER_STEP = 1_000  # a stop waits for one call to the shard
_EVENT_BYTES, _ROW_BYTES = 32, 24  # of a draft, about


@dataclass(frozen=True, slots=True)
class Letters:
    """Dead letters to be acknowledged before anything behind them is carried out."""

    letters: tuple[DeadLetter, ...]


Step = list[Effect] | Letters


class Outbox:
    """A queue from the pipeline task, which pushes, to the partition's writer, which takes."""

    def __init__(self) -> None:
        self._waiting: deque[Effect | Letters] = deque()
        self._wake = asyncio.Event()
        self._takes = False
        self._in_hand = False
        self.queued_bytes = 0

    @property
    def is_idle(self) -> bool:
        """Whether everything that was asked for is carried out."""
        return not self._waiting and not self._in_hand

    def open(self) -> None:
        """From now on what is pushed is kept."""
        self._takes = True

    def drop(self) -> None:
        """Forget what is queued, and what is pushed until it is opened again: it will be read again."""
        self._takes = False
        self._waiting.clear()
        self.queued_bytes = 0

    def push(self, entries: Iterable[Effect | Letters]) -> None:
        """Queue entries in order."""
        if not self._takes:
            return
        for entry in entries:
            self._waiting.append(entry)
            self.queued_bytes += _size(entry)
        if self._waiting:
            self._wake.set()

    def take(self) -> Step | None:
        """The next effects up to the first commit, or the next letters; None if there is nothing to do.

        What was taken is in hand until `done`.
        """
        effects: list[Effect] = []
        while self._waiting and len(effects) < _EFFECTS_PER_STEP:
            entry = self._waiting[0]
            if isinstance(entry, Letters) and effects:
                break
            self._waiting.popleft()
            self.queued_bytes -= _size(entry)
            self._in_hand = True
            if isinstance(entry, Letters):
                return entry
            effects.append(entry)
            if isinstance(entry, Commit):
                break
        return effects or None

    def done(self) -> None:
        """What was taken is carried out, or given up."""
        self._in_hand = False

    def nudge(self) -> None:
        """Let `wait` return."""
        self._wake.set()

    async def wait(self, seconds: float) -> bool:
        """Wait until something is pushed or somebody nudges; False if nothing did for so long."""
        try:
            # Not wait_for: before Python 3.12 it swallows a cancellation that comes together with the event.
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return False
        self._wake.clear()
        return True


def _size(entry: Effect | Letters) -> int:
    if isinstance(entry, AppendUnit):
        return len(entry.unit)
    if isinstance(entry, Letters):
        return sum(len(letter.value or b"") for letter in entry.letters)
    if isinstance(entry, Commit) and entry.episode is not None:
        return _EVENT_BYTES * len(entry.episode.events) + _ROW_BYTES * len(entry.episode.time_ns)
    return 0
