"""The consumer: one queue of events, one task that takes them, and the partitions it has.

    fetch ──┐                              ┌── Partition.run: shard 0 (a thread at a time)
    group ──┼─ events ─> the pipeline task ┼── Partition.run: shard 1
    ticks ──┘                              └── ...

The pipeline task alone touches sessions and offsets. Everything else posts to its queue, so whatever was fetched before
a partition was taken away, or opened again, is seen before that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

import structlog

from padreel.core.decode import DecodeRules
from padreel.core.rules import Rules
from padreel.kafka.continuity import reading_offset
from padreel.kafka.events import Answer, Assigned, Batch, Pair, Revoked, Source
from padreel.metrics import Metrics
from padreel.model import Topic
from padreel.observe import Observer
from padreel.partition import Lost, Opened, Partition, Storage, Surroundings
from padreel.rejects import RejectLimit, RejectLog
from padreel.settings import ConsumerSettings
from padreel.starting import StartingPoint, answered

_QUEUED_BYTES = 32 * 2**20  # of batches that wait for the pipeline task
_FETCH_MS = 200
_HELD_BACK_MS = 20  # what is held back may be allowed again at any moment
_TICK_SECONDS = 0.5
_ENDS_SECONDS = 0.5
_ADVISE_SECONDS = 5.0
_PROGRESS_NS = 60_000_000_000
_STUCK_NS = 60_000_000_000

_log = structlog.get_logger("padreel.consumer")


@dataclass(frozen=True, slots=True)
class Clock:
    """`now_ns` is steady, for waiting; `wall_seconds` of the epoch, for lag alone."""

    now_ns: Callable[[], int]
    wall_seconds: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Ends:
    """End offsets asked for at `asked_ns`, and the source's positions when the answer came."""

    ends: Mapping[Pair, int]
    positions: Mapping[Pair, int]
    asked_ns: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = Assigned | Revoked | Batch | Opened | Lost | Ends | Tick


class Consumer:
    """A member of the group that writes the shards of the partitions it is assigned."""

    def __init__(
        self,
        settings: ConsumerSettings,
        rules: Rules,
        *,
        partitions: int,
        source: Source,
        open_shard: Callable[[int], Storage],
        threads: Executor,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._source = source
        self._clock = clock
        self._observer = Observer(metrics, settings, clock.wall_seconds)
        self._all_pairs: list[Pair] = [(topic, number) for topic in Topic for number in range(partitions)]
        self._topic_names = {Topic.FRAMES: settings.frames_topic, Topic.PADS: settings.pads_topic}
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._queued_bytes = 0
        self._partitions: dict[int, Partition] = {}
        self._runs: dict[int, asyncio.Task[None]] = {}
        self._limit, self._reject_log = RejectLimit(), RejectLog()
        self._stopping = asyncio.Event()
        self._targets: dict[Pair, int] | None = None
        self._is_assigned = self._is_finishing = False
        self._beat_ns = clock.now_ns()
        self._around = Surroundings(
            rules=rules,
            limits=settings.limits,
            decode_rules=DecodeRules(idle_deadzone=settings.idle_deadzone),
            threads=threads,
            open_shard=open_shard,
            restore=StartingPoint(source, settings.start, self._topic_names).restore,
            tell_group=self._tell_group,
            post=self._events.put_nowait,
            committed=self._observer.committed,
            accounted=self._observer.accounted,
            timed=self._observer.timed,
            failed=self._observer.failed,
            topic_names=self._topic_names,
            now_ns=clock.now_ns,
        )

    # ---- from outside

    def stop(self) -> None:
        """Read no further, let the commit in hand finish, and return from `run`."""
        self._stopping.set()

    def live(self) -> str | None:
        """None, or what is stuck. A rebalance, idleness or an unreachable broker is not."""
        silent_ns = self._clock.now_ns() - self._beat_ns
        return None if silent_ns < _STUCK_NS else f"the pipeline task has done nothing for {silent_ns / 1e9:.0f} s"

    def ready(self) -> str | None:
        """None when assigned and every shard is open, else what is not."""
        if not self._is_assigned:
            return "the group has assigned nothing yet"
        closed = {number: one for number, one in sorted(self._partitions.items()) if one.pipeline is None}
        if not closed:
            return None
        return "; ".join(f"partition {number}: {one.waiting or 'opening'}" for number, one in closed.items())

    async def run(self) -> None:
        """Consume until `stop`, or with --until end until what was there at start-up is committed.

        Raises PadreelError, and whatever is unexpected, in an exception group.
        """
        try:
            await self._source.start(self._events.put_nowait)
            if self._settings.until == "end":
                self._targets = await answered(self._source.end_offsets, self._all_pairs)
            async with asyncio.TaskGroup() as group:
                intake = [
                    group.create_task(self._fetch(), name="fetch"),
                    group.create_task(self._take_events(group), name="pipeline"),
                    group.create_task(self._tick(), name="tick"),
                    group.create_task(self._watch_ends(), name="ends"),
                    group.create_task(self._advise(), name="advise"),
                ]
                await self._stopping.wait()
                for task in intake:
                    task.cancel()
                await self._let_go()
        finally:
            await self._source.stop()

    # ---- the other tasks: they post, or only look

    async def _fetch(self) -> None:
        while True:
            allowed = self._allowed()
            if not allowed or self._queued_bytes >= _QUEUED_BYTES:
                await asyncio.sleep(0.02)
                continue
            timeout_ms = _FETCH_MS if len(allowed) == 2 * len(self._partitions) else _HELD_BACK_MS
            # From the answer to the posting nothing is awaited, so that no event of the group comes between.
            for batch in await self._source.getmany(allowed, timeout_ms=timeout_ms):
                self._queued_bytes += _bytes(batch)
                self._events.put_nowait(batch)
            await asyncio.sleep(0)

    def _allowed(self) -> list[Pair]:
        allowed: list[Pair] = []
        for number, partition in self._partitions.items():
            frames, pads = partition.allowed()
            allowed += [(Topic.FRAMES, number)] * frames + [(Topic.PADS, number)] * pads
        return allowed

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self._events.put_nowait(Tick())

    async def _watch_ends(self) -> None:
        while True:
            await asyncio.sleep(_ENDS_SECONDS)
            pairs = [pair for pair in self._all_pairs if pair[1] in self._partitions]
            asked_ns = self._clock.now_ns()
            ends = await self._source.end_offsets(pairs) if pairs else None
            if ends is not None:
                self._events.put_nowait(Ends(ends, await self._source.positions(pairs), asked_ns))

    async def _advise(self) -> None:
        while True:
            await asyncio.sleep(_ADVISE_SECONDS)
            if positions := self._read_positions(self._partitions.values()):
                await self._source.commit(positions)

    def _read_positions(self, partitions: Iterable[Partition]) -> dict[Pair, int]:
        positions: dict[Pair, int] = {}
        for partition in partitions:
            if partition.at is not None:
                positions[Topic.FRAMES, partition.number], positions[Topic.PADS, partition.number] = partition.at
        return positions

    # ---- the pipeline task

    async def _take_events(self, group: asyncio.TaskGroup) -> None:
        while True:
            event = await self._events.get()
            match event:
                case Batch():
                    self._read(event)
                case Tick():
                    self._pass_time()
                case Ends():
                    self._observe_ends(event)
                case Assigned():
                    self._assign(event, group)
                case Revoked():
                    self._revoke(event.partitions)
                case Opened():
                    self._begin(event)
                case Lost():
                    self._lose(event.partition)
            self._beat_ns = self._clock.now_ns()
            # A full queue never makes get() wait: let the group's heartbeats and the others have their turn.
            await asyncio.sleep(0)

    def _is_current(self, partition: Partition) -> bool:
        return self._partitions.get(partition.number) is partition

    def _read(self, batch: Batch) -> None:
        self._queued_bytes -= _bytes(batch)
        partition = self._partitions.get(batch.partition)
        if partition is None or partition.pipeline is None or partition.generation != batch.generation:
            return  # fetched before the partition was taken away: to be read again
        now_ns = self._clock.now_ns()
        rejected = partition.read(batch, now_ns)
        self._observer.read(batch, rejected)
        for item in rejected:
            self._reject_log.write(self._topic_names[batch.topic], batch.partition, item, now_ns)
        bad = {item.offset for item in rejected}
        self._limit.add(record.offset in bad for record in batch.records)

    def _pass_time(self) -> None:
        now_ns = self._clock.now_ns()
        for partition in self._partitions.values():
            if partition.pipeline is not None:
                partition.tick(now_ns)
                if now_ns - partition.progress_ns >= _PROGRESS_NS:
                    partition.commit_progress(now_ns)
        self._observer.look(self._partitions.values())
        if self._targets is not None and self._reached(self._targets):
            self._finish(now_ns)

    def _reached(self, targets: Mapping[Pair, int]) -> bool:
        return self._is_assigned and all(
            partition.pipeline is not None
            and partition.is_idle
            and partition.at is not None
            and partition.at[0] >= targets[Topic.FRAMES, number]
            and partition.at[1] >= targets[Topic.PADS, number]
            for number, partition in self._partitions.items()
        )

    def _finish(self, now_ns: int) -> None:
        """Everything is committed: remember how far it was read, and then stop."""
        if self._is_finishing:
            self.stop()
            return
        self._is_finishing = True
        for partition in self._partitions.values():
            partition.commit_progress(now_ns)

    def _observe_ends(self, event: Ends) -> None:
        now_ns = self._clock.now_ns()
        for number, partition in self._partitions.items():
            frames, pads = (Topic.FRAMES, number), (Topic.PADS, number)
            if partition.pipeline is None or frames not in event.ends or pads not in event.ends:
                continue
            positions = None
            if frames in event.positions and pads in event.positions:
                positions = event.positions[frames], event.positions[pads]
            partition.observe_ends((event.ends[frames], event.ends[pads]), positions, event.asked_ns, now_ns)
        self._observer.ends(event.ends)

    def _assign(self, event: Assigned, group: asyncio.TaskGroup) -> None:
        self._observer.assigned()
        self._revoke(tuple(self._partitions))
        for number in event.partitions:
            partition = Partition(number, event.generation, self._around)
            self._partitions[number] = partition
            self._runs[number] = group.create_task(
                self._own(partition, self._runs.get(number)), name=f"partition {number}"
            )
        self._is_assigned = True
        _log.info("assigned", partitions=list(event.partitions))

    async def _own(self, partition: Partition, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])  # its shard has to be closed first
        await partition.run()

    def _revoke(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if (partition := self._partitions.pop(number, None)) is not None:
                partition.release()
                self._observer.revoked(number)

    def _begin(self, event: Opened) -> None:
        partition = event.partition
        if not self._is_current(partition):
            return
        state = event.state
        frames = reading_offset(state.frames_next, state.last_frame)
        pads = reading_offset(state.pads_next, state.last_pad)
        if self._source.resume(partition.number, frames, pads, partition.generation):
            partition.begin(event, self._clock.now_ns())
            _log.info(
                "shard open",
                partition=partition.number,
                frames_next=state.frames_next,
                pads_next=state.pads_next,
                open_sessions=len(state.open),
            )

    def _lose(self, partition: Partition) -> None:
        partition.forget()
        if self._is_current(partition):
            self._source.pause(partition.number)

    # ---- the end

    async def _tell_group(self, partition: Partition) -> Answer:
        return await self._source.commit(self._read_positions([partition]))

    async def _let_go(self) -> None:
        """Close all shards, then tell the group how far was read."""
        positions = self._read_positions(self._partitions.values())
        for partition in self._partitions.values():
            partition.release()
        if self._runs:
            await asyncio.wait(self._runs.values())
        if positions:
            await self._source.commit(positions)
        self._reject_log.flush()
        _log.info("stopped", partitions=len(self._partitions))


def _bytes(batch: Batch) -> int:
    return sum(len(record.value or b"") for record in batch.records)
