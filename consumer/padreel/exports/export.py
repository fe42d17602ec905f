"""`padreel export`: committed episodes in the form that another system reads. The sources stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from padreel.exports.episodes import Source, open_source
from padreel.exports.once import Outcome, make_once, refuse_strange
from padreel.exports.record import RECORD, ExportedEpisode, ExportRecord, encode_record, read_record, record_of
from padreel.exports.settings import ExportSettings
from padreel.training.build import Build, open_build
from padreel.training.source import digest_of
from padreel.training.write_tree import Tell

_log = structlog.get_logger("padreel.export")

Writer = Callable[[Source, Build, ExportSettings, Tell], tuple[ExportedEpisode, ...]]


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export did: `outcome` and what the output holds now."""

    outcome: Outcome
    record: ExportRecord


def export(path: Path, settings: ExportSettings, tell: Tell) -> Exported:
    """Write the episodes at and below `path` into `settings.output`.

    What a run that died has left beside the output is gone on with. Raises DatasetError where there is nothing to
    export, a source is damaged or does not have what the format needs, or the output is something else; OSError.
    """
    output = settings.output
    with open_build(output) as build:
        there = read_record(output)
        refuse_strange(output, there)
        with open_source(path, output, tell) as source:
            recorded = settings.recorded()
            config_hash = digest_of({**recorded, **_identity(source)})

            def write() -> ExportRecord:
                _log.info("exporting", run=build.run, source=str(path), settings=settings.model_dump(mode="json"))
                episodes = _writer(settings.format)(source, build, settings, tell)
                record = record_of(source, build.run, config_hash, recorded, episodes)
                build.put(RECORD, encode_record(record))
                build.put_checksums()
                return record

            return Exported(*make_once(build, output, there, config_hash, "an export", write))


def _identity(source: Source) -> dict[str, Any]:
    """What the source holds, wherever it lies and however it is packed."""
    manifest = source.manifest
    return {
        "episodes": [[one.shard, one.commit, one.sha256, one.config_hash] for one in manifest.episodes],
        "relabelled": manifest.config_hash if manifest.command == "relabel" else None,
        "image_stats": manifest.settings.get("image_stats"),
    }


def _writer(name: str) -> Writer:
    """What writes a format; each needs libraries that the others do not."""
    match name:
        case "v2.1":
            from padreel.exports.v21 import write_v21

            return write_v21
        case "hdf5":
            from padreel.exports.hdf5.write import write_hdf5

            return write_hdf5
        case "bundle":
            from padreel.exports.bundle.write import write_bundle

            return write_bundle
    raise ValueError(name)


def summary(made: Exported) -> dict[str, Any]:
    """The stable JSON form of what an export did."""
    record = made.record
    return {
        "format_version": 1,
        "outcome": made.outcome,
        "format": record.format,
        "run": record.run,
        "episodes": record.total_episodes,
        "frames": record.total_frames,
        "episodes_left_out": len(record.left_out),
        "frames_left_out": sum(one.source_frames - one.frames for one in record.episodes),
        "videos_with_hidden_pictures": sum(one.hidden > 0 for one in record.episodes),
    }
