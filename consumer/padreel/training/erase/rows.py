"""The rows of episodes that move up, under their new numbers.

They are made while the consumer still has the shard: it is held for moments only, however many rows there are.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from padreel.dataset import files, layout
from padreel.dataset.commit_log import CommitLog, CommittedFile, Entry
from padreel.dataset.erasing import ErasingShard
from padreel.dataset.erasure import MovedRows
from padreel.errors import CorruptShardError
from padreel.training.write_rows import numbered, parse_rows

_PREFIX: Final = "erase-"


@dataclass(frozen=True, slots=True)
class Placed:
    """The commit of an episode that stays, and where the episode will be."""

    entry: Entry
    index: int
    first_row: int


def placed_behind(
    shard: Path, last: Entry, first: int | None, keys: Collection[str]
) -> tuple[int | None, tuple[Placed, ...]]:
    """The N of the last episode before the one of index `first`, and the episodes that stay behind it.

    Raises DatasetError, OSError.
    """
    if first is None:
        return None, ()
    episodes = list(reversed(list(CommitLog(shard).episodes_back(last, max(first - 1, 0)))))
    kept, index, row = None, 0, 0
    if first > 0:
        before = episodes.pop(0)
        kept, index, row = before.n, before.totals.episodes, before.totals.rows
    placed: list[Placed] = []
    for entry in episodes:
        assert entry.episode is not None
        if entry.episode.columns["session"] not in keys:
            placed.append(Placed(entry, index, row))
            index, row = index + 1, row + entry.episode.length
    return kept, tuple(placed)


class PreparedRows:
    """Files of rows in a folder of their own. Made by `prepared_rows`."""

    def __init__(self, shard: Path, folder: Path) -> None:
        self._shard, self._folder = shard, folder
        self._made: dict[tuple[str, int, int], CommittedFile] = {}

    def make(self, placed: Sequence[Placed]) -> None:
        """Write what is not there yet, durably. Raises CorruptShardError, OSError."""
        for one in placed:
            if _identity(one) in self._made:
                continue
            content = _renumbered(self._shard, one)
            name = f"{one.entry.n}-{one.index}"
            files.unlink(self._folder / name)
            files.write_durable(self._folder / name, content)
            digest = hashlib.sha256(content).hexdigest()
            self._made[_identity(one)] = CommittedFile("data", name, digest, len(content))

    def stage(self, shard: ErasingShard, placed: Sequence[Placed]) -> tuple[MovedRows, ...]:
        """Stage them all; nothing stays staged where that fails. Raises CorruptShardError, OSError."""
        self.make(placed)
        moved: list[MovedRows] = []
        try:
            for one in placed:
                made = self._made[_identity(one)]
                moved.append(shard.stage_rows(one.entry.n, self._folder / made.name, made.sha256, made.size))
        except OSError:
            shard.unstage(moved)
            raise
        return tuple(moved)


@contextlib.contextmanager
def prepared_rows(shard: Path, run: str) -> Iterator[PreparedRows]:
    """A folder for the length of a block. Raises OSError."""
    folder = shard / layout.STAGING / f"{_PREFIX}{run}"
    files.make_folders([folder], shard)
    try:
        yield PreparedRows(shard, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # what stays is removed by the next erase


def remove_leftovers(shard: Path) -> None:
    """Remove such folders of processes that died. Raises OSError."""
    for folder in (shard / layout.STAGING).glob(f"{_PREFIX}*"):
        shutil.rmtree(folder)


def _identity(one: Placed) -> tuple[str, int, int]:
    """What the new rows follow from."""
    return _data_file(one.entry).sha256, one.index, one.first_row


def _data_file(entry: Entry) -> CommittedFile:
    assert entry.episode is not None
    return next(one for one in entry.episode.files if one.kind == "data")


def _renumbered(shard: Path, one: Placed) -> bytes:
    episode = one.entry.episode
    assert episode is not None
    file = _data_file(one.entry)
    final, staged = shard / layout.final_path("data", one.entry.n), shard / layout.STAGING / file.name
    for path in (final, staged, final):  # the latest episode's may get its final name meanwhile
        content = files.read(path)
        if content is not None and hashlib.sha256(content).hexdigest() == file.sha256:
            break
    else:
        raise CorruptShardError(
            f"{final}: missing or damaged, expected sha256 {file.sha256} by commit {one.entry.n}; restore it"
        )
    table = parse_rows(content, str(path), episode.length)
    table = numbered(table, index=one.index, first_row=one.first_row, task_index=episode.task_index)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="snappy", use_dictionary=True)
    return sink.getvalue()
