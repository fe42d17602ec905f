"""What a partition's state is after sessions were taken out of it. Pure.

Nothing of an erased session is kept but its name, for good: what Kafka still has of it, or is sent again, is dropped
and counted as of any session that is closed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from padreel.core.replay import replay_key
from padreel.model import ClosedSession, CloseReason, PartitionState


def erased(state: PartitionState, keys: Collection[str]) -> PartitionState:
    """The state to go on from if the sessions `keys` are erased: none of them is open, all are closed.

    What was not accounted of one that was open begins at its resume offsets, so that its records are counted once.
    """
    closed = dict(state.closed)
    for key in keys:
        opened, entry = state.open.get(key), closed.get(key)
        if opened is not None:
            closed[key] = ClosedSession(opened.resume, opened.pads_resume, CloseReason.ERASED)
        elif entry is not None:
            closed[key] = replace(entry, reason=CloseReason.ERASED)
        else:
            closed[key] = ClosedSession(state.frames_next, state.pads_next, CloseReason.ERASED)
    return replace(state, open={key: one for key, one in state.open.items() if key not in keys}, closed=closed)


def is_erased(state: PartitionState | None, key: str) -> bool:
    """Whether the state remembers a session as erased."""
    entry = None if state is None else state.closed.get(key)
    return entry is not None and entry.reason is CloseReason.ERASED


def with_replays(keys: Collection[str]) -> frozenset[str]:
    """The keys, and those that `padreel dead-letters replay` publishes these sessions again under, twice over."""
    once = {replay_key(key) for key in keys}
    return frozenset((*keys, *once, *(replay_key(key) for key in once)))
