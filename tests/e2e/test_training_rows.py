"""Every row of every kind of training set, read by lerobot, against what was played: pictures and paired pads.

The rigs play at the same time in one partition; their sessions begin idle, which is trimmed, and are split, so that
episodes begin in the middle of an mp4, and several are of one session.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from padreel.options import load
from padreel.training.merge.merge import merge
from padreel.training.relabel.relabel import relabel
from padreel.training.settings import MergeSettings, RelabelSettings
from tests.dataset_reading import read_episodes
from tests.fakes import FakeBroker
from tests.training_world import (
    OTHER_MAPPING,
    Played,
    check_against_sources,
    consume,
    other_action,
    plain_action,
    publish,
)
from tests.video_source import encode, moving_pictures

pytestmark = pytest.mark.lerobot

GOP = 6
CONSUMER: dict[str, Any] = {"max_pre_action_seconds": 0.1, "max_episode_seconds": 0.5}
BEFORE, LONGEST = 3, 15  # frames in them
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "compact": {"compact": True},
    "filtered": {"where": "length >= 12 and rig != rig-2"},
    "updated": {"update": True},
    "updated and compact": {"update": True, "compact": True},
}


def session(i: int) -> Played:
    """Idle for some frames, then EVENTs at frames and between them, several for one frame among them."""
    random = np.random.default_rng(i)
    frames = 38 + i
    pad: list[tuple[float, float, tuple[int, ...]]] = [(0, 0.0, ())]
    at = 4.0 + 3 * i
    while at < frames:
        pad.append((at, int(random.integers(16, 64)) / 64, tuple(np.flatnonzero(random.integers(0, 2, 3)).tolist())))
        at += float(random.choice([0.25, 0.5, 1, 2.75, 5]))
    source = encode(moving_pictures(frames, seed=i), gop=GOP, b_frames=i % 4)
    return Played(f"session-{i}@{i}", f"rig-{i % 3}", source, tuple(pad))


SESSIONS = [session(i) for i in range(6)]


def episodes_of(played: Played) -> list[tuple[int, int]]:
    """First frame and length of each: cut where a GOP begins `LONGEST` frames on, without what was idle."""
    frames = len(played.source.units)
    first = max(0, int(np.ceil(played.pad[1][0])) - BEFORE)
    step = -(-LONGEST // GOP) * GOP
    found = []
    for begin in range(0, frames, step):
        rows = [frame for frame in range(begin, min(begin + step, frames)) if frame >= first]
        if rows:
            found.append((rows[0], len(rows)))
    return found


def make(folder: Path, kind: str) -> Path:
    broker = FakeBroker(2)
    settings = load(MergeSettings, {"output": folder / "merged", **KINDS[kind]})
    publish(broker, 0, SESSIONS[:3])
    root = consume(broker, folder / "root", **CONSUMER)
    if settings.update:
        merge([root], settings, lambda step, done, total: None)
    publish(broker, 1, SESSIONS[3:5])
    publish(broker, 0, SESSIONS[5:])
    consume(broker, root, **CONSUMER)
    merge([root], settings, lambda step, done, total: None)
    return folder / "merged"


def expected(merged: Path, kind: str) -> list[tuple[Played, int, int]]:
    """What has to be there, in the order of the dataset, which only keeps that of one session's episodes."""
    left = {one.key: episodes_of(one) for one in SESSIONS}
    if kind == "filtered":
        for one in SESSIONS:
            left[one.key] = [rows for rows in left[one.key] if rows[1] >= 12 and one.rig != "rig-2"]
    by_key = {one.key: one for one in SESSIONS}
    order = [(by_key[one.key], *left[one.key].pop(0)) for one in read_episodes(merged)]
    assert not any(left.values())
    return order


@pytest.mark.parametrize("relabelled", [False, True], ids=["as played", "relabelled"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_what_was_played(lerobot: ModuleType, tmp_path: Path, kind: str, relabelled: bool) -> None:
    merged = made = make(tmp_path, kind)
    rows = expected(merged, kind)
    assert any(one.from_timestamp > 0 for one in read_episodes(merged))
    assert len({one.key for one, _, _ in rows}) < len(rows)
    if relabelled:
        (tmp_path / "other.yaml").write_text(OTHER_MAPPING)
        made = tmp_path / "relabelled"
        settings = load(RelabelSettings, {"output": made, "action_mapping": tmp_path / "other.yaml"})
        relabel(merged, settings, lambda step, done, total: None)
    check_against_sources(lerobot, made, rows, other_action if relabelled else plain_action)
