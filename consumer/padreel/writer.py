"""The task that holds one partition's shard: it opens it, and carries out what lies in the partition's outbox.

It calls the shard in a thread, one call at a time. Whatever goes wrong with the shard, the way back is the same: the
pipeline is forgotten, the shard is opened again, and reading begins again where its log says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, TypeVar

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from padreel.dataset.committed import Committed
from padreel.errors import DatasetError, DeadLetterError, FencedError, UndecodableError
from padreel.kafka.dead_letter import of_session
from padreel.kafka.events import Answer
from padreel.model import AppendUnit, DeadLetter, Effect, PartitionState, SessionRejection
from padreel.outbox import Letters, Outbox, Step

_TAIL_SECONDS = 10.0  # how often an idle owner looks whether somebody else has taken the shard
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 30.0

_log = structlog.get_logger("padreel.writer")
T = TypeVar("T")
Failure = Literal["storage", "dead letters", "fence"]


class Storage(Protocol):
    """What a writer needs of `padreel.dataset.shard.Shard`."""

    @property
    def state(self) -> PartitionState | None: ...
    def apply(self, effects: Sequence[Effect]) -> list[Committed]: ...
    def reject(self, detail: str) -> SessionRejection: ...
    def check_tail(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Opened:
    """The shard is open; reading may begin at `state`."""

    writer: Writer
    state: PartitionState
    is_new: bool  # the log had no state yet


@dataclass(frozen=True, slots=True)
class Lost:
    """What was read and is not committed has to be read again."""

    writer: Writer


@dataclass(frozen=True, slots=True)
class Returned:
    """The partition was parked and came back, and the shard is still ours: reading may go on."""

    writer: Writer


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a writer needs of the consumer that has it; partitions go by their numbers."""

    threads: Executor
    open_shard: Callable[[int], Storage]  # blocking
    restore: Callable[[int, PartitionState | None], Awaitable[PartitionState]]
    send_letters: Callable[[Sequence[DeadLetter]], Awaitable[None]]
    tell_group: Callable[[int], Awaitable[Answer]]
    post: Callable[[Opened | Lost | Returned], None]
    committed: Callable[[int, Committed], None]
    buried: Callable[[int, Sequence[DeadLetter]], None]
    timed: Callable[[int, float], None]  # seconds of a call that committed an episode
    muxed: Callable[[int, int], None]  # bytes of access units that were written
    failed: Callable[[int, Failure], None]
    now_ns: Callable[[], int]


class Writer:
    """Owns the shard of one partition from its opening until it is released."""

    def __init__(self, number: int, outbox: Outbox, around: Surroundings) -> None:
        self.number = number
        self.waiting = ""  # why it cannot go on right now, in words
        self.is_holding = False  # whether the shard is open, as far as is known
        self.next: tuple[int, int] | None = None  # where its log says to go on, (frames, pads)
        self._outbox = outbox
        self._around = around
        self._released = asyncio.Event()
        self._parked = self._returning = False
        self._failures = 0

    def release(self) -> None:
        """Let `run` end as soon as the call in hand is done; what is queued is dropped, to be read again."""
        self._outbox.drop()
        self._released.set()
        self._outbox.nudge()

    def park(self) -> None:
        """Begin nothing new: the group has taken the partition away, perhaps to give it back."""
        self._parked, self._returning = True, False

    def unpark(self) -> None:
        """Go on if the shard is still ours; `Returned` or `Lost` tells which."""
        self._returning = True
        self._outbox.nudge()

    async def run(self) -> None:
        """Open the shard and carry out what is asked, until released or until the group says that it is not ours.

        Raises DatasetError if the shard needs a person, and what else is no failed I/O.
        """
        while not self._released.is_set():
            try:
                if not await self._hold():
                    return
            except (OSError, DeadLetterError) as error:  # released while waiting
                _log.warning("given up while waiting", partition=self.number, error=str(error))

    async def _hold(self) -> bool:
        """One opening of the shard; False if the group has given the partition to another."""
        try:
            shard = await self._persist("open", partial(self._around.open_shard, self.number))
            try:
                found = shard.state
                state = await self._around.restore(self.number, found)
                self.is_holding, self.next = True, (state.frames_next, state.pads_next)
                if not self._released.is_set():
                    self._around.post(Opened(self, state, found is None))
                await self._carry_out_all(shard)
            finally:
                await self._close(shard)
        except FencedError as error:
            self._lose()
            self._around.failed(self.number, "fence")
            _log.warning("fenced", partition=self.number, detail=str(error))
            return await self._is_ours()
        except DatasetError as error:
            if type(error) is not DatasetError:
                raise
            self._lose()  # video that was being staged
            _log.warning("reading again", partition=self.number, detail=str(error))
        return True

    def _lose(self) -> None:
        self.is_holding = False
        self._outbox.drop()  # now: the next shard must not see what the old pipeline still asks for
        self._parked = self._returning = False
        self._around.post(Lost(self))

    async def _carry_out_all(self, shard: Storage) -> None:
        while not self._released.is_set():
            if self._returning:
                await self._persist("look at the log", shard.check_tail)
                self._parked = self._returning = False
                self._around.post(Returned(self))
            step = None if self._parked else self._outbox.take()
            if step is not None:
                await self._carry_out(shard, step)
            elif not await self._outbox.wait(_TAIL_SECONDS):
                await self._persist("look at the log", shard.check_tail)

    async def _carry_out(self, shard: Storage, step: Step) -> None:
        try:
            if isinstance(step, Letters):
                # Whoever took the shard may have erased the session that a letter is about.
                await self._persist("look at the log", shard.check_tail)
                await self._bury(step.letters)
            else:
                await self._apply(shard, step)
        finally:
            self._outbox.done()

    async def _bury(self, letters: Sequence[DeadLetter]) -> None:
        await self._patiently("dead letters", DeadLetterError, partial(self._around.send_letters, letters))
        self._failures = 0
        self._around.buried(self.number, letters)

    async def _apply(self, shard: Storage, effects: list[Effect]) -> None:
        started_ns = self._around.now_ns()
        given = [effects]

        def apply() -> list[Committed]:
            # A shard keeps what it was given; called again it goes on where it failed.
            return shard.apply(given.pop() if given else ())

        try:
            done = await self._persist("write", apply)
        except UndecodableError as error:
            rejection = shard.reject(str(error))
            await self._bury([of_session(self.number, rejection)])  # before the commit that releases its frames
            done = await self._persist("write", apply)
        if units := sum(len(effect.unit) for effect in effects if isinstance(effect, AppendUnit)):
            self._around.muxed(self.number, units)
        if done and (state := shard.state) is not None:
            self.next = state.frames_next, state.pads_next
        for committed in done:
            self._around.committed(self.number, committed)
            if committed.episode_index is not None:
                self._failures = 0
                self._around.timed(self.number, (self._around.now_ns() - started_ns) / 1e9)

    async def _close(self, shard: Storage) -> None:
        try:
            await self._in_thread(shard.close)
        except (OSError, DatasetError) as error:  # whoever opens it next sweeps what is left
            _log.warning("closing the shard failed", partition=self.number, error=str(error))

    async def _is_ours(self) -> bool:
        while not self._released.is_set():
            answer = await self._around.tell_group(self.number)
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
        return await self._patiently("storage", OSError, partial(self._in_thread, call), what)

    async def _patiently(
        self, kind: Failure, failure: type[Exception], call: Callable[[], Awaitable[T]], what: str = "write"
    ) -> T:
        """Call again and again while it fails in this way. Raises `failure` only when released."""

        def wait(state: RetryCallState) -> float:
            return min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0 ** min(self._failures, 10))

        def say(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            seconds = state.next_action.sleep if state.next_action else 0.0
            self._failures += 1
            self.waiting = f"{kind}: {what} failed: {error}"
            self._around.failed(self.number, kind)
            _log.warning(f"{kind} failed, waiting", partition=self.number, what=what, error=str(error), seconds=seconds)

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(failure),
            wait=wait,
            stop=lambda state: self._released.is_set(),
            sleep=self._sleep,
            before_sleep=say,
            reraise=True,
        )
        result: T = await retrying(call)
        self.waiting = ""
        return result

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not beyond the release."""
        try:
            async with asyncio.timeout(seconds):
                await self._released.wait()
        except TimeoutError:
            return
