"""The rules that turn streams into episodes, and where in the two topics they are at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from padreel.model import CloseReason, Fate, Schema

# What becomes of frames that come after their session was closed; of any other one they are stale.
FATE_ONCE_CLOSED = {
    CloseReason.RESTARTED: Fate.RESTARTED,
    CloseReason.SCHEMA: Fate.REJECTED,
    CloseReason.OTHER_GAME: Fate.IGNORED,
    CloseReason.DENIED: Fate.DENIED,
}


@dataclass(frozen=True, slots=True)
class Rules:
    """How sessions become episodes. Times are nanoseconds; `max_pre_action_ns` None keeps every frame."""

    schema: Schema
    game_id: str = ""
    max_pre_action_ns: int | None = None
    max_episode_ns: int = 900 * 10**9
    session_timeout_ns: int = 120 * 10**9
    media_timeout_ns: int = 3600 * 10**9  # how long the file of a session by reference is waited for
    force_after_ns: int = 30 * 10**9  # where the rig promises heartbeats
    force_after_without_heartbeats_ns: int = 900 * 10**9
    dedupe_horizon: int = 100_000  # records for which a closed session is remembered
    silent_after_records: int = 100_000  # of both topics without one of the session


class Positions(NamedTuple):
    """Read positions of a partition pair: the offsets of the next records to read."""

    frames: int
    pads: int
