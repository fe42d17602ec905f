"""By reference and inline give the same episode, byte for byte; a recording that is late or replaced."""

from __future__ import annotations

import asyncio
import errno
import io
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from padreel.core.reference import MediaScan
from padreel.dataset.layout import shard_folder
from padreel.dataset.media import MediaFiles, MediaNotReadyError
from padreel.dataset.remux import SpanWriter
from padreel.media import MediaRange
from tests.consumer_on_disk import Member, record_rows, record_video
from tests.fakes import FakeBroker
from tests.video_source import Clip, Source, decode, encode, encode_clip, moving_pictures, write_span

SOURCE = encode(moving_pictures(30))
CLIPS = {
    "h264": Clip(),
    "hevc": Clip("libx265"),
    "hevc with open gops": Clip("libx265", open_gop=True),
    "hevc with leading pictures of its idrs": Clip("libx265", radl=2),
    "av1": Clip("libsvtav1"),
}


@pytest.fixture
def media(tmp_path: Path) -> Path:
    (tmp_path / "media" / "two").mkdir(parents=True)
    write_span(tmp_path / "media" / "two" / "capture.mp4", SOURCE)
    return tmp_path / "media"


def write_mkv(path: Path, source: Source) -> None:
    """The units as they are, leading pictures too."""
    with av.open(io.BytesIO(source.mp4)) as container, av.open(str(path), "w") as copy:
        stream = copy.add_stream_from_template(container.streams.video[0], opaque=True)
        for j, unit in enumerate(source.units):
            packet = av.Packet(unit.data)
            packet.stream, packet.time_base = stream, Fraction(1, source.stream.fps)
            packet.pts, packet.dts, packet.is_keyframe = unit.index, j - 4, unit.idr or j == 0
            copy.mux(packet)


def from_open_gop(source: Source) -> Source:
    """The stream from the second key picture on: first come three leading pictures, which cannot be shown."""
    first = next(j for j, unit in enumerate(source.units) if unit.index == 12)
    units = [replace(unit, index=unit.index - 9) for unit in source.units[first:]]
    assert [unit.index for unit in units[:4]] == [3, 1, 0, 2]
    return replace(source, units=units, pictures=source.pictures[12:])


@pytest.mark.parametrize("name", [*CLIPS, "from an open gop on"])
def test_every_codec_gives_the_episodes_that_inline_gives(tmp_path: Path, name: str) -> None:
    source = encode_clip(moving_pictures(40), CLIPS.get(name, CLIPS["hevc with open gops"]))
    source = source if name in CLIPS else from_open_gop(source)
    (tmp_path / "media").mkdir()
    write_mkv(tmp_path / "media" / "capture.mkv", source)
    broker, media = FakeBroker(1), MediaFiles(tmp_path / "media")
    record_video(broker, 0, "one@1", source)
    record_rows(broker, 0, "two@2", source, "capture.mkv")
    codec = source.stream.codec

    async def scene(threads: ThreadPoolExecutor) -> None:
        member = Member(
            broker, tmp_path / "out", threads, media=media, codec=codec, until="end", max_episode_seconds=0.5
        )
        await member.consumer.run()

    play(scene)
    assert broker.letters == []
    found = videos(tmp_path / "out")
    parts = 2 if name in ("h264", "hevc", "av1") else 1
    assert len(found) == 2 * parts
    assert found[:parts] == found[parts:]
    pictures = [one for file in found[:parts] for one in decode(io.BytesIO(file))]
    assert all(np.array_equal(one, other) for one, other in zip(pictures, source.pictures, strict=True))


def videos(root: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((root / shard_folder(0)).glob("videos/*/*/*.mp4"))]


def play(scene: Callable[[ThreadPoolExecutor], Awaitable[None]]) -> None:
    async def run() -> None:
        with ThreadPoolExecutor(4) as threads:
            async with asyncio.timeout(300):
                await scene(threads)

    asyncio.run(run())


class Stale(MediaFiles):
    """Answers ESTALE the first times, to looking through and to copying."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.stale = {"scan": 1, "copy": 2}

    def _fail(self, what: str) -> None:
        if self.stale[what]:
            self.stale[what] -= 1
            raise OSError(errno.ESTALE, "Stale file handle")

    def scan(self, uri: str, rows: int) -> MediaScan:
        try:
            self._fail("scan")
        except OSError as error:
            raise MediaNotReadyError(str(error)) from error
        return super().scan(uri, rows)

    def copy(self, media: MediaRange, writer: SpanWriter) -> None:
        self._fail("copy")
        super().copy(media, writer)


def test_it_is_the_episode_that_inline_gives_also_on_a_share_that_is_stale_for_a_while(
    tmp_path: Path, media: Path
) -> None:
    broker = FakeBroker(1)
    record_video(broker, 0, "one@1", SOURCE)
    record_rows(broker, 0, "two@2", SOURCE, "two/capture.mp4")
    files = Stale(media)

    async def scene(threads: ThreadPoolExecutor) -> None:
        member = Member(broker, tmp_path / "out", threads, media=files, until="end")
        await member.consumer.run()

    play(scene)
    inline, by_reference = videos(tmp_path / "out")
    assert by_reference == inline
    assert files.stale == {"scan": 0, "copy": 0}
    assert broker.letters == []


def test_outside_the_root_leaves_a_letter_and_the_others_go_on(tmp_path: Path, media: Path) -> None:
    broker = FakeBroker(1)
    record_rows(broker, 0, "two@2", SOURCE, "../capture.mp4")
    record_video(broker, 0, "one@1", SOURCE)

    async def scene(threads: ThreadPoolExecutor) -> None:
        await Member(broker, tmp_path / "out", threads, media=MediaFiles(media), until="end").consumer.run()

    play(scene)
    assert len(videos(tmp_path / "out")) == 1
    (letter,) = broker.letters
    assert (letter.reason, letter.key) == ("media", b"two@2")
    assert "../capture.mp4" in letter.detail
