"""While episodes are appended, another process opens the dataset with lerobot, again and again."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from padreel.dataset import layout
from padreel.dataset.shard import Shard
from padreel.model import (
    AppendUnit,
    Commit,
    Effect,
    EndReason,
    EpisodeDraft,
    Fate,
    OpenSpan,
    PartitionState,
    Schema,
    SessionInfo,
)
from tests.shard_world import open_shard, read_shard
from tests.test_stage import EVENT_NS, EVENTS, FPS, FRAME_NS, START_NS, spec
from tests.video_source import Source, decode, encode, moving_pictures

OPENS = 12
EPISODES_AT_MOST = 300

READER = f"""
import sys
from lerobot.datasets.lerobot_dataset import LeRobotDataset
print("ready", flush=True)
for _ in range({OPENS}):
    dataset = LeRobotDataset("tests/growing", root=sys.argv[1], video_backend="pyav")
    total = dataset.meta.total_frames
    assert len(dataset) >= total
    assert dataset[0]["episode_index"] == 0
    assert dataset[total - 1]["episode_index"] == dataset.meta.total_episodes - 1
    print(dataset.meta.total_episodes, flush=True)
"""


def episode(i: int, source: Source) -> list[Effect]:
    """The whole source as one session's episode."""
    rows = len(source.units)
    times = tuple(START_NS + row * FRAME_NS for row in range(rows))
    draft = EpisodeDraft(
        span=i,
        key=f"session-{i}@{i:x}",
        stream=source.stream,
        session=SessionInfo(rig_id="rig"),
        reason=EndReason.END,
        first_unit=0,
        first_row=0,
        first_frame_index=0,
        time_ns=times,
        pairing=tuple(sum(at <= time for at in EVENT_NS) - 1 for time in times),
        forced=0,
        late=0,
        events=EVENTS,
        event_ns=EVENT_NS,
        session_ns=START_NS,
        first_frame_offset=i * rows,
        last_frame_offset=i * rows + rows - 1,
        first_pad_offset=2 * i,
        last_pad_offset=2 * i + 1,
    )
    units: list[Effect] = [AppendUnit(i, unit.index, unit.idr, unit.data) for unit in source.units]
    state = PartitionState(frames_next=(i + 1) * rows, pads_next=2 * i + 2)
    return [OpenSpan(i, source.stream), *units, Commit(state, {Fate.ROW: rows}, draft)]


@pytest.fixture(scope="module")
def source() -> Source:
    return encode(moving_pictures(14), gop=12)


def growing(path: Path) -> Shard:
    dataset = replace(spec(), repo_id="tests/growing", schema=Schema("h264", 96, 64, FPS))
    return open_shard(path, dataset=dataset)


def test_an_episode_of_real_video_is_whole(tmp_path: Path, source: Source) -> None:
    shard = growing(tmp_path)
    (first,) = shard.apply(episode(0, source))
    shard.close()
    again = growing(tmp_path)
    assert again.state == PartitionState(frames_next=14, pads_next=2)
    (second,) = again.apply(episode(1, source))
    again.close()
    assert (first.n, first.frames, first.seconds) == (1, 14, 14 / FPS)
    assert (second.n, second.episode_index) == (3, 1)
    assert read_shard(tmp_path).sessions == ("session-0@0", "session-1@1")
    for n in (1, 3):
        pictures = decode(str(tmp_path / layout.final_path("video", n)))
        assert all(np.array_equal(a, b) for a, b in zip(pictures, source.pictures, strict=True))
    assert list((tmp_path / "staging").iterdir()) == []


@pytest.mark.lerobot
def test_lerobot_opens_it_at_any_moment(tmp_path: Path, source: Source, lerobot: ModuleType) -> None:
    shard = growing(tmp_path)
    for i in range(3):
        shard.apply(episode(i, source))
    seen: list[int] = []
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        assert reader.stderr is not None
        output, errors = reader.stdout, reader.stderr
        assert output.readline() == "ready\n"
        listener = threading.Thread(target=lambda: seen.extend(int(line) for line in output))
        listener.start()
        said: list[str] = []
        grumbler = threading.Thread(target=lambda: said.extend(errors))  # its warnings must not fill the pipe
        grumbler.start()
        count = 3
        while reader.poll() is None and count < EPISODES_AT_MOST:
            shard.apply(episode(count, source))
            count += 1
        listener.join()
        grumbler.join()
    assert reader.returncode == 0, "".join(said)
    assert len(seen) == OPENS
    assert seen == sorted(seen)
    assert len(set(seen)) > 3  # it did grow meanwhile
    dataset = lerobot.LeRobotDataset("tests/growing", root=tmp_path, video_backend="pyav")
    assert dataset.meta.total_episodes == count
    assert len(dataset) == count * len(source.pictures)
    for i in (0, 7, len(dataset) - 1):
        picture = (dataset[i]["observation.images.main"].numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8)
        assert np.array_equal(picture, source.pictures[i % len(source.pictures)])
        assert dataset[i]["task"] == "play"
