"""The consumer: one queue of events, one task that takes them, and the partitions it has.

    fetch ──┐                              ┌── Writer.run: shard 0 (a thread at a time)
    group ──┼─ events ─> the pipeline task ┼── Writer.run: shard 1
    ticks ──┘                              └── ...

A partition that the group takes away is parked until it is known who gets it: one that comes back goes on where it was.

The pipeline task alone touches sessions and offsets. Everything else posts to its queue, so whatever was fetched before
a partition was taken away, or opened again, is seen before that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass

import structlog

from padreel.announcer import Announcer, Announcing
from padreel.backfill import Backfill
from padreel.core.decode import DecodeRules
from padreel.core.rigs import NO_RIGS, RigList
from padreel.core.rules import Rules
from padreel.dataset import files
from padreel.dataset.committed import Committed
from padreel.dataset.layout import shard_folder
from padreel.dataset.media import MediaFiles
from padreel.intake import Ends, Intake, Tick, read_positions
from padreel.kafka.continuity import reading_offset
from padreel.kafka.events import Answer, Assigned, Batch, Pair, Revoked, Source
from padreel.kafka.leaving import in_time
from padreel.metrics import Metrics
from padreel.model import DeadLetter, Topic
from padreel.observe import Observer
from padreel.partition import Partition, Processing
from padreel.rejects import RejectLimit, RejectLog
from padreel.rig_file import RigFile, RigsChanged, watch_rigs
from padreel.scanner import Scanned, Scanner
from padreel.settings import ConsumerSettings
from padreel.starting import StartingPoint, answered
from padreel.vitals import watch_loop, watch_room
from padreel.writer import Lost, Opened, Returned, Storage, Surroundings, Writer

_PROGRESS_NS = 60_000_000_000
_STUCK_NS = 60_000_000_000

_log = structlog.get_logger("padreel.consumer")


@dataclass(frozen=True, slots=True)
class Clock:
    """`now_ns` is steady, for waiting; `wall_seconds` of the epoch, for lag alone."""

    now_ns: Callable[[], int]
    wall_seconds: Callable[[], float]


Event = Assigned | Revoked | Batch | Opened | Lost | Returned | Ends | Tick | Scanned | RigsChanged


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
        send_letters: Callable[[Sequence[DeadLetter]], Awaitable[None]],
        threads: Executor,
        metrics: Metrics,
        clock: Clock,
        media: MediaFiles | None = None,
        scanning: Executor | None = None,
        rigs: tuple[RigFile | None, RigList] = (None, NO_RIGS),
        announcing: Announcing | None = None,
    ) -> None:
        self._settings = settings
        self._source = source
        self._clock = clock
        self._observer = Observer(metrics, settings, clock.wall_seconds)
        self._rig_file, self._rigs = rigs
        self._observer.rigs.use(self._rigs)
        self._all_pairs: list[Pair] = [(topic, number) for topic in Topic for number in range(partitions)]
        self._topic_names = {Topic.FRAMES: settings.frames_topic, Topic.PADS: settings.pads_topic}
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._partitions: dict[int, Partition] = {}
        self._parked: dict[int, Partition] = {}
        self._read_to: dict[Pair, int] = {}  # highest positions of this process, to tell what is read again
        self._runs: dict[int, asyncio.Task[None]] = {}
        self._limit, self._reject_log = RejectLimit(), RejectLog()
        self._stopping = asyncio.Event()
        self._backfill: Backfill | None = None
        self._is_assigned = False
        self._beat_ns = clock.now_ns()
        self._scanner = Scanner(media or MediaFiles(None), scanning or threads, self._events.put_nowait)
        self._intake = Intake(source, self._partitions, self._events.put_nowait, clock.now_ns)
        self._processing = Processing(
            rules, settings.limits, DecodeRules(idle_deadzone=settings.idle_deadzone), self._topic_names
        )
        self._announcer = Announcer(announcing, threads, self._observer.told, self._observer.untold)
        self._around = Surroundings(
            threads=threads,
            open_shard=open_shard,
            restore=StartingPoint(source, settings.start, self._topic_names).restore,
            send_letters=send_letters,
            tell_group=self._tell_group,
            post=self._events.put_nowait,
            committed=self._committed,
            buried=self._observer.buried,
            timed=self._observer.timed,
            muxed=self._observer.muxed,
            failed=self._observer.failed,
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
        """None when assigned, every shard is open and none waits for the storage; else what is not so."""
        if not self._is_assigned:
            return "the group has assigned nothing yet"
        waits = [
            f"partition {number}: {one.writer.waiting or 'opening'}"
            for number, one in sorted(self._partitions.items())
            if one.is_resting or one.writer.waiting
        ]
        return "; ".join(waits) or None

    async def run(self) -> None:
        """Consume until `stop`, or with --until end until what was there at start-up is committed.

        Raises PadreelError, and whatever is unexpected, in an exception group.
        """
        try:
            await self._source.start(self._events.put_nowait)
            if self._settings.until == "end":
                self._backfill = Backfill(await answered(self._source.end_offsets, self._all_pairs))
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._intake.fetch(), name="fetch"),
                    group.create_task(self._take_events(group), name="pipeline"),
                    group.create_task(self._intake.tick(), name="tick"),
                    group.create_task(self._intake.watch_ends(), name="ends"),
                    group.create_task(self._intake.advise(), name="advise"),
                    group.create_task(watch_rigs(self._rig_file, self._events.put_nowait), name="rigs"),
                    group.create_task(watch_loop(self._clock.now_ns, self._observer.stalled), name="loop"),
                    group.create_task(watch_room(self._settings.output_root, self._observer.room), name="room"),
                    group.create_task(self._announcer.run(), name="announcer"),
                ]
                await self._stopping.wait()
                for task in tasks:
                    task.cancel()
                self._scanner.stop()
                await self._let_go()
        finally:
            await self._source.stop()

    # ---- the pipeline task

    async def _take_events(self, group: asyncio.TaskGroup) -> None:
        while True:
            event = await self._events.get()
            match event:
                case Batch():
                    self._read(event)
                case Tick():
                    self._pass_time(group)
                case Scanned():
                    self._take_scan(event)
                case Ends():
                    self._observe_ends(event)
                case RigsChanged():
                    self._use_rigs(event.rigs)
                case Assigned():
                    self._assign(event, group)
                case Revoked():
                    self._park(event.partitions)
                case Opened():
                    self._begin(event)
                case Lost():
                    self._lose(event.writer)
                case Returned():
                    self._return(event.writer)
            self._beat_ns = self._clock.now_ns()
            # A full queue never makes get() wait: let the group's heartbeats and the others have their turn.
            await asyncio.sleep(0)

    def _assigned_to(self, writer: Writer) -> Partition | None:
        partition = self._partitions.get(writer.number)
        return partition if partition is not None and partition.writer is writer else None

    def _read(self, batch: Batch) -> None:
        self._intake.taken(batch)
        partition = self._partitions.get(batch.partition)
        if partition is None or partition.is_resting or partition.generation != batch.generation:
            return  # fetched before the partition was taken away: to be read again
        now_ns = self._clock.now_ns()
        rejected = partition.read(batch, now_ns)
        pair, position = (batch.topic, batch.partition), batch.records[-1].offset + 1
        self._observer.read(batch, rejected, self._read_to.get(pair, 0))
        self._read_to[pair] = max(position, self._read_to.get(pair, 0))
        self._observer.rigs.rejected([partition.rig(item.key) for item in rejected])
        for item in rejected:
            self._reject_log.write(self._topic_names[batch.topic], batch.partition, item, now_ns)
        bad = {item.offset for item in rejected}
        places = [place for place, record in enumerate(batch.records) if record.offset in bad] if bad else []
        self._limit.add(len(batch.records), places)

    def _use_rigs(self, rigs: RigList) -> None:
        self._rigs = rigs
        self._observer.rigs.use(rigs)
        for partition in (*self._partitions.values(), *self._parked.values()):
            partition.use_rigs(rigs)

    def _take_scan(self, event: Scanned) -> None:
        partition = event.partition
        if partition.is_resting or partition.generation != event.generation:
            return  # asked for before it was taken away: its next pipeline asks again
        if event.scan is not None:
            partition.media_found(event.key, event.scan)
        else:
            partition.media_missed(event.key, event.detail, self._clock.now_ns(), is_final=event.is_final)

    def _pass_time(self, group: asyncio.TaskGroup) -> None:
        now_ns = self._clock.now_ns()
        for partition in self._partitions.values():
            if not partition.is_resting:
                partition.tick(now_ns)
                for wanted in partition.wanted(now_ns):
                    self._scanner.look(partition, wanted, group)
                if now_ns - partition.progress_ns >= _PROGRESS_NS:
                    partition.commit_progress(now_ns)
        self._observer.look(self._partitions.values(), now_ns)
        if (
            self._backfill is not None
            and self._is_assigned
            and self._backfill.is_done(self._partitions.values(), now_ns)
        ):
            self.stop()

    def _observe_ends(self, event: Ends) -> None:
        now_ns = self._clock.now_ns()
        for number, partition in self._partitions.items():
            frames, pads = (Topic.FRAMES, number), (Topic.PADS, number)
            if partition.is_resting or frames not in event.ends or pads not in event.ends:
                continue
            positions = None
            if frames in event.positions and pads in event.positions:
                positions = event.positions[frames], event.positions[pads]
            partition.observe_ends((event.ends[frames], event.ends[pads]), positions, event.asked_ns, now_ns)
        self._observer.ends(event.ends)

    def _assign(self, event: Assigned, group: asyncio.TaskGroup) -> None:
        self._observer.assigned()
        self._park(tuple(self._partitions))
        back: list[int] = []
        for number in event.partitions:
            parked = self._parked.get(number)
            if parked is not None and parked.come_back(event.generation):
                self._partitions[number] = self._parked.pop(number)
                back.append(number)
        self._release_parked()
        for number in event.partitions:
            if number not in self._partitions:
                partition = Partition(number, event.generation, self._processing, self._around)
                self._partitions[number] = partition
                self._runs[number] = group.create_task(
                    self._own(partition.writer, self._runs.get(number)), name=f"partition {number}"
                )
        self._is_assigned = True
        _log.info("assigned", partitions=list(event.partitions), came_back=back)

    async def _own(self, writer: Writer, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])  # its shard has to be closed first
        await writer.run()

    def _park(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            partition = self._partitions.pop(number, None)
            if partition is None:
                continue
            with self._announced("park", number):
                if partition.park():
                    self._parked[number] = partition
                else:
                    self._let_go_of(partition)

    def _release_parked(self) -> None:
        for partition in self._parked.values():
            self._let_go_of(partition)
        self._parked.clear()

    def _let_go_of(self, partition: Partition) -> None:
        partition.release()
        self._observer.revoked(partition.number)
        self._announcer.end(partition.number)

    def _begin(self, event: Opened) -> None:
        partition, state = self._assigned_to(event.writer), event.state
        if partition is None:
            return
        frames = reading_offset(state.frames_next, state.last_frame)
        pads = reading_offset(state.pads_next, state.last_pad)
        with self._announced("seek", partition.number):
            is_seeking = self._source.resume(partition.number, frames, pads, partition.generation)
        if is_seeking:
            partition.begin(event, self._clock.now_ns(), self._rigs)
            self._observer.began(partition.number)
            self._announcer.begin(partition.number)
            for topic, position in ((Topic.FRAMES, state.frames_position), (Topic.PADS, state.pads_position)):
                pair = topic, partition.number
                self._read_to[pair] = max(position, self._read_to.get(pair, 0))
            _log.info(
                "shard open",
                partition=partition.number,
                frames_next=state.frames_next,
                pads_next=state.pads_next,
                open_sessions=len(state.open),
            )

    def _committed(self, number: int, committed: Committed) -> None:
        self._observer.committed(number, committed)
        self._announcer.committed(number)

    def _return(self, writer: Writer) -> None:
        partition = self._assigned_to(writer)
        if partition is None or partition.at is None:
            return
        with self._announced("return", partition.number):
            is_back = self._source.resume(partition.number, *partition.at, partition.generation)
        if is_back:
            partition.resume(self._clock.now_ns())
            _log.info("came back", partition=partition.number, frames_next=partition.at[0], pads_next=partition.at[1])

    def _lose(self, writer: Writer) -> None:
        if (partition := self._assigned_to(writer)) is not None:
            partition.forget()
            self._source.pause(partition.number)
        elif (parked := self._parked.get(writer.number)) is not None and parked.writer is writer:
            self._let_go_of(self._parked.pop(writer.number))

    def _announced(self, operation: str, number: int) -> AbstractContextManager[None]:
        """Announce an operation of `points.GROUP_OPERATIONS`, as those of the shard are."""
        return files.announced(operation, self._settings.output_root / shard_folder(number))

    # ---- the end

    async def _tell_group(self, number: int) -> Answer:
        partition = self._partitions.get(number)
        if partition is None:
            return Answer.REFUSED  # taken away meanwhile
        positions = read_positions([partition])
        if not positions:  # nothing was read yet: the shard was lost while it was being opened
            positions = await self._source.positions([(topic, number) for topic in Topic])
        return await self._source.commit(positions) if positions else Answer.REFUSED

    async def _let_go(self) -> None:
        """Close all shards, then tell the group how far was read."""
        positions = read_positions(self._partitions.values())
        self._release_parked()
        for partition in self._partitions.values():
            partition.release()
        if self._runs:
            await asyncio.wait(self._runs.values())
        await self._announcer.finish()
        if positions:
            await in_time(self._source.commit(positions), "the group was not told how far was read")
        self._reject_log.flush()
        _log.info("stopped", partitions=len(self._partitions))
