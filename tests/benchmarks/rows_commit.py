"""Row 3: what a commit costs in a shard that has thousands of episodes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from padreel.core.decode import stream_of
from padreel.dataset.layout import EPISODES_PER_FILE, DatasetSpec
from padreel.dataset.shard import Shard
from padreel.dataset.spec import dataset_spec
from padreel.model import (
    AppendUnit,
    Commit,
    Effect,
    EndReason,
    EpisodeDraft,
    Fate,
    OpenSession,
    OpenSpan,
    PartitionState,
    Schema,
    SessionInfo,
    Stream,
)
from padreel.settings import ConsumerSettings
from tests.benchmarks import measure
from tests.benchmarks.capture import Clip, clip
from tests.benchmarks.load import EVENT_NS, FRAME_NS, Rig
from tests.benchmarks.measure import Row, Spread, Target, ratios
from tests.benchmarks.world import DEMO, World

_ROWS = 30  # of an episode: what grows is not in the rows
_OPEN = 4  # sessions that a commit remembers


def growth(world: World) -> list[Row]:
    """Commits of episodes far on in one shard and of the first ones in another, in turn."""
    before = EPISODES_PER_FILE * (2 if world.short else 19)
    source = clip(60, 160, 96, kbit=60)
    folder = world.output()
    try:
        late, early = _Series(folder / "late", source), _Series(folder / "early", source)
        for _ in islice(late, before):
            pass
        pairs = [(next(late), next(early)) for _ in range(EPISODES_PER_FILE)]
        late.close()
        early.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    # Fifty at a time: of a single commit's time the noise would be the most.
    groups = [pairs[at : at + 50] for at in range(0, len(pairs), 50)]
    means = [[sum(pair[which] for pair in group) / len(group) for group in groups] for which in (0, 1)]
    late_name = f"episodes {before + 1:,}-{before + EPISODES_PER_FILE:,}"
    figures = [
        Spread(late_name, "ms", tuple(1000 * one for one in means[0])),
        Spread(f"episodes 1-{EPISODES_PER_FILE}", "ms", tuple(1000 * one for one in means[1])),
        ratios("late to early", means[0], means[1]),
    ]
    if not world.short:
        figures += _lerobot(world)
    target = Target("late to early", 1.2, "at most", regressed=1.5)
    note = f"stage, commit and publish of {_ROWS} rows with 160x96 pictures; two shards in turn, means of 50"
    return [Row("3", "mean commit in a shard that grows", tuple(figures), (target,), note)]


def _lerobot(world: World) -> list[Spread]:
    root = world.output()
    at = ("10", "100", "400")
    arguments = ["append", str(root), "10", str(_ROWS), *at]
    try:
        notes = measure.run("tests.benchmarks.lerobot_writing", *arguments, folder=world.folder)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return [Spread(f"lerobot save_episode at {one}", "ms", (1000 * notes[one],)) for one in at]


class _Series:
    """One shard; each `next` commits one more episode and gives the seconds which that took."""

    def __init__(self, path: Path, source: Clip) -> None:
        stream = stream_of(source.stream)
        assert isinstance(stream, Stream)
        self._stream = stream
        self._units = source.units[:_ROWS]
        self._rig = Rig(0, source, 0)
        self._number = 0
        self._shard = Shard.open(
            path,
            dataset=_spec(stream),
            writer="benchmark",
            group="benchmark",
            cluster_id="benchmark",
            frames_topic="frames",
            pads_topic="pads",
            partition=0,
            partitions=1,
        )

    def __iter__(self) -> Iterator[float]:
        return self

    def __next__(self) -> float:
        number = self._number
        self._number += 1
        self._shard.apply([OpenSpan(number, self._stream)])
        self._shard.apply([AppendUnit(number, unit.index, unit.keyframe, unit.data) for unit in self._units])
        commit = self._commit(number)
        begin = time.monotonic()
        self._shard.apply([commit])
        return time.monotonic() - begin

    def close(self) -> None:
        self._shard.close()

    def _commit(self, number: int) -> Effect:
        start_ns, events = self._rig.start_ns, 2 * _ROWS
        draft = EpisodeDraft(
            span=number,
            key=f"session-{number:05}@{number + 1:x}",
            stream=self._stream,
            session=SessionInfo(rig_id="rig-1"),
            reason=EndReason.END,
            first_unit=0,
            first_row=0,
            first_frame_index=0,
            time_ns=tuple(start_ns + row * FRAME_NS for row in range(_ROWS)),
            pairing=tuple(2 * row for row in range(_ROWS)),
            forced=0,
            late=0,
            events=tuple(self._rig.event(n) for n in range(events)),
            event_ns=tuple(start_ns + n * EVENT_NS for n in range(events)),
            session_ns=start_ns,
            first_frame_offset=number * _ROWS,
            last_frame_offset=(number + 1) * _ROWS - 1,
            first_pad_offset=number * events,
            last_pad_offset=(number + 1) * events - 1,
        )
        open_ = {f"other-{n}@{n:x}": OpenSession(stream=self._stream) for n in range(_OPEN)}
        state = PartitionState((number + 1) * _ROWS, (number + 1) * events, open=open_)
        return Commit(state, {Fate.ROW: _ROWS}, episode=draft)


def _spec(stream: Stream) -> DatasetSpec:
    settings = ConsumerSettings.model_validate(
        {
            "game_definition": DEMO / "game-definition.yaml",
            "action_mapping": DEMO / "action-mapping.yaml",
            "output_root": Path("unused"),
            "repo_id": "benchmark/game",
            "task": "Run",
            "bootstrap_servers": "unused:9092",
            "fps": stream.fps,
            "size": f"{stream.width}x{stream.height}",
        }
    )
    return dataset_spec(settings, Schema("h264", stream.width, stream.height, stream.fps))
