"""A shard in which every second episode is in quarantine, of tiny files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from padreel.core.episodes import EpisodeEvent
from padreel.core.gate import EpisodeQuality
from padreel.dataset import files, layout, shard
from padreel.dataset.commit_log import CommitLog, Entry
from padreel.dataset.quarantine import held_back
from padreel.dataset.root import RootIdentity, open_root
from padreel.dataset.shard import Shard
from padreel.dataset.told import Told
from padreel.model import EpisodeDraft
from padreel.quality_config import quality_gate
from tests.shard_world import (
    SPEC,
    MadeEpisode,
    PlainStage,
    episode_effects,
    open_shard,
)

GATED = replace(SPEC, gate=quality_gate(0.6, "flag"))
BAD = EpisodeQuality(0.4, {"forced": 0.1, "duration": 1.0}, "forced", 0.6, True)
GOOD = EpisodeQuality(0.9, {"forced": 0.9, "duration": 0.9}, "forced", 0.6, False)


class JudgingStage(PlainStage):
    """Episodes whose session has an odd number are bad."""

    def episode(self, draft: EpisodeDraft, **numbers: int) -> MadeEpisode:
        number = int(draft.key.partition("@")[0].rpartition("-")[2])
        return replace(super().episode(draft, **numbers), quality=BAD if number % 2 else GOOD)


@pytest.fixture(autouse=True)
def judging_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tiny files instead of video, and a disk that is always in time."""
    monkeypatch.setattr(shard, "Stage", JudgingStage)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    yield
    files.probe = files._silent


def opened(path: Path, **changes: Any) -> Shard:
    return open_shard(path, dataset=GATED, partition=0, partitions=1, **changes)


def make(root: Path, sessions: Sequence[int] = range(5), name: str = layout.shard_folder(0)) -> Path:
    """A shard with an episode of each session."""
    identity = RootIdentity(
        cluster_id="cluster",
        frames_topic="padreel.frames",
        pads_topic="padreel.gamepad",
        partitions=1,
        group="recorders",
        schema=GATED.schema,
        columns=GATED.columns,
        game_id=GATED.game_id,
        class_ids=GATED.class_ids,
        action_names=GATED.encoder.names,
        key_names=GATED.key_names,
    )
    open_root(root, identity)
    with closing(opened(root / name)) as writer:
        for i in sessions:
            writer.apply(episode_effects(i))
    return root / name


def last_of(path: Path) -> Entry:
    last = CommitLog(path).last()
    assert last is not None
    return last


def held(path: Path) -> list[int]:
    """Indices of the episodes in quarantine, by the log."""
    found = held_back(CommitLog(path), last_of(path))
    return [entry.episode.index for entry in found if entry.episode is not None]


def indices(path: Path, commits: Iterable[int]) -> list[int]:
    found = [entry for n in commits if (entry := CommitLog(path).read(n)) is not None]
    return [entry.episode.index for entry in found if entry.episode is not None]


def said(path: Path) -> tuple[int, list[int]]:
    """What info.json says of them."""
    game = json.loads((path / layout.INFO).read_text())["extensions"]["game_converter"]
    return game["quarantined_episode_count"], game["quarantined_episodes"]


def tell(root: Path) -> list[EpisodeEvent]:
    """What the episodes topic is told of everything that was not told yet."""
    log, events = Told(root, 0, "padreel.episodes"), list[EpisodeEvent]()
    while (untold := log.ahead()) is not None:
        events += untold.events
        log.save(untold)
    return events
