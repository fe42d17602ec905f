"""What a manifest says of shards and episodes. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from padreel.dataset import layout
from padreel.dataset.layout import CAMERA
from padreel.training.manifest import ManifestEpisode, ManifestShard
from padreel.training.merge.plan import Plan, Planned
from padreel.training.merge.selection import Reason, Selection
from padreel.training.source import SourceShard


def episode_records(plan: Plan, config_hashes: Mapping[str, str], fps: int, run: str) -> tuple[ManifestEpisode, ...]:
    """One record per planned episode; `config_hashes` by shard."""
    return tuple(_episode(planned, config_hashes[planned.episode.shard], fps, run) for planned in plan.episodes)


def _episode(planned: Planned, config_hash: str, fps: int, run: str) -> ManifestEpisode:
    episode, columns = planned.episode, planned.episode.columns
    chunk, file = layout.chunk_and_file(planned.video)
    return ManifestEpisode(
        index=planned.index,
        shard=episode.shard,
        commit=episode.n,
        shard_episode=episode.index,
        session=episode.session,
        rig=columns["rig"],
        task=episode.task,
        frames=episode.length,
        seconds=episode.length / fps,
        frames_first_offset=columns["frames_first_offset"],
        frames_last_offset=columns["frames_last_offset"],
        pads_first_offset=columns["pads_first_offset"],
        pads_last_offset=columns["pads_last_offset"],
        end_reason=columns["end_reason"],
        forced=columns["forced"],
        late=columns["late"],
        video=layout.VIDEO_PATH.format(video_key=CAMERA, chunk_index=chunk, file_index=file),
        sha256={one.kind: one.sha256 for one in episode.files},
        config_hash=config_hash,
        quality=episode.quality,
        run=run,
        quarantined=episode.quarantined,
    )


def shard_records(
    sources: Sequence[SourceShard], chosen: Selection, before: Sequence[ManifestShard]
) -> tuple[ManifestShard, ...]:
    """One record per shard: those of `before` first, with what this run adds."""
    records = {one.id: one for one in before}
    for source in sources:
        kept = [one for one in chosen.kept if one.shard == source.id]
        rejected = Counter(reason.value for one, reason in chosen.rejected if one.shard == source.id)
        scores = [one.quality for one in kept if one.quality is not None]
        fresh = ManifestShard(
            id=source.id,
            path=str(source.path),
            partition=source.last.source.partition,
            cluster_id=source.last.source.cluster_id,
            frames_topic=source.last.source.frames_topic,
            pads_topic=source.last.source.pads_topic,
            group=source.last.source.group,
            commits=source.last.n + 1,
            committed_episodes=source.last.totals.episodes,
            config_hash=source.config_hash,
            profile_name=str(source.extension.get("profile_name", "")),
            settings=source.extension.get("settings", {}),
            episodes=len(kept),
            frames=sum(one.length for one in kept),
            mean_quality=sum(scores) / len(scores) if scores else None,
            rejected=dict(sorted(rejected.items())),
            skipped_sessions=source.extension.get("skipped_sessions", []),
            quality_gate=source.extension.get("quality_gate"),
        )
        if (known := records.get(source.id)) is not None:
            judged = (*chosen.kept, *(one for one, _ in chosen.rejected))
            readmitted = [one for one in judged if one.shard == source.id and one.n < known.commits]
            fresh = _with(known, fresh, len(readmitted))
        records[source.id] = fresh
    return tuple(records.values())


def _with(before: ManifestShard, fresh: ManifestShard, readmitted: int) -> ManifestShard:
    """Both together; so many of those that `before` counts as quarantined are in `fresh`."""
    counted = Counter(before.rejected) - Counter({Reason.QUARANTINED.value: readmitted})
    rejected: dict[str, Any] = dict(counted + Counter(fresh.rejected))
    return replace(
        fresh,
        episodes=before.episodes + fresh.episodes,
        frames=before.frames + fresh.frames,
        mean_quality=_mean(before, fresh),
        rejected=dict(sorted(rejected.items())),
    )


def _mean(before: ManifestShard, fresh: ManifestShard) -> float | None:
    parts = [(one.mean_quality, one.episodes) for one in (before, fresh) if one.mean_quality is not None]
    count = sum(episodes for _, episodes in parts)
    return sum(mean * episodes for mean, episodes in parts) / count if count else None
