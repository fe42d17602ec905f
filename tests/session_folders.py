"""Session folders as a recorder leaves them, small, made on the spot."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

from padreel_schemas.v1.gamepad_pb2 import GamepadState

START_NS = 5_000_000_000
FRAME_NS = 33_333_333


def frame_times(count: int) -> list[int]:
    return [START_NS + index * FRAME_NS for index in range(count)]


def write_video(
    path: Path, count: int, *, gop: int = 8, codec: str = "libx264", rate: int = 30, fragmented: bool = False
) -> None:
    """A video with two B-frames between others, 64x48."""
    options = {"movflags": "frag_keyframe+empty_moov"} if fragmented else {}
    if path.suffix == ".mkv":
        options["cluster_time_limit"] = "300"  # milliseconds; what a cluster holds is written at once
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        if codec == "libx264":
            stream.options = {"bf": "2", "preset": "ultrafast", "g": str(gop), "x264-params": "b-adapt=0:scenecut=0"}
        for index in range(count):
            picture = np.full((48, 64, 3), (index * 37) % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_sync(path: Path, times: Sequence[int]) -> None:
    rows = (f"{index},{time_ns},{index * FRAME_NS}" for index, time_ns in enumerate(times))
    path.write_text("\n".join(["frame_index,monotonic_ns,pts", *rows]) + "\n")


def event(time_ns: int, *buttons: int) -> bytes:
    return GamepadState(monotonic_ns=time_ns, axes=[0.0] * 6, pressed_buttons=buttons).SerializeToString()


def write_actions(path: Path, payloads: Sequence[bytes]) -> None:
    path.write_bytes(b"".join(struct.pack("<I", len(payload)) + payload for payload in payloads))


def write_folder(
    folder: Path, frames: int = 20, events: int = 10, *, video: str = "capture.mp4", fragmented: bool = False
) -> Path:
    """A whole session; the pad changes `events` times, a button more or less each time."""
    folder.mkdir(parents=True)
    write_video(folder / video, frames, fragmented=fragmented)
    write_sync(folder / "sync.csv", frame_times(frames))
    step = frames * FRAME_NS // max(1, events)
    write_actions(folder / "actions.bin", [event(START_NS + n * step, *([0] if n % 2 else [])) for n in range(events)])
    return folder
