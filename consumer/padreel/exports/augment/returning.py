"""`padreel augment import`: what a remote video model gave back, as new episodes with their originals' actions.

The result is a dataset of the same form as a merged one. `lineage.json` and three columns of the episodes' metadata say
of each episode which original it varies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import structlog

from padreel.dataset import files
from padreel.errors import DatasetError, InputError
from padreel.exports.augment.dataset import AugmentedSet, Origin
from padreel.exports.augment.jobs import Job
from padreel.exports.augment.record import RETURNED, BundledEpisode, BundleRecord, read_record
from padreel.exports.augment.returned import ReturnedVideo, read_returned
from padreel.exports.augment.settings import AugmentImportSettings
from padreel.exports.episodes import Source, SourceEpisode, open_source
from padreel.exports.once import refuse_strange
from padreel.model import Schema
from padreel.training.build import Build, open_build
from padreel.training.manifest import Manifest, read_manifest
from padreel.training.source import digest_of
from padreel.training.write_tree import Tell
from padreel.version import __version__

SHOWN: Final = 10  # files that one message names
_log = structlog.get_logger("padreel.augment")


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did; `missing` are the files that have not come back."""

    outcome: Literal["created", "unchanged"]
    manifest: Manifest
    missing: tuple[str, ...]


def import_returned(path: Path, settings: AugmentImportSettings, tell: Tell) -> Imported:
    """Make `settings.output` of what came back and the episodes at and below `path`, which the bundle was made of.

    Raises InputError that names every returned file that does not fit, DatasetError where the episodes are not there,
    a source is damaged or the output is something else; OSError.
    """
    record, output = read_record(settings.bundle), settings.output
    folder = settings.returned or settings.bundle / RETURNED
    jobs, missing = _come_back(folder, record, allow_missing=settings.allow_missing)
    with open_build(output) as build:
        there = read_manifest(output) if files.exists(output) else None
        refuse_strange(output, there)
        schema = Schema("", record.width, record.height, record.fps)
        videos = _looked_through(folder, jobs, record, schema, tell)
        recorded: dict[str, Any] = {
            **settings.recorded(),
            "bundle": record.config_hash,
            "returned": {video.path.name: video.sha256 for video in videos},
        }
        with open_source(path, output, tell) as source:  # which removes what a run that died has left of it
            of = source.manifest
            recorded["relabelled"] = of.config_hash if of.command == "relabel" else None
            if there is not None and there.command == "augment" and there.config_hash == digest_of(recorded):
                build.clear()
                return Imported("unchanged", there, missing)
            if there is not None:
                raise DatasetError(
                    f"--output: {output}: holds another dataset, made by {there.command} (run {there.run}); name "
                    "another folder"
                )
            origins = _origins(source, record, jobs, videos, with_originals=settings.with_originals)
            _check_codecs(source, videos, with_originals=settings.with_originals)
            manifest = _write(build, source, origins, recorded, settings, path, tell)
    return Imported("created", manifest, missing)


def _come_back(folder: Path, record: BundleRecord, *, allow_missing: bool) -> tuple[list[Job], tuple[str, ...]]:
    """The jobs whose file is there, and the names of those that are not. Raises InputError."""
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder, expected one with the mp4s that the model gave back")
    jobs = record.jobs()
    there = {one.name for one in folder.iterdir() if one.suffix == ".mp4"}
    missing = tuple(job.returned for job in jobs if job.returned not in there)
    if strange := sorted(there - {job.returned for job in jobs}):
        raise InputError(f"{folder}: {_listed(strange)}: no job of the bundle asks for that; take it away")
    if len(missing) == len(jobs):
        raise InputError(f"{folder}: none of {len(jobs)} files is there, expected {jobs[0].returned} and so on")
    if missing and not allow_missing:
        raise InputError(
            f"{folder}: {len(missing)} of {len(jobs)} files are missing: {_listed(missing)}; wait for them, or take "
            "what there is with --allow-missing"
        )
    return [job for job in jobs if job.returned in there], missing


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _looked_through(
    folder: Path, jobs: Sequence[Job], record: BundleRecord, schema: Schema, tell: Tell
) -> list[ReturnedVideo]:
    frames = {one.index: one.frames for one in record.episodes}
    found: list[ReturnedVideo] = []
    problems: list[str] = []
    for i, job in enumerate(jobs, 1):
        try:
            found.append(read_returned(folder / job.returned, frames[job.episode], schema))
        except InputError as error:
            problems.append(str(error))
        tell("looking at what came back", i, len(jobs))
    if problems:
        more = f"\n... and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise InputError("\n".join(problems[:SHOWN]) + more)
    return found


def _origins(
    source: Source,
    record: BundleRecord,
    jobs: Sequence[Job],
    videos: Sequence[ReturnedVideo],
    *,
    with_originals: bool,
) -> list[Origin]:
    """What the dataset shall hold, in order: originals first, then the variants of each. Raises DatasetError."""
    # Variants have shard and commit of their original, but videos of their own.
    wanted = {(one.shard, one.commit, one.source_sha256["video"]): one for one in record.episodes}
    known = {}
    for episode in source.episodes():
        bundled = wanted.get((episode.record.shard, episode.record.commit, episode.record.sha256["video"]))
        if bundled is not None:
            _check_same(source, episode, bundled)
            known[bundled.index] = replace(episode, stats={})
    if lost := [one for one in record.episodes if one.index not in known]:
        raise DatasetError(
            f"{source.named}: does not have episode {lost[0].index} of the bundle (session {lost[0].session}, commit "
            f"{lost[0].commit} of shard {lost[0].shard}); name what the bundle was made of"
        )
    originals = [Origin(one, None, None) for one in known.values()] if with_originals else []
    variants = [Origin(known[job.episode], job, video) for job, video in zip(jobs, videos, strict=True)]
    return [*originals, *variants]


def _check_same(source: Source, episode: SourceEpisode, bundled: BundledEpisode) -> None:
    if episode.length != bundled.frames or dict(episode.record.sha256) != bundled.source_sha256:
        raise DatasetError(
            f"{source.named}: episode {episode.index} is not episode {bundled.index} of the bundle: {episode.length} "
            f"rows and {bundled.frames} frames, or files of another sha256"
        )


def _check_codecs(source: Source, videos: Sequence[ReturnedVideo], *, with_originals: bool) -> None:
    """One dataset has one codec. Raises InputError that names two files."""
    first = videos[0]
    codec, where = (source.schema.codec, "the originals") if with_originals else (first.stream.codec, str(first.path))
    for video in videos:
        if video.stream.codec != codec:
            raise InputError(
                f"{video.path}: codec {video.stream.codec}, expected {codec} as {where}; encode it so, or leave out "
                "what differs"
            )


def _write(
    build: Build,
    source: Source,
    origins: Sequence[Origin],
    recorded: dict[str, Any],
    settings: AugmentImportSettings,
    path: Path,
    tell: Tell,
) -> Manifest:
    identity = [[one.episode.record.shard, one.episode.record.commit, one.number] for one in origins]
    build.begin(digest_of({"version": __version__, "settings": recorded, "episodes": identity}))
    _log.info("importing", run=build.run, source=str(path), settings=settings.model_dump(mode="json"))
    made = AugmentedSet(build, source, origins, tell)
    try:
        manifest = made.write(recorded, (str(path), str(settings.bundle)), settings.model_dump(mode="json"))
    except (DatasetError, InputError):  # the same command would meet it again
        build.clear()
        raise
    build.publish_new()
    return manifest
