"""`padreel augment bundle`: each episode's mp4 with the jobs for a remote video model that is to vary it.

videos/episode_000000.mp4           what is to be varied
transfer_jobs.jsonl                 a line for each variant
requests/job_000000.json            the same for one, with all that the model has to be told
transfer_input_checksums.sha256     of videos/, for `sha256sum --check`
augmentation.json                   whence it all is
checksums.sha256                    of everything
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from padreel.exports.augment.jobs import Job, episode_name
from padreel.exports.augment.record import (
    INPUT_CHECKSUMS,
    JOBS,
    RECORD,
    RETURNED,
    BundledEpisode,
    BundleRecord,
    encode_record,
    find_record,
)
from padreel.exports.augment.settings import AugmentBundleSettings
from padreel.exports.clips import write_clip
from padreel.exports.cuts import cut_of
from padreel.exports.episodes import Source, SourceEpisode, open_source
from padreel.exports.once import Outcome, make_once, refuse_strange
from padreel.training.build import Build, open_build
from padreel.training.checksums import checksums_text
from padreel.training.source import digest_of
from padreel.training.write_tree import Tell
from padreel.version import __version__

VIDEOS: Final = Path("videos")
_log = structlog.get_logger("padreel.augment")


@dataclass(frozen=True, slots=True)
class Bundled:
    """What was made, or was there already."""

    outcome: Outcome
    record: BundleRecord


def make_bundle(path: Path, settings: AugmentBundleSettings, tell: Tell) -> Bundled:
    """Write a bundle of the episodes at and below `path` into `settings.output`; a run that died is gone on with.

    Raises DatasetError where there is no episode, a source is damaged or the output is something else; OSError.
    """
    output = settings.output
    with open_build(output) as build:
        there = find_record(output)
        refuse_strange(output, there)
        with open_source(path, output, tell) as source:
            identity = [[one.shard, one.commit, one.sha256] for one in source.manifest.episodes]
            config_hash = digest_of({**settings.recorded(), "episodes": identity})

            def write() -> BundleRecord:
                _log.info("bundling", run=build.run, source=str(path), settings=settings.model_dump(mode="json"))
                return _write(build, source, settings, config_hash, tell)

            return Bundled(*make_once(build, output, there, config_hash, "a bundle", write))


def _write(build: Build, source: Source, settings: AugmentBundleSettings, config_hash: str, tell: Tell) -> BundleRecord:
    schema = source.schema
    count = source.manifest.total_episodes
    episodes: list[BundledEpisode] = []
    for episode in source.episodes():
        episodes.append(_write_video(build, source, episode))
        tell("videos", len(episodes), count)
    record = BundleRecord(
        version=__version__,
        run=build.run,
        config_hash=config_hash,
        settings=settings.recorded(),
        source=str(source.named),
        source_run=source.manifest.run,
        fps=schema.fps,
        width=schema.width,
        height=schema.height,
        episodes=tuple(episodes),
    )
    by_index = {one.index: one for one in episodes}
    jobs = record.jobs()
    build.make_parents({Path(job.request) for job in jobs})
    for job in jobs:
        build.put(Path(job.request), _text(_request(job, by_index[job.episode], record)))
    build.put(JOBS, b"".join(_line(described(job, by_index[job.episode])) for job in jobs))
    build.put(INPUT_CHECKSUMS, checksums_text({one.video: one.sha256 for one in episodes}).encode())
    build.put(RECORD, encode_record(record))
    build.put_checksums()
    return record


def _write_video(build: Build, source: Source, episode: SourceEpisode) -> BundledEpisode:
    name, record = VIDEOS / f"{episode_name(episode.index)}.mp4", episode.record
    build.make_parents({name})
    if not build.has(name):
        video = source.video(episode)
        write_clip(video, cut_of(video.order, episode.picture, episode.length), build.tree / name)
    build.note(name)
    return BundledEpisode(
        index=episode.index,
        shard=record.shard,
        commit=record.commit,
        session=record.session,
        rig=record.rig,
        task=episode.task,
        frames=episode.length,
        video=str(name),
        sha256=build.digests[str(name)],
        source_sha256=dict(record.sha256),
    )


def described(job: Job, episode: BundledEpisode) -> dict[str, Any]:
    """A job as its line has it. Paths are relative to the bundle."""
    return {
        "job_id": job.id,
        "episode_index": job.episode,
        "variant_index": job.variant,
        "prompt_profile": job.profile,
        "seed": job.seed,
        "input_video": episode.video,
        "input_sha256": episode.sha256,
        "output_video": str(RETURNED / job.returned),
        "request": job.request,
    }


def _request(job: Job, episode: BundledEpisode, record: BundleRecord) -> Mapping[str, Any]:
    """What the model has to be told. What it gives back has to have just these frames, this size and this rate."""
    return {
        "format_version": 1,
        **described(job, episode),
        "task_text": episode.task,
        "num_frames": episode.frames,
        "fps": record.fps,
        "width": record.width,
        "height": record.height,
    }


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _text(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
