"""`--compact`: several mp4s in one, of every codec: each picture at its time, and keys where decoding can begin."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest

from tests.dataset_reading import ReadEpisode, read_episodes
from tests.packing_world import WORLDS, pack
from tests.training_world import Played, failing
from tests.video_source import Picture, rgb, sync_samples

FPS = 30


def pictures_at(path: Path, frames: list[int]) -> list[Picture]:
    """The pictures that are shown at these frames of a file, each looked for by itself, as LeRobot does."""
    found = []
    with closing(av.open(str(path))) as container:
        video = container.streams.video[0]
        assert video.time_base is not None
        for frame in frames:
            at = round(frame / FPS / video.time_base)
            container.seek(at, stream=video, backward=True)
            found.append(next(rgb(one) for one in container.decode(video) if (one.pts or 0) >= at))
    return found


def check_pictures(episode: ReadEpisode, session: Played, first: int) -> None:
    begin = round(episode.from_timestamp * FPS)
    order = np.random.default_rng(first).permutation(len(episode)).tolist()
    found = pictures_at(episode.video, [begin + row for row in order])
    wrong = [
        row
        for row, picture in zip(order, found, strict=True)
        if not np.array_equal(picture, session.source.pictures[first + row])
    ]
    assert not wrong, (session.key, wrong)


@pytest.mark.parametrize("name", WORLDS)
def test_every_picture_is_where_its_row_says(name: str, tmp_path: Path) -> None:
    world = WORLDS[name]
    packed, expected = pack(world, tmp_path)
    episodes = read_episodes(packed)
    assert [(one.key, len(one)) for one in episodes] == [(session.key, length) for session, _, length in expected]
    for episode, (session, first, _) in zip(episodes, expected, strict=True):
        check_pictures(episode, session, first)
    assert failing(packed, deep=True) == {}
    videos = sorted(packed.glob("videos/**/*.mp4"))
    assert len(videos) == world.files
    shard = sorted((tmp_path / "root").glob("*/videos/**/*.mp4"))
    assert [key for path in videos for key in sync_samples(path)] == [
        key for path in shard for key in sync_samples(path)
    ]
