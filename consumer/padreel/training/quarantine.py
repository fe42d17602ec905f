"""`padreel quarantine`: the episodes that the quality gate holds back, and letting them into training sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog

from padreel.dataset.commit_log import CommitLog, Entry
from padreel.dataset.quarantine import held_back, release
from padreel.dataset.runs import record_run
from padreel.dataset.shard import Shard
from padreel.errors import DatasetError, SettingsError
from padreel.training.settings import QuarantineListSettings, ReleaseSettings
from padreel.training.source import find_shards
from padreel.training.take import take

_log = structlog.get_logger("padreel.quarantine")


@dataclass(frozen=True, slots=True)
class HeldEpisode:
    """An episode in quarantine: where it is, what it is, and why. Also the JSON form of it."""

    shard: str  # path
    episode: int
    commit: int
    session: str  # its key
    rig: str
    frames: int
    seconds: float
    end_reason: str
    score: float
    threshold: float
    weakest: str  # the component that costs the score most
    components: dict[str, float]


def list_held(roots: Sequence[Path]) -> list[HeldEpisode]:
    """What is in quarantine in the shards at and below `roots`; nothing is written. Raises DatasetError, OSError."""
    return [_described(path, entry) for path in find_shards(roots) for entry in _held(path)]


def release_held(roots: Sequence[Path], sessions: Collection[str], episodes: Collection[int]) -> list[HeldEpisode]:
    """Release the episodes in quarantine of `sessions` (names or keys), or with these indices in the one shard there.

    A consumer that has such a shard is fenced and takes it again. Raises SettingsError where one that is asked for is
    not in quarantine (nothing is released then), DatasetError, OSError: doing it again releases the rest. What was done
    is told in the folder `runs` of each shard.
    """
    paths = find_shards(roots)
    if episodes and len(paths) > 1:
        raise SettingsError(f"--episode: found {len(paths)} shards, expected one: an index is of one shard; name it")
    held = {path: _held(path) for path in paths}
    everything = [_described(path, entry) for path in paths for entry in held[path]]
    if strange := sorted(set(episodes) - {one.episode for one in everything}):
        raise SettingsError(f"--episode: {', '.join(map(str, strange))}: not in quarantine in {paths[0]}")
    if unknown := sorted(set(sessions) - {name for one in everything for name in _names(one)}):
        raise SettingsError(f"--session: {', '.join(unknown)}: no episode of it is in quarantine")
    released: list[HeldEpisode] = []
    run, told = uuid4().hex, {"session": sorted(sessions), "episode": sorted(episodes)}
    for path in paths:
        asked = {
            one.commit
            for one in (_described(path, entry) for entry in held[path])
            if one.episode in episodes or not _names(one).isdisjoint(sessions)
        }
        if asked:
            _log.info("releasing", run=run, shard=str(path), commits=sorted(asked), settings=told)
            released += _release(path, held[path][-1], asked, run, told)
    return released


def _release(
    path: Path, latest: Entry, commits: Collection[int], run: str, told: Mapping[str, Any]
) -> list[HeldEpisode]:
    taken, lost = take(path, latest.source, "release", run, Shard)
    with closing(taken):
        found = [_described(path, entry) for entry in release(taken, lambda entry: entry.n in commits)]
        record_run(path, run, "quarantine release", told, taken.claim, released=[one.commit for one in found])
    for problem in lost:
        _log.warning("not all of info.json could be written again", run=run, detail=problem)
    return found


def _held(path: Path) -> list[Entry]:
    log = CommitLog(path)
    last = log.last()
    return [] if last is None else held_back(log, last)


def _names(one: HeldEpisode) -> set[str]:
    return {one.session, one.session.rpartition("@")[0]}


def _described(path: Path, entry: Entry) -> HeldEpisode:
    episode = entry.episode
    assert episode is not None
    assert episode.quality is not None
    return HeldEpisode(
        shard=str(path),
        episode=episode.index,
        commit=entry.n,
        session=str(episode.columns["session"]),
        rig=str(episode.columns["rig"]),
        frames=episode.length,
        seconds=episode.to_timestamp - episode.from_timestamp,
        end_reason=str(episode.columns["end_reason"]),
        score=episode.quality.score,
        threshold=episode.quality.threshold,
        weakest=episode.quality.weakest,
        components=episode.quality.components,
    )


def run_list(roots: Sequence[Path], settings: QuarantineListSettings, say: Callable[[str], None]) -> None:
    """Print what is in quarantine. Raises DatasetError."""
    held = _without_system_errors(lambda: list_held(roots))
    say(_as_json(held) if settings.json_output else table(held))


def run_release(roots: Sequence[Path], settings: ReleaseSettings, say: Callable[[str], None]) -> None:
    """Release, and print what was. Raises SettingsError, DatasetError."""
    released = _without_system_errors(lambda: release_held(roots, settings.session, settings.episode))
    if settings.json_output:
        say(_as_json(released))
        return
    for one in released:
        say(f"{one.shard}: episode {one.episode} of {one.session} is released; the next merge takes it")


def table(held: Sequence[HeldEpisode]) -> str:
    """What is in quarantine, for people."""
    rows = [("shard", "episode", "session", "rig", "frames", "seconds", "ended by", "quality", "below", "weakest")]
    for one in held:
        weakest = f"{one.weakest} {one.components[one.weakest]:.3f}" if one.weakest else ""
        numbers = str(one.frames), f"{one.seconds:.1f}", one.end_reason, f"{one.score:.3f}", f"{one.threshold:g}"
        rows.append((one.shard, str(one.episode), one.session, one.rig, *numbers, weakest))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*(lines if held else ()), f"{len(held)} episodes in quarantine"])


def _as_json(held: Sequence[HeldEpisode]) -> str:
    body = {"format_version": 1, "episodes": [asdict(one) for one in held]}
    return json.dumps(body, ensure_ascii=False, indent=2)


def _without_system_errors(call: Callable[[], list[HeldEpisode]]) -> list[HeldEpisode]:
    try:
        return call()
    except OSError as error:
        where = error.filename2 or error.filename or "a shard"
        raise DatasetError(f"{where}: {error.strerror or error}; what was done is done, try again") from error
