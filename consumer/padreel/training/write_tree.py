"""Writes a plan into a build folder: rows, videos, gamepad states, then what describes them.

What is complete already, because an earlier run of the same plan was interrupted, is left as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from padreel.dataset import layout, projection
from padreel.dataset.layout import CAMERA
from padreel.dataset.rows import data_schema_of
from padreel.dataset.stats import Stats, aggregate_stats
from padreel.errors import CorruptShardError
from padreel.model import Schema
from padreel.training import describe
from padreel.training.build import Build
from padreel.training.image_stats import all_picture_stats
from padreel.training.merge.plan import Pictures, Plan, Planned
from padreel.training.source import SourceShard
from padreel.training.tree import episode_files, read_table
from padreel.training.write_rows import numbered, parse_rows, write_table_file
from padreel.training.write_videos import Part, link_or_copy, pack_videos

Tell = Callable[[str, int, int], None]  # what is being done, how many are, of how many


@dataclass(frozen=True, slots=True)
class Before:
    """What an update adds to: where the dataset is, its statistics, its list of checksums. Empty for a new one."""

    root: Path | None
    stats: Mapping[str, Stats] | None
    checksums: Mapping[str, str]


class TreeWriter:
    """Writes one plan."""

    def __init__(
        self, build: Build, plan: Plan, sources: Mapping[str, SourceShard], schema: Schema, before: Before, tell: Tell
    ) -> None:
        self._build, self._plan, self._sources, self._schema = build, plan, sources, schema
        self._before, self._tell = before, tell
        build.digests |= before.checksums
        self._info = next(iter(sources.values())).info
        self._pictures: Mapping[int, Pictures] | None = None

    def write_rows(self) -> None:
        """The data files. Raises CorruptShardError, OSError."""
        by_file: dict[int, list[Planned]] = {}
        for planned in self._plan.episodes:
            by_file.setdefault(planned.data, []).append(planned)
        names = {number: _numbered(layout.DATA_PATH, number) for number in by_file}
        self._build.make_parents(set(names.values()))
        done = 0
        for number, inside in by_file.items():
            name = names[number]
            if not self._build.has(name):
                write_table_file(self._build.tree / name, self._rows(inside, done))
            done += len(inside)
            self._build.note(name)

    def write_videos(self, pictures: Mapping[int, Pictures] | None) -> None:
        """The mp4s: links, or, with `pictures`, files of several. Raises CorruptShardError, OSError."""
        by_file: dict[int, list[tuple[int, Planned]]] = {}
        for i, planned in enumerate(self._plan.episodes):
            by_file.setdefault(planned.video, []).append((i, planned))
        names = {number: _numbered(layout.VIDEO_PATH, number) for number in by_file}
        self._build.make_parents(set(names.values()))
        done = 0
        for number, inside in by_file.items():
            name = names[number]
            _, first = inside[0]
            if len(inside) == 1:
                if not self._build.has(name):
                    self._link(first, "video", name)
                self._build.digests[str(name)] = first.episode.file("video").sha256
            else:
                assert pictures is not None
                if not self._build.has(name):
                    parts = [
                        Part(self._locate(one, "video"), one.first_picture, pictures[i].packets) for i, one in inside
                    ]
                    pack_videos(parts, self._build.tree / name, self._schema)
                self._build.note(name)
            done += len(inside)
            self._tell("videos", done, len(self._plan.episodes))

    def write_gamepad(self) -> None:
        """The raw gamepad states, a file for each episode. Raises CorruptShardError, OSError."""
        names = [_numbered(layout.GAMEPAD_PATH, planned.index) for planned in self._plan.episodes]
        self._build.make_parents(set(names))
        for planned, name in zip(self._plan.episodes, names, strict=True):
            if not self._build.has(name):
                self._link(planned, "gamepad", name)
            self._build.digests[str(name)] = planned.episode.file("gamepad").sha256

    def write_metadata(self, image_stats: Literal["keyframes", "full"]) -> None:
        """The episodes file, tasks and statistics. Raises OSError."""
        name, tasks = layout.episodes_path(0), layout.TASKS
        self._build.make_parents({name, tasks})
        schema = describe.episodes_schema(self._info["features"])
        total: list[Mapping[str, Stats] | None] = [self._before.stats]

        def rows() -> Iterator[dict[str, Any]]:
            for i, planned in enumerate(self._plan.episodes, 1):
                stats = self._stats(planned, image_stats)
                total[0] = aggregate_stats(total[0], stats)
                self._tell("statistics", i, len(self._plan.episodes))
                yield describe.episode_row(planned, stats)

        def tables() -> Iterator[pa.Table]:
            if self._before.root is not None:
                for path in episode_files(self._before.root):
                    yield read_table(path, schema.names)
            yield from describe.episode_tables(schema, rows())

        # The statistics come out of the same reading, so these are always made anew.
        write_table_file(self._build.tree / name, tables(), describe.ROWS_PER_GROUP)
        self._build.note(name)
        self._build.put(tasks, projection.tasks_file(self._plan.tasks))
        self._build.put(layout.STATS, json.dumps(total[0], ensure_ascii=False, allow_nan=False).encode())

    def _rows(self, inside: Sequence[Planned], done: int) -> Iterator[pa.Table]:
        # As if written at once: what reading makes of a file's schema is not what it was written from.
        schema = data_schema_of(self._info["features"])
        for i, planned in enumerate(inside, 1):
            episode, source = planned.episode, self._sources[planned.episode.shard]
            file = episode.file("data")
            where = f"{source.path}: data file of commit {episode.n}"
            table = parse_rows(source.read(episode.n, file), where, episode.length)
            if not table.schema.equals(schema):
                raise CorruptShardError(f"{where}: found other columns than info.json has")
            table = table.cast(schema)
            self._tell("rows", done + i, len(self._plan.episodes))
            yield numbered(table, index=planned.index, first_row=planned.first_row, task_index=planned.task_index)

    def _locate(self, planned: Planned, kind: str) -> Path:
        source = self._sources[planned.episode.shard]
        return source.locate(planned.episode.n, planned.episode.file(kind))

    def _link(self, planned: Planned, kind: str, name: Path) -> None:
        target, sha256 = self._build.tree / name, planned.episode.file(kind).sha256
        try:
            link_or_copy(self._locate(planned, kind), target, sha256)
        except FileNotFoundError:  # it got its final name between the two
            link_or_copy(self._locate(planned, kind), target, sha256)

    def _stats(self, planned: Planned, image_stats: str) -> dict[str, Stats]:
        stats = dict(self._sources[planned.episode.shard].stats(planned.episode.n))
        if image_stats == "full":
            first = round(planned.episode.from_timestamp * self._schema.fps)
            stats[CAMERA] = all_picture_stats(
                self._locate(planned, "video"), self._schema, first, planned.episode.length
            )
        return describe.numbered_stats(stats, planned)


def _numbered(pattern: str, number: int) -> Path:
    chunk, file = layout.chunk_and_file(number)
    return Path(pattern.format(video_key=CAMERA, chunk_index=chunk, file_index=file))
