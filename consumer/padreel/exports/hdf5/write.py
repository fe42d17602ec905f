"""`--format hdf5`: one HDF5 file with everything but the pictures, an mp4 for each episode, and a manifest of those.

An mp4 begins at the last keyframe at or before the episode, and `from_timestamp` says where the episode does: nothing
is left out, and nothing hidden before it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from padreel.dataset import files, layout
from padreel.errors import CorruptShardError
from padreel.exports.clips import write_clip
from padreel.exports.cuts import Cut, cut_from_key
from padreel.exports.episodes import Source, SourceEpisode, columns_of
from padreel.exports.hdf5.episode import Hdf5Episode, Hdf5Schema
from padreel.exports.hdf5.file import FILE, Hdf5Writer, import_h5py
from padreel.exports.hdf5.video import MANIFEST, manifest_line
from padreel.exports.record import ExportedEpisode, exported
from padreel.exports.settings import ExportSettings
from padreel.training.build import Build
from padreel.training.write_rows import TEMPORARY, publish_file
from padreel.training.write_tree import Tell

VIDEO_PATH: Final = "videos/episode_{:06d}.mp4"
_COLUMNS: Final = {
    "actions": layout.ACTION,
    "state": layout.OBSERVATION,
    "keys": layout.KEYS,
    "frame_index": "frame_index",
    "time_ns": layout.TIME_NS,
    "pad_age": layout.PAD_AGE,
}


def write_hdf5(source: Source, build: Build, settings: ExportSettings, tell: Tell) -> tuple[ExportedEpisode, ...]:
    """Write the file, the mp4s and their manifest. Raises DatasetError where h5py is missing; OSError."""
    import_h5py()
    schema = _schema(source)
    episodes: list[ExportedEpisode] = []
    lines: list[dict[str, Any]] = []

    def made() -> Iterator[Hdf5Episode]:
        for one in source.episodes():
            cut = _write_clip(source, build, one)
            episode = _episode(source, one, cut)
            build.note(Path(episode.video))
            lines.append(manifest_line(build.tree, one.index, episode, schema, build.digests[episode.video]))
            episodes.append(episode.origin)
            tell("episodes", one.index + 1, source.manifest.total_episodes)
            yield episode

    write_file(build, schema, made())
    write_manifest(build, lines)
    return tuple(episodes)


def write_file(build: Build, schema: Hdf5Schema, episodes: Iterable[Hdf5Episode]) -> None:
    """Write the HDF5 file of these episodes, durably and at once under its name. Raises DatasetError, OSError."""
    target = build.tree / FILE
    temporary = target.with_name(target.name + TEMPORARY)
    for old in (temporary, target):  # made anew: the manifest comes out of the same reading
        files.unlink(old)
    with files.announced("write", target):
        writer = Hdf5Writer(temporary, schema)
        try:
            for episode in episodes:
                writer.append(episode)
            writer.close()
        except BaseException:
            writer.discard()
            raise
    publish_file(temporary, target)
    build.note(FILE)


def write_manifest(build: Build, lines: Iterable[dict[str, Any]]) -> None:
    """Write `episode_video_manifest.jsonl`. Raises OSError."""
    build.put(MANIFEST, manifest_text(lines))


def manifest_text(lines: Iterable[dict[str, Any]]) -> bytes:
    """The manifest's content: a line of JSON for each video."""
    return b"".join(json.dumps(one, ensure_ascii=False, allow_nan=False).encode() + b"\n" for one in lines)


def _schema(source: Source) -> Hdf5Schema:
    game, features, schema = source.info["extensions"]["game_converter"], source.features, source.schema

    def names(feature: str) -> tuple[str, ...]:
        return tuple(features[feature]["names"]) if feature in features else ()

    return Hdf5Schema(
        fps=schema.fps,
        width=schema.width,
        height=schema.height,
        codec=schema.codec,
        game_id=game["game_id"],
        profile_name=game["profile_name"],
        action_names=names(layout.ACTION),
        state_names=names(layout.OBSERVATION),
        key_names=names(layout.KEYS),
    )


def _write_clip(source: Source, build: Build, one: SourceEpisode) -> Cut:
    video = source.video(one)
    try:
        cut = cut_from_key(video.order, one.picture, one.length)
    except CorruptShardError as error:
        raise CorruptShardError(f"{video.path}: episode {one.index}: {error}") from error
    name = Path(VIDEO_PATH.format(one.index))
    build.make_parents({name})
    if not build.has(name):
        write_clip(video, cut, build.tree / name)
    return cut


def _episode(source: Source, one: SourceEpisode, cut: Cut) -> Hdf5Episode:
    columns, fps = columns_of(source.rows(one)), source.schema.fps
    arrays = {name: columns[column] for name, column in _COLUMNS.items() if column in columns}
    for name in ("actions", "state", "keys"):
        if name in arrays:  # a vector of one slot is a plain column in LeRobot's files
            arrays[name] = arrays[name].reshape(one.length, -1)
    first = one.picture - cut.first
    return Hdf5Episode(
        # In float64: the column has float32.
        arrays={**arrays, "timestamps": np.arange(one.length) / fps},
        task=one.task,
        video=VIDEO_PATH.format(one.index),
        from_timestamp=first / fps,
        to_timestamp=(first + one.length) / fps,
        fps=fps,
        origin=exported(one, one.index, hidden=cut.hidden),
    )
