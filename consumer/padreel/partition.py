"""One partition pair: its pipeline, and the effects on their way to its shard.

The pipeline task alone calls `begin`, `read`, `tick` and what else touches the pipeline; `run` opens the shard and
carries out effects in a thread, one call at a time. Whatever goes wrong with the shard, the way back is the same:
forget the pipeline, open the shard again, read again from where its log says.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from padreel.core.decode import Decoder, DecodeRules
from padreel.core.pipeline import Limits, Pipeline
from padreel.core.rules import Rules
from padreel.dataset.shard import Committed
from padreel.errors import DatasetError, FencedError
from padreel.kafka.continuity import Continuity, last_record
from padreel.kafka.events import Answer, Batch
from padreel.model import (
    AppendUnit,
    Commit,
    Effect,
    PartitionState,
    Rejected,
    Topic,
)

_UNITS_PER_CALL = 1_000  # a stop waits for one call to the shard
_TAIL_SECONDS = 10.0  # how often an idle owner looks whether somebody else has taken the shard
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 30.0

_log = structlog.get_logger("padreel.partition")
T = TypeVar("T")


class Storage(Protocol):
    """What a partition needs of `padreel.dataset.shard.Shard`."""

    @property
    def state(self) -> PartitionState | None: ...
    def apply(self, effects: Sequence[Effect]) -> list[Committed]: ...
    def check_tail(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Opened:
    """The shard is open; reading may begin at `state`."""

    partition: Partition
    state: PartitionState
    is_new: bool  # the log had no state yet


@dataclass(frozen=True, slots=True)
class Lost:
    """What was read and is not committed has to be read again."""

    partition: Partition


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a partition needs of the consumer that has it."""

    rules: Rules
    limits: Limits
    decode_rules: DecodeRules
    threads: Executor
    open_shard: Callable[[int], Storage]  # blocking
    restore: Callable[[int, PartitionState | None], Awaitable[PartitionState]]
    tell_group: Callable[[Partition], Awaitable[Answer]]
    post: Callable[[Opened | Lost], None]
    committed: Callable[[Partition, Committed], None]
    accounted: Callable[[Partition, Commit], None]
    timed: Callable[[Partition, float], None]  # seconds of a call that committed an episode
    failed: Callable[[Partition, str], None]  # "storage" or "fence"
    topic_names: Mapping[Topic, str]
    now_ns: Callable[[], int]


class Partition:
    """One partition pair of the two topics, as this consumer was assigned it."""

    def __init__(self, number: int, generation: int, around: Surroundings) -> None:
        self.number = number
        self.generation = generation
        self.pipeline: Pipeline | None = None
        self.resumed_ns = 0
        self.waiting = ""  # why the partition cannot go on right now, in words
        self.progress_ns = 0  # when the last progress commit was made
        self.at: tuple[int, int] | None = None  # read positions (frames, pads), kept when the pipeline is forgotten
        self.seen_ms: dict[Topic, int] = {}  # timestamp of the last record read
        self._around = around
        self._decoder = Decoder(around.decode_rules)
        self._continuity: dict[Topic, Continuity] = {}
        self._effects: deque[Effect] = deque()
        self._wake = asyncio.Event()
        self._released = asyncio.Event()
        self._takes_effects = False
        self._in_hand = 0
        self._failures = 0
        self.queued_bytes = 0

    # ---- the pipeline task's side

    def begin(self, opened: Opened, now_ns: int) -> None:
        """Start a pipeline at the state that the shard was opened with."""
        state = opened.state
        self._decoder = Decoder(self._around.decode_rules)
        for key, session in state.open.items():
            if session.stream is not None:
                self._decoder.remember(key, session.stream)
        self.pipeline = Pipeline(self._around.rules, self._around.limits, state, now_ns)
        self.at = (state.frames_next, state.pads_next)
        self._continuity = {
            topic: Continuity(self._around.topic_names[topic], self.number, start, last)
            for topic, start, last in (
                (Topic.FRAMES, state.frames_next, state.last_frame),
                (Topic.PADS, state.pads_next, state.last_pad),
            )
        }
        self.resumed_ns = self.progress_ns = now_ns
        self._takes_effects = True
        if opened.is_new:
            # So that a restart begins where this start did, whatever --start says by then.
            self._push([Commit(state=state, accounted={})])

    def forget(self) -> None:
        """Drop the pipeline and what it asked for."""
        self.pipeline = None
        self._drop_effects()

    def read(self, batch: Batch, now_ns: int) -> list[Rejected]:
        """Decode a batch and hand it to the pipeline; what was rejected.

        Raises BrokerError if the topic is not the one that the log was written from.
        """
        pipeline = self._running
        records = self._continuity[batch.topic].check(batch.records)
        if not records:
            return []
        last = records[-1]
        position, remembered = last.offset + 1, last_record(last)
        self.seen_ms[batch.topic] = last.timestamp
        if batch.topic is Topic.FRAMES:
            frames = self._decoder.frames(records)
            pipeline.read_frames(frames, position, now_ns, remembered)
            rejected = [item for item in frames if isinstance(item, Rejected)]
        else:
            pads = self._decoder.pads(records)
            pipeline.read_pads(pads, position, now_ns, remembered)
            rejected = [item for item in pads if isinstance(item, Rejected)]
        self._collect()
        return rejected

    def observe_ends(
        self, ends: tuple[int, int], positions: tuple[int, int] | None, asked_ns: int, now_ns: int
    ) -> None:
        """Take the end offsets of (frames, pads).

        `positions` are the source's: beyond the pipeline's where the topic holds control records, which are never
        delivered.
        """
        pipeline = self._running
        if positions is not None and asked_ns >= self.resumed_ns:
            if positions[0] > pipeline.at.frames:
                pipeline.read_frames((), positions[0], now_ns)
            if positions[1] > pipeline.at.pads:
                pipeline.read_pads((), positions[1], now_ns)
        pipeline.observe_ends(ends[0], ends[1], asked_ns)
        self._collect()

    def tick(self, now_ns: int) -> None:
        """Let silence and deadlines take effect."""
        self._running.tick(now_ns)
        self._collect()

    def commit_progress(self, now_ns: int) -> None:
        """Commit offsets alone, if they moved."""
        self.progress_ns = now_ns
        if (commit := self._running.progress()) is not None:
            self._push([commit])

    def allowed(self) -> tuple[bool, bool]:
        """Whether frames, and whether pads, may be read."""
        if self.pipeline is None:
            return False, False
        frames, pads = self.pipeline.allowed()
        return frames and self.queued_bytes < self._around.limits.pad_bytes, pads

    @property
    def is_idle(self) -> bool:
        """Whether everything that was asked for is carried out."""
        return not self._effects and not self._in_hand

    @property
    def _running(self) -> Pipeline:
        assert self.pipeline is not None, "not begun"
        return self.pipeline

    def _collect(self) -> None:
        self.at = (self._running.at.frames, self._running.at.pads)
        self._push(self._running.effects())

    def _drop_effects(self) -> None:
        self._takes_effects = False
        self._effects.clear()
        self.queued_bytes = 0

    def _push(self, effects: Iterable[Effect]) -> None:
        if not self._takes_effects:
            return
        for effect in effects:
            self._effects.append(effect)
            self.queued_bytes += _size(effect)
        if self._effects:
            self._wake.set()

    # ---- the shard's side

    def release(self) -> None:
        """Let `run` end as soon as the call in hand is done; what is queued is dropped, to be read again."""
        self.forget()
        self._released.set()
        self._wake.set()

    async def run(self) -> None:
        """Open the shard and carry out effects, until released or until the group says that it is not ours.

        Raises DatasetError if the shard needs a person, and what else is no failed I/O.
        """
        while not self._released.is_set():
            try:
                if not await self._hold():
                    return
            except OSError as error:  # released while waiting for the storage
                _log.warning("given up while waiting for the storage", partition=self.number, error=str(error))

    async def _hold(self) -> bool:
        """One opening of the shard; False if the group has given the partition to another."""
        try:
            shard = await self._persist("open", partial(self._around.open_shard, self.number))
            try:
                found = shard.state
                state = await self._around.restore(self.number, found)
                if not self._released.is_set():
                    self._around.post(Opened(self, state, found is None))
                await self._apply_all(shard)
            finally:
                await self._close(shard)
        except FencedError as error:
            self._lose()
            self._around.failed(self, "fence")
            _log.warning("fenced", partition=self.number, detail=str(error))
            return await self._is_ours()
        except DatasetError as error:
            if type(error) is not DatasetError:
                raise
            self._lose()  # video that was being staged
            _log.warning("reading again", partition=self.number, detail=str(error))
        return True

    def _lose(self) -> None:
        self._drop_effects()  # now: the next shard must not see what the old pipeline still asks for
        self._around.post(Lost(self))

    async def _apply_all(self, shard: Storage) -> None:
        while not self._released.is_set():
            effects = self._take()
            if not effects:
                self._wake.clear()
                try:
                    await asyncio.wait_for(self._wake.wait(), _TAIL_SECONDS)
                except TimeoutError:
                    await self._in_thread(shard.check_tail)
                continue
            started_ns = self._around.now_ns()
            given = [effects]

            def apply(given: list[list[Effect]] = given) -> list[Committed]:
                # A shard keeps what it was given; called again it goes on where it failed.
                return shard.apply(given.pop() if given else ())

            done = await self._persist("write", apply)
            self._in_hand = 0
            if isinstance(effects[-1], Commit):
                self._around.accounted(self, effects[-1])
            for committed in done:
                self._around.committed(self, committed)
                if committed.episode_index is not None:
                    self._failures = 0
                    self._around.timed(self, (self._around.now_ns() - started_ns) / 1e9)

    def _take(self) -> list[Effect]:
        """The next effects, up to the first commit."""
        taken: list[Effect] = []
        while self._effects and len(taken) < _UNITS_PER_CALL:
            effect = self._effects.popleft()
            self.queued_bytes -= _size(effect)
            taken.append(effect)
            if isinstance(effect, Commit):
                break
        self._in_hand = len(taken)
        return taken

    async def _close(self, shard: Storage) -> None:
        self._in_hand = 0
        try:
            await self._in_thread(shard.close)
        except (OSError, DatasetError) as error:  # whoever opens it next sweeps what is left
            _log.warning("closing the shard failed", partition=self.number, error=str(error))

    async def _is_ours(self) -> bool:
        while not self._released.is_set():
            answer = await self._around.tell_group(self)
            if answer is not Answer.UNKNOWN:
                if answer is Answer.REFUSED:
                    _log.warning("let go: the group has given it to another", partition=self.number)
                return answer is Answer.ACCEPTED
            await self._sleep(_FIRST_WAIT_SECONDS)
        return True

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._around.threads, call)

    async def _persist(self, what: str, call: Callable[[], T]) -> T:
        """Call in a thread, again and again while the storage fails. Raises OSError only when released."""

        def wait(state: RetryCallState) -> float:
            return min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0 ** min(self._failures, 10))

        def say(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            seconds = state.next_action.sleep if state.next_action else 0.0
            self._failures += 1
            self.waiting = f"{what} failed: {error}"
            self._around.failed(self, "storage")
            _log.warning("storage failed, waiting", partition=self.number, what=what, error=str(error), seconds=seconds)

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(OSError),
            wait=wait,
            stop=lambda state: self._released.is_set(),
            sleep=self._sleep,
            before_sleep=say,
            reraise=True,
        )
        result: T = await retrying(self._in_thread, call)
        self.waiting = ""
        return result

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not beyond the release."""
        try:
            await asyncio.wait_for(self._released.wait(), seconds)
        except TimeoutError:
            return


def _size(effect: Effect) -> int:
    if isinstance(effect, AppendUnit):
        return len(effect.unit)
    if isinstance(effect, Commit) and effect.episode is not None:
        return sum(map(len, effect.episode.events)) + 24 * len(effect.episode.time_ns)
    return 0
