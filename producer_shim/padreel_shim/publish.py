"""Session folders to the broker, at the rig's pace or as fast as it goes, each record once over restarts."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from padreel_schemas.key import session_key
from padreel_schemas.recording import Recording, RecordingError
from padreel_shim.producer import FRAMES_TOPIC, PADS_TOPIC, Publisher, PublishError
from padreel_shim.state import PublishState, StateError, StateFile, changed_files, mark_files, new_run

SAVE_SECONDS = 0.5
DRAIN_SECONDS = 10.0
_YIELD_EVERY = 64
# What decides where the records are and what is in them, as the options are called.
_PLACE = {"cluster_id": "the broker's cluster id", "frames_topic": "--frames-topic", "pads_topic": "--pads-topic"}
_BYTES = {"rig_id": "--rig-id", "task": "--task", "game_id": "--game-id", "heartbeats": "whether there are heartbeats"}


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """How to publish. `speed` is a factor of real time; infinity does not pace at all."""

    speed: float = 1.0
    rig_id: str = ""
    task: str = ""
    game_id: str = ""
    frames_topic: str = FRAMES_TOPIC
    pads_topic: str = PADS_TOPIC
    again: bool = False
    heartbeats: bool = True


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a session folder: `records` were sent now, none where it had been finished before."""

    key: str
    frames: int
    events: int
    records: int
    resumed_at: int
    finished_before: bool
    warnings: tuple[str, ...]


class Acknowledged:
    """The position below which every record is acknowledged; acknowledgements may come in any order."""

    def __init__(self, position: int) -> None:
        self.position = position
        self._ahead: set[int] = set()

    def add(self, index: int) -> None:
        self._ahead.add(index)
        while self.position in self._ahead:
            self._ahead.remove(self.position)
            self.position += 1


async def publish_session(
    folder: Path,
    publisher: Publisher,
    state_dir: Path,
    options: PublishOptions,
    *,
    on_frames: Callable[[int, int], None] = lambda published, total: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> Published:
    """Publish what is left of a session; `on_frames(published, total)` is called as frames go out.

    When cancelled it waits for what is under way, saves its position and lets the cancellation go on. Raises
    RecordingError, StateError and PublishError; the position saved then is where the next call goes on.
    """
    recording = Recording(folder)
    with StateFile(state_dir, folder) as state_file:
        state = await asyncio.to_thread(_begin, recording, state_file, options, publisher.cluster_id)
        key = session_key(state.session_name, state.run)
        begun_at = state.position
        if not state.finished:
            playing = _Playing(recording, state_file, state, publisher, options.speed, on_frames, clock, sleep)
            state = await playing.play(key)
            sent, finished_before = state.position - begun_at, False
        else:
            sent, finished_before = 0, True
        return Published(
            key=key.decode("ascii"),
            frames=recording.frame_count,
            events=recording.event_count,
            records=sent,
            resumed_at=begun_at,
            finished_before=finished_before,
            warnings=tuple(recording.warnings),
        )


def _begin(recording: Recording, state_file: StateFile, options: PublishOptions, cluster_id: str) -> PublishState:
    """Check the folder and return the state to go on from, saved. Reads whole files: not for the event loop."""
    try:
        session_key(recording.name, "0")
    except ValueError as error:
        raise RecordingError(f"{recording.path}: {error}; rename the folder") from error
    recording.check()
    saved = state_file.load()
    try:
        files = mark_files(recording.path, saved.files if saved else ())
    except OSError as error:
        raise RecordingError(f"{error.filename}: cannot be read: {error.strerror}") from error
    fresh = PublishState(
        folder=str(state_file.folder),
        run=new_run(),
        files=files,
        rig_id=options.rig_id,
        task=options.task,
        game_id=options.game_id,
        cluster_id=cluster_id,
        frames_topic=options.frames_topic,
        pads_topic=options.pads_topic,
        heartbeats=options.heartbeats,
    )
    if saved is not None and saved.follow is not None and not saved.finished and not options.again:
        raise StateError(
            f"{recording.path}: `padreel-shim follow` has published a part of it as {saved.session_name}@{saved.run}; "
            "let that go on, or use --again to publish it from the start under a new run"
        )
    difference = _difference(saved, fresh) if saved else None
    if saved is None or (options.again and (saved.finished or difference)):
        # Saved before the first record is sent: after a crash nothing in the topics has a run nobody remembers.
        state_file.save(fresh)
        return fresh
    if difference:
        raise StateError(
            f"{recording.path}: {difference} since it was published as {saved.session_name}@{saved.run}; "
            "restore that, or use --again to publish it from the start under a new run"
        )
    return saved


def _difference(saved: PublishState, fresh: PublishState) -> str | None:
    """Say in what `fresh` would not give the records that `saved` counts."""
    if changed := changed_files(saved.files, fresh.files):
        return f"{', '.join(changed)} changed"
    for name, words in (_PLACE if saved.finished else _PLACE | _BYTES).items():
        before, now = getattr(saved, name), getattr(fresh, name)
        if before != now:
            return f"{words} changed from {before!r} to {now!r}"
    return None


class _Playing:
    """One pass over a recording's records from a position on."""

    def __init__(
        self,
        recording: Recording,
        state_file: StateFile,
        state: PublishState,
        publisher: Publisher,
        speed: float,
        on_frames: Callable[[int, int], None],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self._recording = recording
        self._state_file = state_file
        self._state = state
        self._publisher = publisher
        self._speed = speed
        self._on_frames = on_frames
        self._clock = clock
        self._sleep = sleep
        self._acknowledged = Acknowledged(state.position)
        self._saved_at = clock()

    async def play(self, key: bytes) -> PublishState:
        """Publish to the end and return the finished state; saves the position however it ends."""
        finished = False
        try:
            await self._send_all(key)
            await self._publisher.drain()
            finished = True
        except asyncio.CancelledError:
            with contextlib.suppress(PublishError, TimeoutError):
                await asyncio.wait_for(self._publisher.drain(), DRAIN_SECONDS)
            raise
        finally:
            self._state = replace(self._state, position=self._acknowledged.position, finished=finished)
            self._state_file.save(self._state)
        return self._state

    async def _send_all(self, key: bytes) -> None:
        first = self._state.position
        records = self._recording.records(
            rig_id=self._state.rig_id,
            task=self._state.task,
            game_id=self._state.game_id,
            heartbeats=self._state.heartbeats,
        )
        begun = self._clock()
        first_ns: int | None = None
        frames, total = 0, self._recording.frame_count
        for index, record in enumerate(records):
            if record.topic == "frames":
                frames += 1
            if index < first:
                continue
            if first_ns is None:
                first_ns = record.time_ns
            if math.isfinite(self._speed):
                await self._until(begun + (record.time_ns - first_ns) / 1e9 / self._speed)
            acknowledge = _bind(self._acknowledged, index)
            await self._publisher.send(record.topic, key, record.value, acknowledge)
            if index % _YIELD_EVERY == 0:
                await self._sleep(0)  # a send that finds room never yields: acknowledgements need the loop
            if self._clock() - self._saved_at >= SAVE_SECONDS:
                await self._save()
            self._on_frames(min(frames, total), total)

    async def _until(self, due: float) -> None:
        while (left := due - self._clock()) > 0:
            await self._sleep(min(left, SAVE_SECONDS))
            if self._clock() - self._saved_at >= SAVE_SECONDS:
                await self._save()

    async def _save(self) -> None:
        self._saved_at = self._clock()
        if self._acknowledged.position != self._state.position:
            self._state = replace(self._state, position=self._acknowledged.position)
            await asyncio.to_thread(self._state_file.save, self._state)


def _bind(acknowledged: Acknowledged, index: int) -> Callable[[], None]:
    return lambda: acknowledged.add(index)
