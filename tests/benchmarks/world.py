"""What the rows share: one broker, a folder for all they write, loads, and runs of the consumer on them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from deploy.local.broker import Broker
from tests.benchmarks import measure
from tests.benchmarks.capture import FPS, Clip, clip
from tests.benchmarks.load import Rig, Topics, publish_backlog
from tests.benchmarks.measure import CHECKOUT

DEMO = CHECKOUT / "deploy" / "demo"


@dataclass(frozen=True, slots=True)
class Load:
    """Sessions that lie in Kafka, and what is there in all."""

    topics: Topics
    clip: Clip
    rigs: int
    seconds: float
    records: int
    bytes: int

    @property
    def frames(self) -> int:
        return self.rigs * int(self.seconds * FPS)


@dataclass(frozen=True, slots=True)
class Drained:
    """What a run took from the first record that came to the last commit (or write), and the process's notes."""

    seconds: float
    cpu_seconds: float
    notes: dict[str, Any]


class World:
    """The surroundings of the rows; made by `open_world`. `short`: smaller loads and fewer repetitions."""

    def __init__(self, folder: Path, *, short: bool) -> None:
        self.folder = folder
        self.short = short
        self._broker: Broker | None = None

    @cached_property
    def clip(self) -> Clip:
        """The capture: 720p30 with B-frames, 120 s."""
        return clip()

    @property
    def broker(self) -> str:
        """Bootstrap servers of the broker, which is started once it is needed."""
        if self._broker is None:
            self._broker = Broker(self.folder / "kafka", heap="1g")
            self._broker.start()
        return self._broker.bootstrap_servers

    def close(self) -> None:
        if self._broker is not None:
            self._broker.stop()

    def topics(self, partitions: int) -> Topics:
        return Topics(self.broker, f"bench-{uuid4().hex[:8]}", partitions)

    @contextmanager
    def load(
        self, rigs: int, seconds: float, *, partitions: int = 1, of: Clip | None = None, ends: bool = True
    ) -> Iterator[Load]:
        """Sessions side by side in Kafka, rig by rig in another partition, for the length of a `with` block."""
        clip = of or self.clip
        topics = self.topics(partitions)
        made = [Rig(number, clip, number % partitions) for number in range(rigs)]
        records, size = publish_backlog(topics, made, seconds, ends=ends)
        try:
            yield Load(topics, clip, rigs, seconds, records, size)
        finally:
            asyncio.run(topics.delete())

    def output(self) -> Path:
        return self.folder / f"out-{uuid4().hex[:8]}"

    def flags(self, topics: Topics, clip: Clip, output: Path, *more: str) -> list[str]:
        """Of a consumer of these topics, with the demo's game."""
        return [
            *("--bootstrap-servers", topics.broker, "--frames-topic", topics.frames, "--pads-topic", topics.pads),
            *("--group-id", output.name, "--dead-letters-topic", f"{topics.name}.dead-letters"),
            *("--repo-id", "benchmark/game", "--task", "Run", "--output-root", str(output)),
            *("--game-definition", str(DEMO / "game-definition.yaml")),
            *("--action-mapping", str(DEMO / "action-mapping.yaml")),
            *("--fps", str(FPS), "--size", clip.size, "--log-format", "json"),
            *more,
        ]

    def consume(self, load: Load, *more: str, **variables: str) -> Drained:
        """Consume a load to its end into a new dataset, which must hold every frame of it."""
        output = self.output()
        try:
            flags = self.flags(load.topics, load.clip, output, "--until", "end", *more)
            notes = measure.run("tests.benchmarks.consuming", *flags, folder=self.folder, variables=variables)
        finally:
            shutil.rmtree(output, ignore_errors=True)
        rows = sum(commit[3] for commit in notes["commits"])
        if rows != load.frames:
            raise measure.BenchmarkError(f"{rows} of {load.frames} frames were committed")
        first, last = notes["reads"][0], notes["commits"][-1]
        return Drained((last[1] - first[0]) / 1e9, (last[2] - first[1]) / 1e9, notes)

    def drain(self, load: Load) -> Drained:
        """Read a load without doing anything with it."""
        file = self.output()
        topics = load.topics
        arguments = [topics.broker, topics.name, str(topics.partitions), str(load.records), str(file)]
        try:
            notes = measure.run("tests.benchmarks.drain", *arguments, folder=self.folder)
        finally:
            file.unlink(missing_ok=True)
        return Drained(notes["seconds"], notes["cpu_seconds"], notes)


@contextmanager
def open_world(folder: Path, *, short: bool) -> Iterator[World]:
    """A world for the length of a `with` block."""
    world = World(folder, short=short)
    try:
        yield world
    finally:
        world.close()
