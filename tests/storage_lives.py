"""Writers of a shard that die or are overtaken one after the other, recorded, until the power is lost."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from padreel.dataset import files, layout, points
from padreel.dataset.commit_log import CommitLog, Kind
from padreel.errors import FencedError
from tests.power import Recorder, Said
from tests.shard_world import WORLD, Crash, open_shard, play, read_shard, whole_world


@dataclass(frozen=True)
class Life:
    """A writer's: it dies the `count`-th time (from 0) that the point is reached, or is overtaken there, which is to
    say that another takes the shard and finishes the world before it goes on."""

    end: str
    count: int
    point: str = points.ANY


def live(path: Path, recorder: Recorder, life: Life | None = None) -> None:
    """Open the shard and play the world; what is committed is said."""
    left = -1 if life is None else life.count

    def probe(point: str, where: Path) -> None:
        nonlocal left
        recorder.look()
        if life is None or life.point not in (points.ANY, point):
            return
        left -= 1
        if left == -1:
            if life.end == "dies":
                raise Crash
            live(path, recorder)
            files.probe = probe

    files.probe = probe
    opened = open_shard(path)
    for i in range(opened.state.frames_next if opened.state else 0, len(WORLD)):
        for committed in opened.apply(WORLD[i](i)):
            recorder.look()
            recorder.events.append(Said(committed.n))
    opened.close()


def record(path: Path, recorder: Recorder, before: Sequence[Life]) -> None:
    for life in before:
        with contextlib.suppress(Crash, FencedError):
            live(path, recorder, life)


def check_leftover(path: Path, said: set[int], episodes: dict[int, str]) -> None:
    """The shard that a power loss left at `path` is whole, and goes on to the end."""
    seen = read_shard(path)
    log = CommitLog(path)
    assert {n for n in said if log.exists(n)} == said, "a commit was reported and gone"
    assert set(seen.sessions) >= {episodes[n] for n in said if n in episodes}, "reported and not in the dataset"
    opened = open_shard(path)
    play(opened)
    opened.close()
    assert read_shard(path) == whole_world()
    assert list((path / layout.STAGING).iterdir()) == []


def episodes_of(path: Path) -> dict[int, str]:
    """The session of every episode commit of a finished shard."""
    found, log, n = {}, CommitLog(path), 0
    while (entry := log.read(n)) is not None:
        if entry.kind is Kind.EPISODE and entry.episode is not None:
            found[n] = entry.episode.columns["session"]
        n += 1
    return found


def lose_power(recorder: Recorder, cut: int, dice: random.Random, survival: float) -> None:
    """Lose the power after the first `cut` events, and go on with what is left."""
    left = recorder.top.parent / "left"
    recorder.leftover(left, cut, dice, survival)
    said = {one.what for one in recorder.events[:cut] if isinstance(one, Said)}
    probe, files.probe = files.probe, files._silent
    check_leftover(left / "shard", {n for n in said if isinstance(n, int)}, episodes_of(recorder.top / "shard"))
    files.probe = probe
    shutil.rmtree(left)
