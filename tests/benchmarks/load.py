"""What rigs publish, made from a clip that is looped: 60 EVENTs a second, a HEARTBEAT each second, frames as captured.

Records are batched as the shim's producer batches a backlog. They go straight into batches, not through `send`, so that
making the load takes less of the machine than reading it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from padreel_schemas.v1.gamepad_pb2 import GamepadState
from padreel_schemas.v1.video_pb2 import SessionInfo, VideoFrame
from tests.benchmarks.capture import FPS, Clip

EVENTS_PER_SECOND = 60
FRAME_NS = 1_000_000_000 // FPS
EVENT_NS = 1_000_000_000 // EVENTS_PER_SECOND
START_NS = 5_000_000_000
_REORDER = 3  # frames by which the clips' decode order runs ahead of their display order
_SLICE_FRAMES = 3  # of a session, before the next one's turn
_BATCH_BYTES = {"frames": 2**18, "pads": 2**16}
_MAX_MESSAGE_BYTES = 2**24
_UNDER_WAY = 32  # batches

Kind = Literal["frames", "pads"]


@dataclass(frozen=True, slots=True)
class Topics:
    """Where a load goes: a broker and two topics with as many partitions."""

    broker: str
    name: str
    partitions: int

    @property
    def frames(self) -> str:
        return f"{self.name}.frames"

    @property
    def pads(self) -> str:
        return f"{self.name}.gamepad"

    async def create(self, **settings: str) -> None:
        client = AIOKafkaAdminClient(bootstrap_servers=self.broker)
        await client.start()
        try:
            configs = {"max.message.bytes": str(_MAX_MESSAGE_BYTES), **settings}
            topics = [
                NewTopic(name, num_partitions=self.partitions, replication_factor=1, topic_configs=configs)
                for name in (self.frames, self.pads)
            ]
            await client.create_topics(topics)
        finally:
            await client.close()

    async def delete(self) -> None:
        """Delete both topics: their data lie where the broker's do, which may be memory."""
        client = AIOKafkaAdminClient(bootstrap_servers=self.broker)
        await client.start()
        try:
            await client.delete_topics([self.frames, self.pads])
        finally:
            await client.close()


class Rig:
    """One session of a rig; its records, by number. Frame n in decode order is published n frames after the start."""

    def __init__(self, number: int, clip: Clip, partition: int, start_ns: int = START_NS) -> None:
        self.key = f"session-{number:04}@{number + 1:x}".encode()
        self.partition = partition
        self.start_ns = start_ns
        self._clip = clip
        self._phase = number
        self._session = SessionInfo(rig_id=f"rig-{number}", game_id="padreel-demo", heartbeats=True)

    def frame(self, n: int) -> bytes:
        """Frame number `n` in decode order."""
        units = self._clip.units
        unit = units[n % len(units)]
        index = n - n % len(units) + unit.index
        message = VideoFrame(
            sequence=n,
            frame_index=index,
            monotonic_ns=self.start_ns + index * FRAME_NS,
            pts=index,
            access_unit=unit.data,
            keyframe=unit.keyframe,
        )
        if unit.keyframe:
            message.stream.CopyFrom(self._clip.stream)
            message.session.CopyFrom(self._session)
        return message.SerializeToString()

    def end(self, frames: int) -> bytes:
        return VideoFrame(kind=VideoFrame.END, sequence=frames, frame_count=frames).SerializeToString()

    def event(self, n: int) -> bytes:
        """EVENT number `n`: a stick that turns, a button now and then."""
        angle = (n + self._phase) / 20
        return GamepadState(
            monotonic_ns=self.start_ns + n * EVENT_NS,
            axes=[math.sin(angle), math.cos(angle), 0.25, 0.0, 0.0, 0.0],
            pressed_buttons=[0, 9] if n % 90 < 20 else [],
            sequence=n,
        ).SerializeToString()

    def heartbeat(self, time_ns: int) -> bytes:
        return GamepadState(kind=GamepadState.HEARTBEAT, monotonic_ns=time_ns).SerializeToString()

    def pad_end(self, time_ns: int) -> bytes:
        return GamepadState(kind=GamepadState.END, monotonic_ns=time_ns).SerializeToString()


def backlog(rigs: Sequence[Rig], seconds: float, *, ends: bool = True) -> Iterator[tuple[Kind, Rig, bytes]]:
    """The records of sessions that were played side by side, a tenth of a second of each in turn."""
    frames = int(seconds * FPS)
    events_each = EVENTS_PER_SECOND // FPS
    for first in range(0, frames, _SLICE_FRAMES):
        until = min(first + _SLICE_FRAMES, frames)
        for rig in rigs:
            for n in range(first, until):
                yield "frames", rig, rig.frame(n)
            for n in range(first * events_each, until * events_each):
                yield "pads", rig, rig.event(n)
            if first // FPS != until // FPS:
                yield "pads", rig, rig.heartbeat(rig.start_ns + until * events_each * EVENT_NS - 1)
    for rig in rigs if ends else ():
        yield "frames", rig, rig.end(frames)
        yield "pads", rig, rig.pad_end(rig.start_ns + frames * FRAME_NS)


class Loader:
    """Two producers, as a shim has them: pads are compressed, frames are not."""

    def __init__(self, topics: Topics, producers: dict[Kind, AIOKafkaProducer]) -> None:
        self._names: dict[Kind, str] = {"frames": topics.frames, "pads": topics.pads}
        self._producers = producers
        self._batches: dict[tuple[Kind, int], Any] = {}
        self._sent: set[asyncio.Future[Any]] = set()
        self.records = 0
        self.bytes = 0

    async def add(self, kind: Kind, rig: Rig, value: bytes) -> None:
        """Put a record into the batch of its partition; a full one is sent."""
        place = kind, rig.partition
        batch = self._batches.get(place) or self._begin(place)
        if batch.append(key=rig.key, value=value, timestamp=None) is None:
            await self._send(place)
            if self._begin(place).append(key=rig.key, value=value, timestamp=None) is None:
                raise ValueError(f"a record of {len(value)} bytes does not fit into a batch")
        self.records += 1
        self.bytes += len(value)

    def _begin(self, place: tuple[Kind, int]) -> Any:
        batch = self._batches[place] = self._producers[place[0]].create_batch()
        return batch

    async def _send(self, place: tuple[Kind, int]) -> None:
        kind, partition = place
        batch = self._batches.pop(place)
        future = await self._producers[kind].send_batch(batch, self._names[kind], partition=partition)
        self._sent.add(future)
        if len(self._sent) >= _UNDER_WAY:
            done, self._sent = await asyncio.wait(self._sent, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()

    async def flush(self, *, wait: bool = True) -> None:
        """Send what is not full; with `wait` until the broker has it all."""
        for place in list(self._batches):
            await self._send(place)
        if wait:
            for result in await asyncio.gather(*self._sent):
                assert result is not None
            self._sent.clear()


@asynccontextmanager
async def loader(topics: Topics) -> AsyncIterator[Loader]:
    """A loader for the length of an `async with` block."""
    producers: dict[Kind, AIOKafkaProducer] = {}
    try:
        for kind in ("frames", "pads"):
            producers[kind] = AIOKafkaProducer(
                bootstrap_servers=topics.broker,
                compression_type="lz4" if kind == "pads" else None,
                max_batch_size=_BATCH_BYTES[kind],
                max_request_size=_MAX_MESSAGE_BYTES,
                linger_ms=0,
            )
            await producers[kind].start()
        yield Loader(topics, producers)
    finally:
        for producer in producers.values():
            await producer.stop()


def publish_backlog(topics: Topics, rigs: Sequence[Rig], seconds: float, *, ends: bool = True) -> tuple[int, int]:
    """Create the topics and fill them; how many records and bytes of values lie there then."""

    async def publish() -> tuple[int, int]:
        await topics.create()
        async with loader(topics) as load:
            for kind, rig, value in backlog(rigs, seconds, ends=ends):
                await load.add(kind, rig, value)
            await load.flush()
            return load.records, load.bytes

    return asyncio.run(publish())


async def play_live(
    topics: Topics,
    rigs: Sequence[Rig],
    seconds: float,
    *,
    ended: Callable[[Rig, int], None] = lambda rig, ns: None,
    between_ends: float = 0.0,
) -> float:
    """Publish in real time, frame by frame; by how many seconds it fell behind at most.

    Rigs' clocks are this machine's: the latest frame that is out was captured when it is published, and so were EVENTs.
    """
    async with loader(topics) as load:
        begin_ns = time.monotonic_ns()
        for rig in rigs:
            rig.start_ns = begin_ns - _REORDER * FRAME_NS
        behind_ns = events = 0
        frames = int(seconds * FPS)
        for n in range(frames):
            late_ns = time.monotonic_ns() - begin_ns - n * FRAME_NS
            behind_ns = max(behind_ns, late_ns)
            if late_ns < 0:
                await asyncio.sleep(-late_ns / 1e9)
            events_due = 2 * (n + _REORDER) + 1
            for rig in rigs:
                await load.add("frames", rig, rig.frame(n))
                for number in range(events, events_due):
                    await load.add("pads", rig, rig.event(number))
                if n % FPS == 0:
                    await load.add("pads", rig, rig.heartbeat(rig.start_ns + (events_due - 1) * EVENT_NS))
            events = events_due
            await load.flush(wait=False)
        for rig in rigs:
            await load.add("pads", rig, rig.pad_end(rig.start_ns + events * EVENT_NS))
            await load.add("frames", rig, rig.end(frames))
            await load.flush()
            ended(rig, time.monotonic_ns())
            await asyncio.sleep(between_ends)
    return behind_ns / 1e9
