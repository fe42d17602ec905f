"""`--compact`: several mp4s in one, of every codec: each picture at its time, and keys where decoding can begin."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest

from padreel.core.in_band import not_complete, sets_of, with_sets
from tests.dataset_reading import ReadEpisode, read_episodes
from tests.h264_units import prefixed
from tests.hevc_units import HVCC
from tests.packing_world import AV1, H264, HEVC, WORLDS, pack
from tests.training_world import Played, failing
from tests.video_source import (
    Clip,
    Picture,
    annex_b,
    encode_clip,
    moving_pictures,
    nal_units,
    rgb,
    sync_samples,
)

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


@pytest.mark.parametrize(
    ("clip", "kinds", "delimiter", "slice_"),
    [
        (H264, [7, 8], b"\x09\x10", b"\x65\x80\x10"),
        (HEVC, [32, 33, 34], b"\x46\x01\x50", b"\x28\x01\x80\x10"),
    ],
)
def test_parameter_sets_go_in_band_behind_the_delimiter(
    clip: Clip, kinds: list[int], delimiter: bytes, slice_: bytes
) -> None:
    stream = encode_clip(moving_pictures(2), clip).stream
    sets = sets_of(stream.codec, stream.extradata)
    assert sets is not None
    assert [nal[0] & 31 if stream.codec == "h264" else nal[0] >> 1 for nal in nal_units(sets)] == kinds
    assert with_sets(stream.codec, prefixed(delimiter, slice_), sets) == prefixed(delimiter) + sets + prefixed(slice_)
    assert with_sets(stream.codec, prefixed(slice_), sets) == sets + prefixed(slice_)
    assert sets_of(stream.codec, not_complete(stream.codec, stream.extradata)) == sets
    assert sets_of(stream.codec, stream.extradata[:12]) is None


def test_what_cannot_go_in_band() -> None:
    assert sets_of("av1", encode_clip(moving_pictures(2), AV1).stream.extradata) is None
    with_start_codes = annex_b(encode_clip(moving_pictures(2), H264)).stream.extradata
    assert sets_of("h264", with_start_codes) is None
    assert not_complete("h264", b"record") == b"record"
    assert [byte & 0x80 for byte in (HVCC[23], not_complete("hevc", HVCC)[23])] == [0x80, 0]
