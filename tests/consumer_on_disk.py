"""Consumers that read a broker in memory and write real shards, of real video, below a folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

from padreel.consumer import Clock, Consumer
from padreel.dataset.layout import shard_folder
from padreel.dataset.media import MediaFiles
from padreel.dataset.shard import Shard
from padreel.dataset.spec import gate_from
from padreel.metrics import Metrics
from padreel.model import Topic
from padreel_schemas.v1 import gamepad_pb2, video_pb2
from tests.consumer_world import FRAME_NS, settings
from tests.fakes import FakeBroker, FakeSource
from tests.shard_world import open_shard
from tests.video_source import Source, stream_block
from tests.video_world import DATASET


class Member:
    """A consumer of the group. Its clock is the machine's unless another is given."""

    def __init__(
        self,
        broker: FakeBroker,
        root: Path,
        threads: Executor,
        *,
        name: str = "writer",
        source: FakeSource | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
        media: MediaFiles | None = None,
        codec: str = "h264",
        **given: object,
    ) -> None:
        self.source = source or FakeSource(broker)
        self.metrics = Metrics()
        chosen = settings(fps=30, size="96x64", codec=codec, **given)

        def open_one(partition: int) -> Shard:
            path = root / shard_folder(partition)
            return open_shard(
                path,
                dataset=replace(DATASET, schema=chosen.schema_of_root, gate=gate_from(chosen)),
                writer=name,
                partition=partition,
                partitions=broker.partitions,
                group="padreel",
                media=media,
            )

        self.consumer = Consumer(
            chosen,
            chosen.rules(chosen.schema_of_root, "melee"),
            partitions=broker.partitions,
            source=self.source,
            open_shard=open_one,
            send_letters=broker.send_letters,
            threads=threads,
            metrics=self.metrics,
            clock=Clock(now_ns, lambda: 10.0),
            media=media,
        )

    def value(self, name: str, partition: int = 0, **labels: str) -> float:
        """A metric of a partition, 0 where there is none yet."""
        labels = {"consumergroup": "padreel", "partition": str(partition), **labels}
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def episodes(self, partition: int = 0) -> int:
        return int(self.value("padreel_episodes_total", partition, reason="end"))


def record_rows(broker: FakeBroker, partition: int, key: str, source: Source, media_uri: str) -> None:
    """The same session by reference."""
    send, name = broker.produce, key.encode()
    event = gamepad_pb2.GamepadState(monotonic_ns=1, axes=[0.5], pressed_buttons=[0])
    send((Topic.PADS, partition), name, event.SerializeToString(), 1_000)
    for n in range(len(source.units)):
        frame = video_pb2.VideoFrame(sequence=n, frame_index=n, monotonic_ns=1 + n * FRAME_NS)
        frame.session.media_uri = media_uri
        send((Topic.FRAMES, partition), name, frame.SerializeToString(), 1_000 + n)
    end = video_pb2.VideoFrame(kind=video_pb2.VideoFrame.END, frame_count=len(source.units))
    send((Topic.FRAMES, partition), name, end.SerializeToString(), 2_000)
    over = gamepad_pb2.GamepadState(kind=gamepad_pb2.GamepadState.END)
    send((Topic.PADS, partition), name, over.SerializeToString(), 2_000)


def record_video(broker: FakeBroker, partition: int, key: str, source: Source) -> None:
    """A whole session on both topics: one EVENT, and the frames of `source`."""
    send = broker.produce
    event = gamepad_pb2.GamepadState(monotonic_ns=1, axes=[0.5], pressed_buttons=[0])
    send((Topic.PADS, partition), key.encode(), event.SerializeToString(), 1_000)
    for n, unit in enumerate(source.units):
        frame = video_pb2.VideoFrame(
            sequence=n,
            frame_index=unit.index,
            monotonic_ns=1 + unit.index * FRAME_NS,
            access_unit=unit.data,
            keyframe=unit.idr or n == 0,
        )
        if frame.keyframe:
            frame.stream.CopyFrom(stream_block(source))
        send((Topic.FRAMES, partition), key.encode(), frame.SerializeToString(), 1_000 + n)
    end = video_pb2.VideoFrame(kind=video_pb2.VideoFrame.END, frame_count=len(source.units))
    send((Topic.FRAMES, partition), key.encode(), end.SerializeToString(), 2_000)
    over = gamepad_pb2.GamepadState(kind=gamepad_pb2.GamepadState.END)
    send((Topic.PADS, partition), key.encode(), over.SerializeToString(), 2_000)
