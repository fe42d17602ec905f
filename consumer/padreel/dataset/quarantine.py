"""Quarantine: episodes that the quality gate holds back, and letting them out again.

A quarantined episode is an episode of the shard like any other: it has its index, its rows are in the dataset, its
files are under their final names with the hashes of its commit. That it is held back is said in its commit alone, and
that it is so no longer in a later commit, of kind `released`; no commit and no file is ever changed for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from uuid import uuid4

from padreel.dataset import entries
from padreel.dataset.commit_log import CommitLog, Entry, Kind
from padreel.dataset.shard import Shard
from padreel.errors import CorruptShardError


def releases(log: CommitLog, last: Entry, first: int = 0) -> Iterator[int]:
    """The N of the commits whose episodes were released up to `last`, by commits from `first` on, the latest first.

    Raises CorruptShardError, OSError.
    """
    n = entries.latest_release(last)
    while n is not None and n >= first:
        entry = log.read(n)
        if entry is None or entry.released is None:
            raise CorruptShardError(f"{log.path(n)}: expected the commit of a release; restore this file from a copy")
        yield entry.released
        n = entry.previous_release


def held_back(log: CommitLog, last: Entry) -> list[Entry]:
    """The commits of the episodes that are in quarantine as of `last`, oldest first. Raises DatasetError, OSError."""
    left = last.totals.quarantined_count
    found: list[Entry] = []
    if not left:
        return found
    released = set(releases(log, last))
    for entry in log.episodes_back(last):
        if entries.was_quarantined(entry) and entry.n not in released:
            found.append(entry)
            if len(found) == left:
                break
    return found[::-1]


def release(shard: Shard, wanted: Callable[[Entry], bool]) -> list[Entry]:
    """Release those of an open shard's episodes in quarantine whose commits are `wanted`; these commits, oldest first.

    Raises DatasetError, OSError: a part may be released then, and doing it again releases the rest.
    """
    log = CommitLog(shard.path)
    last = log.last()
    found = [] if last is None else [entry for entry in held_back(log, last) if wanted(entry)]
    for entry in found:
        shard.add(partial(releasing, episode=entry))
    return found


def releasing(last: Entry, episode: Entry) -> Entry:
    """The commit that follows `last`, a commit of the same claim, and releases an episode. Pure."""
    if episode.episode is None:
        raise ValueError(f"commit {episode.n} is no episode")
    index, totals = episode.episode.index, last.totals
    return replace(
        last,
        n=last.n + 1,
        uuid=uuid4().hex,
        kind=Kind.RELEASED,
        totals=replace(
            totals,
            quarantined_count=totals.quarantined_count - 1,
            quarantined=tuple(one for one in totals.quarantined if one != index),
        ),
        previous_episode=entries.latest_episode(last),
        episode=None,
        rejections=(),
        lost=None,
        released=episode.n,
        previous_release=entries.latest_release(last),
    )
