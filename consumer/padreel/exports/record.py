"""`export_run.json`: what an export was made of, and how. Of two equal exports it is the only file that differs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from padreel.exports.episodes import Source, SourceEpisode
from padreel.training.record_file import RecordFile
from padreel.version import __version__

FORMAT_VERSION: Final = 1
RECORD: Final = Path("export_run.json")


@dataclass(frozen=True, slots=True)
class ExportedEpisode:
    """An episode of an export, and whence it is. Its rows are the source's from `first_row` on, `frames` of them.

    `hidden` packets of its mp4 are only decoded, and hidden by the edit list.
    """

    index: int
    source_index: int
    shard: str
    commit: int
    session: str
    rig: str
    task: str
    frames: int
    first_row: int
    source_frames: int
    hidden: int
    frames_first_offset: int
    frames_last_offset: int
    pads_first_offset: int
    pads_last_offset: int
    end_reason: str
    quality: float | None


@dataclass(frozen=True, slots=True)
class ExportRecord:
    """All of it. `config_hash` is of format, settings and the episodes that the source had."""

    format: str
    version: str  # padreel's
    run: str
    config_hash: str
    settings: Any
    source: str
    source_run: str
    source_config_hash: str
    total_episodes: int
    total_frames: int
    left_out: tuple[int, ...]  # the source's episodes that are not in it
    episodes: tuple[ExportedEpisode, ...]


_FILE: Final = RecordFile(ExportRecord, FORMAT_VERSION, "record of an export", "export anew into another folder")


def exported(
    episode: SourceEpisode, index: int, first_row: int = 0, frames: int | None = None, hidden: int = 0
) -> ExportedEpisode:
    """An episode under the index that the export has it by; all of its rows, or those given."""
    record = episode.record
    return ExportedEpisode(
        index=index,
        source_index=episode.index,
        shard=record.shard,
        commit=record.commit,
        session=record.session,
        rig=record.rig,
        task=episode.task,
        frames=episode.length if frames is None else frames,
        first_row=first_row,
        source_frames=episode.length,
        hidden=hidden,
        frames_first_offset=record.frames_first_offset,
        frames_last_offset=record.frames_last_offset,
        pads_first_offset=record.pads_first_offset,
        pads_last_offset=record.pads_last_offset,
        end_reason=record.end_reason,
        quality=record.quality,
    )


def record_of(
    source: Source, run: str, config_hash: str, settings: dict[str, Any], episodes: tuple[ExportedEpisode, ...]
) -> ExportRecord:
    """The record of a run."""
    there = {one.source_index for one in episodes}
    return ExportRecord(
        format=settings["format"],
        version=__version__,
        run=run,
        config_hash=config_hash,
        settings=settings,
        source=str(source.named),
        source_run=source.manifest.run,
        source_config_hash=source.manifest.config_hash,
        total_episodes=len(episodes),
        total_frames=sum(one.frames for one in episodes),
        left_out=tuple(one.index for one in source.manifest.episodes if one.index not in there),
        episodes=episodes,
    )


def encode_record(record: ExportRecord) -> bytes:
    """The file's content."""
    return _FILE.encode(record)


def read_record(export: Path) -> ExportRecord | None:
    """The record of an export, None where there is none.

    Raises FormatVersionError where a newer padreel wrote it, CorruptShardError where it is none, OSError.
    """
    return _FILE.read(export / RECORD)
