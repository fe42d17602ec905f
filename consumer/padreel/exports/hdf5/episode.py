"""An episode of an HDF5 export as values, and everything that can be said against it. Nothing is read here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from padreel.exports.record import ExportedEpisode

# Name, type, vector or scalar, whether every episode has it.
ARRAYS: Final[Mapping[str, tuple[type[np.generic], bool, bool]]] = {
    "actions": (np.float32, True, True),
    "state": (np.float32, True, False),
    "keys": (np.float32, True, False),
    "timestamps": (np.float64, False, True),
    "frame_index": (np.int64, False, True),
    "time_ns": (np.int64, False, False),
    "pad_age": (np.float32, False, False),
}


@dataclass(frozen=True, slots=True)
class Hdf5Schema:
    """What all episodes of a file share. Pictures in pixels; names say what the slots of a row are."""

    fps: int
    width: int
    height: int
    codec: str
    game_id: str
    profile_name: str
    action_names: tuple[str, ...]
    state_names: tuple[str, ...]
    key_names: tuple[str, ...]

    def slots(self, array: str) -> int:
        """How many slots a vector has."""
        return len({"actions": self.action_names, "state": self.state_names, "keys": self.key_names}[array])

    def arrays(self) -> frozenset[str]:
        """Those arrays that follow from the schema: vectors with slots, and what every episode has."""
        return frozenset(
            name for name, (_, vector, always) in ARRAYS.items() if (self.slots(name) if vector else always)
        )


@dataclass(frozen=True, slots=True)
class Hdf5Episode:
    """One episode: its arrays by name, its task, and where its pictures are. `origin` says whence it is."""

    arrays: Mapping[str, NDArray[Any]]
    task: str
    video: str
    from_timestamp: float
    to_timestamp: float
    fps: int
    origin: ExportedEpisode

    @property
    def rows(self) -> int:
        return len(self.arrays["actions"])

    @property
    def first_picture(self) -> int:
        """The position in the mp4 of the picture of row 0."""
        return round(self.from_timestamp * self.fps)


def problems_of(episode: Hdf5Episode, schema: Hdf5Schema) -> list[str]:
    """Everything that an episode's values themselves have against them; nothing of its video is looked at."""
    problems: list[str] = []
    rows = episode.rows
    if not rows:
        return ["actions: no rows, expected one at least"]
    for name, values in episode.arrays.items():
        _, vector, _ = ARRAYS[name]
        expected = (rows, schema.slots(name)) if vector else (rows,)
        if values.shape != expected:
            problems.append(f"{name}: found shape {values.shape}, expected {expected}")
        elif not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0][0])
            problems.append(f"{name}: row {row} is not finite")
    if problems:
        return problems
    if not np.array_equal(episode.arrays["frame_index"], np.arange(rows)):
        problems.append("frame_index: expected 0, 1, 2, ...")
    times = episode.arrays["timestamps"]
    if (np.diff(times) <= 0).any():
        problems.append(
            f"timestamps: row {int(np.flatnonzero(np.diff(times) <= 0)[0]) + 1} is not after the one before"
        )
    elif np.abs(times - np.arange(rows) / schema.fps).max() > 1e-6:
        problems.append(f"timestamps: expected row / {schema.fps}")
    if "time_ns" in episode.arrays and (np.diff(episode.arrays["time_ns"]) < 0).any():
        problems.append("time_ns: steps back")
    return problems + _video_problems(episode, schema)


def _video_problems(episode: Hdf5Episode, schema: Hdf5Schema) -> list[str]:
    problems: list[str] = []
    path = PurePosixPath(episode.video)
    if not episode.video or path.is_absolute() or ".." in path.parts or "\\" in episode.video:
        problems.append(f"video: found {episode.video!r}, expected a path below the file's folder")
    if episode.fps != schema.fps:
        problems.append(f"fps: found {episode.fps}, expected {schema.fps} as the file has")
    first, end = episode.from_timestamp * schema.fps, episode.to_timestamp * schema.fps
    if not (math.isfinite(first) and math.isfinite(end)) or first < 0:
        problems.append(f"from_timestamp, to_timestamp: found {episode.from_timestamp} and {episode.to_timestamp}")
    elif max(abs(first - round(first)), abs(end - first - episode.rows)) > 1e-6:
        problems.append(
            f"from_timestamp, to_timestamp: {first:g} to {end:g} frames, expected {episode.rows} whole ones"
        )
    if not episode.task:
        problems.append("task: empty")
    return problems
