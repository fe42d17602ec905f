"""The descriptive files of a merged dataset: what they shall hold. Nothing is written here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from padreel.dataset import layout, projection
from padreel.dataset.layout import CAMERA
from padreel.dataset.stats import Stats, column_stats
from padreel.model import Schema
from padreel.training.merge.plan import Planned

ROWS_PER_GROUP: Final = 250
# Beside a shard's own columns: whence the episode is, and where its gamepad states lie.
EXPORT_COLUMNS: Final[Mapping[str, pa.DataType]] = {
    "shard": pa.string(),
    "quality": pa.float64(),
    "gamepad/chunk_index": pa.int64(),
    "gamepad/file_index": pa.int64(),
}


def episodes_schema(features: Mapping[str, Any]) -> pa.Schema:
    """The columns of the episodes file: a shard's, then ours."""
    schema = projection.episodes_schema_of(features)
    return pa.schema([*schema, *(pa.field(name, kind) for name, kind in EXPORT_COLUMNS.items())])


def episode_row(planned: Planned, stats: Mapping[str, Stats]) -> dict[str, Any]:
    """The metadata row of an episode. `stats` are those of its commit; what depends on its numbers is made anew."""
    episode = planned.episode
    data, video = layout.chunk_and_file(planned.data), layout.chunk_and_file(planned.video)
    gamepad = layout.chunk_and_file(planned.index)
    row: dict[str, Any] = {
        "episode_index": planned.index,
        "tasks": [episode.task],
        "length": episode.length,
        "data/chunk_index": data[0],
        "data/file_index": data[1],
        "dataset_from_index": planned.first_row,
        "dataset_to_index": planned.first_row + episode.length,
        f"videos/{CAMERA}/chunk_index": video[0],
        f"videos/{CAMERA}/file_index": video[1],
        f"videos/{CAMERA}/from_timestamp": planned.from_timestamp,
        f"videos/{CAMERA}/to_timestamp": planned.to_timestamp,
        "meta/episodes/chunk_index": 0,
        "meta/episodes/file_index": 0,
        **episode.columns,
        **{f"{one.kind}_sha256": one.sha256 for one in episode.files},
        "shard": episode.shard,
        "quality": episode.quality,
        "gamepad/chunk_index": gamepad[0],
        "gamepad/file_index": gamepad[1],
    }
    for name, figures in stats.items():
        for key, value in figures.items():
            row[f"stats/{name}/{key}"] = value
    return row


def numbered_stats(stats: Mapping[str, Stats], planned: Planned) -> dict[str, Stats]:
    """An episode's statistics under its new numbers."""
    length = planned.episode.length
    own = {
        "episode_index": column_stats(np.full(length, planned.index, np.int64)),
        "index": column_stats(np.arange(planned.first_row, planned.first_row + length, dtype=np.int64)),
        "task_index": column_stats(np.full(length, planned.task_index, np.int64)),
    }
    return {name: own.get(name, figures) for name, figures in stats.items()}


def episode_tables(schema: pa.Schema, rows: Iterable[dict[str, Any]]) -> Iterable[pa.Table]:
    """Tables of `ROWS_PER_GROUP` rows. Raises ValueError for a column that is missing, unknown or null."""
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == ROWS_PER_GROUP:
            yield projection.checked_table(batch, schema)
            batch = []
    if batch:
        yield projection.checked_table(batch, schema)


def info(
    base: Mapping[str, Any],
    *,
    episodes: int,
    frames: int,
    tasks: int,
    settings: Sequence[Mapping[str, Any]],
    converted: Sequence[str],
    skipped: Sequence[Mapping[str, Any]],
    gates: Sequence[Any],
    quarantined: Sequence[int],
) -> bytes:
    """info.json from a shard's. `settings` and `gates` are the shards': what they do not agree on is left out.

    `quarantined` are the episodes that are in quarantine and entered all the same.
    """
    content = dict(base)
    content |= {
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "splits": {"train": f"0:{episodes}"},
    }
    first = settings[0] if settings else {}
    agreed = {name: value for name, value in first.items() if all(one.get(name) == value for one in settings)}
    content["extensions"] = {
        **base["extensions"],
        "game_converter": {
            **base["extensions"]["game_converter"],
            "settings": agreed,
            "converted_session_count": len(converted),
            "converted_sessions": list(converted),
            "skipped_session_count": len(skipped),
            "skipped_sessions": list(skipped),
            "quality_gate": gates[0] if gates and all(one == gates[0] for one in gates) else None,
            "quarantined_episode_count": len(quarantined),
            "quarantined_episodes": list(quarantined),
        },
    }
    return json.dumps(content, indent=4, ensure_ascii=False, allow_nan=False).encode()


def card(name: str, game_id: str, schema: Schema, image_stats: str) -> str:
    """README.md, by which `datasets.load_dataset` finds the rows."""
    of = "every frame" if image_stats == "full" else "at most 16 keyframes of each episode"
    return layout.card_of(
        name,
        game_id,
        schema,
        f"""\
`export_manifest.json` says of each episode where it is from; `sha256sum --check checksums.sha256` compares every file.
Videos may be hard links to the recordings': work on a copy with tools that change files in place. `gamepad/` holds each
episode's raw gamepad states, each after its length as a little-endian uint32. Image statistics come from {of}.
""",
    )
