"""An episode's own mp4: exactly its pictures, its packets as they were, whatever the codec and wherever it begins."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest

from padreel.errors import CorruptShardError
from padreel.exports.clips import Video, look_through, write_clip
from padreel.exports.cuts import cut_from_key, cut_of
from padreel.model import Schema
from padreel.training.merge.plan import Pictures
from padreel.training.write_videos import Part, pack_videos, pictures_of
from tests.dataset_reading import read_packets
from tests.video_source import (
    Clip,
    Picture,
    Source,
    decode,
    encode,
    encode_clip,
    moving_pictures,
    sync_samples,
    write_span,
)

SOURCES = {
    "h264": Clip(),
    "no b-frames": Clip(b_frames=0),
    "slow": Clip(fps=7),
    "hevc": Clip("libx265"),
    "hevc open": Clip("libx265", open_gop=True),
    "hevc radl": Clip("libx265", radl=2),
    "av1": Clip("libsvtav1"),
}
# First picture and length, of forty in GOPs of twelve.
RANGES = [(0, 40), (12, 12), (7, 20), (7, 16), (0, 14), (5, 3), (30, 10), (11, 1)]


@pytest.fixture(scope="module")
def sources() -> dict[str, Source]:
    return {name: encode_clip(moving_pictures(40), clip) for name, clip in SOURCES.items()}


def video_of(path: Path, source: Source) -> Video:
    write_span(path, source)
    return look_through(path, schema_of(source))


def schema_of(source: Source) -> Schema:
    stream = source.stream
    return Schema(stream.codec, stream.width, stream.height, stream.fps)


def same(found: list[Picture], expected: list[Picture]) -> bool:
    return len(found) == len(expected) and all(map(np.array_equal, found, expected))


def shown_at(path: Path, fps: int) -> list[float]:
    """When each picture is shown, in frames."""
    with closing(av.open(str(path), "r")) as container:
        return [float((one.pts or 0) * one.time_base * fps) for one in container.decode(video=0) if one.time_base]


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize(("first", "length"), RANGES)
def test_a_clip_shows_exactly_its_pictures(
    sources: dict[str, Source], tmp_path: Path, name: str, first: int, length: int
) -> None:
    source = sources[name]
    video = video_of(tmp_path / "video.mp4", source)
    cut = cut_of(video.order, first, length)
    write_clip(video, cut, tmp_path / "clip.mp4")
    assert same(decode(str(tmp_path / "clip.mp4")), source.pictures[first : first + length])
    assert shown_at(tmp_path / "clip.mp4", source.stream.fps) == list(range(length))
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == source.stream.fps
        assert stream.duration is not None
        assert stream.time_base is not None
        assert abs(stream.duration * stream.time_base * source.stream.fps - length) < 0.1


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize(("first", "length"), RANGES)
def test_the_pictures_from_the_key_on_can_be_shown_too(
    sources: dict[str, Source], tmp_path: Path, name: str, first: int, length: int
) -> None:
    source = sources[name]
    video = video_of(tmp_path / "video.mp4", source)
    cut = cut_from_key(video.order, first, length)
    write_clip(video, cut, tmp_path / "clip.mp4")
    assert same(decode(str(tmp_path / "clip.mp4")), source.pictures[cut.first : first + length])
    assert shown_at(tmp_path / "clip.mp4", source.stream.fps) == list(range(cut.length))


def test_packets_are_as_they_were(sources: dict[str, Source], tmp_path: Path) -> None:
    source = sources["h264"]
    video = video_of(tmp_path / "video.mp4", source)
    write_clip(video, cut_of(video.order, 12, 28), tmp_path / "clip.mp4")
    before, after = read_packets(tmp_path / "video.mp4")[12:], read_packets(tmp_path / "clip.mp4")
    assert [one[2:] for one in after] == [one[2:] for one in before]  # duration, flag, sha256
    shift = 12 * 512
    assert [one[:2] for one in after] == [(pts - shift, dts - shift) for pts, dts, *_ in before]
    assert [one[0] for one in after] != sorted(one[0] for one in after), "no B-frames: the test shows nothing"


def test_only_idr_pictures_and_the_first_are_marked(sources: dict[str, Source], tmp_path: Path) -> None:
    """Where an open GOP begins a clip can begin, but what comes before it must not be skipped elsewhere."""
    source = sources["hevc open"]
    video = video_of(tmp_path / "video.mp4", source)
    keys = [int(one) for one in video.order.positions[video.order.keys]]
    assert len(keys) > 2
    assert int(video.idr.sum()) == 1
    cut = cut_of(video.order, keys[1], 40 - keys[1])
    assert not cut.before
    write_clip(video, cut, tmp_path / "clip.mp4")
    assert same(decode(str(tmp_path / "clip.mp4")), source.pictures[keys[1] :])
    flags = sync_samples(tmp_path / "clip.mp4")
    assert flags[0]
    assert not any(flags[1:])


def test_episodes_that_share_a_file_are_told_apart(tmp_path: Path) -> None:
    """Packed, with parameter sets of their own; each clip is made from the shared file."""
    sources = [encode(moving_pictures(13 + i, seed=i), gop=6, b_frames=i) for i in range(3)]
    schema = schema_of(sources[0])
    parts, first = [], 0
    for i, source in enumerate(sources):
        write_span(tmp_path / f"{i}.mp4", source)
        pictures: Pictures = pictures_of(tmp_path / f"{i}.mp4", schema)
        parts.append(Part(tmp_path / f"{i}.mp4", first, pictures.packets))
        first += pictures.packets
    assert len({source.stream.extradata for source in sources}) > 1
    pack_videos(parts, tmp_path / "packed.mp4", schema)
    video = look_through(tmp_path / "packed.mp4", schema)
    for i, (part, source) in enumerate(zip(parts, sources, strict=True)):
        for begin, length in ((0, len(source.units)), (2, 9)):
            target = tmp_path / f"clip-{i}-{begin}.mp4"
            write_clip(video, cut_of(video.order, part.first_picture + begin, length), target)
            assert same(decode(str(target)), source.pictures[begin : begin + length]), (i, begin)


def test_the_same_clip_has_the_same_bytes(sources: dict[str, Source], tmp_path: Path) -> None:
    video = video_of(tmp_path / "video.mp4", sources["h264"])
    for name in ("a", "b"):
        write_clip(video, cut_of(video.order, 7, 20), tmp_path / f"{name}.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4", "video.mp4"]


def test_the_usual_cut_is_off_where_there_are_b_frames(sources: dict[str, Source], tmp_path: Path) -> None:
    """`ffmpeg -ss FROM -t SECONDS -c copy`, at a keyframe of a plain recording; why clips are made another way."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg to show it with")
    source = sources["h264"]
    (tmp_path / "recording.mp4").write_bytes(source.mp4)
    video = look_through(tmp_path / "recording.mp4", schema_of(source))
    off = []
    for first, length in itertools.product((0, 12, 24), (6, 9, 12)):
        arguments = ["-ss", str(first / 30), "-i", str(tmp_path / "recording.mp4"), "-t", str(length / 30)]
        target = tmp_path / f"usual-{first}-{length}.mp4"
        subprocess.run(["ffmpeg", "-v", "error", *arguments, "-c", "copy", str(target)], check=True)
        found = decode(str(target))
        off.append(len(found) - length)
        exact = tmp_path / f"exact-{first}-{length}.mp4"
        write_clip(video, cut_of(video.order, first, length), exact)
        assert same(decode(str(exact)), source.pictures[first : first + length])
    assert any(off), off
    assert all(abs(one) <= 2 for one in off), off


def damaged(path: Path, source: Source) -> Iterator[tuple[str, Path]]:
    write_span(path / "whole.mp4", source)
    content = (path / "whole.mp4").read_bytes()
    (path / "cut.mp4").write_bytes(content[: len(content) // 2])
    yield "Invalid data", path / "cut.mp4"
    spoilt = bytearray(content)
    at = content.index(b"mdat") + 4
    spoilt[at : at + 4] = b"\x7f\xff\xff\xff"
    (path / "spoilt.mp4").write_bytes(spoilt)
    yield "packet 0 in decode order", path / "spoilt.mp4"


def test_a_damaged_video_is_named(sources: dict[str, Source], tmp_path: Path) -> None:
    source = sources["h264"]
    for said, path in damaged(tmp_path, source):
        with pytest.raises((CorruptShardError, OSError), match=said):
            look_through(path, schema_of(source))
    video = video_of(tmp_path / "video.mp4", source)
    (tmp_path / "video.mp4").write_bytes((tmp_path / "whole.mp4").read_bytes()[:5000])
    with pytest.raises((CorruptShardError, OSError)):
        write_clip(video, cut_of(video.order, 0, 40), tmp_path / "clip.mp4")
    assert not list(tmp_path.glob("clip*"))
