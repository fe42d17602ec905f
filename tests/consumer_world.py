"""Consumers on a broker and an output root in memory, and sessions for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import padreel.intake
import padreel.outbox
import padreel.writer
from padreel.consumer import Clock, Consumer
from padreel.metrics import Metrics
from padreel.model import Topic
from padreel.options import load
from padreel.rig_file import load_rigs
from padreel.settings import ConsumerSettings
from padreel_schemas.v1 import gamepad_pb2, video_pb2
from tests.fakes import FakeBroker, FakeDisk, FakeSource

AVCC = b"\x01\x64\x00\x1f\xff\xe1\x00\x02\x67\x64\x01\x00\x02\x68\xee"
FRAME_NS = 33_333_333


def be_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the time, the ends and a failed disk often, and let units gather briefly: nothing here takes long."""
    monkeypatch.setattr(padreel.intake, "_TICK_SECONDS", 0.02)
    monkeypatch.setattr(padreel.intake, "_ENDS_SECONDS", 0.02)
    monkeypatch.setattr(padreel.writer, "_FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(padreel.outbox, "_GATHER_SECONDS", 0.01)


def settings(**given: object) -> ConsumerSettings:
    required = {
        "bootstrap_servers": "h:1",
        "game_definition": "g",
        "action_mapping": "m",
        "output_root": "o",
        "repo_id": "r",
        "task": "t",
        "fps": 30,
        "size": "640x480",
        "session_timeout_seconds": 600,
    }
    return load(ConsumerSettings, {**required, **given})


def unit(idr: bool, size: int = 20) -> bytes:
    return size.to_bytes(4, "big") + (b"\x65" if idr else b"\x41") + bytes(size - 1)


def record(
    broker: FakeBroker, partition: int, key: str, *, frames: int, end: bool = True, size: int = 20, rig: str = ""
) -> None:
    """A whole session on both topics, an IDR every five frames."""
    for n in range(frames):
        frame = video_pb2.VideoFrame(
            sequence=n, frame_index=n, monotonic_ns=1 + n * FRAME_NS, access_unit=unit(n % 5 == 0, size)
        )
        if n % 5 == 0:
            frame.keyframe = True
            frame.session.rig_id = rig
            frame.stream.CopyFrom(
                video_pb2.VideoStream(codec="h264", width=640, height=480, fps_num=30, fps_den=1, extradata=AVCC)
            )
        broker.produce((Topic.FRAMES, partition), key.encode(), frame.SerializeToString(), 1_000 + n)
    pad = gamepad_pb2.GamepadState(monotonic_ns=1, pressed_buttons=[0])
    broker.produce((Topic.PADS, partition), key.encode(), pad.SerializeToString(), 1_000)
    if end:
        end_session(broker, partition, key, frames=frames)


def end_session(broker: FakeBroker, partition: int, key: str, *, frames: int) -> None:
    """The ENDs of a session on both topics."""
    last = video_pb2.VideoFrame(kind=video_pb2.VideoFrame.END, frame_count=frames)
    broker.produce((Topic.FRAMES, partition), key.encode(), last.SerializeToString(), 2_000)
    over = gamepad_pb2.GamepadState(kind=gamepad_pb2.GamepadState.END)
    broker.produce((Topic.PADS, partition), key.encode(), over.SerializeToString(), 2_000)


class Stage:
    """A consumer with everything around it in memory."""

    def __init__(self, broker: FakeBroker, disk: FakeDisk, threads: ThreadPoolExecutor, **given: object) -> None:
        self.source = FakeSource(broker)
        self.metrics = Metrics()
        chosen = settings(**given)
        self.consumer = Consumer(
            chosen,
            chosen.rules(chosen.schema_of_root, "melee"),
            partitions=broker.partitions,
            source=self.source,
            open_shard=disk.open,
            send_letters=broker.send_letters,
            threads=threads,
            metrics=self.metrics,
            clock=Clock(time.monotonic_ns, lambda: 10.0),
            rigs=load_rigs(chosen.rigs),
        )

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, {"consumergroup": "padreel", **labels})


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(300):
        while not reached():  # noqa: ASYNC110 - what is waited for happens in threads too
            await asyncio.sleep(0.01)


def play(scene: Callable[[ThreadPoolExecutor], Coroutine[Any, Any, None]]) -> None:
    with ThreadPoolExecutor(4) as threads:
        asyncio.run(scene(threads))


def backfill(broker: FakeBroker, disk: FakeDisk, **given: object) -> Stage:
    """Consume until the end; the stage as it is then."""
    stages: list[Stage] = []

    async def scene(threads: ThreadPoolExecutor) -> None:
        stages.append(Stage(broker, disk, threads, until="end", **given))
        async with asyncio.timeout(300):
            await stages[0].consumer.run()

    play(scene)
    return stages[0]
