"""LeRobot's metadata files, made from the commit log: the last episodes file, tasks, stats and info.

All functions return what a file shall hold; nothing is written here. The episodes file's schema follows from the
dataset's features alone, so that it is the same in every file and every shard.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from padreel.dataset import layout
from padreel.dataset.commit_log import Entry, Totals
from padreel.dataset.layout import CAMERA, DatasetSpec, SkippedSession

STATS_KEYS = ("min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99")

# Our own columns beside LeRobot's: scalars that are never null.
EPISODE_COLUMNS: dict[str, pa.DataType] = {
    "session": pa.string(),
    "rig": pa.string(),
    "first_frame_index": pa.int64(),
    "idle_until_ns": pa.int64(),
    "frames_first_offset": pa.int64(),
    "frames_last_offset": pa.int64(),
    "pads_first_offset": pa.int64(),
    "pads_last_offset": pa.int64(),
    "end_reason": pa.string(),
    "forced": pa.int64(),
    "late": pa.int64(),
    "video_sha256": pa.string(),
    "data_sha256": pa.string(),
    "gamepad_sha256": pa.string(),
}


def _stats_type(feature: dict[str, Any], key: str) -> pa.DataType:
    if key == "count":
        return pa.list_(pa.int64())
    if feature["dtype"] == "video":
        return pa.list_(pa.list_(pa.list_(pa.float64())))
    if key in ("min", "max") and feature["dtype"].startswith("int"):
        return pa.list_(pa.int64())
    return pa.list_(pa.float64())


def episodes_schema(spec: DatasetSpec) -> pa.Schema:
    """The columns of an episodes file, LeRobot's in its order, then ours."""
    return episodes_schema_of(layout.features(spec))


def episodes_schema_of(features: Mapping[str, Any]) -> pa.Schema:
    """The same from info.json's `features`."""
    int64, float64 = pa.int64(), pa.float64()
    columns: dict[str, pa.DataType] = {
        "episode_index": int64,
        "tasks": pa.list_(pa.string()),
        "length": int64,
        "data/chunk_index": int64,
        "data/file_index": int64,
        "dataset_from_index": int64,
        "dataset_to_index": int64,
        f"videos/{CAMERA}/chunk_index": int64,
        f"videos/{CAMERA}/file_index": int64,
        f"videos/{CAMERA}/from_timestamp": float64,
        f"videos/{CAMERA}/to_timestamp": float64,
    }
    for name, feature in features.items():
        for key in STATS_KEYS:
            columns[f"stats/{name}/{key}"] = _stats_type(feature, key)
    columns["meta/episodes/chunk_index"] = int64
    columns["meta/episodes/file_index"] = int64
    columns.update(EPISODE_COLUMNS)
    return pa.schema([pa.field(name, kind) for name, kind in columns.items()])


def episode_row(entry: Entry) -> dict[str, Any]:
    """The row of an episode's commit in the episodes file."""
    episode = entry.episode
    if episode is None:
        raise ValueError(f"commit {entry.n} is no episode")
    chunk, file = layout.chunk_and_file(entry.n)
    meta_chunk, meta_file = layout.chunk_and_file(episode.index // layout.EPISODES_PER_FILE)
    row: dict[str, Any] = {
        "episode_index": episode.index,
        "tasks": [episode.task],
        "length": episode.length,
        "data/chunk_index": chunk,
        "data/file_index": file,
        "dataset_from_index": episode.first_row,
        "dataset_to_index": episode.first_row + episode.length,
        f"videos/{CAMERA}/chunk_index": chunk,
        f"videos/{CAMERA}/file_index": file,
        f"videos/{CAMERA}/from_timestamp": episode.from_timestamp,
        f"videos/{CAMERA}/to_timestamp": episode.to_timestamp,
        "meta/episodes/chunk_index": meta_chunk,
        "meta/episodes/file_index": meta_file,
        **episode.columns,
        **{f"{one.kind}_sha256": one.sha256 for one in episode.files},
    }
    for name, stats in episode.stats.items():
        for key, value in stats.items():
            row[f"stats/{name}/{key}"] = value
    return row


class EpisodesFile:
    """The rows of one episodes file, in memory: at most 250, never empty, grown by copying."""

    def __init__(self, schema: pa.Schema, entries: Iterable[Entry]) -> None:
        """`schema` is `episodes_schema()` of the dataset."""
        rows = [episode_row(entry) for entry in entries]
        self._table = checked_table(rows, schema)
        self.number = rows[0]["episode_index"] // layout.EPISODES_PER_FILE

    def followed_by(self, entry: Entry) -> EpisodesFile:
        """The file that holds `entry`'s row as its last: this one and that row, or the next file."""
        grown = EpisodesFile(self._table.schema, [entry])
        if grown.number == self.number:
            grown._table = pa.concat_tables([self._table, grown._table]).combine_chunks()
        return grown

    @property
    def path(self) -> Path:
        """Where the file lies, relative to the shard."""
        return layout.episodes_path(self.number)

    def content(self) -> bytes:
        return _parquet(self._table)


def checked_table(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows of episodes' metadata. Raises ValueError for a column that is missing, unknown or null."""
    for row in rows:
        if row.keys() != set(schema.names):
            wrong = sorted(row.keys() ^ set(schema.names))
            raise ValueError(f"episode {row['episode_index']}: columns missing or unknown: {', '.join(wrong)}")
    table = pa.Table.from_pylist(list(rows), schema=schema)
    for name in schema.names:
        if table.column(name).null_count:
            raise ValueError(f"episode column {name} is null in one of the episodes from {rows[0]['episode_index']} on")
    return table


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="snappy", use_dictionary=True)
    return sink.getvalue()


@functools.lru_cache(maxsize=8)
def tasks_file(tasks: tuple[str, ...]) -> bytes:
    """tasks.parquet as pandas writes it from a frame with column `task_index` and index `task`."""
    column = {"field_name": "task_index", "metadata": None, "name": "task_index", "numpy_type": "int64"}
    index = {"field_name": "task", "metadata": None, "name": "task", "numpy_type": "object", "pandas_type": "unicode"}
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [
            {
                "field_name": None,
                "metadata": {"encoding": "UTF-8"},
                "name": None,
                "numpy_type": "object",
                "pandas_type": "unicode",
            }
        ],
        "columns": [{**column, "pandas_type": "int64"}, index],
        "attributes": {},
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    table = pa.table(
        {"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())}
    ).replace_schema_metadata({"pandas": json.dumps(pandas)})
    return _parquet(table)


def stats_file(totals: Totals) -> bytes:
    """stats.json: the statistics of all episodes."""
    return json.dumps(totals.stats, ensure_ascii=False, allow_nan=False).encode()


def info_file(
    spec: DatasetSpec,
    totals: Totals,
    converted: Sequence[str] | None = None,
    skipped: Sequence[SkippedSession] | None = None,
) -> bytes:
    """info.json; it lists the latest session names, or the full lists where the caller has them."""
    content = layout.info(
        spec,
        episodes=totals.episodes,
        frames=totals.rows,
        tasks=len(totals.tasks),
        converted=totals.converted[-layout.NAMES_KEPT :] if converted is None else converted,
        converted_count=totals.converted_count if converted is None else len(converted),
        skipped=totals.skipped if skipped is None else skipped,
        skipped_count=totals.skipped_count if skipped is None else len(skipped),
        quarantined=totals.quarantined,
        quarantined_count=totals.quarantined_count,
    )
    return json.dumps(content, indent=4, ensure_ascii=False, allow_nan=False).encode()
