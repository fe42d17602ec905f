"""The episodes that an export is made of, in one stable order, from a merged dataset or from shards.

Shards are merged first, with hard links that go away again: so their order, their tasks, and what keeps them from being
one dataset are the same as `padreel merge` has them. Every file that is read is compared with its sha256.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from padreel.dataset import files
from padreel.dataset.layout import CAMERA
from padreel.dataset.stats import Stats
from padreel.errors import CorruptShardError, DatasetError
from padreel.exports.clips import Video, look_through
from padreel.model import Schema
from padreel.options import load
from padreel.training.build import update_is_interrupted
from padreel.training.checksums import CHECKSUMS, read_checksums
from padreel.training.manifest import MANIFEST, Manifest, ManifestEpisode, read_manifest
from padreel.training.merge.merge import merge, schema_of
from padreel.training.settings import MergeSettings
from padreel.training.tree import TreeError, episode_files, read_info, read_table
from padreel.training.write_tree import Tell

_STATS: Final = "stats/"


@dataclass(frozen=True, slots=True)
class SourceEpisode:
    """An episode and where it lies. `record` says whence it is: session, rig, offsets, quality, end reason, sha256.

    `data`, `video` and `gamepad` are paths relative to the source. Its rows are `length` from `row` on in the data
    file, its pictures as many from the display position `picture` on in the video. `columns` are the scalars of its
    metadata row, `stats` the ten figures of every feature.
    """

    index: int
    length: int
    task: str
    data: str
    row: int
    video: str
    picture: int
    gamepad: str
    record: ManifestEpisode
    columns: Mapping[str, Any]
    stats: Mapping[str, Stats]

    @property
    def session(self) -> str:
        """The session's key, `<session>@<run>`."""
        return self.record.session


class Source:
    """A merged dataset to read episodes from; one that `open_source` has opened."""

    def __init__(self, root: Path, named: Path, manifest: Manifest, info: dict[str, Any]) -> None:
        """`named` is the path that the user knows it by."""
        self.root, self.named, self.manifest, self.info = root, named, manifest, info
        self.schema: Schema = schema_of(info)
        self.features: Mapping[str, Any] = info["features"]
        self.tasks: tuple[str, ...] = manifest.tasks
        self._listed = read_checksums(root / CHECKSUMS)
        self._table: tuple[str, pa.Table] | None = None
        self._video: tuple[str, Video] | None = None

    def episodes(self) -> Iterator[SourceEpisode]:
        """All of them by index; few are in memory at a time. Raises CorruptShardError, OSError."""
        last: tuple[str, int] = ("", 0)
        count = 0
        for path in episode_files(self.root):
            self._compare(str(path.relative_to(self.root)))
            file = pq.ParquetFile(path)
            for group in range(file.num_row_groups):
                for meta in file.read_row_group(group, use_threads=False).to_pylist():
                    one = self._episode(meta, last)
                    last = one.data, one.row + one.length
                    count += 1
                    yield one
        if count != self.manifest.total_episodes:
            raise CorruptShardError(
                f"{self.root / 'meta/episodes'}: found {count} episodes, expected the {self.manifest.total_episodes} "
                f"episodes of {MANIFEST}; restore what is missing, or merge anew"
            )

    def rows(self, episode: SourceEpisode) -> pa.Table:
        """The episode's rows as its dataset has them. One data file is kept. Raises CorruptShardError, OSError."""
        if self._table is None or self._table[0] != episode.data:
            self._compare(episode.data)
            self._table = episode.data, read_table(self.root / episode.data)
        table: pa.Table = self._table[1].slice(episode.row, episode.length)
        numbers = table.column("episode_index").to_numpy()
        if len(numbers) != episode.length or (numbers != episode.index).any():
            raise CorruptShardError(
                f"{self.root / episode.data}: rows {episode.row} on are not the {episode.length} of episode "
                f"{episode.index}; merge it anew"
            )
        return table

    def video(self, episode: SourceEpisode) -> Video:
        """The mp4 that the episode lies in, looked through. One is kept. Raises CorruptShardError, OSError."""
        if self._video is None or self._video[0] != episode.video:
            self._compare(episode.video)
            self._video = episode.video, look_through(self.root / episode.video, self.schema)
        return self._video[1]

    def read(self, name: str) -> bytes:
        """The content of one of its files, compared with the list. Raises CorruptShardError, OSError."""
        self._compare(name)
        return (self.root / name).read_bytes()

    def _compare(self, name: str) -> None:
        found, expected = files.sha256_of(self.root / name), self._listed.get(name)
        if found is None or found != expected:
            said = "missing" if found is None else f"found sha256 {found}, expected {expected or 'no such file'}"
            raise CorruptShardError(f"{self.root / name}: {said} by {CHECKSUMS}; restore it, or merge anew")

    def _episode(self, meta: dict[str, Any], last: tuple[str, int]) -> SourceEpisode:
        index = meta["episode_index"]
        data = self._name("data_path", meta, "data")
        gamepad = self.info["extensions"]["game_converter"]["gamepad_path"].format(
            chunk_index=meta["gamepad/chunk_index"], file_index=meta["gamepad/file_index"]
        )
        stats: dict[str, Stats] = {name: {} for name in self.features}
        for column, value in meta.items():
            if column.startswith(_STATS):
                name, _, key = column.removeprefix(_STATS).rpartition("/")
                stats[name][key] = value
        return SourceEpisode(
            index=index,
            length=meta["length"],
            task=meta["tasks"][0],
            data=data,
            row=last[1] if last[0] == data else 0,
            video=self._name("video_path", meta, f"videos/{CAMERA}"),
            picture=round(meta[f"videos/{CAMERA}/from_timestamp"] * self.schema.fps),
            gamepad=gamepad,
            record=self.manifest.episodes[index],
            columns={name: value for name, value in meta.items() if not name.startswith(_STATS)},
            stats=stats,
        )

    def _name(self, pattern: str, meta: Mapping[str, Any], what: str) -> str:
        chunk, file = meta[f"{what}/chunk_index"], meta[f"{what}/file_index"]
        found: str = self.info[pattern].format(video_key=CAMERA, chunk_index=chunk, file_index=file)
        return found


def columns_of(table: pa.Table) -> dict[str, NDArray[Any]]:
    """Rows as arrays: (rows,) of a scalar column, (rows, slots) of a vector."""
    found: dict[str, NDArray[Any]] = {}
    for name in table.column_names:
        values = table.column(name).combine_chunks()
        if pa.types.is_fixed_size_list(values.type):
            found[name] = values.flatten().to_numpy(zero_copy_only=False).reshape(len(values), values.type.list_size)
        else:
            found[name] = values.to_numpy(zero_copy_only=False)
    return found


@contextlib.contextmanager
def open_source(path: Path, output: Path, tell: Tell) -> Iterator[Source]:
    """Open a merged dataset, or all shards at and below a folder; these are linked beside `output` meanwhile.

    Raises DatasetError where there is nothing to export, a source is damaged or its manifest of a newer version;
    OSError. The caller has to hold the build folder of `output`.
    """
    if not path.is_dir():
        raise DatasetError(f"{path}: is no folder; expected a merged dataset, a shard or an output root")
    if (path / MANIFEST).exists():
        yield _opened(path, path)
        return
    between = output.parent / f".{output.name}.padreel-source"
    try:
        if files.exists(between):  # of a run that was killed; the shards may have grown since
            shutil.rmtree(between)
        merge([path], load(MergeSettings, {"output": between}), tell)
        yield _opened(between, path)
    finally:
        shutil.rmtree(between, ignore_errors=True)


def _opened(root: Path, named: Path) -> Source:
    manifest = read_manifest(root)
    if manifest is None:
        raise DatasetError(f"{named}: found no {MANIFEST}, expected a dataset that `padreel merge` has made")
    if update_is_interrupted(root):
        raise DatasetError(f"{named}: an update was interrupted: run `padreel merge --update` again first")
    try:
        return Source(root, named, manifest, read_info(root))
    except TreeError as error:
        raise CorruptShardError(str(error)) from error
