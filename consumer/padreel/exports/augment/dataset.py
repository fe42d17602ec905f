"""Writes a dataset of originals and variants into a build folder; what is complete there already is left as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from padreel.dataset import layout, projection
from padreel.dataset.commit_log import FORMAT_VERSION as LOG_FORMAT_VERSION
from padreel.dataset.commit_log import CommittedFile
from padreel.dataset.layout import CAMERA
from padreel.dataset.projection import EPISODE_COLUMNS
from padreel.dataset.rows import data_schema_of
from padreel.dataset.stats import Stats, aggregate_stats, picture_stats, sample_keyframes
from padreel.exports.augment.jobs import Job
from padreel.exports.augment.returned import ReturnedVideo, write_returned
from padreel.exports.clips import write_clip
from padreel.exports.cuts import cut_from_key
from padreel.exports.episodes import Source, SourceEpisode
from padreel.model import Schema
from padreel.training import describe
from padreel.training.build import Build
from padreel.training.episode import CommittedEpisode
from padreel.training.manifest import MANIFEST, SCHEMA_VERSION, Manifest, Run, encode_manifest
from padreel.training.merge.plan import Plan, Planned, Start, plan_merge
from padreel.training.records import episode_records
from padreel.training.source import digest_of
from padreel.training.write_rows import numbered, write_table_file
from padreel.training.write_tree import Tell
from padreel.training.write_videos import link_or_copy
from padreel.version import __version__

LINEAGE: Final = Path("lineage.json")
FORMAT_VERSION: Final = 1
NO_VARIANT: Final = -1  # of an original
# Beside a merged dataset's columns: the original's index in the source, the variant's number and seed.
LINEAGE_COLUMNS: Final[Mapping[str, pa.DataType]] = {
    "augmented_from": pa.int64(),
    "variant": pa.int64(),
    "variant_seed": pa.int64(),
}


@dataclass(frozen=True, slots=True)
class Origin:
    """What an episode of the dataset is made of: the original, and for a variant the job and what came back."""

    episode: SourceEpisode
    job: Job | None
    video: ReturnedVideo | None

    @property
    def number(self) -> int:
        """The variant's number, -1 of an original."""
        return NO_VARIANT if self.job is None else self.job.variant


class AugmentedSet:
    """Writes one dataset."""

    def __init__(self, build: Build, source: Source, origins: Sequence[Origin], tell: Tell) -> None:
        self._build, self._source, self._origins, self._tell = build, source, origins, tell
        first = next((one.video for one in origins if one.video is not None), None)
        self._schema: Schema = source.schema if first is None else replace(source.schema, codec=first.stream.codec)
        self._features = _with_codec(source.features, self._schema.codec)
        self._row_bytes = _row_bytes(source.features)

    def write(self, recorded: Mapping[str, Any], arguments: tuple[str, ...], settings: Mapping[str, Any]) -> Manifest:
        """Write it all; the tree is ready to be published. Raises CorruptShardError, InputError, OSError."""
        firsts = self._write_videos()
        plan = plan_merge([*self._episodes(firsts)], self._schema.fps, Start())
        self._write_rows(plan)
        self._write_gamepad()
        self._write_metadata(plan)
        self._write_lineage(plan)
        manifest = self._manifest(plan, recorded, arguments, settings)
        self._build.put(layout.INFO, self._info(plan, manifest))
        self._build.put(layout.CARD, self._card().encode())
        self._build.put(MANIFEST, encode_manifest(manifest))
        self._build.put_checksums()
        return manifest

    # ---- videos --------------------------------------------------------------------------------------------------

    def _video(self, index: int) -> Path:
        chunk, file = layout.chunk_and_file(index)
        return Path(layout.VIDEO_PATH.format(video_key=CAMERA, chunk_index=chunk, file_index=file))

    def _write_videos(self) -> list[int]:
        """An mp4 for each episode; of each at which of its pictures the episode begins."""
        self._build.make_parents({self._video(i) for i in range(len(self._origins))})
        firsts: list[int] = []
        for i, origin in enumerate(self._origins):
            name, first = self._video(i), 0
            if origin.video is not None:
                if not self._build.has(name):
                    write_returned(origin.video, self._build.tree / name)
            else:
                video = self._source.video(origin.episode)
                cut = cut_from_key(video.order, origin.episode.picture, origin.episode.length)
                first = origin.episode.picture - cut.first
                if not self._build.has(name):
                    write_clip(video, cut, self._build.tree / name)
            self._build.note(name)
            firsts.append(first)
            self._tell("videos", i + 1, len(self._origins))
        return firsts

    # ---- rows ----------------------------------------------------------------------------------------------------

    def _episodes(self, firsts: Sequence[int]) -> Iterator[CommittedEpisode]:
        """The episodes as a plan takes them, with the sha256 of the mp4s that were written."""
        for i, (origin, first) in enumerate(zip(self._origins, firsts, strict=True)):
            one, fps = origin.episode, self._schema.fps
            video = self._build.digests[str(self._video(i))]
            digests = {**one.record.sha256, "video": video}
            sizes = {"data": one.length * self._row_bytes}
            yield CommittedEpisode(
                shard=one.record.shard,
                n=one.record.commit,
                index=one.record.shard_episode,
                length=one.length,
                task=one.task,
                from_timestamp=first / fps,
                to_timestamp=(first + one.length) / fps,
                columns={name: one.columns[name] for name in EPISODE_COLUMNS if not name.endswith("_sha256")},
                files=tuple(
                    CommittedFile(kind=kind, name="", sha256=digests[kind], size=sizes.get(kind, 0))
                    for kind in layout.FILE_KINDS
                ),
                published_ms=0,
                last_ns=None,
                quality=one.record.quality,
                quarantined=one.record.quarantined,
            )

    def _write_rows(self, plan: Plan) -> None:
        by_file: dict[int, list[Planned]] = {}
        for planned in plan.episodes:
            by_file.setdefault(planned.data, []).append(planned)
        for number, inside in by_file.items():
            chunk, file = layout.chunk_and_file(number)
            name = Path(layout.DATA_PATH.format(chunk_index=chunk, file_index=file))
            self._build.make_parents({name})
            if not self._build.has(name):
                write_table_file(self._build.tree / name, self._rows(inside))
            self._build.note(name)

    def _rows(self, inside: Sequence[Planned]) -> Iterator[pa.Table]:
        schema = data_schema_of(self._features)
        for planned in inside:
            table = self._source.rows(self._origins[planned.index].episode).cast(schema)
            self._tell("rows", planned.index + 1, len(self._origins))
            yield numbered(table, index=planned.index, first_row=planned.first_row, task_index=planned.task_index)

    def _write_gamepad(self) -> None:
        for i, origin in enumerate(self._origins):
            chunk, file = layout.chunk_and_file(i)
            name = Path(layout.GAMEPAD_PATH.format(chunk_index=chunk, file_index=file))
            self._build.make_parents({name})
            digest = origin.episode.record.sha256["gamepad"]
            if not self._build.has(name):
                link_or_copy(self._source.root / origin.episode.gamepad, self._build.tree / name, digest)
            self._build.digests[str(name)] = digest

    # ---- what describes it ---------------------------------------------------------------------------------------

    def _write_metadata(self, plan: Plan) -> None:
        schema = describe.episodes_schema(self._features)
        schema = pa.schema([*schema, *(pa.field(name, kind) for name, kind in LINEAGE_COLUMNS.items())])
        total: list[Mapping[str, Stats] | None] = [None]

        def rows() -> Iterator[dict[str, Any]]:
            for planned, known in zip(plan.episodes, self._stats(), strict=True):
                origin, stats = self._origins[planned.index], dict(known)
                if origin.video is not None:
                    positions = sample_keyframes(origin.video.keys, 0, origin.episode.length)
                    path = self._build.tree / self._video(planned.index)
                    stats[CAMERA] = picture_stats(path, self._schema, positions)
                stats = describe.numbered_stats(stats, planned)
                total[0] = aggregate_stats(total[0], stats)
                self._tell("statistics", planned.index + 1, len(self._origins))
                yield describe.episode_row(planned, stats) | _lineage(origin)

        name = layout.episodes_path(0)
        self._build.make_parents({name, layout.TASKS})
        tables = describe.episode_tables(schema, rows())
        write_table_file(self._build.tree / name, tables, describe.ROWS_PER_GROUP)
        self._build.note(name)
        self._build.put(layout.TASKS, projection.tasks_file(plan.tasks))
        self._build.put(layout.STATS, json.dumps(total[0], ensure_ascii=False, allow_nan=False).encode())

    def _stats(self) -> Iterator[Mapping[str, Stats]]:
        """The statistics of each original, read in the order in which the source has them, and again if need be."""
        episodes: Iterator[SourceEpisode] = iter(())
        current: SourceEpisode | None = None
        for origin in self._origins:
            if current is None or current.index > origin.episode.index:
                episodes = self._source.episodes()
                current = next(episodes)
            while current.index < origin.episode.index:
                current = next(episodes)
            yield current.stats

    def _write_lineage(self, plan: Plan) -> None:
        episodes = [
            {
                "index": planned.index,
                **_lineage(origin := self._origins[planned.index]),
                "session": origin.episode.session,
                "prompt_profile": None if origin.job is None else origin.job.profile,
                "job_id": None if origin.job is None else origin.job.id,
                "returned": None if origin.video is None else origin.video.path.name,
                "returned_sha256": None if origin.video is None else origin.video.sha256,
            }
            for planned in plan.episodes
        ]
        content = {"format_version": FORMAT_VERSION, "episodes": episodes}
        self._build.put(LINEAGE, json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n")

    def _manifest(
        self, plan: Plan, recorded: Mapping[str, Any], arguments: tuple[str, ...], settings: Mapping[str, Any]
    ) -> Manifest:
        before, run, fps = self._source.manifest, self._build.run, self._schema.fps
        hashes = {one.episode.record.shard: one.episode.record.config_hash for one in self._origins}
        episodes = episode_records(plan, hashes, fps, run)
        made = Run(
            id=run,
            command="augment",
            version=__version__,
            arguments=arguments,
            settings=dict(settings),
            first_episode=0,
            episodes=len(episodes),
        )
        return replace(
            before,
            command="augment",
            version=__version__,
            schema_version=SCHEMA_VERSION,
            log_format_version=LOG_FORMAT_VERSION,
            run=run,
            config_hash=digest_of(recorded),
            settings=dict(recorded),
            total_episodes=len(episodes),
            total_frames=plan.rows,
            total_seconds=plan.rows / fps,
            data_files=plan.data_files,
            videos=plan.videos,
            sessions=len({one.session for one in episodes}),
            rigs=len({one.rig for one in episodes}),
            tasks=plan.tasks,
            runs=(*before.runs, made),
            episodes=episodes,
        )

    def _info(self, plan: Plan, manifest: Manifest) -> bytes:
        return describe.info(
            {**self._source.info, "features": self._features},
            episodes=len(plan.episodes),
            frames=plan.rows,
            tasks=len(plan.tasks),
            settings=[shard.settings for shard in manifest.shards],
            converted=list(dict.fromkeys(one.session for one in manifest.episodes)),
            skipped=[],
            gates=[shard.quality_gate for shard in manifest.shards],
            quarantined=[one.index for one in manifest.episodes if one.quarantined],
        )

    def _card(self) -> str:
        game_id = self._source.info["extensions"]["game_converter"]["game_id"]
        return layout.card_of(
            self._build.output.name,
            game_id,
            self._schema,
            """\
**Augmented.** The video of every episode whose `variant` is not -1 was made by a model from that of a recorded episode;
its actions are the recorded ones. `lineage.json` says which is whose. `sha256sum --check checksums.sha256` compares
every file. Image statistics come from at most 16 keyframes of each episode.
""",
        )


def _lineage(origin: Origin) -> dict[str, int]:
    seed = NO_VARIANT if origin.job is None else origin.job.seed
    return {"augmented_from": origin.episode.index, "variant": origin.number, "variant_seed": seed}


def _with_codec(features: Mapping[str, Any], codec: str) -> dict[str, Any]:
    camera = features[CAMERA]
    return {**features, CAMERA: {**camera, "info": {**camera.get("info", {}), "video.codec": codec}}}


def _row_bytes(features: Mapping[str, Any]) -> int:
    """Bytes of a row, uncompressed: by them data files are filled."""
    columns = [one for one in features.values() if one["dtype"] != "video"]
    return sum(np.dtype(one["dtype"]).itemsize * max(1, *one["shape"]) for one in columns)
