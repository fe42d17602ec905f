"""A dataset's files as LeRobot reads them: info, tasks, statistics, episodes and rows; parsed, not believed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from padreel.dataset import layout
from padreel.dataset.layout import CAMERA
from padreel.errors import DatasetError

# The columns that checks look at. The statistics are many and are not among them.
PLACES = (
    "episode_index",
    "tasks",
    "length",
    "data/chunk_index",
    "data/file_index",
    "dataset_from_index",
    "dataset_to_index",
    f"videos/{CAMERA}/chunk_index",
    f"videos/{CAMERA}/file_index",
    f"videos/{CAMERA}/from_timestamp",
    f"videos/{CAMERA}/to_timestamp",
)


class TreeError(DatasetError):
    """A descriptive file that LeRobot could not use; names it and says what is wrong."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an episode lies. `data` and `video` are paths relative to the dataset; timestamps in seconds."""

    index: int
    tasks: tuple[str, ...]
    length: int
    first_row: int
    end_row: int
    data: str
    video: str
    data_number: tuple[int, int]
    video_number: tuple[int, int]
    from_timestamp: float
    to_timestamp: float


@dataclass(frozen=True, slots=True)
class Tree:
    """What a dataset says of itself."""

    root: Path
    info: dict[str, Any]
    tasks: dict[str, int]
    stats: dict[str, Any]
    places: tuple[Place, ...]

    @property
    def fps(self) -> int:
        return int(self.info["fps"])

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        height, width, _ = self.info["features"][CAMERA]["shape"]
        return int(width), int(height)


def read_info(root: Path) -> dict[str, Any]:
    """meta/info.json, with everything that LeRobot and this package take from it. Raises TreeError."""
    path = root / layout.INFO
    info = _json(path)
    wanted: dict[str, type | tuple[type, ...]] = {
        "codebase_version": str,
        "fps": int,
        "features": dict,
        "total_episodes": int,
        "total_frames": int,
        "total_tasks": int,
        "data_path": str,
        "video_path": str,
        "splits": dict,
    }
    for name, kind in wanted.items():
        if not isinstance(info.get(name), kind) or isinstance(info.get(name), bool):
            raise TreeError(f"{path}: {name}: found {info.get(name)!r}, expected {getattr(kind, '__name__', kind)}")
    if info["codebase_version"] != layout.CODEBASE_VERSION:
        found = info["codebase_version"]
        raise TreeError(f"{path}: codebase_version: found {found!r}, expected {layout.CODEBASE_VERSION!r}")
    shape = info["features"].get(CAMERA, {}).get("shape")
    if not isinstance(shape, list) or len(shape) != 3:
        raise TreeError(f"{path}: features: {CAMERA}: found shape {shape!r}, expected [height, width, 3]")
    return info


def read_tree(root: Path) -> Tree:
    """Read all descriptive files. Raises TreeError, OSError."""
    info = read_info(root)
    return Tree(root, info, _tasks(root / layout.TASKS), _json(root / layout.STATS), _places(root, info))


def read_schema(path: Path) -> pa.Schema:
    """The columns of one parquet file. Raises TreeError where it is none, OSError."""
    schema: pa.Schema = _opened(path).schema_arrow
    return schema


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """One parquet file. Raises TreeError where it is none, or lacks a column; OSError."""
    file = _opened(path)
    missing = sorted(set(columns or ()) - set(file.schema_arrow.names))
    if missing:
        raise TreeError(f"{path}: columns missing: {', '.join(missing)}")
    try:
        return file.read(columns=columns, use_threads=False)
    except pa.ArrowException as error:
        raise TreeError(f"{path}: damaged ({str(error).splitlines()[0]})") from error


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError as error:
        raise TreeError(f"{path}: missing") from error
    except (pa.ArrowException, ValueError) as error:
        raise TreeError(f"{path}: no parquet file ({str(error).splitlines()[0]})") from error


def episode_files(root: Path) -> list[Path]:
    """The files with the episodes' metadata, as LeRobot globs them."""
    return sorted((root / "meta" / "episodes").glob("*/*.parquet"))


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise TreeError(f"{path}: missing") from error
    except ValueError as error:
        raise TreeError(f"{path}: no JSON ({error})") from error
    if not isinstance(content, dict):
        raise TreeError(f"{path}: found {type(content).__name__}, expected an object")
    return content


def _tasks(path: Path) -> dict[str, int]:
    """Tasks by name; their rows must be in the order of task_index, or LeRobot mixes them up."""
    table = read_table(path, ["task", "task_index"]).to_pydict()
    if table["task_index"] != list(range(len(table["task"]))):
        raise TreeError(f"{path}: task_index: found {table['task_index'][:10]}, expected 0, 1, 2, ... in row order")
    return dict(zip(table["task"], table["task_index"], strict=True))


def _places(root: Path, info: dict[str, Any]) -> tuple[Place, ...]:
    found: list[Place] = []
    schema: pa.Schema | None = None
    for path in episode_files(root):
        columns = read_schema(path)
        if schema is not None and not columns.equals(schema):
            raise TreeError(f"{path}: columns: found other columns or types than in the files before it")
        schema = columns
        table = read_table(path, list(PLACES))
        for name in PLACES:
            if table.column(name).null_count:
                raise TreeError(f"{path}: {name}: found a null, expected none")
        found += [_place(info, row) for row in table.to_pylist()]
    return tuple(found)


def _place(info: dict[str, Any], row: dict[str, Any]) -> Place:
    data = (row["data/chunk_index"], row["data/file_index"])
    video = (row[f"videos/{CAMERA}/chunk_index"], row[f"videos/{CAMERA}/file_index"])
    return Place(
        index=row["episode_index"],
        tasks=tuple(row["tasks"]),
        length=row["length"],
        first_row=row["dataset_from_index"],
        end_row=row["dataset_to_index"],
        data=info["data_path"].format(chunk_index=data[0], file_index=data[1]),
        video=info["video_path"].format(video_key=CAMERA, chunk_index=video[0], file_index=video[1]),
        data_number=data,
        video_number=video,
        from_timestamp=row[f"videos/{CAMERA}/from_timestamp"],
        to_timestamp=row[f"videos/{CAMERA}/to_timestamp"],
    )
