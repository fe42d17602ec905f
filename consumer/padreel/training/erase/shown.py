"""Renderings of erased episodes: they show what was recorded, so they go too.

In the `vis/` of a shard those of episodes that have moved go as well: they are called by numbers of before.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from padreel.dataset import files, layout
from padreel.dataset.commit_log import CommitLog
from padreel.training.known import root_of
from padreel.training.manifest import MANIFEST
from padreel.training.show.listing import SHOW_LIST, VIS, ShowList, locked_folder, read_show_list, write_show_list


@dataclass(frozen=True, slots=True)
class ShownFolder:
    """A folder with renderings of erased sessions, and which these are."""

    path: Path
    names: tuple[str, ...]


def find_shown(tops: Sequence[Path], shards: Sequence[Path], keys: Collection[str]) -> list[ShownFolder]:
    """Renderings of the sessions in and below the folders and in the shards; those in merged datasets are these's.

    Raises DatasetError where a list of renderings cannot be read, OSError.
    """
    found: list[ShownFolder] = []
    folders = {path.resolve(): path for path in (*_of_shards(shards), *(one for top in tops for one in _walk(top)))}
    for folder in folders.values():
        listed = read_show_list(folder)
        names = [one.name for one in listed.renderings if one.session in keys and files.exists(folder / one.name)]
        if names:
            found.append(ShownFolder(folder, tuple(names)))
    return found


def _of_shards(shards: Sequence[Path]) -> Iterator[Path]:
    """Where `padreel show` puts what it makes of a shard, and `merge` finds it."""
    for shard in shards:
        for folder in (shard / VIS, root_of(shard) / VIS / shard.name):
            if folder.is_dir():
                yield folder


def _walk(top: Path) -> Iterator[Path]:
    for folder, names, _ in os.walk(top):
        path = Path(folder)
        if (path / SHOW_LIST).exists():
            yield path
        if (path / MANIFEST).exists() or (path / layout.COMMITS).is_dir():
            names.clear()


def remove_shown(found: Sequence[ShownFolder], shards: Sequence[Path]) -> None:
    """Remove what was found, and in the shards' folders what is of no episode any more.

    Raises DatasetError where another process is rendering there, OSError.
    """
    for one in found:
        with locked_folder(one.path):
            _remove(one.path, read_show_list(one.path), set(one.names))
    for shard in shards:
        last = CommitLog(shard).last()
        if last is None or last.latest_erasure is None:
            continue
        rows: set[str] | None = None
        for folder in _of_shards([shard]):
            if rows is None:
                rows = {
                    file.sha256
                    for entry in CommitLog(shard).episodes_back(last)
                    for file in (entry.episode.files if entry.episode is not None else ())
                    if file.kind == "data"
                }
            with locked_folder(folder):
                listed = read_show_list(folder)
                known = {one.name for one in listed.renderings if one.data_sha256 in rows}
                # One that no list has was begun by a process that died: nobody knows of which episode it is.
                _remove(folder, listed, {one.name for one in folder.glob("episode-*")} - known)


def _remove(folder: Path, listed: ShowList, names: Collection[str]) -> None:
    if not names:
        return
    for name in sorted(names):
        files.unlink(folder / name)
    left = tuple(one for one in listed.renderings if one.name not in names)
    used = {one.run for one in left}
    write_show_list(folder, replace(listed, renderings=left, runs=tuple(run for run in listed.runs if run.id in used)))
