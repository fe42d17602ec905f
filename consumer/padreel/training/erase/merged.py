"""Merged datasets, exports and bundles that hold what was erased of shards: these are to be made anew."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from padreel.dataset import files
from padreel.errors import DatasetError
from padreel.training.manifest import MANIFEST, read_manifest

# Files by which other datasets say what they were made of, and what has made them: all list `episodes`.
_RECORDS = {"export_run.json": "export", "augmentation.json": "augment bundle"}
_BUILD = ".padreel-build"
_BETWEEN = ".padreel-merged"


@dataclass(frozen=True, slots=True)
class MergedSet:
    """A dataset that holds episodes of erased sessions, by their indices in it; `command` has made it."""

    path: str
    command: str
    sessions: tuple[str, ...]
    episodes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MergedSets:
    """What was found: the datasets, and the folders of merges that did not come to their end, which may hold more."""

    sets: tuple[MergedSet, ...]
    unfinished: tuple[str, ...]


def find_merged(folders: Sequence[Path], keys: Collection[str]) -> MergedSets:
    """Look through the folders and everything below them. Raises DatasetError where one is none, OSError."""
    found: dict[Path, MergedSet] = {}
    unfinished: dict[Path, None] = {}
    for top in folders:
        if not top.is_dir():
            raise DatasetError(f"{top}: is no folder; expected one in which merged datasets lie")
        for path in _walk(top):
            if path.name.endswith((_BUILD, _BETWEEN)):
                unfinished[path.resolve()] = None
            command, episodes = _episodes(path)
            inside = [(session, index) for session, index in episodes if session in keys]
            if inside:
                sessions = tuple(dict.fromkeys(session for session, _ in inside))
                held = MergedSet(str(path), command, sessions, tuple(index for _, index in inside))
                found.setdefault(path.resolve(), held)
    return MergedSets(tuple(found.values()), tuple(map(str, unfinished)))


def _episodes(path: Path) -> tuple[str, list[tuple[str, int]]]:
    """What has made a dataset, and its episodes' sessions and indices; none where the folder is no such dataset."""
    manifest = read_manifest(path) if (path / MANIFEST).exists() else None
    if manifest is not None:
        return manifest.command, [(one.session, one.index) for one in manifest.episodes]
    for name, command in _RECORDS.items():
        content = files.read(path / name)
        if content is None:
            continue
        try:  # of whatever format and version: more than this is not needed
            return command, [(str(one["session"]), int(one["index"])) for one in json.loads(content)["episodes"]]
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{path / name}: does not say which episodes it has ({error!r}); remove it") from error
    return "", []


def _walk(top: Path) -> Iterator[Path]:
    """The folder and those below it, but for what lies inside of datasets and of unfinished merges."""
    inside = (str(MANIFEST), *_RECORDS, "commits")
    for folder, names, _ in os.walk(top):
        path = Path(folder)
        if path.name.endswith(_BUILD) or any((path / name).exists() for name in inside):
            names.clear()
        yield path
