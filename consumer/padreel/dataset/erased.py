"""Carrying out what a commit of kind `erased` says, from whatever state a crash has left.

The commit is linked when everything that it needs lies in `staging/`; from then on whoever opens the shard to write
carries it out, before anything else is published:

1. hide: the dataset ends before the first erased episode (info.json first, then its metadata); where there is none
   before it, it has no episode until the end, and does not load. What it shows is never paired wrongly.
2. remove: the files of the erased episodes.
3. move: the rows of the episodes behind them get their new numbers. Videos and gamepad states stay where they are.
4. redact: the episodes' commits become commits of kind `erased` that say nothing, those behind them get their new
   numbers, and every other commit loses what it had of the sessions: their pads by value, their rejections.
5. show: the metadata files as the log says now, info.json last (opening the shard does that, here are those before).

Each step may be done twice. Files go through the publish folder, so that only the last claimer changes anything.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from padreel.dataset import files, layout, projection
from padreel.dataset.commit_log import CommitLog, CommittedFile, Entry, Episode, Kind, Totals, encode_entry
from padreel.dataset.erasure import Erasure, MovedRows
from padreel.dataset.layout import FILE_KINDS, INFO, DatasetSpec, commit_path, final_path
from padreel.dataset.publish import PublishFolder
from padreel.dataset.stats import aggregate_stats, column_stats
from padreel.errors import CorruptShardError


def redacted(entry: Entry, keys: Collection[str]) -> Entry:
    """The commit without what it has of the sessions `keys`, but for their names among those that are closed.

    An episode of theirs is not told apart here: see `without_episode`.
    """
    state, totals = entry.state, entry.totals
    if state is not None:
        state = replace(state, open={key: one for key, one in state.open.items() if key not in keys})
    return replace(
        entry,
        state=state,
        totals=replace(
            totals,
            converted=tuple(key for key in totals.converted if key not in keys),
            skipped=tuple(one for one in totals.skipped if one.session not in keys),
        ),
        rejections=tuple(one for one in entry.rejections if one.key not in keys),
    )


def without_episode(entry: Entry) -> Entry:
    """What the commit of an episode becomes that is taken out."""
    return replace(entry, kind=Kind.ERASED, episode=None)


def renumbered(before: Entry | None, entry: Entry) -> Entry:
    """The commit of an episode as the one that follows the episode of `before`, None for the shard's first.

    Its data file is still the old one. Doing it twice changes nothing.
    """
    episode, totals = entry.episode, Totals() if before is None else before.totals
    assert episode is not None
    episode = replace(episode, index=totals.episodes, first_row=totals.rows)
    episode = replace(episode, stats=_numbered_stats(episode))
    return replace(
        entry,
        previous_episode=None if before is None else before.n,
        episode=episode,
        totals=replace(
            entry.totals,
            episodes=totals.episodes + 1,
            rows=totals.rows + episode.length,
            forced=totals.forced + episode.columns["forced"],
            late=totals.late + episode.columns["late"],
            stats=aggregate_stats(totals.stats, episode.stats),
        ),
    )


def _numbered_stats(episode: Episode) -> dict[str, dict[str, object]]:
    numbers = np.arange(episode.first_row, episode.first_row + episode.length, dtype=np.int64)
    own = {
        "episode_index": column_stats(np.full(episode.length, episode.index, np.int64)),
        "index": column_stats(numbers),
    }
    return {name: own.get(name, figures) for name, figures in episode.stats.items()}


def with_rows(entry: Entry, moved: MovedRows) -> Entry:
    """The commit of an episode with another data file."""
    assert entry.episode is not None
    data = CommittedFile("data", moved.name, moved.sha256, moved.size)
    made = tuple(data if one.kind == "data" else one for one in entry.episode.files)
    return replace(entry, episode=replace(entry.episode, files=made))


def rewritten(log: CommitLog, erasure: Erasure) -> list[Entry]:
    """All commits that an erasure changes, as they are afterwards, ascending; from a log that has some already.

    Raises CorruptShardError where one is missing, what `read` raises.
    """
    keys = erasure.keys
    found = [redacted(_read(log, n), keys) for n in erasure.redacted]
    found += [redacted(without_episode(_read(log, n)), keys) for n in erasure.episodes]
    before = None if erasure.kept is None else _read(log, erasure.kept)
    for moved in erasure.moved:
        before = with_rows(redacted(renumbered(before, _read(log, moved.n)), keys), moved)
        found.append(before)
    return sorted(found, key=lambda entry: entry.n)


def _read(log: CommitLog, n: int) -> Entry:
    entry = log.read(n)
    if entry is None:
        raise CorruptShardError(f"commit {n}: missing, though a later one names it; restore it from a copy")
    return entry


def carried_out(shard: Path, log: CommitLog, folder: PublishFolder, spec: DatasetSpec, last: Entry) -> Entry:
    """Carry out what `last` says may not have been yet; `last` without saying so.

    Raises FencedError if another writer took the shard, CorruptShardError, OSError. Calling it again is safe.
    """
    if not last.erasing or last.latest_erasure is None:
        return last
    erasure = _read(log, last.latest_erasure).erasure
    assert erasure is not None
    changed = rewritten(log, erasure)
    kept = None if erasure.kept is None else _read(log, erasure.kept)
    left = {one.n: one for one in changed if encode_entry(_read(log, one.n)) != encode_entry(one)}
    if left:
        if erasure.episodes:
            _hide(shard, log, folder, spec, last, kept)
        for n in erasure.episodes:
            for kind in FILE_KINDS:
                folder.take_away(shard / final_path(kind, n))
        _move(shard, folder, [one for one in erasure.moved if one.n in left])
        for one in left.values():
            folder.put(folder.prepare(shard / commit_path(one.n), encode_entry(one)))
        log.sync()
    done = replace(last, erasing=False)
    if erasure.episodes:
        _show_full_files(shard, log, folder, spec, done, kept)
        if not done.totals.episodes:  # opening the shard publishes nothing then
            folder.take_away(shard / layout.STATS)
            _put_info(shard, folder, spec, done.totals, done.totals)
    return done


def _hide(
    shard: Path, log: CommitLog, folder: PublishFolder, spec: DatasetSpec, last: Entry, kept: Entry | None
) -> None:
    """End the dataset with the episode of `kept`; without one there is none in it."""
    _put_info(shard, folder, spec, last.totals, Totals() if kept is None else kept.totals)
    last_file = None if kept is None else layout.episodes_path(_file_number(kept))
    for path in sorted((shard / "meta" / "episodes").glob("*/*.parquet"), reverse=True):
        if last_file is None or path.relative_to(shard) > last_file:
            folder.take_away(path)
    if kept is not None:
        _put_episodes(shard, folder, spec, log.episodes_of_last_file(kept))


def _file_number(entry: Entry) -> int:
    """Which episodes file has the latest episode up to a commit as its last."""
    return (entry.totals.episodes - 1) // layout.EPISODES_PER_FILE


def _put_episodes(shard: Path, folder: PublishFolder, spec: DatasetSpec, entries: Sequence[Entry]) -> None:
    """Replace the episodes file of these commits, durably."""
    file = projection.EpisodesFile(projection.episodes_schema(spec), entries)
    prepared = folder.prepare(shard / file.path, file.content())
    files.make_folders([prepared.final.parent], shard)
    folder.put(prepared)
    files.fsync_folder(prepared.final.parent)


def _put_info(shard: Path, folder: PublishFolder, spec: DatasetSpec, totals: Totals, shown: Totals) -> None:
    """info.json by `totals`, with the episodes of `shown`."""
    held_back = tuple(index for index in totals.quarantined if index < shown.episodes)
    content = projection.info_file(
        spec,
        replace(
            totals,
            episodes=shown.episodes,
            rows=shown.rows,
            converted=shown.converted,
            converted_count=shown.converted_count,
            quarantined=held_back,
            quarantined_count=len(held_back),
        ),
    )
    folder.put(folder.prepare(shard / INFO, content))
    files.fsync_folder((shard / INFO).parent)


def _move(shard: Path, folder: PublishFolder, moved: Sequence[MovedRows]) -> None:
    """Give the renumbered rows the names of the old ones."""
    for one in moved:
        source, final = shard / layout.STAGING / one.name, shard / final_path("data", one.n)
        try:
            files.rename(source, final)
        except OSError as error:
            if error.errno not in files.GONE or files.exists(source):
                raise
            folder.check()
            if files.size_of(final) != one.size:
                raise CorruptShardError(
                    f"{final}: found no file of {one.size} bytes, and no {source}, though an erase names it; restore "
                    "them from a copy"
                ) from error
    for parent in sorted({(shard / final_path("data", one.n)).parent for one in moved}):
        files.fsync_folder(parent)


def _show_full_files(
    shard: Path, log: CommitLog, folder: PublishFolder, spec: DatasetSpec, last: Entry, kept: Entry | None
) -> None:
    """Make the episodes files anew that lie before the last one, from the first that has changed on."""
    first = 0 if kept is None else _file_number(kept) * layout.EPISODES_PER_FILE
    entries = list(reversed(list(log.episodes_back(last, first))))
    for at in range(0, len(entries) - layout.EPISODES_PER_FILE, layout.EPISODES_PER_FILE):
        _put_episodes(shard, folder, spec, entries[at : at + layout.EPISODES_PER_FILE])
