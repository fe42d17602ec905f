"""Renderings that shards have of their episodes, taken along by `padreel merge`: hard links under the new numbers.

They are no part of the dataset: one that is gone, or is not what its list says, is left out and logged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from padreel.dataset import files
from padreel.errors import DatasetError
from padreel.training.build import Build
from padreel.training.checksums import CHECKSUMS
from padreel.training.episode import CommittedEpisode
from padreel.training.known import root_of
from padreel.training.merge.plan import Plan
from padreel.training.show.listing import (
    SHOW_LIST,
    VIS,
    Rendering,
    ShowList,
    ShowRun,
    checksums_of,
    encode_show_list,
    read_show_list,
    rendering_name,
)
from padreel.training.source import SourceShard
from padreel.training.write_videos import link_or_copy

_log = structlog.get_logger("padreel.merge")


def carry_renderings(build: Build, plan: Plan, sources: Mapping[str, SourceShard], before: Path | None) -> int:
    """Put the renderings of a plan's episodes and their lists into the build; how many there are.

    `before` is the dataset that an update adds to; its list is continued. Raises OSError.
    """
    listed = ShowList() if before is None else _listed(before / VIS)
    found = {shard: _renderings(source) for shard, source in sources.items()}
    begun = build.tree / VIS
    if files.exists(begun):  # by a run that died; the shard may have others by now
        for one in begun.iterdir():
            files.unlink(one)
    build.make_parents({VIS / SHOW_LIST})
    renderings: list[Rendering] = []
    runs: dict[str, ShowRun] = {}
    for planned in plan.episodes:
        for there in found[planned.episode.shard].get(_key_of(planned.episode), ()):
            name = rendering_name(planned.index, there.path.suffix.removeprefix("."))
            if _taken_along(there, begun / name):
                renderings.append(replace(there.rendering, name=name, episode=planned.index))
                runs[there.run.id] = there.run
    if not renderings:
        files.remove_folder(begun)
    else:
        listed = listed.put(renderings, runs.values())
        build.put_aside(VIS / CHECKSUMS, checksums_of(listed))
        build.put_aside(VIS / SHOW_LIST, encode_show_list(listed))
    return len(renderings)


_Key = tuple[int, str, str, str]


@dataclass(frozen=True, slots=True)
class _There:
    """A rendering, where it is and who made it."""

    path: Path
    rendering: Rendering
    run: ShowRun


def _key_of(episode: CommittedEpisode) -> _Key:
    return episode.index, episode.session, episode.file("data").sha256, episode.file("video").sha256


def _renderings(source: SourceShard) -> dict[_Key, list[_There]]:
    """What a shard has, in itself or in its root, where `padreel show ROOT --output-dir ROOT/vis` puts it."""
    found: dict[_Key, list[_There]] = {}
    for folder in (source.path / VIS, root_of(source.path) / VIS / source.path.name):
        listed = _listed(folder)
        runs = {one.id: one for one in listed.runs}
        for one in listed.renderings:
            key = one.episode, one.session, one.data_sha256, one.video_sha256
            if one.run in runs:
                found.setdefault(key, []).append(_There(folder / one.name, one, runs[one.run]))
    return found


def _listed(folder: Path) -> ShowList:
    try:
        return read_show_list(folder)
    except DatasetError as error:
        _log.warning("renderings are left out", reason=str(error))
        return ShowList()


def _taken_along(there: _There, target: Path) -> bool:
    """Link it; False where it cannot be had, or is there already, out of the shard itself."""
    if files.exists(target):
        return False
    wanted = there.rendering
    try:
        size = files.size_of(there.path)
        if size == wanted.size:
            link_or_copy(there.path, target, wanted.sha256)
            return True
        reason = "is gone" if size is None else f"found {size} bytes, expected {wanted.size}"
    except (DatasetError, FileNotFoundError) as error:
        reason = str(error)
    _log.warning("a rendering is left out", file=str(there.path), reason=reason)
    return False
