"""A small world of real video: a few steps that any writer can play on from wherever the shard's log is."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from padreel.dataset import files, layout
from padreel.dataset.commit_log import CommitLog
from padreel.errors import DatasetError, FencedError
from padreel.model import AppendUnit, Commit, DropSpan, Effect, Fate, OpenSpan, PartitionState
from tests.dataset_reading import ReadEpisode, read_episodes
from tests.shard_world import open_shard, progress_effects, rejected_effects
from tests.test_stage import draft, spec
from tests.video_source import Source

DATASET = spec()
STEPS = 4  # progress, an episode, a rejected session, an episode that is trimmed and of another task


def _span(span: int, source: Source) -> list[Effect]:
    units = [AppendUnit(span, unit.index, unit.idr, unit.data) for unit in source.units]
    return [OpenSpan(span, source.stream), *units]


def _episode(i: int, source: Source, first_row: int, task: str) -> list[Effect]:
    made = draft(source, first_row, rows=5)
    made = replace(
        made,
        span=i,
        key=f"session-{i}@{i:x}",
        session=replace(made.session, task=task),
        first_frame_offset=i,
        last_frame_offset=i,
    )
    other = 100 + i  # another session's, which is open at the same time and comes to nothing
    commit = Commit(PartitionState(frames_next=i + 1), {Fate.ROW: 5}, episode=made)
    return [*_span(other, source)[:3], *_span(i, source), DropSpan(other), commit]


def effects(i: int, source: Source) -> list[Effect]:
    """What step `i` asks of the shard; it accounts one frame record."""
    steps: tuple[Callable[[], list[Effect]], ...] = (
        lambda: progress_effects(i),
        lambda: _episode(i, source, 0, ""),
        lambda: rejected_effects(i),
        lambda: _episode(i, source, 7, "another task"),
    )
    return steps[i]()


def play(path: Path, source: Source, steps: int) -> None:
    """Open the shard, apply what its log has not, and close it, whatever happens."""
    shard = open_shard(path, dataset=DATASET, writer=f"writer-{os.getpid()}")
    try:
        for i in range(shard.state.frames_next if shard.state else 0, steps):
            _until_written(shard.apply, effects(i, source))
    finally:
        shard.close()


def _until_written(apply: Callable[[Sequence[Effect]], object], asked: Sequence[Effect]) -> None:
    """As a partition does: once more after an error; DatasetError if that is in vain."""
    try:
        apply(asked)
    except OSError:
        apply(())


def play_on(path: Path, source: Source, steps: int) -> None:
    """Play; after losing the shard, or an error, open it again."""
    dice = random.Random(os.getpid())
    longest = 0.05  # seconds; else two writers may take the shard from each other for ever
    while True:
        try:
            return play(path, source, steps)
        except OSError:
            continue
        except DatasetError as error:
            if type(error) not in (DatasetError, FencedError):
                raise
        time.sleep(dice.uniform(0, longest))
        longest *= 2


@dataclass(frozen=True)
class Content:
    """What a dataset holds, but for the numbers of its files."""

    episodes: list[ReadEpisode]
    info: dict[str, Any]
    stats: dict[str, Any]
    tasks: bytes
    card: str


def content(path: Path) -> Content:
    """Read it all; raises where something does not hold together."""
    return Content(
        read_episodes(path),
        json.loads((path / layout.INFO).read_text()),
        json.loads((path / layout.STATS).read_text()),
        (path / layout.TASKS).read_bytes(),
        (path / layout.CARD).read_text(),
    )


def check_log(path: Path) -> None:
    """Every commit can be read, each session is in one episode, and its files have the hashes that it says."""
    log, n, sessions = CommitLog(path), 0, []
    while (entry := log.read(n)) is not None:
        n += 1
        if entry.episode is None:
            continue
        sessions.append(entry.episode.columns["session"])
        hashes = {file.kind: file.sha256 for file in entry.episode.files}
        for kind in layout.FILE_KINDS:
            assert files.sha256_of(path / layout.final_path(kind, entry.n)) == hashes[kind], (entry.n, kind)
    assert len(set(sessions)) == len(sessions)
    assert n == len(list((path / layout.COMMITS).iterdir()))


def staged(path: Path) -> list[str]:
    """What lies in `staging/`, at any depth."""
    return sorted(str(one.relative_to(path)) for one in (path / layout.STAGING).rglob("*"))
