"""What has to be so at the end of a round, session by session."""

from __future__ import annotations

import hashlib
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from padreel.core.decode import session_name
from padreel.dataset import layout
from padreel.dataset.commit_log import CommitLog, Entry
from padreel.kafka.dead_letter import StoredLetter
from tests.chaos.rigs import LETTERS, loose_record
from tests.chaos.schedule import Kind, Loose, LoosePlan, SessionPlan
from tests.dataset_reading import ReadEpisode, by_session, read_info, shards

# By recording and what is wrong with it.
Expected = Mapping[tuple[int, Kind], Sequence[ReadEpisode]]


@dataclass(frozen=True, slots=True)
class Letter:
    """What a dead letter is about."""

    kind: str
    session: str | None
    reason: str


def in_order(episodes: Iterable[ReadEpisode]) -> list[ReadEpisode]:
    """A session's episodes without its name, by time."""
    found = [replace(one, session="", key="") for one in episodes]
    return sorted(found, key=lambda one: one.rows["capture.time_ns"][0])


def check_sessions(
    found: Mapping[str, Sequence[ReadEpisode]], plan: Sequence[SessionPlan], expected: Expected
) -> list[str]:
    """Each session has each of its frames once, and its rows, packets and EVENTs are the right ones."""
    wrong = [
        f"{name}: episodes of a session that nobody has published" for name in found.keys() - {s.name for s in plan}
    ]
    for session in plan:
        should = in_order(expected[session.recording, session.kind])
        is_so = in_order(found.get(session.name, ()))
        if (said := _frames(is_so, should)) or is_so != should:
            wrong.append(
                f"{session.name} ({session.kind}, partition {session.partition}): {said or _differs(is_so, should)}"
            )
    return wrong


def _frames(found: Sequence[ReadEpisode], expected: Sequence[ReadEpisode]) -> str:
    """Which frames are missing or too many; empty if none is."""
    is_so, should = _times(found), _times(expected)
    index = {time_ns: number for number, time_ns in enumerate(sorted(should | is_so))}
    missing = sorted(index[time_ns] for time_ns in (should - is_so))
    extra = sorted(index[time_ns] for time_ns in (is_so - should))
    return (
        f"{len(missing)} frames are missing {missing[:9]}, {len(extra)} too many {extra[:9]}"
        if missing or extra
        else ""
    )


def _times(episodes: Iterable[ReadEpisode]) -> Counter[int]:
    return Counter(time_ns for one in episodes for time_ns in one.rows["capture.time_ns"])


def _differs(found: Sequence[ReadEpisode], expected: Sequence[ReadEpisode]) -> str:
    lengths = [(len(one), one.end_reason) for one in found], [(len(one), one.end_reason) for one in expected]
    if lengths[0] != lengths[1]:
        return f"episodes {lengths[0]}, expected {lengths[1]}"
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        names = [name for name in other.rows if one.rows.get(name) != other.rows[name]]
        names += [
            name
            for name in ("packets", "events", "from_timestamp", "to_timestamp")
            if getattr(one, name) != getattr(other, name)
        ]
        if names:
            return f"episode {number} differs in {', '.join(names)}"
    return "episodes differ"


def expected_letters(sessions: Iterable[SessionPlan], loose: Iterable[LoosePlan]) -> set[Letter]:
    """The letters there have to be, each once or more often."""
    letters = {
        Letter(LETTERS[one.kind][0], one.name, LETTERS[one.kind][1]) for one in sessions if one.kind is not Kind.GOOD
    }
    return letters | {Letter("record", _name_of(one.kind), one.kind.value) for one in loose}


def _name_of(kind: Loose) -> str | None:
    return "broken" if kind is Loose.UNPARSABLE else None


def check_letters(found: Iterable[StoredLetter], expected: set[Letter]) -> list[str]:
    """Whatever is bad has its letter, with its reason, and nothing else has one; bad records are copied whole."""
    letters = list(found)
    is_so = {Letter(one.kind.value, session_name(one.session) if one.session else None, one.reason) for one in letters}
    wrong = [f"no dead letter: {one}" for one in expected - is_so]
    wrong += [f"a dead letter about nothing bad: {one}" for one in is_so - expected]
    for one in letters:
        if one.reason in set(Loose) and (one.key, one.value) != loose_record(Loose(one.reason))[1:]:
            wrong.append(f"dead letter {one.reason}: not the record's key and value: {one.key!r} {one.value!r}")
    return wrong


def check_tree(root: Path, frame_records: Sequence[int]) -> list[str]:
    """The log is whole, every file has its hash, the metadata follow from it, and every frame record is accounted.

    `frame_records` are those that each partition had.
    """
    wrong: list[str] = []
    for number, records in enumerate(frame_records):
        shard = root / layout.shard_folder(number)
        if not (shard / layout.COMMITS).is_dir():
            wrong += [f"{shard.name} has no log, though its partition has {records} frame records"] if records else []
            continue
        entries = _entries(shard)
        wrong += [f"{shard.name}: {said}" for said in (*_files(shard, entries), *_metadata(shard, entries[-1]))]
        accounted = sum(entries[-1].totals.accounted.values())
        if accounted != records:
            wrong.append(
                f"{shard.name}: {accounted} frame records are accounted of {records}: {entries[-1].totals.accounted}"
            )
    return wrong


def gone_back(root: Path) -> list[str]:
    """Where the metadata do not follow from the log."""
    wrong = []
    for shard in shards(root):
        last = CommitLog(shard).last()
        wrong += [f"{shard.name}: {said}" for said in (_metadata(shard, last) if last else ["no log"])]
    return wrong


def unfinished(root: Path, plan: Sequence[SessionPlan]) -> list[str]:
    """Sessions that no log says have ended."""
    ended: dict[int, set[str]] = {}
    for number in {one.partition for one in plan}:
        shard = root / layout.shard_folder(number)
        ended[number] = _ended(_entries(shard)) if (shard / layout.COMMITS).is_dir() else set()
    return [one.name for one in plan if one.name not in ended[one.partition]]


def _ended(entries: Sequence[Entry]) -> set[str]:
    """Names of the sessions that are closed, are rejected or have an episode that ends with them.

    What is closed is forgotten some day, or at once where that rule is switched off.
    """
    made = [one.episode.columns for one in entries if one.episode]
    keys = {one["session"] for one in made if one["end_reason"] == "end"}
    keys |= {rejection.key for one in entries for rejection in one.rejections}
    if entries and (state := entries[-1].state):
        keys |= state.closed.keys()
    return {session_name(key) for key in keys}


def staged(root: Path) -> list[str]:
    """What lies in the shards' staging folders."""
    return [
        f"left in staging: {path.relative_to(root)}" for path in sorted(root.glob(f"partition-*/{layout.STAGING}/*"))
    ]


def _entries(shard: Path) -> list[Entry]:
    log = CommitLog(shard)
    entries: list[Entry] = []
    while (entry := log.read(len(entries))) is not None:
        entries.append(entry)
    return entries


def _files(shard: Path, entries: Sequence[Entry]) -> list[str]:
    wrong = []
    names = len(list((shard / layout.COMMITS).iterdir()))
    if names != len(entries):
        wrong.append(f"{names} files in the log, {len(entries)} of them are its commits")
    for entry in entries:
        for file in entry.episode.files if entry.episode else ():
            kind = next(kind for kind in layout.FILE_KINDS if kind == file.kind)
            path = shard / layout.final_path(kind, entry.n)
            if not path.exists():
                wrong.append(f"commit {entry.n}: {path.name} is missing")
            elif hashlib.sha256(path.read_bytes()).hexdigest() != file.sha256:
                wrong.append(f"commit {entry.n}: {path.name} has another hash")
    return wrong


def _metadata(shard: Path, last: Entry) -> list[str]:
    if not last.totals.episodes:
        return []
    info = read_info(shard)
    is_so, should = (info["total_episodes"], info["total_frames"]), (last.totals.episodes, last.totals.rows)
    return [f"info.json has (episodes, frames) {is_so}, the log {should}"] if is_so != should else []


def read_sessions(root: Path) -> tuple[dict[str, list[ReadEpisode]], list[str]]:
    """All episodes below a root, by session, and what says why where they cannot be read."""
    try:
        return by_session(shards(root)), []
    except Exception:  # noqa: BLE001 - whatever it is, a dataset that cannot be read is what must not be
        return {}, [f"the shards cannot be read:\n{traceback.format_exc()}"]
