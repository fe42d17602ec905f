"""What one partition still has to carry out, in order: effects on its shard, and dead letters.

A letter lies before every effect that releases its record's offset, so a commit that moves past the record comes after
the letter's acknowledgement.

Access units gather for a moment before they are taken, since a call to the shard costs as much as muxing ten of them.
A commit, letters and whatever else is pushed do not wait, nor does what lies before them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from padreel.model import AppendUnit, Commit, DeadLetter, Effect

_EFFECTS_PER_STEP = 1_000  # a stop waits for one call to the shard
_EVENT_BYTES, _ROW_BYTES = 32, 24  # of a draft, about
_GATHER_SECONDS = 0.2
_GATHER_BYTES = 2**20  # no unit waits where there is so much


@dataclass(frozen=True, slots=True)
class Letters:
    """Dead letters to be acknowledged before anything behind them is carried out."""

    letters: tuple[DeadLetter, ...]


Step = list[Effect] | Letters


class Outbox:
    """A queue from the pipeline task, which pushes, to the partition's writer, which takes."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Effect | Letters, int]] = deque()  # each with its size
        self._wake = asyncio.Event()
        self._takes = False
        self._in_hand = False
        self._is_due = False  # whether what is queued may be taken
        self._gathering: asyncio.TimerHandle | None = None
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
        self._settle()

    def push(self, entries: Iterable[Effect | Letters]) -> None:
        """Queue entries in order."""
        if not self._takes:
            return
        is_due = False
        for entry in entries:
            size = _size(entry)
            self._waiting.append((entry, size))
            self.queued_bytes += size
            is_due = is_due or not isinstance(entry, AppendUnit)
        if is_due or self.queued_bytes >= _GATHER_BYTES or len(self._waiting) >= _EFFECTS_PER_STEP:
            self._due()
        elif self._waiting and not self._is_due and self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._due)

    def take(self) -> Step | None:
        """The next effects up to the first commit, or the next letters; None if there is nothing to do yet.

        What was taken is in hand until `done`.
        """
        if not self._is_due:
            return None
        step = self._next_step()
        if not self._waiting:
            self._settle()
        return step

    def done(self) -> None:
        """What was taken is carried out, or given up."""
        self._in_hand = False

    def nudge(self) -> None:
        """Let `wait` return."""
        self._wake.set()

    async def wait(self, seconds: float) -> bool:
        """Wait until something is to be taken or somebody nudges; False if nothing did for so long."""
        try:
            # Not wait_for: before Python 3.12 it swallows a cancellation that comes together with the event.
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return False
        self._wake.clear()
        return True

    def _next_step(self) -> Step | None:
        effects: list[Effect] = []
        while self._waiting and len(effects) < _EFFECTS_PER_STEP:
            entry, size = self._waiting[0]
            if isinstance(entry, Letters) and effects:
                break
            self._waiting.popleft()
            self.queued_bytes -= size
            self._in_hand = True
            if isinstance(entry, Letters):
                return entry
            effects.append(entry)
            if isinstance(entry, Commit):
                break
        return effects or None

    def _due(self) -> None:
        self._settle()
        self._is_due = True
        self._wake.set()

    def _settle(self) -> None:
        """Nothing is due, and nothing gathers."""
        self._is_due = False
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None


def _size(entry: Effect | Letters) -> int:
    if isinstance(entry, AppendUnit):
        return len(entry.unit)
    if isinstance(entry, Letters):
        return sum(len(letter.value or b"") for letter in entry.letters)
    if isinstance(entry, Commit) and entry.episode is not None:
        return _EVENT_BYTES * len(entry.episode.events) + _ROW_BYTES * len(entry.episode.time_ns)
    return 0
