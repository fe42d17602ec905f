"""Messages of simulated sessions, free to be spoilt, and what became of their pictures."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
from aiokafka import AIOKafkaProducer

from padreel_schemas.v1.gamepad_pb2 import GamepadState
from padreel_schemas.v1.video_pb2 import VideoFrame
from padreel_shim.scene import read_frame_number
from padreel_shim.synthetic import SyntheticRig
from tests.conftest import CHECKOUT, TopicNames
from tests.dataset_reading import ReadEpisode
from tests.e2e.processes import Rig
from tests.video_source import rgb

FPS, GOP = 30, 10
DEMO = CHECKOUT / "deploy" / "demo"

Sent = tuple[str, bytes | None, bytes]


@dataclass(frozen=True, slots=True)
class Streams:
    """A session's messages, in publishing order."""

    name: str
    rig: SyntheticRig
    frames: list[VideoFrame]
    pads: list[GamepadState]


def streams(name: str, seconds: int = 3) -> Streams:
    """A session of 160x120, GOPs of ten with two B-frames: in decode order frame 0, 3, 1, 2, 6, 4, 5, 9, 7, 8."""
    rig = SyntheticRig(name, seconds, 160, 120, gop=GOP, rig_id="rig-1", game_id="padreel-demo")
    records = list(rig.records())
    frames = [VideoFrame.FromString(one.value) for one in records if one.topic == "frames"]
    pads = [GamepadState.FromString(one.value) for one in records if one.topic == "pads"]
    return Streams(name, rig, frames, pads)


def messages(topics: TopicNames, made: Streams, *, until: int | None = None, since: int = 0) -> Iterator[Sent]:
    """The records of frames number `since`...`until` in decode order, and the pad meanwhile."""
    key = f"{made.name}@1".encode()
    begin_ns = made.rig.frame_ns(since) if since else 0
    end_ns = 2**63 if until is None else made.rig.frame_ns(until)
    for frame in made.frames[since:until]:
        yield topics.frames, key, frame.SerializeToString()
    for pad in made.pads:
        if begin_ns <= pad.monotonic_ns < end_ns:
            yield topics.pads, key, pad.SerializeToString()


def publish(broker: str, records: Iterable[Sent]) -> None:
    """Publish records in order; returns once all are stored."""

    async def run() -> None:
        async with AIOKafkaProducer(bootstrap_servers=broker, max_request_size=2**24, linger_ms=5) as producer:
            sent = [await producer.send(topic, value=value, key=key) for topic, key, value in records]
            await asyncio.gather(*sent)

    asyncio.run(run())


def demo_flags(rig: Rig, output: Path, group: str, *more: str) -> list[str]:
    """Flags of a consumer of these sessions."""
    return [
        *(*rig.flags, "--group-id", group, "--repo-id", f"test/{group}", "--task", "Run"),
        *("--dead-letters-topic", f"{rig.frames}.dead-letters"),
        *("--game-definition", str(DEMO / "game-definition.yaml")),
        *("--action-mapping", str(DEMO / "action-mapping.yaml")),
        *("--output-root", str(output), "--fps", str(FPS), "--size", "160x120", "--log-format", "json"),
        *more,
    ]


def numbers_shown(episode: ReadEpisode) -> list[int | None]:
    """The number drawn in the picture of each row."""
    with av.open(str(episode.video)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        shown = {
            round((frame.pts or 0) * stream.time_base * FPS): read_frame_number(rgb(frame))
            for frame in container.decode(stream)
        }
    first = round(episode.from_timestamp * FPS)
    return [shown[first + row] for row in range(len(episode))]
