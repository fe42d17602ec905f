"""Which committed episodes enter a training set. Pure."""

from __future__ import annotations

import operator
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from padreel.training.episode import CommittedEpisode

_CONDITION: Final = re.compile(r"\s*([A-Za-z_]\w*)\s*(==|!=|<=|>=|=|<|>)\s*(.*?)\s*")
_AND: Final = re.compile(r"\s+and\s+", re.IGNORECASE)
_OPERATORS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
COLUMNS: Final[Mapping[str, type]] = {
    "episode_index": int,
    "length": int,
    "task": str,
    "quality": float,
    "session": str,
    "rig": str,
    "first_frame_index": int,
    "idle_until_ns": int,
    "frames_first_offset": int,
    "frames_last_offset": int,
    "pads_first_offset": int,
    "pads_last_offset": int,
    "end_reason": str,
    "forced": int,
    "late": int,
}


class Reason(StrEnum):
    """Why an episode does not enter; the first that applies."""

    QUARANTINED = "quarantined"  # held back when it was committed
    EXISTING = "existing"  # its session came from another shard
    SESSION = "session"
    RIG = "rig"
    SINCE = "since"
    WHERE = "where"
    PROGRESS = "progress"
    QUALITY = "quality"
    TOP_K = "top_k"


@dataclass(frozen=True, slots=True)
class Condition:
    """`column operator value`, on a column of the episodes' metadata."""

    column: str
    operator: str
    value: Any

    def holds(self, episode: CommittedEpisode) -> bool:
        found = episode.value(self.column)
        return found is not None and bool(_OPERATORS[self.operator](found, self.value))


@dataclass(frozen=True, slots=True)
class Filters:
    """What to let in; an empty or absent one lets all in that is not in quarantine.

    `sessions` are names or keys; `since_ms` milliseconds of the epoch; `min_progress` a share of the session's frames.
    """

    sessions: Collection[str] = ()
    rigs: Collection[str] = ()
    since_ms: int | None = None
    where: tuple[Condition, ...] = ()
    min_progress: float | None = None
    min_quality: float | None = None
    top_k: int | None = None
    include_quarantined: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """What entered, in the order given, and what did not, with the reason."""

    kept: tuple[CommittedEpisode, ...]
    rejected: tuple[tuple[CommittedEpisode, Reason], ...]


def parse_where(text: str) -> tuple[Condition, ...]:
    """Conditions joined by `and`: `rig = lab-3 and length >= 300`. Raises ValueError that says what was expected."""
    return tuple(_condition(part) for part in _AND.split(text.strip()))


def _condition(text: str) -> Condition:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise ValueError(f"found {text!r}, expected COLUMN OPERATOR VALUE with one of = != < <= > >=, joined by 'and'")
    column, sign, value = match.groups()
    kind = COLUMNS.get(column)
    if kind is None:
        raise ValueError(f"{column!r} is no column of an episode; expected one of {', '.join(COLUMNS)}")
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1]
    try:
        return Condition(column, sign, kind(value))
    except ValueError:
        raise ValueError(f"{column}: found {value!r}, expected {kind.__name__}") from None


def select(
    episodes: Sequence[CommittedEpisode], filters: Filters, fps: int, owners: Mapping[str, str] | None = None
) -> Selection:
    """Judge each episode; one whose session is another shard's by `owners` (shard by session key) must not come."""
    progress = session_progress(episodes, fps)
    rejected: dict[int, Reason] = {}
    for i, episode in enumerate(episodes):
        reason = _reason(episode, filters, progress[episode.session], owners or {})
        if reason is not None:
            rejected[i] = reason
    if filters.top_k is not None:
        left = [i for i in range(len(episodes)) if i not in rejected]
        left.sort(key=lambda i: -(episodes[i].quality or 0.0))  # stable: of equals the earlier ones
        rejected |= dict.fromkeys(left[filters.top_k :], Reason.TOP_K)
    return Selection(
        tuple(episode for i, episode in enumerate(episodes) if i not in rejected),
        tuple((episodes[i], reason) for i, reason in sorted(rejected.items())),
    )


def session_progress(episodes: Sequence[CommittedEpisode], fps: int) -> dict[str, float | None]:
    """Of each session the share that is in its episodes: rows by frames up to its last row; None without times."""
    rows: dict[str, int] = defaultdict(int)
    last: dict[str, int | None] = {}
    for episode in episodes:
        rows[episode.session] += episode.length
        before = last.get(episode.session, 0)
        last[episode.session] = None if before is None or episode.last_ns is None else max(before, episode.last_ns)
    return {
        session: None if (end := last[session]) is None else min(1.0, count / (round(end * fps / 1e9) + 1))
        for session, count in rows.items()
    }


def session_owners(
    episodes: Sequence[CommittedEpisode], known: Mapping[str, str] | None = None
) -> tuple[dict[str, str], tuple[CommittedEpisode, str] | None]:
    """Which shard each session belongs to, the first that has it, `known` first; and the first that has two."""
    owners = dict(known or {})
    twice = None
    for episode in episodes:
        owner = owners.setdefault(episode.session, episode.shard)
        if owner != episode.shard and twice is None:
            twice = episode, owner
    return owners, twice


def _reason(
    episode: CommittedEpisode, filters: Filters, progress: float | None, owners: Mapping[str, str]
) -> Reason | None:
    # First of all: a release then takes it out of no other count than this one's.
    if episode.quarantined and not filters.include_quarantined:
        return Reason.QUARANTINED
    if owners.get(episode.session, episode.shard) != episode.shard:
        return Reason.EXISTING
    name = episode.session.rpartition("@")[0]
    if filters.sessions and episode.session not in filters.sessions and name not in filters.sessions:
        return Reason.SESSION
    if filters.rigs and episode.columns["rig"] not in filters.rigs:
        return Reason.RIG
    if filters.since_ms is not None and episode.published_ms < filters.since_ms:
        return Reason.SINCE
    if not all(condition.holds(episode) for condition in filters.where):
        return Reason.WHERE
    if filters.min_progress is not None and (progress is None or progress < filters.min_progress):
        return Reason.PROGRESS
    if filters.min_quality is not None and (episode.quality is None or episode.quality < filters.min_quality):
        return Reason.QUALITY
    return None
