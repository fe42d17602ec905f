"""The machine for one partition pair: decoded records in, effects out. No clock, no I/O.

    pipeline.read_frames(items, position, now_ns, last)      records of both topics, batch by batch
    pipeline.read_pads(items, position, now_ns, last)
    pipeline.observe_ends(frames_end, pads_end, asked_ns)    what end_offsets() said
    pipeline.tick(now_ns)                                    silence and deadlines
    for effect in pipeline.effects(): ...                    in order; whole episodes are committed at once

`now_ns` is any steady clock. It decides when to give up waiting, never what a frame is paired with.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import count

from padreel.core.align import Verdict
from padreel.core.offsets import Ledger
from padreel.core.reference import MediaScan, Wanted
from padreel.core.rigs import NO_RIGS, RigList
from padreel.core.rules import Positions, Rules
from padreel.core.session import Session
from padreel.model import (
    CloseReason,
    Commit,
    Effect,
    Fate,
    Frame,
    FrameItem,
    LastRecord,
    PadItem,
    PartitionState,
    Rejected,
    SessionRejection,
    Topic,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one partition pair may hold undecided before a topic is read no further."""

    frames: int = 20_000
    pads: int = 100_000
    pad_bytes: int = 16 * 2**20


@dataclass(slots=True)
class Counts:
    """What was seen in this process; re-reading counts again (a commit's `accounted` does not)."""

    pads: dict[Verdict, int] = field(default_factory=lambda: dict.fromkeys(Verdict, 0))
    forced: int = 0


@dataclass(frozen=True, slots=True)
class _Ends:
    """End offsets of both topics, and when they were asked for."""

    frames: int
    pads: int
    asked_ns: int


_REJECTED = (CloseReason.RESTARTED, CloseReason.SCHEMA, CloseReason.MEDIA)
_EXPANDED = 20_000  # packets of files gone through at one tick
_NEVER_FRAMED = 4  # pads are read ahead: a session without a frame is given so many times the records


class Pipeline:
    """One partition pair of the two topics. It alone owns the sessions and the offsets of the pair."""

    def __init__(
        self, rules: Rules, limits: Limits, state: PartitionState, now_ns: int = 0, rigs: RigList = NO_RIGS
    ) -> None:
        self.rules, self.limits = rules, limits
        self.at = Positions(state.frames_next, state.pads_next)
        self.sessions: dict[str, Session] = {}
        self.ledger = Ledger(state.closed, rules.dedupe_horizon)
        self.counts = Counts()
        self._spans = count(1)
        self._effects: list[Effect] = []
        self._rejections: list[SessionRejection] = []
        self._last: tuple[LastRecord | None, LastRecord | None] = (state.last_frame, state.last_pad)
        self._ends: _Ends | None = None
        self._committed = self.at
        for key, opened in state.open.items():
            self.sessions[key] = Session(
                key, rules, self._spans.__next__, self._effects.append, self.at, now_ns, opened
            )
        self.use_rigs(rigs)

    # ---- records

    def read_frames(
        self, items: Iterable[FrameItem], position: int, now_ns: int, last: LastRecord | None = None
    ) -> None:
        """Take a batch of the frame topic; `position` is the offset after it, `last` its last record."""
        touched: dict[str, Session] = {}
        for item in items:
            if isinstance(item, Rejected):
                self.ledger.drop(item.offset, Fate.REJECTED, item.key)
                continue
            session = self.sessions.get(item.key)
            if session is None:
                if isinstance(item, Frame) and item.session is not None:
                    self.ledger.hear_rig(item.key, item.session.rig_id)
                if self.ledger.closed_record(Topic.FRAMES, item.key, item.offset):
                    continue
                if not isinstance(item, Frame):  # a frame END of an unknown session opens nothing
                    self.ledger.drop(item.offset, Fate.STALE, item.key)
                    continue
                self.at = Positions(item.offset + 1, self.at.pads)
                session = self._open(item.key, now_ns)
            if item.offset >= session.resume:
                if self.ledger.rigs.denied and isinstance(item, Frame):
                    self._look_at_rig(session, item)
                session.frame(item, now_ns)
                touched[item.key] = session
        self.at = Positions(position, self.at.pads)
        self._last = (last or self._last[0], self._last[1])
        for session in touched.values():
            self._settle(session)

    def read_pads(self, items: Iterable[PadItem], position: int, now_ns: int, last: LastRecord | None = None) -> None:
        """Take a batch of the pad topic."""
        touched: dict[str, Session] = {}
        for item in items:
            if isinstance(item, Rejected):
                continue
            session = self.sessions.get(item.key)
            if session is None:
                if self.ledger.closed_record(Topic.PADS, item.key, item.offset):
                    continue
                self.at = Positions(self.at.frames, item.offset + 1)
                session = self._open(item.key, now_ns)
            if item.offset >= session.pads_resume:
                verdict = session.pad(item)
                self.counts.pads[verdict] += 1
                touched[item.key] = session
        self.at = Positions(self.at.frames, position)
        self._last = (self._last[0], last or self._last[1])
        for session in touched.values():
            self._settle(session)

    def _open(self, key: str, now_ns: int) -> Session:
        session = Session(key, self.rules, self._spans.__next__, self._effects.append, self.at, now_ns)
        session.dropped = self.ledger.claim_loose(key)
        self.sessions[key] = session
        return session

    def _settle(self, session: Session) -> None:
        session.settle()
        self._close_finished(session)

    def _close_finished(self, session: Session) -> None:
        if not session.finished or session.key not in self.sessions:
            return
        reason = session.closing
        assert reason is not None
        del self.sessions[session.key]
        self.ledger.close(session, reason, self.at)
        if reason in _REJECTED:
            rig = session.info.rig_id if session.info else ""
            self._rejections.append(
                SessionRejection(session.key, rig, reason, session.detail, session.closed_at, self.at.frames - 1)
            )

    # ---- rigs

    def use_rigs(self, rigs: RigList) -> None:
        """Take the list of rigs from here on: sessions of denied ones are closed, what was decided so far stays."""
        self.ledger.rigs = rigs
        for session in list(self.sessions.values()):
            if session.info is not None and session.info.rig_id in rigs.denied:
                session.deny(session.info, self.at.frames)
                self._close_finished(session)

    def _look_at_rig(self, session: Session, frame: Frame) -> None:
        """A rig is known by the session block. What came before it is dropped and counted with it."""
        if frame.session is not None and frame.session.rig_id in self.ledger.rigs.denied:
            session.deny(frame.session, frame.offset)

    def rig(self, key: str | None) -> str:
        """The label of a session's rig."""
        return self.ledger.rigs.label(self.ledger.rig_id(key, self.sessions))

    def is_erased(self, key: str | None) -> bool:
        """Whether a session was erased."""
        entry = None if key is None else self.ledger.closed.get(key)
        return entry is not None and entry.reason is CloseReason.ERASED

    # ---- time

    def observe_ends(self, frames_end: int, pads_end: int, asked_ns: int) -> None:
        """Take the end offsets of both topics, asked for at `asked_ns`."""
        self._ends = _Ends(frames_end, pads_end, asked_ns)

    def tick(self, now_ns: int) -> None:
        """Give up waiting where a deadline passed and the topics are proven to be read to their ends."""
        ends = self._ends
        self._expand(now_ns)
        for session in list(self.sessions.values()):
            if ends is not None and self.at.pads >= ends.pads:
                # Only frames that came before the ends were asked for: for them the pads are proven to be read.
                self.force(session.key, min(now_ns - session.patience_ns, ends.asked_ns - 1))
            if session.heard_ns + self.rules.session_timeout_ns <= now_ns and self._is_silent(session):
                self.silence(session.key, now_ns)

    # ---- sessions by reference

    def wanted(self, now_ns: int) -> list[Wanted]:
        """The files to look through now; each is to be answered by `media_found` or `media_missed`."""
        return [found for s in self.sessions.values() if (found := s.wanted(now_ns)) is not None]

    @property
    def waits_for_files(self) -> bool:
        """Whether a session whose rows have ended waits for its file."""
        return any(session.waits_for_file for session in self.sessions.values())

    def media_found(self, key: str, scan: MediaScan) -> None:
        """A file was looked through: `tick` goes through its packets."""
        if (session := self.sessions.get(key)) is not None:
            session.media_found(scan)

    def media_missed(self, key: str, detail: str, now_ns: int, *, is_final: bool) -> None:
        """A file cannot be used: not yet, or never where `is_final`."""
        if (session := self.sessions.get(key)) is not None:
            session.media_missed(detail, is_final, now_ns)
            self._close_finished(session)

    def _expand(self, now_ns: int) -> None:
        for session in list(self.sessions.values()):
            if session.reference is not None and session.undecided_frames < self.limits.frames:
                session.expand(_EXPANDED, now_ns)
                self._close_finished(session)

    def force(self, key: str, arrived_until_ns: int) -> None:
        """Decide a session's frames that arrived at or before a time as if its pad had ended."""
        if (session := self.sessions.get(key)) is not None:
            session.force(arrived_until_ns)
            self._close_finished(session)

    def silence(self, key: str, now_ns: int) -> None:
        """Call a session silent: what it has is cut there, and it waits for an IDR."""
        if (session := self.sessions.get(key)) is not None:
            session.silence(self.at, now_ns)
            self._close_finished(session)

    def _is_silent(self, session: Session) -> bool:
        ends = self._ends
        asked_since = ends is not None and ends.asked_ns > session.heard_ns
        if ends is not None and asked_since and self.at.frames >= ends.frames and self.at.pads >= ends.pads:
            return True
        return self._passed_by(session)

    def _passed_by(self, session: Session) -> bool:
        """Whether so many records of both topics came without one of the session that it may be called silent."""
        records = self.rules.silent_after_records
        frames = records if session.last_frame is not None else records * _NEVER_FRAMED
        since_frames = max(session.last_frame or 0, session.opened.frames)
        since_pads = max(session.last_pad or 0, session.opened.pads)
        return self.at.frames - since_frames > frames and self.at.pads - since_pads > records

    # ---- back-pressure

    def allowed(self) -> tuple[bool, bool]:
        """Whether frames, and whether pads, may be read.

        Pads over their limit are stopped only while the frame side is neither stopped nor caught up: either may be
        what the other waits for.
        """
        frames = self.undecided_frames < self.limits.frames
        caught_up = self._ends is None or self.at.frames >= self._ends.frames
        return frames, not frames or caught_up or not self._holds_too_many_pads()

    def _holds_too_many_pads(self) -> bool:
        return self.undecided_pads >= self.limits.pads or self.undecided_bytes >= self.limits.pad_bytes

    @property
    def undecided_frames(self) -> int:
        """Frames held that the pad leaves open."""
        return sum(session.undecided_frames for session in self.sessions.values())

    @property
    def undecided_pads(self) -> int:
        """Pad records held that are later than every frame decided."""
        return sum(session.undecided_pads for session in self.sessions.values())

    @property
    def undecided_bytes(self) -> int:
        """About how many bytes their EVENTs take."""
        return sum(session.undecided_bytes for session in self.sessions.values())

    @property
    def waiting_since_ns(self) -> int | None:
        """When the oldest frame arrived that waits for its pad; None if none does."""
        waiting = (segment.waiting_since_ns for session in self.sessions.values() for segment in session.segments)
        return min((since for since in waiting if since is not None), default=None)

    # ---- effects

    def ready(self) -> list[str]:
        """Keys of the sessions whose first segment is a whole episode."""
        return [key for key, session in self.sessions.items() if session.ready()]

    def effects(self) -> list[Effect]:
        """Everything there is to do, in order, with a commit for each whole episode; empties the list."""
        for key in self.ready():
            while key in self.sessions and self.sessions[key].ready():
                self.commit_episode(key)
        if self._rejections:
            self._effects.append(self._commit())
        return self.drain()

    def drain(self) -> list[Effect]:
        """The effects so far, without committing what is ready."""
        effects = self._effects[:]
        self._effects.clear()
        return effects

    def commit_episode(self, key: str) -> None:
        """Commit the first whole episode of a session."""
        session = self.sessions[key]
        draft = session.take_episode(self.at)
        self.counts.forced += draft.forced
        self._close_finished(session)
        self._effects.append(replace(self._commit(), episode=draft))

    def progress(self) -> Commit | None:
        """A commit with nothing to show but offsets, if `next` has moved since the last one."""
        before = self._committed
        commit = self._commit()
        moved = before != self._committed or commit.accounted or commit.rejections
        return commit if moved else None

    def _commit(self) -> Commit:
        """The state to go on from. It carries the rejections of the sessions that it remembers as closed."""
        commit = self.ledger.commit(self.sessions, self.at, self._last)
        self._committed = Positions(commit.state.frames_next, commit.state.pads_next)
        rejections, self._rejections = tuple(self._rejections), []
        return replace(commit, rejections=rejections)
