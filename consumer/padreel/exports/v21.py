"""LeRobot's format v2.1: one parquet file and one mp4 for each episode, and metadata as lines of JSON.

It has no from_timestamp: row i of an episode is the picture at i / fps of its mp4, and the first is at 0. An episode
that was trimmed begins between two keyframes, so either its mp4 begins with pictures that are not to be shown, or the
episode begins at its first keyframe; see `ExportSettings.lead`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from padreel.dataset import layout
from padreel.dataset.layout import CAMERA
from padreel.dataset.rows import data_schema_of
from padreel.dataset.stats import Stats, column_stats, picture_stats, sample_keyframes
from padreel.errors import CorruptShardError, DatasetError
from padreel.exports.clips import Video, write_clip
from padreel.exports.cuts import Cut, cut_of, whole_cut
from padreel.exports.episodes import Source, SourceEpisode, columns_of
from padreel.exports.record import ExportedEpisode, exported
from padreel.exports.settings import ExportSettings
from padreel.training.build import Build
from padreel.training.image_stats import all_picture_stats
from padreel.training.write_rows import numbered, write_table_file
from padreel.training.write_tree import Tell

CODEBASE_VERSION: Final = "v2.1"
DATA_PATH: Final = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_PATH: Final = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
TASKS: Final = Path("meta/tasks.jsonl")
EPISODES: Final = Path("meta/episodes.jsonl")
EPISODES_STATS: Final = Path("meta/episodes_stats.jsonl")


def write_v21(source: Source, build: Build, settings: ExportSettings, tell: Tell) -> tuple[ExportedEpisode, ...]:
    """Write everything that a reader of v2.1 needs.

    Raises DatasetError where the source has no `observation.state`, or no episode can be written; CorruptShardError,
    OSError.
    """
    if layout.OBSERVATION not in source.features:
        raise DatasetError(
            f"{source.named}: has no {layout.OBSERVATION}, which v2.1 needs: it was recorded with --columns minimal; "
            "export it as hdf5, or record with --columns full"
        )
    episodes: list[ExportedEpisode] = []
    lines: list[dict[str, Any]] = []
    stats: list[dict[str, Any]] = []
    row = 0
    for one in source.episodes():
        video = source.video(one)
        cut = _cut(video, one, settings)
        tell("episodes", one.index + 1, source.manifest.total_episodes)
        if cut is None:
            continue
        made = exported(one, len(episodes), cut.first - one.picture, cut.length, cut.hidden)
        table = _rows(source, made, one, row)
        figures = _write_episode(build, source, settings, one, made, video, cut, table)
        lines.append({"episode_index": made.index, "tasks": [one.task], "length": made.frames})
        stats.append({"episode_index": made.index, "stats": figures})
        episodes.append(made)
        row += made.frames
    if not episodes:
        raise DatasetError(f"{source.named}: no episode has a keyframe of its own; leave out --lead dropped")
    _write_metadata(build, source, settings, episodes, lines, stats)
    return tuple(episodes)


def _cut(video: Video, one: SourceEpisode, settings: ExportSettings) -> Cut | None:
    try:
        if settings.lead == "hidden":
            return cut_of(video.order, one.picture, one.length)
        return whole_cut(video.order, one.picture, one.length)
    except CorruptShardError as error:
        raise CorruptShardError(f"{video.path}: episode {one.index}: {error}") from error


def _rows(source: Source, made: ExportedEpisode, one: SourceEpisode, first_row: int) -> pa.Table:
    """The episode's rows, from 0 on whatever was left out, under the numbers that the export gives them."""
    # Without what the `datasets` library is told of the columns: readers of v2.1 come with an older one that it fails.
    schema = data_schema_of(source.features).remove_metadata()
    table = source.rows(one).slice(made.first_row, made.frames).cast(schema)
    positions = np.arange(made.frames, dtype=np.int64)
    own = {"frame_index": positions, "timestamp": (positions / source.schema.fps).astype(np.float32)}
    for name, values in own.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pa.array(values))
    return numbered(table, index=made.index, first_row=first_row, task_index=source.tasks.index(one.task))


def _write_episode(
    build: Build,
    source: Source,
    settings: ExportSettings,
    one: SourceEpisode,
    made: ExportedEpisode,
    video: Video,
    cut: Cut,
    table: pa.Table,
) -> dict[str, Stats]:
    """The episode's two files, if they are not there yet, and its statistics."""
    place = {"episode_chunk": made.index // settings.chunks_size, "episode_index": made.index}
    data, clip = Path(DATA_PATH.format(**place)), Path(VIDEO_PATH.format(video_key=CAMERA, **place))
    build.make_parents({data, clip})
    if not build.has(data):
        write_table_file(build.tree / data, [table])
    if not build.has(clip):
        write_clip(video, cut, build.tree / clip)
    build.note(data)
    build.note(clip)
    values = columns_of(table)
    if made.frames == one.length:
        renumbered = {name: column_stats(values[name]) for name in ("episode_index", "index", "task_index")}
        return {name: renumbered.get(name, figures) for name, figures in one.stats.items()}
    found = {name: column_stats(values[name]) for name in values}
    found[CAMERA] = _picture_stats(source, build.tree / clip, video, cut)
    return {name: found[name] for name in source.features}


def _picture_stats(source: Source, clip: Path, video: Video, cut: Cut) -> Stats:
    """The figures of a camera whose pictures are fewer than the source's; taken as the source has them."""
    if source.manifest.settings.get("image_stats") == "full":
        return all_picture_stats(clip, source.schema, 0, cut.length)
    packets = np.arange(cut.begin, cut.end)
    marked = packets[video.idr[packets] | (packets == cut.begin)]
    keys = sorted(int(position) - cut.first for position in video.order.positions[marked])
    return picture_stats(clip, source.schema, sample_keyframes(keys, 0, cut.length))


def _write_metadata(
    build: Build,
    source: Source,
    settings: ExportSettings,
    episodes: Sequence[ExportedEpisode],
    lines: Sequence[Mapping[str, Any]],
    stats: Sequence[Mapping[str, Any]],
) -> None:
    tasks = [{"task_index": i, "task": task} for i, task in enumerate(source.tasks)]
    build.make_parents({TASKS})
    for name, content in ((TASKS, tasks), (EPISODES, lines), (EPISODES_STATS, stats)):
        build.put(name, b"".join(_lines(content)))
    build.put(layout.INFO, json.dumps(_info(source, settings, episodes), indent=4, ensure_ascii=False).encode())


def _lines(content: Sequence[Mapping[str, Any]]) -> Iterator[bytes]:
    for one in content:
        yield json.dumps(one, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _info(source: Source, settings: ExportSettings, episodes: Sequence[ExportedEpisode]) -> dict[str, Any]:
    game = source.info["extensions"]["game_converter"]
    kept = ("game_id", "class_ids", "profile_name", "settings", "action_layout")
    count = len(episodes)
    return {
        "codebase_version": CODEBASE_VERSION,
        "robot_type": source.info["robot_type"],
        "total_episodes": count,
        "total_frames": sum(one.frames for one in episodes),
        "total_tasks": len(source.tasks),
        "total_videos": count,
        "total_chunks": -(-count // settings.chunks_size),
        "chunks_size": settings.chunks_size,
        "fps": source.schema.fps,
        "splits": {"train": f"0:{count}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "features": dict(source.features),
        "extensions": {"game_converter": {name: game[name] for name in kept if name in game}},
    }
