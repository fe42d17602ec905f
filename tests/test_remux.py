"""The mp4 that SpanWriter makes holds every access unit untouched, at the time that LeRobot looks for it."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from padreel.dataset.remux import TICKS_PER_FRAME, SpanWriter, keep_from
from padreel.errors import CorruptShardError
from padreel.model import Stream
from tests import video_source
from tests.video_source import (
    Clip,
    Source,
    Unit,
    annex_b,
    encode,
    encode_clip,
    moving_pictures,
    read_mp4,
    sync_samples,
    write_span,
)

DELIMITER = b"\x12\0"
RECORDED = ["melee_port1_480p", "melee_port2_180p25", "melee_port1_720p"]


@pytest.fixture(scope="module")
def sources(recordings: Path) -> dict[str, Source]:
    found = {name: read_mp4(str(recordings / "sessions" / name / "capture.mp4")) for name in RECORDED}
    found["annex b"] = annex_b(found["melee_port2_180p25"])
    found["full range"] = encode(moving_pictures(30), full_range=True)
    found["open"] = twice(encode_clip(moving_pictures(30), Clip(open_gop=True)))
    found["hevc"] = encode_clip(moving_pictures(40), Clip("libx265"))
    found["hevc open"] = twice(encode_clip(moving_pictures(30), Clip("libx265", open_gop=True)))
    found["hevc radl"] = encode_clip(moving_pictures(40), Clip("libx265", radl=2))
    found["hevc deep"] = encode_clip(moving_pictures(60), Clip("libx265", gop=40, b_frames=12))
    found["hevc full range"] = encode_clip(moving_pictures(20), Clip("libx265", full_range=True))
    found["hevc annex b"] = annex_b(found["hevc open"])
    found["av1"] = encode_clip(moving_pictures(40), Clip("libsvtav1"))
    found["av1 libaom"] = encode_clip(moving_pictures(40), Clip("libaom-av1"))
    found["av1 full range"] = encode_clip(moving_pictures(20), Clip("libsvtav1", full_range=True))
    found["av1 delimited"] = delimited(found["av1"])
    found["deep"] = encode(moving_pictures(70), gop=40, b_frames=16)
    found["intra"] = encode(moving_pictures(60), gop=1, b_frames=0)
    found["one"] = encode(moving_pictures(1))
    found["slow"] = encode(moving_pictures(20), fps=7)  # below 20 fps the muxer takes a finer time base
    return found


NAL_SOURCES = ["annex b", "full range", "open", "deep", "intra", "one", "slow"]
HEVC_SOURCES = ["hevc", "hevc open", "hevc radl", "hevc deep", "hevc full range", "hevc annex b"]
AV1_SOURCES = ["av1", "av1 libaom", "av1 full range", "av1 delimited"]
SOURCES = [*RECORDED, *NAL_SOURCES, *HEVC_SOURCES, *AV1_SOURCES]
TAGS = {"h264": "avc1", "hevc": "hvc1", "av1": "av01"}
LEADS = {"h264": 16, "hevc": 16, "av1": 0}


def twice(source: Source) -> Source:
    """An open GOP's stream has one IDR; so here it is again."""
    count = len(source.units)
    again = [replace(unit, index=unit.index + count) for unit in source.units]
    return replace(source, units=source.units + again, pictures=source.pictures * 2)


def delimited(source: Source) -> Source:
    """AV1 as it is sent bare: a temporal delimiter before each unit, extradata without the record around it."""
    units = [replace(unit, data=DELIMITER + unit.data) for unit in source.units]
    return replace(source, stream=replace(source.stream, extradata=source.stream.extradata[4:]), units=units)


def as_stored(unit: bytes) -> bytes:
    if not unit.startswith(video_source.START_CODE):
        return unit.removeprefix(DELIMITER)
    nals = unit.split(video_source.START_CODE)[1:]
    return b"".join(len(nal).to_bytes(4, "big") + nal for nal in nals)


def check_packets(path: Path, fps: int, units: Sequence[Unit]) -> None:
    """Every packet is as it was meant: bytes, pts, dts, duration, flag."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        lead, tick = LEADS[video.codec_context.codec.canonical_name], Fraction(1, TICKS_PER_FRAME * fps)
        found = [packet for packet in container.demux(video) if packet.dts is not None]
        assert len(found) == len(units)
        assert sync_samples(path) == [unit.idr for unit in units]
        for j, (packet, unit) in enumerate(zip(found, units, strict=True)):
            base = packet.time_base
            assert packet.pts is not None
            assert packet.dts is not None
            assert packet.duration is not None
            assert base is not None
            assert bytes(packet) == as_stored(unit.data)
            assert packet.pts * base == unit.index * TICKS_PER_FRAME * tick
            assert packet.dts * base == (j - lead) * TICKS_PER_FRAME * tick
            assert packet.duration * base == TICKS_PER_FRAME * tick
            assert not packet.is_discard
            assert not packet.is_corrupt


@pytest.mark.parametrize("name", SOURCES)
def test_every_packet_is_written_as_meant(sources: dict[str, Source], name: str, tmp_path: Path) -> None:
    source = sources[name]
    write_span(tmp_path / "span.mp4", source)
    check_packets(tmp_path / "span.mp4", source.stream.fps, source.units)


def test_the_sources_have_b_frames(sources: dict[str, Source]) -> None:
    """Else the tests here prove little."""
    for name in (*RECORDED, "deep"):
        indexes = [unit.index for unit in sources[name].units]
        assert indexes != sorted(indexes), name


@pytest.mark.parametrize("name", SOURCES)
def test_pictures_are_the_source_s(sources: dict[str, Source], name: str, tmp_path: Path) -> None:
    source = sources[name]
    write_span(tmp_path / "span.mp4", source)
    found = video_source.decode(str(tmp_path / "span.mp4"))
    assert len(found) == len(source.pictures)
    assert all(np.array_equal(a, b) for a, b in zip(found, source.pictures, strict=True))


@pytest.mark.parametrize("name", SOURCES)
def test_the_container_says_what_the_stream_says(sources: dict[str, Source], name: str, tmp_path: Path) -> None:
    stream = sources[name].stream
    write_span(tmp_path / "span.mp4", sources[name])
    with av.open(str(tmp_path / "span.mp4")) as container:
        video = container.streams.video[0]
        context = video.codec_context
        tag = TAGS[stream.codec]
        assert (context.width, context.height, context.codec_tag) == (stream.width, stream.height, tag)
        assert context.color_range == stream.color_range
        assert context.colorspace == stream.color_space
        assert context.color_primaries == stream.color_primaries
        assert context.color_trc == stream.color_transfer
        if name not in ("annex b", "hevc annex b", "av1 delimited"):
            stored = context.extradata or b""
            assert len(stored) == len(stream.extradata)
            # Of hvc1 a record says that it has all parameter sets: a bit of each array, which an encoder's may lack.
            allowed = {0, 0x80} if stream.codec == "hevc" else {0}
            assert {a ^ b for a, b in zip(stored, stream.extradata, strict=True)} <= allowed
        assert video.average_rate == stream.fps
        assert video.start_time == 0


def test_it_is_a_plain_file(sources: dict[str, Source], tmp_path: Path) -> None:
    """One index, at the end, and an edit list; no fragments."""
    write_span(tmp_path / "span.mp4", sources["deep"])
    content = (tmp_path / "span.mp4").read_bytes()
    assert content.count(b"moov") == 1
    assert content.index(b"moov") > content.index(b"mdat")
    assert b"moof" not in content
    assert b"elst" in content


def gops(source: Source) -> list[int]:
    return [unit.index for unit in source.units if unit.idr]


@pytest.mark.parametrize("name", ["full range", "hevc", "av1"])
def test_an_open_span_has_no_threads(sources: dict[str, Source], name: str, tmp_path: Path) -> None:
    """A decoder that is opened beside the muxer would bring one for each core, and hundreds of spans can be open."""
    before = len(os.listdir("/proc/self/task"))
    with SpanWriter(tmp_path / "open.mp4", sources[name].stream):
        assert len(os.listdir("/proc/self/task")) == before


@pytest.mark.parametrize(
    "name",
    [
        *(
            "melee_port1_480p",
            "annex b",
            "open",
            "deep",
            "intra",
            "slow",
            "hevc",
            "hevc open",
            "hevc annex b",
            "hevc deep",
        ),
        *("av1", "av1 delimited"),
    ],
)
def test_keep_from_equals_writing_only_the_rest(sources: dict[str, Source], name: str, tmp_path: Path) -> None:
    source = sources[name]
    first = gops(source)[-1]
    assert first > 0
    write_span(tmp_path / "whole.mp4", source)
    packets = keep_from(tmp_path / "whole.mp4", tmp_path / "kept.mp4", first, source.stream, gops(source))
    rest = [replace(unit, index=unit.index - first) for unit in source.units if unit.index >= first]
    assert packets == len(rest)
    check_packets(tmp_path / "kept.mp4", source.stream.fps, rest)
    found = video_source.decode(str(tmp_path / "kept.mp4"))
    assert all(np.array_equal(a, b) for a, b in zip(found, source.pictures[first:], strict=True))
    write_span(tmp_path / "direct.mp4", source, rest)
    assert (tmp_path / "kept.mp4").read_bytes() == (tmp_path / "direct.mp4").read_bytes()


def test_keep_from_a_place_without_an_idr(sources: dict[str, Source], tmp_path: Path) -> None:
    write_span(tmp_path / "whole.mp4", sources["deep"])
    with pytest.raises(CorruptShardError, match="no key at display position 13"):
        keep_from(tmp_path / "whole.mp4", tmp_path / "kept.mp4", 13, sources["deep"].stream, [0, 40])
    assert not (tmp_path / "kept.mp4").exists()


def test_keep_from_a_file_of_another_rate(sources: dict[str, Source], tmp_path: Path) -> None:
    write_span(tmp_path / "whole.mp4", sources["deep"])
    with pytest.raises(CorruptShardError, match="whole frames at 7 fps"):
        keep_from(tmp_path / "whole.mp4", tmp_path / "kept.mp4", 40, replace(sources["deep"].stream, fps=7), [0, 40])


def test_what_no_caller_may_ask_for(tmp_path: Path) -> None:
    source = encode(moving_pictures(2))
    with pytest.raises(ValueError, match="codec 'vp9', expected one of h264"):
        SpanWriter(tmp_path / "span.mp4", replace(source.stream, codec="vp9"))
    writer = SpanWriter(tmp_path / "span.mp4", source.stream)
    with pytest.raises(ValueError, match="unit 0 is empty"):
        writer.append(0, True, b"")
    writer.append(0, True, source.units[0].data)
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="after the span was closed"):
        writer.append(1, False, source.units[1].data)


def test_discard_takes_the_file_away(tmp_path: Path) -> None:
    source = encode(moving_pictures(3))
    writer = SpanWriter(tmp_path / "span.mp4", source.stream)
    writer.append(0, True, source.units[0].data)
    writer.discard()
    writer.discard()
    assert list(tmp_path.iterdir()) == []
    SpanWriter(tmp_path / "span.mp4", source.stream).discard()
    assert list(tmp_path.iterdir()) == []


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """No file may grow beyond 64 KiB: what a full disk does, without one. Not even the one that pytest reports to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_no_more_is_an_oserror(tmp_path: Path) -> None:
    source = encode(moving_pictures(1))
    writer = SpanWriter(tmp_path / "span.mp4", source.stream)

    def fill() -> None:
        for i in range(200):
            writer.append(i, True, source.units[0].data)
        writer.close()

    with small_files():
        with pytest.raises(OSError, match="File too large"):
            fill()
        with contextlib.suppress(OSError):  # closing writes the index, for which there is no room either
            writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_oserror(tmp_path: Path) -> None:
    stream = Stream("h264", 96, 64, 30, encode(moving_pictures(1)).stream.extradata)
    with pytest.raises(FileNotFoundError):
        SpanWriter(tmp_path / "missing" / "span.mp4", stream)
