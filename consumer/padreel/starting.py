"""Where to read on from when a shard was opened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Literal, TypeVar

import structlog

from padreel.errors import BrokerError
from padreel.kafka.events import Pair, Source, out_of_range
from padreel.model import LastRecord, PartitionState, Topic

_log = structlog.get_logger("padreel.starting")
V = TypeVar("V")


async def answered(
    ask: Callable[[Iterable[Pair]], Awaitable[dict[Pair, V] | None]], pairs: Iterable[Pair]
) -> dict[Pair, V]:
    """Ask a source until the broker answers."""
    while (answer := await ask(pairs)) is None:
        _log.warning("the broker does not answer, asking again")
        await asyncio.sleep(1.0)
    return answer


class StartingPoint:
    """Knows where to begin on a partition: where its log says, else where --start says."""

    def __init__(
        self, source: Source, start: Literal["earliest", "latest"] | int, topic_names: Mapping[Topic, str]
    ) -> None:
        self._source = source
        self._start = start
        self._topic_names = topic_names

    async def restore(self, number: int, state: PartitionState | None) -> PartitionState:
        """The state to begin with; `state` is the log's, None where it has none.

        What it remembers of the last records read is left out where retention has deleted them since.

        Raises BrokerError if the records that are needed are gone.
        """
        pairs: list[Pair] = [(Topic.FRAMES, number), (Topic.PADS, number)]
        begin = await answered(self._source.beginning_offsets, pairs)
        end = await answered(self._source.end_offsets, pairs)
        if state is None:
            frames, pads = await self._first_offsets(pairs, begin, end)
            return PartitionState(frames_next=frames, pads_next=pads, frames_position=frames, pads_position=pads)
        for pair, offset in zip(pairs, (state.frames_next, state.pads_next), strict=True):
            if not begin[pair] <= offset <= end[pair]:
                raise BrokerError(out_of_range(self._topic_names[pair[0]], number, offset, begin[pair], end[pair]))
        frames_pair, pads_pair = pairs
        told = await answered(self._source.committed, pairs)  # the group knows of later reading than the log
        return replace(
            state,
            frames_position=max(state.frames_position, told[frames_pair]),
            pads_position=max(state.pads_position, told[pads_pair]),
            last_frame=_still_there(state.last_frame, begin[frames_pair]),
            last_pad=_still_there(state.last_pad, begin[pads_pair]),
        )

    async def _first_offsets(self, pairs: list[Pair], begin: Mapping[Pair, int], end: Mapping[Pair, int]) -> list[int]:
        start = self._start
        if not isinstance(start, int):
            return [(begin if start == "earliest" else end)[pair] for pair in pairs]

        async def ask(asked: Iterable[Pair]) -> dict[Pair, int | None] | None:
            return await self._source.offsets_at(start, asked)

        found = await answered(ask, pairs)
        return [end[pair] if (at := found[pair]) is None else at for pair in pairs]


def _still_there(last: LastRecord | None, begin: int) -> LastRecord | None:
    return last if last is not None and last.offset >= begin else None
