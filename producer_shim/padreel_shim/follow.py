"""One session folder, published while a recorder writes it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from padreel_schemas.capture import RecordingError, video_path
from padreel_schemas.key import session_key
from padreel_schemas.recording import PublishedRecord
from padreel_schemas.v1.video_pb2 import SessionInfo, VideoStream
from padreel_shim.growing import GrowingVideo, can_grow
from padreel_shim.producer import PublishError, TopicKind
from padreel_shim.publish import DRAIN_SECONDS, SAVE_SECONDS, Acknowledged, Published, PublishOptions, publish_session
from padreel_shim.resume import begin, is_published, known
from padreel_shim.state import FileMark, FollowState, PublishState, StateFile, mark_files
from padreel_shim.tail import FolderTail, InlineFrames, ReferenceFrames
from padreel_shim.watch import Stillness, Surroundings, in_thread

_YIELD_EVERY = 64
_MOST_LEFT = 64  # frames


async def follow_session(folder: Path, around: Surroundings) -> Published | None:
    """Follow a folder, an absolute path, until its session is closed and published; None if it had been already.

    However it ends, the position saved is where the next call goes on. Raises PublishError, and RecordingError and
    StateError, after which the folder is not to be followed any more.
    """
    try:
        session_key(folder.name, "0")
    except ValueError as error:
        raise RecordingError(f"{folder}: {error}; rename the folder") from error
    with StateFile(around.state_dir, folder) as state_file:
        saved = await around.patiently(partial(known, state_file, around))
        if saved is not None and await around.patiently(partial(is_published, folder, saved)):
            return None
    if around.options.video == "inline" and not await _can_grow(folder, around):
        async with around.closed_at_once:
            return await _publish_closed(folder, around)
    with StateFile(around.state_dir, folder) as state_file:
        state = await around.patiently(partial(begin, folder, state_file, around))
        if state.finished:
            return None
        following = _Following(folder, state_file, state, around)
        try:
            return await following.run()
        finally:
            await in_thread(following.close)


async def _can_grow(folder: Path, around: Surroundings) -> bool:
    """Wait until it can be told whether the video can be read while it grows; False: it cannot, and is closed."""
    stillness = Stillness(folder, around)

    def look() -> bool | None:
        if can_grow(video_path(folder)):
            return True
        return False if stillness.is_closed(moved=False) else None

    while (found := await around.patiently(look)) is None:
        await around.sleep(around.options.poll_seconds)
    return found


async def _publish_closed(folder: Path, around: Surroundings) -> Published | None:
    """Publish a folder whose video could not be read before it was closed."""
    options = around.options
    publish = PublishOptions(
        speed=float("inf"),
        rig_id=options.rig_id,
        task=options.task,
        game_id=options.game_id,
        frames_topic=options.frames_topic,
        pads_topic=options.pads_topic,
        heartbeats=False,
    )
    done = await publish_session(folder, around.publisher, around.state_dir, publish)
    return None if done.finished_before else done


class _Following:
    """One pass over a folder that grows."""

    def __init__(self, folder: Path, state_file: StateFile, state: PublishState, around: Surroundings) -> None:
        assert state.follow is not None
        self._folder = folder
        self._state_file = state_file
        self._state = state
        self._begun = state.follow
        self._around = around
        self._key = session_key(state.session_name, state.run)
        self._next: dict[TopicKind, int] = {"frames": 0, "pads": 0}
        self._from: dict[TopicKind, int] = {"frames": state.follow.frames, "pads": state.follow.pads}
        self._acknowledged = {topic: Acknowledged(position) for topic, position in self._from.items()}
        self._saved_at = around.clock()
        self._sent = 0
        if around.options.video == "reference":
            self._tail = FolderTail(folder, ReferenceFrames(self._session()))
        else:
            stream = VideoStream.FromString(bytes.fromhex(state.follow.stream)) if state.follow.stream else None
            video = GrowingVideo(video_path(folder), poll_seconds=around.options.poll_seconds)
            self._tail = FolderTail(folder, InlineFrames(video, self._session(), stream))

    def _session(self) -> SessionInfo:
        state, uri = self._state, self._around.options.media_uri(self._folder)
        return SessionInfo(rig_id=state.rig_id, task=state.task, game_id=state.game_id, media_uri=uri)

    def close(self) -> None:
        """Let the video go. Blocking."""
        self._tail.close()

    async def run(self) -> Published:
        """Publish what comes until the session is closed; saves the position however it ends."""
        around = self._around
        files: tuple[FileMark, ...] = ()
        try:
            await self._until_closed()
            end_session = self._session() if around.options.video == "reference" else None
            records, warnings = await around.patiently(partial(self._tail.finish, end_session))
            found = await around.patiently(self._closed_files)
            await self._send(records)
            await around.publisher.drain()
            files = found
        except asyncio.CancelledError:
            with contextlib.suppress(PublishError, TimeoutError):
                await asyncio.wait_for(around.publisher.drain(), DRAIN_SECONDS)
            raise
        finally:
            self._remember()
            self._state = replace(self._state, files=files, finished=bool(files))
            self._state_file.save(self._state)
        return Published(
            key=self._key.decode("ascii"),
            frames=self._tail.rows,
            events=self._tail.events,
            records=self._sent,
            resumed_at=sum(self._from.values()),
            finished_before=False,
            warnings=tuple(warnings),
        )

    async def _until_closed(self) -> None:
        """Publish what is appended until nothing more is."""
        around = self._around
        stillness, is_closed = Stillness(self._folder, around), False
        while True:
            records = await around.patiently(self._tail.read)
            await self._send(records)
            is_closed = is_closed or await around.patiently(partial(stillness.is_closed, moved=bool(records)))
            # What is left is then taken at once, and must not be half a recording because its disk is slow.
            if is_closed and self._tail.frames.held <= _MOST_LEFT:
                return
            if not records:
                await self._save()
                await around.sleep(around.options.poll_seconds)

    def _closed_files(self) -> tuple[FileMark, ...]:
        """The marks of the closed files. Raises RecordingError where they are not what was read of them."""
        marks = mark_files(self._folder)
        by_name = {mark.name: mark for mark in marks}
        for read in (self._tail.sync.mark(), self._tail.actions.mark()):
            found = by_name[read.name]
            if (found.size, found.sha256) != (read.size, read.sha256):
                raise RecordingError(
                    f"{self._folder / read.name}: its {found.size} bytes are not the {read.size} that were read while "
                    "it grew; the session gets no END"
                )
        return marks

    async def _send(self, records: list[PublishedRecord]) -> None:
        for count, record in enumerate(records):
            index = self._next[record.topic]
            self._next[record.topic] += 1
            if index >= self._from[record.topic]:
                if index == 0:
                    # What the keyframes say of the stream has to be the same after a crash.
                    self._remember()
                    await in_thread(partial(self._state_file.save, self._state))
                acknowledged = _bind(self._acknowledged[record.topic], index)
                await self._around.publisher.send(record.topic, self._key, record.value, acknowledged)
                self._sent += 1
            if count % _YIELD_EVERY == 0:
                await self._around.sleep(0)  # a send that finds room never yields: acknowledgements need the loop
            await self._save()

    def _remember(self) -> None:
        """Bring the state up to what is acknowledged, once as much was read again as the state says."""
        sync, actions, stream = self._tail.sync.mark(), self._tail.actions.mark(), self._tail.frames.stream
        if sync.size < self._begun.sync.size or actions.size < self._begun.actions.size:
            return
        follow = FollowState(
            video=self._begun.video,
            sync=sync,
            actions=actions,
            first_ns=self._tail.first_ns,
            frames=self._acknowledged["frames"].position,
            pads=self._acknowledged["pads"].position,
            stream=stream.SerializeToString(deterministic=True).hex() if stream is not None else "",
        )
        self._state = replace(self._state, follow=follow)

    async def _save(self) -> None:
        now, before = self._around.clock(), self._state
        if now - self._saved_at < SAVE_SECONDS:
            return
        self._saved_at = now
        self._remember()
        if self._state != before:
            await in_thread(partial(self._state_file.save, self._state))


def _bind(acknowledged: Acknowledged, index: int) -> Callable[[], None]:
    return lambda: acknowledged.add(index)
