"""`padreel erase`: sessions are taken out of shards, for good; what cannot be taken away from here is named.

Each shard is claimed, as by any writer, so that a consumer that has it is fenced and takes it again afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from padreel.core.erase import with_replays
from padreel.dataset import files, layout
from padreel.dataset.commit_log import CommitLog, Entry
from padreel.dataset.erasing import ErasingShard
from padreel.dataset.erasure import ErasedSession, Erasure
from padreel.dataset.runs import RUNS, record_run
from padreel.errors import CorruptShardError, DatasetError, FencedError
from padreel.training.erase.rows import PreparedRows, placed_behind, prepared_rows
from padreel.training.erase.scan import Scan, Wanted, find, known_keys
from padreel.training.merge.erased import erasures_of
from padreel.training.source import find_shards
from padreel.training.take import take
from padreel.version import __version__

_ATTEMPTS = 20
_log = structlog.get_logger("padreel.erase")


@dataclass(frozen=True, slots=True)
class ShardErasure:
    """What is, or was, erased of one shard. `commit` and `run` are None where nothing was yet.

    `links` says how many other names the files of the erased episodes had: those of merged datasets.
    """

    path: Path
    last: Entry
    sessions: tuple[ErasedSession, ...]
    recording: tuple[str, ...]
    links: int
    commit: int | None = None
    run: str | None = None


def look(roots: Sequence[Path], wanted: Wanted) -> tuple[frozenset[str], list[ShardErasure], list[Path]]:
    """What there is to erase: the keys of all sessions that are wanted, what shards have of them, and unfinished ones.

    The keys have those that were erased before. Raises DatasetError, OSError.
    """
    lasts = {path: last for path in find_shards(roots) if (last := CommitLog(path).last()) is not None}
    keys = {one for one in wanted.sessions if "@" in one}
    for path, last in lasts.items():
        keys |= known_keys(path, last, wanted)
    wide = with_replays(keys)
    found = [_found(path, last, wide) for path, last in lasts.items()]
    unfinished = [path for path, last in lasts.items() if last.erasing]
    return wide, [one for one in found if one.sessions], unfinished


def _found(path: Path, last: Entry, keys: Collection[str]) -> ShardErasure:
    found = find(path, last, keys)
    return ShardErasure(path, last, found.sessions, found.recording, _other_names(path, found.sessions))


def _other_names(path: Path, sessions: Sequence[ErasedSession]) -> int:
    """How many more names than their own the videos and gamepad states have."""
    count = 0
    for n in (n for session in sessions for n in session.episodes):
        for kind in layout.FILE_KINDS:
            final = path / layout.final_path(kind, n)
            count += max(0, final.stat().st_nlink - 1) if files.exists(final) else 0
    return count


def erase_shard(path: Path, keys: Collection[str], run: str, settings: Mapping[str, Any]) -> ShardErasure | None:
    """Take the sessions out of a shard, after finishing what was interrupted; None where nothing of them is there.

    A consumer that is fenced takes the shard again, and may be the one who carries the erase out. Raises DatasetErrors,
    OSError: the same again goes on.
    """
    last = CommitLog(path).last()
    if last is None:
        return None
    scan = Scan(path, keys)
    with prepared_rows(path, run) as prepared:
        links = 0
        if not last.erasing:
            scan.read_to(last)
            found = scan.found(last)
            links = _other_names(path, found.sessions)
            prepared.make(placed_behind(path, last, found.first_index, keys)[1])
        for attempt in range(_ATTEMPTS):
            try:
                _take_out(path, keys, run, settings, scan, prepared)
                break
            except FencedError as error:
                _log.warning("taken by another writer, trying again", run=run, shard=str(path), detail=str(error))
                if attempt == _ATTEMPTS - 1:
                    raise
    for entry in erasures_of(path):
        if entry.erasure is not None and entry.erasure.run == run:
            return ShardErasure(path, entry, entry.erasure.sessions, (), links, entry.n, run)
    return None


def _take_out(
    path: Path, keys: Collection[str], run: str, settings: Mapping[str, Any], scan: Scan, prepared: PreparedRows
) -> None:
    """Take the shard, and the sessions out of it if they are still there. Raises FencedError, as `erase_shard`."""
    with closing(_open(path, run)) as shard:
        scan.read_to(shard.last)
        found = scan.found(shard.last)
        if not found.sessions:
            return
        check_recording(path, found.recording, settings)  # one may have begun meanwhile
        kept, behind = placed_behind(path, shard.last, found.first_index, keys)
        changed = {one.entry.n for one in behind} | {n for session in found.sessions for n in session.episodes}
        erasure = Erasure(
            run=run,
            version=__version__,
            settings=dict(settings),
            sessions=found.sessions,
            kept=kept,
            moved=prepared.stage(shard, behind),
            redacted=tuple(n for n in found.redacted if n not in changed),
        )
        entry = shard.erase(erasure)
        _log.info("erased", run=run, shard=str(path), commit=entry.n, sessions=[one.key for one in found.sessions])


def _open(path: Path, run: str) -> ErasingShard:
    first = CommitLog(path).read(0)
    if first is None:
        raise CorruptShardError(f"{path / layout.commit_path(0)}: missing; restore it from a copy of the shard")
    return take(path, first.source, "erase", run, ErasingShard)[0]


def write_reports(shards: Sequence[Path], keys: Collection[str]) -> list[Path]:
    """Leave in each shard's `runs/` what its log says of the erasures of these sessions, where that is missing.

    Raises DatasetError, OSError.
    """
    written: list[Path] = []
    for path in shards:
        for entry in erasures_of(path):
            erasure = entry.erasure
            if erasure is None or not erasure.keys & set(keys):
                continue
            file = path / RUNS / f"{erasure.run}.json"
            if not files.exists(file):
                sessions = [asdict(one) for one in erasure.sessions]
                record_run(path, erasure.run, "erase", erasure.settings, entry.claim, commit=entry.n, sessions=sessions)
                written.append(file)
    return written


def check_recording(shard: Path, recording: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Raises DatasetError where a session that is to be erased is still being recorded, unless that is asked for."""
    if recording and not settings.get("close"):
        raise DatasetError(
            f"{shard}: {', '.join(recording)}: still being recorded, as far as the log says; let the rig end the "
            "session, or use --close to close it here: what still comes of it is dropped and counted"
        )
