"""Rows 7 and 8: starting, and reading again what a killed consumer had not committed."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from pathlib import Path

from tests.benchmarks import measure
from tests.benchmarks.capture import FPS
from tests.benchmarks.load import Topics
from tests.benchmarks.measure import BenchmarkError, Row, Spread, Target, ratios
from tests.benchmarks.world import World

_SHARE = 1 / 15


def start(world: World) -> list[Row]:
    """Row 7: from the process's start to its first poll of the topics, the shards open."""
    topics = world.topics(1)
    asyncio.run(topics.create())
    try:
        polls, imports = measure.interleaved(3, lambda: _first_poll(world, topics), lambda: _seconds_of_import(world))
    finally:
        asyncio.run(topics.delete())
    figures = (
        Spread("start to first poll", "s", tuple(polls)),
        Spread("import lerobot.datasets", "s", tuple(imports)),
        ratios("of that import", polls, imports),
    )
    note = "connecting, joining the group and opening a new shard are part of it"
    return [Row("7", "process start to first poll", figures, (Target("start to first poll", 1, "at most"),), note)]


def _first_poll(world: World, topics: Topics) -> float:
    output = world.output()
    try:
        flags = world.flags(topics, world.clip, output, "--until", "end")
        with measure.running("tests.benchmarks.consuming", *flags, folder=world.folder) as process:
            notes = process.wait()
            return float(notes["first_poll_ns"] - process.started_ns) / 1e9
    finally:
        shutil.rmtree(output, ignore_errors=True)


def _seconds_of_import(world: World) -> float:
    return float(measure.run("tests.benchmarks.lerobot_writing", "import", folder=world.folder)["seconds"])


def reading_again(world: World) -> list[Row]:
    """Row 8: ten rigs in the middle of their sessions; the consumer is killed and started again."""
    rigs = 10
    # Twice in the worst moment: in Kafka and staged.
    fits = shutil.disk_usage(world.folder).free > 3 * rigs * 900 * FPS * world.clip.unit_bytes
    seconds = 900 if fits else 180
    with world.load(rigs, seconds, partitions=2, ends=False) as load:
        output = world.output()
        flags = world.flags(load.topics, load.clip, output)
        try:
            with measure.running("tests.benchmarks.consuming", *flags, folder=world.folder) as killed:
                _await_bytes(output, load.bytes // 10)
                killed.process.send_signal(signal.SIGKILL)
                killed.process.wait()
            variables = {"BENCHMARK_STOP_AFTER": str(load.records)}
            notes = measure.run("tests.benchmarks.consuming", *flags, folder=world.folder, variables=variables)
        finally:
            shutil.rmtree(output, ignore_errors=True)
        first, last = notes["reads"][0], notes["reads"][-1]
        taken, cpu = (last[0] - first[0]) / 1e9, (last[1] - first[1]) / 1e9
    figures = (
        Spread("catching up", "s", (taken,)),
        Spread("catching up, CPU", "s", (cpu,)),
        Spread("of the time played", "x", (taken / seconds,)),
    )
    note = f"{rigs} rigs at 720p30, {seconds} s of each, none of it committed; killed after a tenth was staged"
    target = Target("of the time played", _SHARE, "at most")
    return [Row("8", "re-reading after a kill", figures, (target,), note)]


def _await_bytes(output: Path, size: int) -> None:
    """Wait until so much video is staged."""
    deadline = time.monotonic() + measure.WAIT_SECONDS
    while time.monotonic() < deadline:
        if sum(file.stat().st_size for file in output.glob("*/staging/*.mp4")) >= size:
            return
        time.sleep(0.05)
    raise BenchmarkError(f"{size} bytes were never staged in {output}")
