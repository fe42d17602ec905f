"""`padreel merge`: the committed episodes of many shards as one LeRobot dataset. The sources stay as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import structlog

from padreel.dataset import files, layout
from padreel.dataset.commit_log import FORMAT_VERSION as LOG_FORMAT_VERSION
from padreel.dataset.layout import CAMERA
from padreel.errors import DatasetError
from padreel.model import Schema
from padreel.quality_config import load_quality_config
from padreel.training import describe
from padreel.training.build import Build, build_folder, is_taken, open_build
from padreel.training.checksums import CHECKSUMS, check_listed, read_checksums
from padreel.training.episode import CommittedEpisode
from padreel.training.lerobot_check import load_with_lerobot
from padreel.training.manifest import MANIFEST, SCHEMA_VERSION, Manifest, Run, encode_manifest, read_manifest
from padreel.training.merge.erased import check_not_erased, seen_episodes
from padreel.training.merge.plan import Pictures, Plan, Start, plan_merge
from padreel.training.merge.selection import Selection, select, session_owners
from padreel.training.quality import scored
from padreel.training.records import episode_records, shard_records
from padreel.training.settings import MergeSettings
from padreel.training.show.carry import carry_renderings
from padreel.training.source import SourceShard, digest_of, find_shards, open_sources
from padreel.training.write_tree import Before, Tell, TreeWriter
from padreel.training.write_videos import pictures_of
from padreel.version import __version__

_log = structlog.get_logger("padreel.merge")


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did: `outcome` and what the output holds now; `added` episodes are this run's."""

    outcome: Literal["created", "updated", "unchanged"]
    added: int
    manifest: Manifest


def merge(roots: Sequence[Path], settings: MergeSettings, tell: Tell) -> Merged:
    """Merge the shards at and below `roots` into `settings.output`.

    What a run that died has left beside the output is gone on with. Raises DatasetError where there is nothing to
    merge, schemas differ, a source is damaged, or the output is something else than a merge of these with these
    settings; OSError.
    """
    output = settings.output
    with open_build(output) as build:
        if build.finish_update():
            _log.info("an interrupted update is complete now", output=str(output))
        before = read_manifest(output) if files.exists(output) else None
        _check_output(output, before, settings)
        if before is not None:
            check_listed(output, read_checksums(output / CHECKSUMS), ("meta/",))
        paths = [path for path in find_shards(roots) if build_folder(output) not in path.parents and path != output]
        check_not_erased(output, before, paths)
        sources = open_sources(paths)
        if not sources:
            raise DatasetError(f"{', '.join(map(str, roots))}: no episode is committed in any of {len(paths)} shards")
        if before is not None:
            _check_same_schema(output, sources[0])
        chosen = _choose(sources, settings, before)
        if before is not None and not settings.update:
            _check_same_episodes(output, before, chosen)
        if before is not None and (not settings.update or not chosen.kept):
            build.clear()  # a run that died at its last step has left something
            return Merged("unchanged", 0, before)
        if not chosen.kept:
            raise DatasetError(f"none of {len(chosen.rejected)} episodes is let in: {_reasons(chosen)}")
        manifest = _write(build, sources, settings, chosen, before, roots, tell)
    return Merged("created" if before is None else "updated", len(chosen.kept), manifest)


def schema_of(info: Mapping[str, Any]) -> Schema:
    """The schema that an info.json tells."""
    height, width, _ = info["features"][CAMERA]["shape"]
    codec = info["features"][CAMERA].get("info", {}).get("video.codec", "h264")
    return Schema(codec, width, height, info["fps"])


def _check_output(output: Path, before: Manifest | None, settings: MergeSettings) -> None:
    if before is None:
        if is_taken(output):
            raise DatasetError(
                f"--output: {output}: found something that no merge has made, expected nothing; name another folder"
            )
        return
    if before.command != "merge":
        raise DatasetError(f"--output: {output}: was made by {before.command}; name another folder")
    if digest_of(settings.recorded()) != before.config_hash:
        asked = settings.recorded()
        names = [name for name in asked if asked[name] != before.settings.get(name)]
        said = ", ".join(f"{name} was {before.settings.get(name)!r}, is {asked[name]!r}" for name in names)
        raise DatasetError(
            f"--output: {output}: was made with other settings ({said}); use them, or name another folder"
        )


def _check_same_schema(output: Path, source: SourceShard) -> None:
    info = json.loads((output / layout.INFO).read_bytes())
    if info["features"] != source.info["features"] or info["fps"] != source.info["fps"]:
        raise DatasetError(f"{output} and {source.path} have different schemas; merge them into one dataset each")


def _choose(sources: Sequence[SourceShard], settings: MergeSettings, before: Manifest | None) -> Selection:
    """The episodes that enter: of an update those that the manifest has not seen, or saw in quarantine, by shards."""
    seen = {one.id: one for one in before.shards} if before is not None and settings.update else {}
    candidates: list[CommittedEpisode] = []
    quality = load_quality_config()
    for source in sources:
        found: list[CommittedEpisode] = []
        known = seen.get(source.id)
        if known is not None and not settings.include_quarantined:
            found = source.readmitted(known.commits)
        found += reversed(list(source.episodes(seen_episodes(source, known))))
        candidates += [scored(source, one, quality) for one in found]
    owners, twice = session_owners(candidates, before.session_owners() if before is not None and seen else None)
    if twice is not None and not settings.skip_existing:
        episode, owner = twice
        paths = {source.id: source.path for source in sources}
        raise DatasetError(
            f"{paths.get(owner, owner)} and {paths[episode.shard]} both have session {episode.session}; leave one "
            "of them out, or use --skip-existing to take it from the first"
        )
    return select(candidates, settings.filters, sources[0].info["fps"], owners)


def _check_same_episodes(output: Path, before: Manifest, chosen: Selection) -> None:
    """The same again is nothing to do; raises DatasetError if it is not the same."""
    if [(one.shard, one.commit) for one in before.episodes] != [(one.shard, one.n) for one in chosen.kept]:
        raise DatasetError(
            f"--output: {output}: holds {before.total_episodes} episodes, the shards have other ones by now "
            f"({len(chosen.kept)}); use --update to add what is new, or name another folder"
        )


def _reasons(chosen: Selection) -> str:
    counts: dict[str, int] = {}
    for _, reason in chosen.rejected:
        counts[reason.value] = counts.get(reason.value, 0) + 1
    return ", ".join(f"{count} by {reason}" for reason, count in counts.items())


def _write(
    build: Build,
    sources: Sequence[SourceShard],
    settings: MergeSettings,
    chosen: Selection,
    before: Manifest | None,
    roots: Sequence[Path],
    tell: Tell,
) -> Manifest:
    by_id = {source.id: source for source in sources}
    info = sources[0].info
    schema = schema_of(info)
    pictures = _pictures(chosen.kept, by_id, schema, tell) if settings.compact else None
    plan = plan_merge(chosen.kept, schema.fps, _start(before), pictures)
    fingerprint = {
        "version": __version__,
        "settings": settings.recorded(),
        "start": [plan.start.episodes, before.run if before is not None else None],
        "episodes": [[planned.episode.shard, planned.episode.n] for planned in plan.episodes],
    }
    build.begin(digest_of(fingerprint))
    _log.info("merging", run=build.run, roots=[str(root) for root in roots], settings=settings.resolved())
    writer = TreeWriter(build, plan, by_id, schema, _before(settings.output, before), tell)
    writer.write_rows()
    writer.write_videos(pictures)
    writer.write_gamepad()
    writer.write_metadata(settings.image_stats)
    carried = carry_renderings(build, plan, by_id, None if before is None else settings.output)
    _log.info("renderings taken along", run=build.run, count=carried)
    manifest = _manifest(build.run, sources, settings, chosen, plan, before, roots)
    skipped = [one for shard in manifest.shards for one in shard.skipped_sessions]
    content = describe.info(
        info,
        episodes=manifest.total_episodes,
        frames=manifest.total_frames,
        tasks=len(plan.tasks),
        settings=[shard.settings for shard in manifest.shards],
        converted=list(dict.fromkeys(one.session for one in manifest.episodes)),
        skipped=skipped,
        gates=[shard.quality_gate for shard in manifest.shards],
        quarantined=[one.index for one in manifest.episodes if one.quarantined],
    )
    game_id = sources[0].extension["game_id"]
    card = describe.card(settings.output.name, game_id, schema, settings.image_stats)
    build.put(layout.INFO, content)
    build.put(layout.CARD, card.encode())
    build.put(MANIFEST, encode_manifest(manifest))
    build.put_checksums()
    if before is None:
        if settings.needs_lerobot:
            load_with_lerobot(build.tree)
        build.publish_new()
    else:
        build.publish_update()
        if settings.needs_lerobot:  # its files are of use together only
            load_with_lerobot(settings.output)
    return manifest


def _pictures(
    episodes: Sequence[CommittedEpisode], sources: Mapping[str, SourceShard], schema: Schema, tell: Tell
) -> dict[int, Pictures]:
    found: dict[int, Pictures] = {}
    for i, episode in enumerate(episodes):
        found[i] = pictures_of(sources[episode.shard].locate(episode.n, episode.file("video")), schema)
        tell("looking at videos", i + 1, len(episodes))
    return found


def _start(before: Manifest | None) -> Start:
    if before is None:
        return Start()
    return Start(before.total_episodes, before.total_frames, before.tasks, before.data_files, before.videos)


def _before(output: Path, before: Manifest | None) -> Before:
    if before is None:
        return Before(None, None, {})
    return Before(output, json.loads((output / layout.STATS).read_bytes()), read_checksums(output / CHECKSUMS))


def _manifest(
    run: str,
    sources: Sequence[SourceShard],
    settings: MergeSettings,
    chosen: Selection,
    plan: Plan,
    before: Manifest | None,
    roots: Sequence[Path],
) -> Manifest:
    fps = sources[0].info["fps"]
    hashes = {source.id: source.config_hash for source in sources}
    episodes = (*(before.episodes if before else ()), *episode_records(plan, hashes, fps, run))
    added = Run(
        id=run,
        command="merge",
        version=__version__,
        arguments=tuple(map(str, roots)),
        settings=settings.resolved(),
        first_episode=plan.start.episodes,
        episodes=len(plan.episodes),
    )
    return Manifest(
        command="merge",
        version=__version__,
        schema_version=SCHEMA_VERSION,
        log_format_version=LOG_FORMAT_VERSION,
        run=run,
        config_hash=digest_of(settings.recorded()),
        settings=settings.recorded(),
        total_episodes=len(episodes),
        total_frames=plan.rows,
        total_seconds=plan.rows / fps,
        data_files=plan.data_files,
        videos=plan.videos,
        sessions=len({one.session for one in episodes}),
        rigs=len({one.rig for one in episodes}),
        tasks=plan.tasks,
        runs=(*(before.runs if before else ()), added),
        shards=shard_records(sources, chosen, before.shards if before else ()),
        episodes=episodes,
    )


def summary(merged: Merged) -> dict[str, Any]:
    """The stable JSON form of what a merge did."""
    manifest = merged.manifest
    return {
        "format_version": 1,
        "outcome": merged.outcome,
        "run": manifest.run,
        "added": merged.added,
        "episodes": manifest.total_episodes,
        "frames": manifest.total_frames,
        "seconds": manifest.total_seconds,
        "shards": [
            {
                "path": one.path,
                "episodes": one.episodes,
                "frames": one.frames,
                "mean_quality": one.mean_quality,
                "rejected": one.rejected,
            }
            for one in manifest.shards
        ],
    }
