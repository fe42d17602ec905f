"""The input of all rows: H.264 with B-frames, encoded once, kept in the cache outside the checkout, and replayed."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from deploy.local.broker import cache_folder
from padreel_schemas.capture import open_video, packets_of, read_video
from padreel_schemas.v1.video_pb2 import VideoStream

FPS = 30
_VERSION = 1  # of what is drawn and how it is encoded


@dataclass(frozen=True, slots=True)
class Unit:
    """An access unit, at its display position."""

    index: int
    keyframe: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Clip:
    """A capture: its file, its stream block, its access units in decode order. GOPs are closed: it can be looped."""

    path: Path
    stream: VideoStream
    units: tuple[Unit, ...]

    @property
    def size(self) -> str:
        return f"{self.stream.width}x{self.stream.height}"

    @property
    def unit_bytes(self) -> float:
        """Mean size of an access unit."""
        return sum(len(unit.data) for unit in self.units) / len(self.units)


@functools.cache
def clip(seconds: int = 120, width: int = 1280, height: int = 720, *, gop: int = 60, kbit: int = 4_800) -> Clip:
    """A capture with two B-frames between others at about `kbit` kbit/s, out of the cache if it is there."""
    folder = cache_folder() / "benchmarks"
    path = folder / f"capture-v{_VERSION}-{width}x{height}-{seconds}s-g{gop}-{kbit}k.mp4"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.mp4")
        _encode(partial, seconds, width, height, gop, kbit)
        partial.rename(path)
    stream, places = read_video(path)
    with open_video(path) as container:
        packets = list(packets_of(container.streams.video[0]))
        units = tuple(
            Unit(place, packet.is_keyframe, bytes(packet)) for place, packet in zip(places, packets, strict=True)
        )
    return Clip(path, stream, units)


def _encode(path: Path, seconds: int, width: int, height: int, gop: int, kbit: int) -> None:
    with av.open(str(path), "w", format="mp4", options={"use_editlist": "0"}) as container:
        stream = container.add_stream("libx264", rate=FPS)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = kbit * 1000
        stream.options = {
            "preset": "veryfast",
            "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes=2:b-adapt=0:open-gop=0"
            f":vbv-maxrate={2 * kbit}:vbv-bufsize={2 * kbit}:nal-hrd=none",
        }
        for number, picture in enumerate(_pictures(seconds * FPS, width, height)):
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _pictures(count: int, width: int, height: int) -> Iterator[NDArray[np.uint8]]:
    """A camera that pans over a rough landscape, with some noise: each (height * 3 // 2, width) in yuv420p."""
    random = np.random.default_rng(7)
    ground = random.integers(0, 200, (height // 8 * 2, width // 8 * 2), dtype=np.uint8)
    land = np.kron(ground, np.ones((8, 8), np.uint8))
    grains = [random.integers(0, 12, (height, width), dtype=np.uint8) for _ in range(7)]
    picture = np.full((height * 3 // 2, width), 128, np.uint8)
    for number in range(count):
        x, y = (2 * number) % width, int(height / 2 * (1 + np.sin(number / 200)))
        np.add(land[y : y + height, x : x + width], grains[number % 7], out=picture[:height])
        yield picture
