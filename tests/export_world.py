"""What the tests of exports share: shards of sessions, a shard of episodes that were trimmed, reading by lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from padreel.dataset.layout import DatasetSpec
from padreel.exports.export import Exported, export
from padreel.exports.settings import ExportSettings
from padreel.model import AppendUnit, Commit, Fate, OpenSpan, PartitionState
from padreel.options import load
from padreel.training.merge.merge import merge
from padreel.training.settings import MergeSettings
from tests.fakes import FakeBroker
from tests.shard_world import open_shard
from tests.test_stage import draft
from tests.training_world import Played, consume, nothing, publish
from tests.video_source import Picture, Source, encode, moving_pictures
from tests.video_world import DATASET

# Parameter sets differ, by the number of B-frames; each has GOPs of its own.
SESSIONS = [
    Played(
        f"s-{i}@{i}",
        f"rig-{i % 2}",
        encode(moving_pictures(15 + i, seed=i), gop=6, b_frames=i),
        task='Win "it"' if i == 2 else "",
    )
    for i in range(4)
]
# First picture and rows of each episode, of forty pictures in GOPs of twelve: from a key on; from between two keys,
# with a key inside; without one inside; ending where pictures need one that is shown later; such a one alone.
TRIMMED = ((12, 12), (7, 20), (5, 4), (0, 14), (24, 2))


def make_sessions(folder: Path) -> Path:
    """`root`, of two shards, and `merged` and `compact` of it."""
    broker = FakeBroker(2)
    publish(broker, 0, SESSIONS[:3])
    publish(broker, 1, SESSIONS[3:])
    consume(broker, folder / "root")
    for name in ("merged", "compact"):
        settings = load(MergeSettings, {"output": folder / name, "compact": name == "compact"})
        merge([folder / "root"], settings, nothing)
    return folder


def make_trimmed(
    path: Path, source: Source, ranges: Sequence[tuple[int, int]] = TRIMMED, dataset: DatasetSpec = DATASET
) -> Path:
    """A shard whose episodes are these ranges of one source's pictures."""
    shard = open_shard(path, dataset=dataset)
    try:
        for i, (first, rows) in enumerate(ranges):
            made = replace(draft(source, first, rows=rows), span=i, key=f"trimmed-{i}@{i}")
            units = [AppendUnit(i, unit.index, unit.idr, unit.data) for unit in source.units]
            commit = Commit(PartitionState(frames_next=i + 1), {Fate.ROW: rows}, episode=made)
            shard.apply([OpenSpan(i, source.stream), *units, commit])
    finally:
        shard.close()
    return path


def run(path: Path, output: Path, form: str, **more: Any) -> Exported:
    return export(path, load(ExportSettings, {"format": form, "output": output, **more}), nothing)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def same(found: Sequence[Picture], expected: Sequence[Picture]) -> bool:
    return len(found) == len(expected) and all(map(np.array_equal, found, expected))


def files_of(output: Path) -> dict[str, bytes]:
    """Every file of an export but those that name the run."""
    own = {"export_run.json", "checksums.sha256"}
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.name not in own
    }
