"""`padreel consume` with a notebook: the real command, and beside it what it read, decided and committed when.

    python -m tests.benchmarks.consuming NOTES FLAGS...

Nothing is changed in what it does, and it finds what an installation without lerobot has: no pandas, which pyarrow
would import. `BENCHMARK_STOP_AFTER` is a number of records after which it is told to stop, as by SIGTERM; with
`BENCHMARK_DECISIONS=1` it notes when each frame was paired (of one partition), and with `BENCHMARK_STALLS=1` it looks
for stalls of the event loop as often as the drain does, which is ten times as often as otherwise.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterable
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

from padreel import __main__ as command
from padreel import vitals
from padreel.core.align import Join
from padreel.core.segment import Segment
from padreel.dataset.committed import Committed
from padreel.kafka.events import Batch, Pair
from padreel.kafka.source import KafkaSource
from padreel.model import Topic
from padreel.observe import Observer
from tests.benchmarks.drain import NAP_SECONDS
from tests.benchmarks.measure import peak_rss_mb


class Notebook:
    """What happened when: nanoseconds of the machine's steady clock, and of this process's CPU time."""

    def __init__(self) -> None:
        self.first_poll_ns = 0
        self.reads: list[tuple[int, int, int]] = []  # (clock, CPU, records so far)
        self.commits: list[tuple[str | None, int, int, int]] = []  # (key, clock, CPU, rows)
        self.steps: dict[str, float] = {}
        self.stalls: list[float] = []
        self.paired_ms: list[float] = []  # from being published to being paired
        self._published_ms: dict[int, int] = {}
        self._records = 0
        self.busy: list[float] = []  # of each stall, at most so much by this thread's own work
        self._thread_ns = time.thread_time_ns()
        self._stop_after = int(os.environ.get("BENCHMARK_STOP_AFTER", "0"))

    def write(self, path: Path) -> None:
        kept = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        notes = {**kept, "cpu_ns": time.process_time_ns(), "peak_rss_mb": peak_rss_mb()}
        path.write_text(json.dumps(notes))

    def polls(self) -> None:
        self.first_poll_ns = self.first_poll_ns or time.monotonic_ns()

    def read(self, batches: list[Batch]) -> None:
        if not batches:
            return
        before = self._records
        self._records += sum(len(batch.records) for batch in batches)
        self.reads.append((time.monotonic_ns(), time.process_time_ns(), self._records))
        if before < self._stop_after <= self._records:
            os.kill(os.getpid(), signal.SIGTERM)

    def note_published(self, batches: list[Batch]) -> None:
        for batch in batches:
            if batch.topic is Topic.FRAMES:
                self._published_ms.update((record.offset, record.timestamp) for record in batch.records)

    def paired(self, offset: int) -> None:
        self.paired_ms.append(time.time() * 1000 - self._published_ms.pop(offset))

    def stalled(self, seconds: float) -> None:
        used_ns, self._thread_ns = time.thread_time_ns() - self._thread_ns, time.thread_time_ns()
        self.stalls.append(seconds)
        self.busy.append(min(seconds, used_ns / 1e9))

    def committed(self, committed: Committed) -> None:
        if committed.episode_index is not None:
            self.commits.append((committed.key, time.monotonic_ns(), time.process_time_ns(), committed.frames))
            for step, seconds in committed.step_seconds.items():
                self.steps[step] = self.steps.get(step, 0.0) + seconds


def observe(notes: Notebook) -> None:
    """Have the command tell the notebook what it does."""
    getmany, committed, stalled = KafkaSource.getmany, Observer.committed, Observer.stalled
    watches_decisions = os.environ.get("BENCHMARK_DECISIONS") == "1"

    async def noted_getmany(self: KafkaSource, allowed: Iterable[Pair], *, timeout_ms: int) -> list[Batch]:
        notes.polls()
        batches = await getmany(self, allowed, timeout_ms=timeout_ms)
        notes.read(batches)
        if watches_decisions:
            notes.note_published(batches)
        return batches

    def noted_committed(self: Observer, number: int, what: Committed) -> None:
        notes.committed(what)
        committed(self, number, what)

    def noted_stalled(self: Observer, seconds: float) -> None:
        notes.stalled(seconds)
        stalled(self, seconds)

    KafkaSource.getmany = noted_getmany  # type: ignore[method-assign]
    Observer.committed = noted_committed  # type: ignore[assignment,method-assign]
    Observer.stalled = noted_stalled  # type: ignore[method-assign]
    if os.environ.get("BENCHMARK_STALLS") == "1":
        vitals._NAP_SECONDS = NAP_SECONDS
    if watches_decisions:
        decide = Segment._decide

        def noted_decide(self: Segment, frame: Any, join: Join, *, force: bool) -> bool:
            is_decided = decide(self, frame, join, force=force)
            if is_decided:
                notes.paired(frame.offset)
            return is_decided

        Segment._decide = noted_decide  # type: ignore[method-assign]


class _NoPandas(MetaPathFinder):
    """Finds for `consume` what it needs, and not what lerobot has brought: pyarrow imports pandas where it is."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("no pandas, as where lerobot is not installed", name=name)


def main() -> None:
    sys.meta_path.insert(0, _NoPandas())
    path, *flags = sys.argv[1:]
    notes = Notebook()
    observe(notes)
    sys.argv = ["padreel", "consume", *flags]
    try:
        command.main()
    finally:
        notes.write(Path(path))


if __name__ == "__main__":
    main()
