"""`padreel export --format bundle`: a recording of each episode, its rows in JSON, beside an index and the videos."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from padreel.dataset import layout
from padreel.dataset.layout import CAMERA
from padreel.exports.bundle import names
from padreel.exports.clips import write_clip
from padreel.exports.cuts import cut_of
from padreel.exports.episodes import Source, SourceEpisode, columns_of
from padreel.exports.record import ExportedEpisode, exported
from padreel.exports.settings import ExportSettings
from padreel.training.build import Build
from padreel.training.manifest import Manifest
from padreel.training.source import digest_of
from padreel.training.write_tree import Tell
from padreel.version import __version__


def write_bundle(source: Source, build: Build, settings: ExportSettings, tell: Tell) -> tuple[ExportedEpisode, ...]:
    """Write the bundle into the build's tree. Raises CorruptShardError, OSError."""
    records = source.manifest.episodes
    job = settings.bundle_job or job_of(source.manifest)
    root = Path(f"{settings.bundle_prefix}_{job}")
    has_rigs = len({one.rig for one in records}) > 1
    entries: list[dict[str, Any]] = []
    made: list[ExportedEpisode] = []
    for episode in source.episodes():
        entry = _entry(episode, source.schema.fps, episode.record.rig if has_rigs else None)
        _write_episode(source, build, root, episode, entry)
        entries.append(entry)
        made.append(exported(episode, episode.index))
        tell("bundle", len(made), len(records))
    info = _dataset_info(source, job, entries)
    index = {"format_version": names.FORMAT_VERSION, "total_episodes": len(entries), "episodes": entries}
    build.make_parents({root / names.INDEX})
    build.put(root / names.DATASET_INFO, _text(info))
    build.put(root / names.EPISODES, b"".join(_line(entry) for entry in entries))
    build.put(root / names.INDEX, _text(index))
    inside = {
        str(Path(name).relative_to(root)): digest
        for name, digest in build.digests.items()
        if root in Path(name).parents
    }
    checksums = {"format_version": names.FORMAT_VERSION, "algorithm": "sha256", "files": dict(sorted(inside.items()))}
    build.put(root / names.CHECKSUMS, _text(checksums))
    return tuple(made)


def job_of(manifest: Manifest) -> str:
    """A name for these episodes that is the same whenever they are exported: a digest of where they are from."""
    relabelled = manifest.config_hash if manifest.command == "relabel" else None
    return digest_of([relabelled, *([one.shard, one.commit, one.sha256] for one in manifest.episodes)])[:12]


def _entry(episode: SourceEpisode, fps: int, rig: str | None) -> dict[str, Any]:
    """What index, list and info say of an episode."""
    video = names.video_path(episode.index, rig)
    return {
        "episode_id": names.episode_id(episode.index),
        "episode_index": episode.index,
        "task_name": episode.task,
        "num_frames": episode.length,
        "duration_seconds": episode.length / fps,
        "quality_score": episode.record.quality,
        "validation_passed": True,  # every file was compared with its sha256, and has as many rows as pictures
        "session": episode.session,
        "rig": episode.record.rig,
        "file": str(video.relative_to(names.LEROBOT)),
        "recording": str(names.recording_path(episode.index)),
    }


def _write_episode(source: Source, build: Build, root: Path, episode: SourceEpisode, entry: Mapping[str, Any]) -> None:
    video, recording = root / names.LEROBOT / entry["file"], root / entry["recording"]
    build.make_parents({video, recording})
    if not build.has(video):
        found = source.video(episode)
        write_clip(found, cut_of(found.order, episode.picture, episode.length), build.tree / video)
    build.note(video)
    if build.has(recording):
        build.note(recording)
    else:
        build.put(recording, _recording(source, episode, entry))


def _recording(source: Source, episode: SourceEpisode, entry: Mapping[str, Any]) -> bytes:
    record = episode.record
    columns = {name: values.tolist() for name, values in columns_of(source.rows(episode)).items()}
    times = columns.get(layout.TIME_NS)
    head = {
        "format_version": names.FORMAT_VERSION,
        **{name: value for name, value in entry.items() if name not in ("file", "recording")},
        "frame_count": episode.length,
        "fps": source.schema.fps,
        "video": str(names.LEROBOT / entry["file"]),
        "end_reason": record.end_reason,
        "forced": record.forced,
        "late": record.late,
        "offsets": {
            "frames": [record.frames_first_offset, record.frames_last_offset],
            "pads": [record.pads_first_offset, record.pads_last_offset],
        },
        "times_ns": None if times is None else [times[0], times[-1]],
        "source": {"shard": record.shard, "commit": record.commit, "config_hash": record.config_hash},
    }
    frames = ",\n".join(_json(frame) for frame in _frames(columns, source.schema.fps, episode.length))
    return f'{_json(head)[:-1]}, "frames": [\n{frames}\n]}}\n'.encode()


def _frames(columns: Mapping[str, list[Any]], fps: int, length: int) -> Iterator[dict[str, Any]]:
    observed = {
        name: columns[column]
        for name, column in (("state", layout.OBSERVATION), ("keys", layout.KEYS))
        if column in columns
    }
    others = {
        name: columns[column]
        for name, column in (("time_ns", layout.TIME_NS), ("pad_age", layout.PAD_AGE))
        if column in columns
    }
    actions = columns[layout.ACTION]
    for i in range(length):
        yield {
            "step": i,
            "timestamp": i / fps,
            "action": _vector(actions[i]),
            "observation": {name: _vector(values[i]) for name, values in observed.items()},
            **{name: values[i] for name, values in others.items()},
        }


def _vector(value: Any) -> list[Any]:
    """A row's values; a column of one slot has them without a list."""
    return value if isinstance(value, list) else [value]


def _dataset_info(source: Source, job: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    scores = [one["quality_score"] for one in entries if one["quality_score"] is not None]
    game = source.info["extensions"]["game_converter"]
    schema = source.schema
    return {
        "dataset_type": "lerobot",
        "format_version": str(names.FORMAT_VERSION),
        "schema_version": source.manifest.schema_version,
        "export_schema_version": str(names.FORMAT_VERSION),
        "scene_id": str(game["game_id"]),
        "run_id": job,
        "pipeline_commit": f"padreel {__version__}",
        "source": "padreel",
        "converted_at": "",  # a time would make two exports differ; export_run.json names the run
        "total_episodes": len(entries),
        "total_frames": sum(one["num_frames"] for one in entries),
        "skipped_episodes": 0,
        "average_quality_score": sum(scores) / len(scores) if scores else None,
        "fps": schema.fps,
        "video": {"width": schema.width, "height": schema.height, "codec": schema.codec, "camera": CAMERA},
        "rigs": sorted({one["rig"] for one in entries}),
        "tasks": list(source.tasks),
        "names": {
            name: source.features[name]["names"]
            for name in (layout.ACTION, layout.OBSERVATION, layout.KEYS)
            if name in source.features
        },
        "action_layout": game["action_layout"],
        "checksums": str(names.CHECKSUMS),
        "episodes": list(entries),
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _line(value: Any) -> bytes:
    return _json(value).encode() + b"\n"


def _text(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
