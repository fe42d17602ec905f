"""What is accounted, and what a commit must remember so that reading can go on from it.

A record is *accounted* when it is committed, or dropped and counted. `next` of a topic is the lowest offset
that is not accounted and not carried by value in a session's state. Closed sessions are remembered until both
`next` have passed them by `dedupe_horizon` records, so that what a publisher sends again is still dropped. Those that
were erased are remembered for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from padreel.core.rigs import NO_RIGS
from padreel.core.rules import Positions
from padreel.core.session import Session
from padreel.model import ClosedSession, CloseReason, Commit, Fate, LastRecord, OpenSession, PartitionState, Topic


class Ledger:
    """Counts frame records exactly once over restarts, and remembers closed sessions."""

    def __init__(self, closed: Mapping[str, ClosedSession], horizon: int) -> None:
        self.closed = dict(closed)
        self._horizon = horizon
        self.rigs = NO_RIGS
        self.by_rig: dict[tuple[str, Fate], int] = {}  # what was counted in this process, by the rig's label
        self._rig_ids: dict[str, str] = {}  # of closed sessions, as far as they were heard in this process
        self._counted: dict[Fate, int] = {}  # since the last commit
        self._loose: list[tuple[int, Fate, str | None]] = []  # records of no session

    def drop(self, offset: int, fate: Fate, key: str | None) -> None:
        """Note a frame record that belongs to no session (yet)."""
        self._loose.append((offset, fate, key))

    def claim_loose(self, key: str) -> list[tuple[int, Fate]]:
        """Hand the records noted for a session over to it when it opens."""
        mine = [drop[:2] for drop in self._loose if drop[2] == key and drop[1] is Fate.STALE]
        if mine:
            self._loose = [d for d in self._loose if d[2] != key or d[1] is not Fate.STALE]
        return mine

    def closed_record(self, topic: Topic, key: str, offset: int) -> bool:
        """Whether `key` is closed; if so the record is dropped, and counted if it was not before."""
        entry = self.closed.get(key)
        if entry is None:
            return False
        if topic is Topic.PADS:
            self.closed[key] = replace(entry, pads=max(entry.pads, offset + 1))
        elif offset >= entry.frames:
            fate = Fate.DENIED if entry.reason is CloseReason.DENIED else Fate.STALE
            self._count(self._rig_ids.get(key, ""), {fate: 1})
            self.closed[key] = replace(entry, frames=offset + 1)
        return True

    def rig_id(self, key: str | None, sessions: Mapping[str, Session]) -> str:
        """The rig of a session, open or closed; empty where it is not known."""
        if key is None:
            return ""
        session = sessions.get(key)
        return self._rig_ids.get(key, "") if session is None else session.rig_id

    def hear_rig(self, key: str, rig_id: str) -> None:
        """Take what a record of a closed session says of its rig."""
        if key in self.closed:
            self._rig_ids[key] = rig_id

    def _count(self, rig_id: str, fates: Mapping[Fate, int]) -> None:
        rig = self.rigs.label(rig_id)
        for fate, count in fates.items():
            self._counted[fate] = self._counted.get(fate, 0) + count
            self.by_rig[rig, fate] = self.by_rig.get((rig, fate), 0) + count

    def close(self, session: Session, reason: CloseReason, at: Positions) -> None:
        """Remember a session that takes no more records: first offset not seen, as of *this* reading."""
        frames = 0 if session.last_frame is None else session.last_frame + 1
        pads = at.pads if session.last_pad is None else min(session.last_pad + 1, at.pads)
        self.closed[session.key] = ClosedSession(max(session.resume, min(frames, at.frames)), pads, reason)
        self._rig_ids[session.key] = session.rig_id
        self._count(session.rig_id, session.count_below(at.frames))

    def commit(
        self, sessions: dict[str, Session], at: Positions, last: tuple[LastRecord | None, LastRecord | None]
    ) -> Commit:
        """Compute the state to go on from, and count what it leaves behind; expires dormant sessions."""
        open_: dict[str, OpenSession] = {}
        frames_next, pads_next = at
        for key, session in sessions.items():
            state, holds_frames, holds_pads = session.snapshot(at)
            self._count(session.rig_id, session.count_below(state.resume))
            frames_next = min(frames_next, state.resume) if holds_frames else frames_next
            pads_next = min(pads_next, state.pads_resume) if holds_pads else pads_next
            open_[key] = state
        for _, fate, key_of_record in (drop for drop in self._loose if drop[0] < frames_next):
            self._count(self.rig_id(key_of_record, sessions), {fate: 1})
        self._loose = [drop for drop in self._loose if drop[0] >= frames_next]
        reached = Positions(frames_next, pads_next)
        for key in [key for key, session in sessions.items() if self._expired(session, reached)]:
            del open_[key], sessions[key]
            self.closed[key] = ClosedSession(frames_next, pads_next, CloseReason.EXPIRED)
        self.closed = {key: entry for key, entry in self.closed.items() if not self._is_forgotten(entry, reached)}
        self._rig_ids = {key: rig_id for key, rig_id in self._rig_ids.items() if key in self.closed}
        remembered = PartitionState(*reached, *at, open_, dict(self.closed), *last)
        counted, self._counted = self._counted, {}
        return Commit(remembered, counted)

    def _is_forgotten(self, entry: ClosedSession, reached: Positions) -> bool:
        return entry.reason is not CloseReason.ERASED and self._beyond(entry.frames, entry.pads, reached)

    def _beyond(self, frames: int, pads: int, reached: Positions) -> bool:
        return reached.frames >= frames + self._horizon and reached.pads >= pads + self._horizon

    def _expired(self, session: Session, reached: Positions) -> bool:
        if not session.dormant or session.segments:
            return False
        frames = 0 if session.last_frame is None else session.last_frame + 1
        pads = 0 if session.last_pad is None else session.last_pad + 1
        return self._beyond(frames, pads, reached)
