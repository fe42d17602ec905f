"""Rows 2 and 6: rigs that play in real time, how many of them a core carries, and how soon their frames are done."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import time
from dataclasses import dataclass
from typing import Any

from tests.benchmarks import measure
from tests.benchmarks.capture import FPS
from tests.benchmarks.load import EVENTS_PER_SECOND, Rig, play_live
from tests.benchmarks.measure import BenchmarkError, Row, Spread, Target, percentile
from tests.benchmarks.world import World

_PARTITIONS = 4
_LOADS = (40, 80, 120)  # rigs, ascending; each broker, producers and consumer have to manage together on two cores
_HALF_LOAD = 20  # rigs, of row 6
_LIVE_SECONDS = 60
_EPISODE_SECONDS = 900  # the default of --max-episode-seconds
_RECORDS_PER_SECOND = FPS + EVENTS_PER_SECOND + 1  # of a rig, its heartbeat among them
_KEPT_UP_SECONDS = 1.0  # by so much publishing may have been late at most, and reading grow later


@dataclass(frozen=True, slots=True)
class _Played:
    """Rigs that played for a while: CPU seconds of the consumer for one of them and a second, and who was late."""

    rigs: int
    cpu_seconds: float
    lags: tuple[float, float]  # seconds by which reading was behind, half-way and near the end
    behind: float  # seconds by which publishing was, at most

    @property
    def kept_up(self) -> bool:
        """Whether all was in real time, and stayed so."""
        return self.behind <= _KEPT_UP_SECONDS and self.lags[1] - self.lags[0] <= _KEPT_UP_SECONDS

    def figures(self) -> list[Spread]:
        where = f"{self.rigs} rigs"
        return [
            Spread(f"{where}: CPU of a rig's second", "ms", (self.cpu_seconds * 1000,)),
            Spread(f"{where}: per core, without commits", "rigs", (1 / self.cpu_seconds,)),
            Spread(f"{where}: lag after 30 s", "s", (self.lags[0],)),
            Spread(f"{where}: lag after 57 s", "s", (self.lags[1],)),
            Spread(f"{where}: publishing fell behind by", "s", (self.behind,)),
        ]


def rigs_per_core(world: World) -> list[Row]:
    """Row 2, in real time; what a commit costs is measured by itself, since nobody wants to wait for 15 minutes.

    What the consumer does so many times a second, however many rigs play, is shared by more of them where more play.
    So the figure is that of the most rigs that were kept up with; a core that is full shares it among still more.
    """
    played = [_play_in_real_time(world, rigs) for rigs in _LOADS]
    with world.load(1, _EPISODE_SECONDS) as load:
        run = world.consume(load).notes
    commit_cpu = (run["commits"][-1][2] - run["reads"][-1][1]) / 1e9
    kept_up = [one for one in played if one.kept_up]
    if not kept_up:
        raise BenchmarkError(f"{_LOADS[0]} rigs are more than this machine plays and reads in real time")
    most = kept_up[-1]
    figures = (
        Spread("rigs per core", "rigs", (1 / (most.cpu_seconds + commit_cpu / _EPISODE_SECONDS),)),
        Spread("CPU of a 15-minute episode's commit", "s", (commit_cpu,)),
        *(figure for one in played for figure in one.figures()),
    )
    note = (
        f"{', '.join(map(str, _LOADS))} rigs at 720p30 in real time for {_LIVE_SECONDS} s each in {_PARTITIONS} "
        f"partitions, broker and producers on the same cores; rigs per core is from the consumer's CPU seconds at "
        f"{most.rigs}, the most that was kept up with, and those of a commit every 15 minutes"
    )
    return [Row("2", "rigs at 720p30 per core", figures, (Target("rigs per core", 300, "at least"),), note)]


def _play_in_real_time(world: World, rigs: int) -> _Played:
    notes, _, behind = _play(world, rigs, _LIVE_SECONDS, partitions=_PARTITIONS, decisions=False)
    reads = notes["reads"]
    begin_ns = reads[0][0]
    first, last = (_read_at(reads, begin_ns + share * _LIVE_SECONDS * 1e9) for share in (0.1, 0.95))
    rig_seconds = (last[2] - first[2]) / _RECORDS_PER_SECOND
    lags = _lag(reads, begin_ns, 0.5 * _LIVE_SECONDS, rigs), _lag(reads, begin_ns, 0.95 * _LIVE_SECONDS, rigs)
    return _Played(rigs, (last[1] - first[1]) / 1e9 / rig_seconds, lags, behind)


def _read_at(reads: list[list[int]], at_ns: float) -> list[int]:
    """What had been read by then: (clock, CPU, records)."""
    return [read for read in reads if read[0] <= at_ns][-1]


def _lag(reads: list[list[int]], begin_ns: int, seconds: float, rigs: int) -> float:
    """By how much reading was behind, by the records that all rigs had published by then."""
    records = _read_at(reads, begin_ns + seconds * 1e9)[2]
    return max(0.0, seconds - records / (rigs * _RECORDS_PER_SECOND))


def latency(world: World) -> list[Row]:
    """Row 6, at half of the lower load of row 2."""
    rigs, seconds = _HALF_LOAD, _LIVE_SECONDS
    notes, ended, behind = _play(world, rigs, seconds, partitions=1, decisions=True, between_ends=1.0)
    visible = {key: at for key, at, _, _ in notes["commits"]}
    delays = [(visible[key] - at) / 1e6 for key, at in ended.items()]
    paired = notes["paired_ms"]
    figures = (
        Spread("published to paired, p50", "ms", (percentile(paired, 0.5),)),
        Spread("published to paired, p99", "ms", (percentile(paired, 0.99),)),
        Spread("END to visible, p50", "ms", (percentile(delays, 0.5),)),
        Spread("END to visible, p99", "ms", (percentile(delays, 0.99),)),
        Spread("publishing fell behind by", "s", (behind,)),
    )
    targets = (
        Target("published to paired, p99", 1_050, "at most"),
        Target("END to visible, p99", 1_000, "at most"),
    )
    note = f"{rigs} rigs at 720p30 in one partition for {seconds} s, EVENTs at 60 Hz; one session ends a second"
    return [Row("6", "frame published to frame paired; END published to episode visible", figures, targets, note)]


def _play(
    world: World, rigs: int, seconds: float, *, partitions: int, decisions: bool, between_ends: float = 0.0
) -> tuple[dict[str, Any], dict[str, int], float]:
    """Rigs that play while a consumer runs: its notes, when each END was out, and how far publishing fell behind."""
    topics = world.topics(partitions)
    asyncio.run(topics.create())
    output = world.output()
    made = [Rig(number, world.clip, number % partitions) for number in range(rigs)]
    ended: dict[str, int] = {}

    def note_end(rig: Rig, at_ns: int) -> None:
        ended[rig.key.decode()] = at_ns

    async def play() -> float:
        return await play_live(topics, made, seconds, ended=note_end, between_ends=between_ends)

    try:
        flags = world.flags(topics, world.clip, output)
        variables = {"BENCHMARK_DECISIONS": "1"} if decisions else {}
        with measure.running("tests.benchmarks.consuming", *flags, folder=world.folder, variables=variables) as process:
            _await_lines(process, "assigned", 1)
            behind = asyncio.run(play())
            _await_lines(process, "episode", rigs)
            process.process.send_signal(signal.SIGTERM)
            notes = process.wait()
    finally:
        shutil.rmtree(output, ignore_errors=True)
        asyncio.run(topics.delete())
    rows = sum(commit[3] for commit in notes["commits"])
    if rows != rigs * int(seconds * FPS):
        raise BenchmarkError(f"{rows} of {rigs * int(seconds * FPS)} frames were committed")
    return notes, ended, behind


def _await_lines(process: measure.Process, event: str, count: int) -> None:
    """Wait for log lines of an event."""
    deadline = time.monotonic() + measure.WAIT_SECONDS
    while time.monotonic() < deadline:
        lines = [json.loads(line) for line in process.log.read_text().splitlines() if line.startswith("{")]
        if sum(line.get("event") == event for line in lines) >= count:
            return
        if process.process.poll() is not None:
            process.wait()
        time.sleep(0.2)
    raise BenchmarkError(f"{count} log lines of {event!r} never came")
