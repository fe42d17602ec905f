"""What merging many shards of one episode takes, and beside it LeRobot's own `aggregate_datasets` on some of them.

    python -m tests.benchmarks.merging [--shards 1000] [--aggregated 50] [--rows 90] [--folder DIR]

Times are by the clock and of the processor, of this process; what is imported is imported before. Each merge is a new
one, into a folder of its own, and both tools merge the same shards, so that hot caches favour neither.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from padreel.dataset.layout import shard_folder
from padreel.model import AppendUnit, Commit, Effect, Fate, OpenSpan, PartitionState
from padreel.options import load
from padreel.training.merge.merge import merge
from padreel.training.settings import MergeSettings
from tests.shard_world import open_shard
from tests.test_stage import draft
from tests.video_source import Source, encode, moving_pictures
from tests.video_world import DATASET


def write_shard(root: Path, number: int, of: int, source: Source) -> Path:
    """A shard with one episode, of all pictures of the source."""
    rows = len(source.units)
    made = draft(source, 0, rows)
    made = replace(made, key=f"session-{number}@{number:x}", session=replace(made.session, rig_id=f"rig-{number % 20}"))
    units: list[Effect] = [AppendUnit(made.span, unit.index, unit.idr, unit.data) for unit in source.units]
    commit = Commit(PartitionState(frames_next=rows), {Fate.ROW: rows}, episode=made)
    path = root / shard_folder(number)
    shard = open_shard(path, dataset=DATASET, partition=number, partitions=of)
    try:
        shard.apply([OpenSpan(made.span, source.stream), *units, commit])
    finally:
        shard.close()
    return path


def measured(what: str, work: Callable[[], object]) -> float:
    """Do it and say what it took; seconds of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{what:45} {wall:8.2f} s {cpu:8.2f} s of the processor", flush=True)
    return cpu


def merged(shards: Sequence[Path], output: Path, *, compact: bool) -> Callable[[], object]:
    settings = load(MergeSettings, {"output": output, "compact": compact})
    return lambda: merge(shards, settings, lambda step, done, total: None)


def aggregated(shards: Sequence[Path], output: Path) -> Callable[[], object]:
    aggregate = importlib.import_module("lerobot.datasets.aggregate").aggregate_datasets
    names = [f"tests/{path.name}" for path in shards]
    return lambda: aggregate(names, "tests/aggregated", roots=list(shards), aggr_root=output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--aggregated", type=int, default=50)
    parser.add_argument("--rows", type=int, default=90)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary one by default")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        source = encode(moving_pictures(given.rows), gop=30)
        shards = [write_shard(Path(folder) / "root", i, given.shards, source) for i in range(given.shards)]
        work = Path(folder)
        merged(shards[:1], work / "first", compact=True)()  # what a first run imports
        measured(f"{len(shards)} shards, plain", merged(shards, work / "a", compact=False))
        measured(f"{len(shards)} shards, --compact", merged(shards, work / "b", compact=True))
        some = shards[: given.aggregated]
        ours = measured(f"{len(some)} shards, plain", merged(some, work / "c", compact=False))
        packed = measured(f"{len(some)} shards, --compact", merged(some, work / "d", compact=True))
        theirs = measured(f"{len(some)} shards, lerobot's aggregate_datasets", aggregated(some, work / "e"))
        print(
            f"aggregate_datasets takes {theirs / ours:.0f} times the processor of a plain merge, {theirs / packed:.0f} "
            "times that of --compact"
        )


if __name__ == "__main__":
    main()
