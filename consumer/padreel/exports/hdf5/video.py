"""The mp4s beside an HDF5 file: whether each has the pictures that its episode needs, and a line about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av

from padreel.dataset.remux import open_span
from padreel.exports.hdf5.episode import Hdf5Episode, Hdf5Schema
from padreel_schemas import capture

MANIFEST: Final = Path("episode_video_manifest.jsonl")
FORMAT_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Shown:
    """What an mp4 shows: its pictures' times in frames, in order, their size, and the codec."""

    positions: tuple[float, ...]
    width: int
    height: int
    codec: str


def look_at(path: Path, schema: Hdf5Schema) -> Shown | str:
    """Read an mp4's packets; in words why it cannot be read. Nothing is decoded."""
    found: list[float] = []
    try:
        with open_span(path, schema.width, schema.height) as container:
            if not container.streams.video:
                return f"{path}: no video stream"
            video = container.streams.video[0]
            for packet in capture.packets_of(video):
                if packet.pts is None or packet.time_base is None:
                    return f"{path}: packet {len(found)} has no time"
                if not packet.is_discard:
                    found.append(float(packet.pts * packet.time_base * schema.fps))
            context = video.codec_context
            size, codec = (context.width, context.height), context.codec.canonical_name
    except (OSError, av.FFmpegError) as error:
        return f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"
    return Shown(tuple(sorted(found)), *size, codec)


def video_problems(path: Path, episode: Hdf5Episode, schema: Hdf5Schema) -> list[str]:
    """What is wrong with an episode's mp4."""
    shown = look_at(path, schema)
    if isinstance(shown, str):
        return [shown]
    problems: list[str] = []
    if (shown.width, shown.height, shown.codec) != (schema.width, schema.height, schema.codec):
        found = f"{shown.codec} {shown.width}x{shown.height}"
        problems.append(f"{path}: found {found}, expected {schema.codec} {schema.width}x{schema.height}")
    wrong = [i for i, position in enumerate(shown.positions) if abs(position - i) > 0.01]
    if wrong:
        at = shown.positions[wrong[0]]
        problems.append(f"{path}: picture {wrong[0]} is shown at frame {at:g}, expected {wrong[0]} at {schema.fps} Hz")
    needed = episode.first_picture + episode.rows
    if len(shown.positions) < needed:
        problems.append(f"{path}: {len(shown.positions)} pictures, expected {needed}")
    return problems


def manifest_line(root: Path, n: int, episode: Hdf5Episode, schema: Hdf5Schema, sha256: str) -> dict[str, Any]:
    """The line about episode `n`; `root` is the folder that its video's path is relative to. Raises OSError."""
    return {
        "format_version": FORMAT_VERSION,
        "episode": n,
        "video": episode.video,
        "sha256": sha256,
        "bytes": (root / episode.video).stat().st_size,
        "codec": schema.codec,
        "width": schema.width,
        "height": schema.height,
        "fps": schema.fps,
        "from_timestamp": episode.from_timestamp,
        "to_timestamp": episode.to_timestamp,
        "rows": episode.rows,
        "task": episode.task,
        "session": episode.origin.session,
    }
