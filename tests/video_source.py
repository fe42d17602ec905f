"""Sources of H.264 for tests: real recordings taken apart, synthetic streams, and plain decoding to compare with."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from padreel.dataset.remux import SpanWriter
from padreel.model import Stream
from padreel_schemas.v1.video_pb2 import VideoStream

Picture = NDArray[np.uint8]

START_CODE = b"\0\0\0\1"


@dataclass(frozen=True, slots=True)
class Unit:
    """One access unit: its display position, whether it is an IDR by its NAL types, its bytes."""

    index: int
    idr: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Source:
    """Access units in decode order, the pictures that a decoder makes of them, in display order, and the file."""

    stream: Stream
    units: list[Unit]
    pictures: list[Picture]
    mp4: bytes


def stream_block(of: Source) -> VideoStream:
    """The stream block that a rig sends with a keyframe of this source."""
    stream = of.stream
    return VideoStream(
        codec="h264",
        width=stream.width,
        height=stream.height,
        fps_num=stream.fps,
        fps_den=1,
        extradata=stream.extradata,
        color_range=stream.color_range,
        color_space=stream.color_space,
        color_primaries=stream.color_primaries,
        color_transfer=stream.color_transfer,
    )


def nal_units(unit: bytes) -> Iterator[bytes]:
    """The NAL units of a length-prefixed access unit."""
    at = 0
    while at < len(unit):
        (size,) = struct.unpack_from(">I", unit, at)
        yield unit[at + 4 : at + 4 + size]
        at += 4 + size
    assert at == len(unit)


def rgb(frame: av.VideoFrame) -> Picture:
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def read_mp4(file: str | io.BytesIO) -> Source:
    """Take an mp4 apart."""
    content = Path(file).read_bytes() if isinstance(file, str) else file.getvalue()
    with av.open(io.BytesIO(content), "r") as container:
        video = container.streams.video[0]
        context = video.codec_context
        assert video.average_rate is not None
        stream = Stream(
            codec="h264",
            width=context.width,
            height=context.height,
            fps=round(video.average_rate),
            extradata=bytes(context.extradata or b""),
            color_range=int(context.color_range),
            color_space=int(context.colorspace),
            color_primaries=int(context.color_primaries),
            color_transfer=int(context.color_trc),
        )
        packets = [packet for packet in container.demux(video) if packet.dts is not None]
        rank = {pts: i for i, pts in enumerate(sorted(packet.pts or 0 for packet in packets))}
        units = [
            Unit(rank[packet.pts or 0], any(nal[0] & 31 == 5 for nal in nal_units(bytes(packet))), bytes(packet))
            for packet in packets
        ]
    return Source(stream, units, decode(io.BytesIO(content)), content)


def decode(file: str | io.BytesIO) -> list[Picture]:
    """All pictures of a file, as RGB, in display order."""
    with closing(av.open(file, "r")) as container:
        return [rgb(frame) for frame in container.decode(video=0)]


def moving_pictures(count: int, width: int = 96, height: int = 64, seed: int = 0) -> list[Picture]:
    """Noise with a bar that moves, so that each picture differs from every other."""
    random = np.random.default_rng(seed)
    base = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    pictures = []
    for i in range(count):
        picture = np.roll(base, 3 * i, axis=1)
        picture[:, (5 * i) % width : (5 * i) % width + 8] = (i * 37) % 256
        pictures.append(np.ascontiguousarray(picture))
    return pictures


def encode(
    pictures: Sequence[Picture], *, fps: int = 30, gop: int = 12, b_frames: int = 3, full_range: bool = False
) -> Source:
    """Encode with x264 and take the result apart. Every key picture is an IDR."""
    height, width, _ = pictures[0].shape
    sink = io.BytesIO()
    with av.open(sink, "w", format="mp4") as container:
        params = f"keyint={gop}:min-keyint={gop}:bframes={b_frames}:b-adapt=0:scenecut=0:open-gop=0"
        if full_range:
            params += ":fullrange=on:colorprim=bt709:transfer=bt709:colormatrix=bt709"
        stream = container.add_stream("libx264", rate=fps, options={"x264-params": params, "preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if full_range:
            stream.codec_context.color_range = 2
            stream.codec_context.colorspace = 1
            stream.codec_context.color_primaries = 1
            stream.codec_context.color_trc = 1
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    source = read_mp4(sink)
    assert len(source.units) == len(pictures) == len(source.pictures)
    return source


def annex_b(source: Source) -> Source:
    """The same stream with start codes instead of length prefixes, extradata too."""
    avcc = source.stream.extradata
    sets, at = [], 6
    for count in (avcc[5] & 31, None):
        if count is None:
            count, at = avcc[at], at + 1
        for _ in range(count):
            (size,) = struct.unpack_from(">H", avcc, at)
            sets.append(avcc[at + 2 : at + 2 + size])
            at += 2 + size
    units = [replace(u, data=b"".join(START_CODE + nal for nal in nal_units(u.data))) for u in source.units]
    extradata = b"".join(START_CODE + one for one in sets)
    return replace(source, stream=replace(source.stream, extradata=extradata), units=units)


def write_span(path: Path, source: Source, units: Sequence[Unit] | None = None) -> None:
    writer = SpanWriter(path, source.stream)
    for unit in source.units if units is None else units:
        writer.append(unit.index, unit.idr, unit.data)
    writer.close()
