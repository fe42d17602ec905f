"""What a benchmark measures with: spreads over repetitions, ratios with verdicts, processes and what they cost."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

CHECKOUT = Path(__file__).resolve().parents[2]
WAIT_SECONDS = 1_800.0  # to end what hangs, not to judge what is slow


class BenchmarkError(Exception):
    """A step failed; the message says which and how."""


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure over its repetitions."""

    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def as_json(self) -> dict[str, Any]:
        return {
            "unit": self.unit,
            "min": min(self.values),
            "median": self.median,
            "max": max(self.values),
            "values": list(self.values),
        }


@dataclass(frozen=True, slots=True)
class Target:
    """What the median of a figure has to reach, inclusive. `regressed` is where `--short` fails: beyond the noise."""

    figure: str
    at: float
    sense: Literal["at least", "at most"]
    regressed: float | None = None

    def holds(self, value: float, limit: float | None = None) -> bool:
        limit = self.at if limit is None else limit
        return value >= limit if self.sense == "at least" else value <= limit

    def __str__(self) -> str:
        return f"{self.sense} {self.at:g}"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: figures, what some of them have to reach, and how they were come by."""

    number: str
    what: str
    figures: tuple[Spread, ...]
    targets: tuple[Target, ...] = ()
    note: str = ""

    def figure(self, name: str) -> Spread:
        return next(figure for figure in self.figures if figure.name == name)

    def missed(self) -> list[Target]:
        return [target for target in self.targets if not target.holds(self.figure(target.figure).median)]

    def regressed(self) -> list[str]:
        """In words, what is worse than any noise explains."""
        found = []
        for target in self.targets:
            value = self.figure(target.figure).median
            if target.regressed is not None and not target.holds(value, target.regressed):
                found.append(f"row {self.number}, {target.figure}: {value:.3g}, {target.sense} {target.regressed:g}")
        return found


def ratios(name: str, above: Sequence[float], below: Sequence[float]) -> Spread:
    """Quotients pair by pair: what was measured one after the other met the same noise."""
    return Spread(name, "x", tuple(a / b for a, b in zip(above, below, strict=True)))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def interleaved(count: int, *parts: Callable[[], Any]) -> list[list[Any]]:
    """Call the parts in turn, `count` rounds, each second round in reverse order; what each gave, part by part."""
    found: list[list[Any]] = [[] for _ in parts]
    for turn in range(count):
        order = list(enumerate(parts))
        for at, part in order if turn % 2 == 0 else reversed(order):
            found[at].append(part())
    return found


# ---- processes


def environment(**more: str) -> dict[str, str]:
    """The environment of what is measured: no settings of padreel's, Kafka's or the allocator's."""
    left_out = ("PADREEL_", "KAFKA_", "MALLOC_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    roots = [str(CHECKOUT / one) for one in ("schemas", "producer_shim", "consumer")]
    return {**kept, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), *roots]), "HF_HUB_OFFLINE": "1", **more}


@dataclass(slots=True)
class Process:
    """A Python module that runs by itself and writes what it noted to a file, as JSON."""

    module: str
    process: subprocess.Popen[bytes]
    notes_path: Path
    log: Path
    started_ns: int
    _notes: dict[str, Any] = field(default_factory=dict)

    def wait(self) -> dict[str, Any]:
        """Wait for its end; its notes. Raises BenchmarkError if it failed."""
        try:
            code = self.process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise BenchmarkError(f"{self.module} took more than {WAIT_SECONDS:.0f} s: {self._tail()}") from None
        if code != 0:
            raise BenchmarkError(f"{self.module} ended with exit code {code}: {self._tail()}")
        self._notes = json.loads(self.notes_path.read_text())
        return self._notes

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


@contextmanager
def running(
    module: str, *arguments: str, folder: Path, variables: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """Start `python -m module NOTES arguments...`; it is killed at the end if it still runs."""
    stem = f"{module.rpartition('.')[2]}-{time.monotonic_ns()}"
    notes, log = folder / f"{stem}.json", folder / f"{stem}.log"
    with log.open("wb") as output:
        started_ns = time.monotonic_ns()
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(notes), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(**(variables or {})),
        )
    try:
        yield Process(module, process, notes, log, started_ns)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def run(module: str, *arguments: str, folder: Path, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run `python -m module NOTES arguments...` to its end; its notes."""
    with running(module, *arguments, folder=folder, variables=variables) as process:
        return process.wait()


def peak_rss_mb() -> float:
    """The most memory that this process had resident since it was started, in MB (Linux)."""
    return status_kib("VmHWM") / 1024


def status_kib(name: str, pid: str = "self") -> int:
    """A figure in KiB of /proc/<pid>/status."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise BenchmarkError(f"/proc/{pid}/status has no {name}")
