"""The consumer's other tasks: they read, tell the time and ask for the ends; all they do with it is to post it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from padreel.kafka.events import Batch, Pair, Source
from padreel.model import Topic
from padreel.partition import Partition

_QUEUED_BYTES = 4 * 2**20  # of batches that wait for the pipeline task
_FETCH_MS = 200
_HELD_BACK_MS = 20  # what is held back may be allowed again at any moment
_TICK_SECONDS = 0.5
_ENDS_SECONDS = 0.5
_ADVISE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Ends:
    """End offsets asked for at `asked_ns`, and the source's positions when the answer came."""

    ends: Mapping[Pair, int]
    positions: Mapping[Pair, int]
    asked_ns: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


class Intake:
    """Posts batches, ticks and ends to the pipeline task; `partitions` are those that are assigned, by number."""

    def __init__(
        self,
        source: Source,
        partitions: Mapping[int, Partition],
        post: Callable[[Batch | Tick | Ends], None],
        now_ns: Callable[[], int],
    ) -> None:
        self._source = source
        self._partitions = partitions
        self._post = post
        self._now_ns = now_ns
        self._queued_bytes = 0

    def taken(self, batch: Batch) -> None:
        """The pipeline task has taken a batch out of the queue."""
        self._queued_bytes -= batch.bytes

    async def fetch(self) -> None:
        """Read what may be read, as long as the queue is short."""
        while True:
            allowed = self._allowed()
            if not allowed or self._queued_bytes >= _QUEUED_BYTES:
                await asyncio.sleep(0.02)
                continue
            timeout_ms = _FETCH_MS if len(allowed) == 2 * len(self._partitions) else _HELD_BACK_MS
            # From the answer to the posting nothing is awaited, so that no event of the group comes between.
            for batch in await self._source.getmany(allowed, timeout_ms=timeout_ms):
                self._queued_bytes += batch.bytes
                self._post(batch)
            await asyncio.sleep(0)

    def _allowed(self) -> list[Pair]:
        allowed: list[Pair] = []
        for number, partition in self._partitions.items():
            frames, pads = partition.allowed()
            allowed += [(Topic.FRAMES, number)] * frames + [(Topic.PADS, number)] * pads
        return allowed

    async def tick(self) -> None:
        """Tell the time."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self._post(Tick())

    async def watch_ends(self) -> None:
        """Ask the broker how far the topics go."""
        while True:
            await asyncio.sleep(_ENDS_SECONDS)
            pairs = [(topic, number) for topic in Topic for number in self._partitions]
            asked_ns = self._now_ns()
            ends = await self._source.end_offsets(pairs) if pairs else None
            if ends is not None:
                self._post(Ends(ends, await self._source.positions(pairs), asked_ns))

    async def advise(self) -> None:
        """Tell the group how far was read: for those who watch its lag, the log decides."""
        while True:
            await asyncio.sleep(_ADVISE_SECONDS)
            if positions := read_positions(self._partitions.values()):
                await self._source.commit(positions)


def read_positions(partitions: Iterable[Partition]) -> dict[Pair, int]:
    """How far each partition was read, where anything was."""
    positions: dict[Pair, int] = {}
    for partition in partitions:
        if partition.at is not None:
            positions[Topic.FRAMES, partition.number], positions[Topic.PADS, partition.number] = partition.at
    return positions
