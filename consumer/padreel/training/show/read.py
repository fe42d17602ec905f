"""What is to be shown of an episode, read from any dataset that padreel writes: a shard, a merged or relabelled set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from padreel.core.pad import OBSERVATION_NAMES
from padreel.dataset import layout
from padreel.errors import CorruptShardError, DatasetError, InputError
from padreel.training.check.check import folders
from padreel.training.tree import Place, Tree, TreeError, episode_files, read_schema, read_table, read_tree

Floats = NDArray[np.float32]

_TOLD: Final = ("session", "rig", "end_reason", "forced", "late", "video_sha256", "data_sha256")
_COLUMNS: Final = (layout.ACTION, layout.OBSERVATION, layout.KEYS, layout.TIME_NS, layout.PAD_AGE)


@dataclass(frozen=True, slots=True)
class ShownEpisode:
    """An episode with everything that is drawn. Arrays have a row per frame; None where the dataset has no such column.

    `told` is what its metadata says: session, rig, end_reason, forced, late, sha256 of its files in the shard. Its
    pictures are those of `video` from `first_picture` on.
    """

    index: int
    task: str
    told: Mapping[str, Any]
    fps: int
    size: tuple[int, int]
    action_names: tuple[str, ...]
    action_kinds: tuple[str, ...]  # digital, analog, trigger, vector2; empty where the dataset does not say
    action: Floats
    pad: Floats | None  # (rows, 27), as `OBSERVATION_NAMES`
    key_names: tuple[str, ...]
    keys: Floats | None
    time_ns: NDArray[np.int64] | None
    pad_age: Floats | None
    video: Path
    first_picture: int

    @property
    def length(self) -> int:
        return len(self.action)

    def digest(self) -> str:
        """A hex digest of what is drawn, the pictures by the sha256 that the metadata has of their file."""
        told = {**self.told, "task": self.task, "fps": self.fps, "size": self.size, "first": self.first_picture}
        named = [self.action_names, self.action_kinds, self.key_names]
        found = hashlib.sha256(json.dumps([told, named], sort_keys=True).encode())
        for values in (self.action, self.pad, self.keys, self.time_ns, self.pad_age):
            found.update(b"-" if values is None else np.ascontiguousarray(values).tobytes())
        return found.hexdigest()


def find_datasets(path: Path) -> list[Path]:
    """The dataset that `path` is, or those directly below it, without shards that have no episode yet.

    Raises InputError where there is none.
    """
    found = [(one, kind) for one, kind in folders(path) if kind != "session"]
    if not found:
        raise InputError(f"{path}: found no shard or dataset; expected one, or a folder whose folders are")
    begun = [one for one, kind in found if kind != "shard" or (one / layout.INFO).exists()]
    if not begun:
        raise InputError(f"{path}: found no episode yet in {len(found)} shards")
    return begun


def open_dataset(path: Path) -> ShownDataset:
    """Read what describes a dataset. Raises DatasetError where LeRobot could not use it, OSError."""
    try:
        tree = read_tree(path)
        told = _told(path)
        features = tree.info["features"]
        names = tuple(map(str, features[layout.ACTION]["names"]))
        keys = tuple(map(str, features.get(layout.KEYS, {}).get("names", ())))
        pad = list(features.get(layout.OBSERVATION, {}).get("names", ()))
    except TreeError as error:
        raise DatasetError(f"{error}; `padreel check` says more") from error
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{path / layout.INFO}: features: {error!r}; expected padreel's") from error
    if pad and pad != list(OBSERVATION_NAMES):
        raise DatasetError(f"{path / layout.INFO}: {layout.OBSERVATION}: found other names than SDL3's pad")
    return ShownDataset(path, tree, told, names, _kinds(tree.info, len(names)), keys)


class ShownDataset:
    """A dataset and its episodes; keeps the rows of one data file at a time."""

    def __init__(
        self,
        path: Path,
        tree: Tree,
        told: list[dict[str, Any]],
        action_names: tuple[str, ...],
        action_kinds: tuple[str, ...],
        key_names: tuple[str, ...],
    ) -> None:
        """For `open_dataset` alone."""
        self.path = path
        self._tree, self._told = tree, told
        self._action_names, self._action_kinds, self._key_names = action_names, action_kinds, key_names
        self._loaded: tuple[str, pa.Table] | None = None

    def __len__(self) -> int:
        """How many episodes info.json counts; a writer may be adding more."""
        return min(len(self._tree.places), int(self._tree.info["total_episodes"]))

    def episode(self, index: int) -> ShownEpisode:
        """Read one. Raises InputError where there is none of that number, CorruptShardError, OSError."""
        if not 0 <= index < len(self):
            raise InputError(
                f"{self.path}: --episode {index}: found {len(self)} episodes, expected 0 to {len(self) - 1}"
            )
        place = self._tree.places[index]
        columns = self._rows(place)
        return ShownEpisode(
            index=index,
            task=", ".join(place.tasks),
            told=self._told[index],
            fps=self._tree.fps,
            size=self._tree.size,
            action_names=self._action_names,
            action_kinds=self._action_kinds,
            action=columns[layout.ACTION],
            pad=columns.get(layout.OBSERVATION),
            key_names=self._key_names,
            keys=columns.get(layout.KEYS),
            time_ns=columns.get(layout.TIME_NS),
            pad_age=columns.get(layout.PAD_AGE),
            video=self.path / place.video,
            first_picture=round(place.from_timestamp * self._tree.fps),
        )

    def _rows(self, place: Place) -> dict[str, Any]:
        path = self.path / place.data
        try:
            if self._loaded is None or self._loaded[0] != place.data:
                wanted = [name for name in _COLUMNS if name in self._tree.info["features"]]
                self._loaded = place.data, read_table(path, ["episode_index", *wanted])
        except TreeError as error:
            raise CorruptShardError(f"{error}; restore it from a copy") from error
        table = self._loaded[1]
        rows = np.flatnonzero(table.column("episode_index").to_numpy() == place.index)
        if len(rows) != place.length or not len(rows) or rows[-1] - rows[0] != len(rows) - 1:
            raise CorruptShardError(
                f"{path}: found {len(rows)} rows of episode {place.index}, expected {place.length} in a row"
            )
        mine = table.slice(int(rows[0]), len(rows))
        return {name: _array(mine.column(name)) for name in mine.column_names if name != "episode_index"}


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    values = column.combine_chunks()
    if not pa.types.is_fixed_size_list(values.type) and not pa.types.is_list(values.type):
        found: NDArray[Any] = column.to_numpy()
        return found
    matrix: NDArray[np.float32] = values.flatten().to_numpy(zero_copy_only=False).reshape(len(values), -1)
    return matrix.astype(np.float32)


def _told(root: Path) -> list[dict[str, Any]]:
    """What the metadata says of each episode; a column that is not there is left out."""
    found: list[dict[str, Any]] = []
    for path in episode_files(root):
        names = set(read_schema(path).names)
        found += read_table(path, [name for name in _TOLD if name in names] or ["episode_index"]).to_pylist()
    return found


def _kinds(info: Mapping[str, Any], slots: int) -> tuple[str, ...]:
    """The kind of each slot of the action, which LeRobot's tools forget: empty then."""
    entries = info.get("extensions", {}).get("game_converter", {}).get("action_layout", ())
    kinds = [entry["kind"] for entry in entries for _ in range(entry["size"])]
    return tuple(kinds) if len(kinds) == slots else ()
