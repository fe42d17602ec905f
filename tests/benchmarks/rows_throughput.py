"""Rows 1 and 9: how fast a backlog becomes episodes, and how the event loop fares meanwhile."""

from __future__ import annotations

import shutil

from tests.benchmarks import measure
from tests.benchmarks.measure import Row, Spread, Target, percentile, ratios
from tests.benchmarks.world import Drained, World

_LEROBOT_SECONDS = 10
_REGRESSED = 0.2  # of the bare drain: other work on the machine moves the ratio of a pair by a quarter


def throughput(world: World) -> list[Row]:
    """Rows 1 and 9, from the same runs; in the short form row 1 beside the bare drain alone."""
    rigs, seconds, turns = (2, 300, 3) if world.short else (2, 900, 5)
    with world.load(rigs, seconds, partitions=2) as load:
        drained, consumed = measure.interleaved(
            turns, lambda: world.drain(load), lambda: world.consume(load, BENCHMARK_STALLS="1")
        )
        frames, unit_bytes = load.frames, load.clip.unit_bytes
    wall = [one.seconds for one in consumed]
    figures = [
        Spread("frames/s", "frames/s", tuple(frames / one for one in wall)),
        Spread("CPU per frame", "us", tuple(one.cpu_seconds / frames * 1e6 for one in consumed)),
        Spread("bare drain: frames/s", "frames/s", tuple(frames / one.seconds for one in drained)),
        Spread("bare drain: CPU per frame", "us", tuple(one.cpu_seconds / frames * 1e6 for one in drained)),
        ratios("of the bare drain, CPU", [one.cpu_seconds for one in drained], [one.cpu_seconds for one in consumed]),
        ratios("of the bare drain, wall", [one.seconds for one in drained], wall),
    ]
    targets = [
        Target("of the bare drain, CPU", 0.6, "at least", regressed=_REGRESSED),
        Target("of the bare drain, wall", 0.6, "at least"),
    ]
    if not world.short:
        figures += _beside_lerobot(world, frames / (sum(wall) / len(wall)))
        targets += [
            Target("times lerobot batch", 500, "at least"),
            Target("times lerobot streaming", 80, "at least"),
        ]
    note = (
        f"{rigs} sessions of {seconds} s at 720p30, {unit_bytes / 1000:.0f} KB a frame, in {rigs} partitions, with 60 "
        "EVENTs a second each; from the first record that came to the last commit"
    )
    rows = [Row("1", "frames/s from Kafka to committed episode", tuple(figures), tuple(targets), note)]
    return rows if world.short else [*rows, _stalls(consumed, drained)]


def _beside_lerobot(world: World, rate: float) -> list[Spread]:
    figures = []
    for how in ("batch", "streaming"):
        root = world.output()
        arguments = [how, str(world.clip.path), str(root), str(_LEROBOT_SECONDS * 30)]
        try:
            notes = measure.run("tests.benchmarks.lerobot_writing", *arguments, folder=world.folder)
        finally:
            shutil.rmtree(root, ignore_errors=True)
        theirs = notes["frames"] / notes["seconds"]
        figures += [
            Spread(f"lerobot {how}: frames/s", "frames/s", (theirs,)),
            Spread(f"times lerobot {how}", "x", (rate / theirs,)),
        ]
    return figures


def _stalls(consumed: list[Drained], drained: list[Drained]) -> Row:
    def spread(name: str, runs: list[Drained], share: float, of: str = "stalls") -> Spread:
        return Spread(name, "ms", tuple(percentile(run.notes[of], share) * 1000 for run in runs))

    return Row(
        "9",
        "event-loop stall at full load",
        (
            spread("p99", consumed, 0.99),
            spread("max", consumed, 1.0),
            spread("p99, by the loop's own work", consumed, 0.99, "busy"),
            spread("max, by the loop's own work", consumed, 1.0, "busy"),
            spread("bare drain: p99", drained, 0.99),
            spread("bare drain: max", drained, 1.0),
        ),
        (Target("p99", 20, "at most"), Target("max", 100, "at most")),
        "by how much a sleep of 10 ms woke too late, during row 1; the rest of it is other work on the machine",
    )
