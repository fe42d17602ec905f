"""`padreel augment requests`: which videos a remote model is to look at, all originals and a share of the variants."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from padreel.exports.augment.jobs import Job, episode_name, sampled, share_of
from padreel.exports.augment.record import REQUESTS, RETURNED, BundledEpisode, read_record
from padreel.exports.augment.settings import AugmentRequestsSettings
from padreel.training.one_file import SavedFile, save_file
from padreel.training.source import digest_of

KEYFRAMES: Final = ("start", "mid", "end")


@dataclass(frozen=True, slots=True)
class Requested:
    """What was written, or was there already."""

    saved: SavedFile
    path: Path
    originals: int
    variants: int
    of_variants: int


def write_requests(bundle: Path, settings: AugmentRequestsSettings) -> Requested:
    """Write the requests of a bundle. Raises DatasetError where it is none or something else is there; OSError.

    Strata are the pairs of task and prompt profile; see `jobs.sampled` for how many of each are taken.
    """
    record = read_record(bundle)
    by_index, jobs = {one.index: one for one in record.episodes}, record.jobs()

    def stratum(job: Job) -> tuple[str, str]:
        return by_index[job.episode].task, job.profile

    chosen = sampled(jobs, stratum, share_of(settings.augmented_sample_ratio), settings.seed)
    lines = [_original(one) for one in record.episodes]
    lines += [_variant(job, by_index[job.episode]) for job in chosen]
    content = b"".join(json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n" for line in lines)
    recorded = {**settings.recorded(), "bundle": record.config_hash}
    all_counts, counts = Counter(map(stratum, jobs)), Counter(map(stratum, chosen))
    told = {
        "command": "augment requests",
        "settings": recorded,
        "config_hash": digest_of(recorded),
        "bundle": str(bundle),
        "bundle_run": record.run,
        "originals": len(record.episodes),
        "strata": [
            {"task": task, "prompt_profile": profile, "variants": count, "requested": counts[task, profile]}
            for (task, profile), count in sorted(all_counts.items())
        ],
    }
    path = settings.output or bundle / REQUESTS
    return Requested(save_file(path, content, told, "--output"), path, len(record.episodes), len(chosen), len(jobs))


def _original(episode: BundledEpisode) -> dict[str, Any]:
    return {
        "request_id": episode_name(episode.index),
        "source_type": "original",
        "episode_index": episode.index,
        "variant_index": None,
        "task_text": episode.task,
        "video_path": episode.video,
        "num_frames": episode.frames,
        "keyframes": KEYFRAMES,
    }


def _variant(job: Job, episode: BundledEpisode) -> dict[str, Any]:
    return {
        "request_id": Path(job.returned).stem,
        "source_type": "augmented",
        "episode_index": job.episode,
        "variant_index": job.variant,
        "task_text": episode.task,
        "video_path": str(RETURNED / job.returned),
        "num_frames": episode.frames,
        "keyframes": KEYFRAMES,
        "prompt_profile": job.profile,
        "seed": job.seed,
        "job_id": job.id,
    }
