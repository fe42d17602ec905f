"""One session: its frames in decode order, its pad, and what a commit remembers of both."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from padreel.core.align import Join, PadTimeline, Verdict
from padreel.core.by_reference import ByReference
from padreel.core.denial import Denial
from padreel.core.draft import draft_of
from padreel.core.order import begins, misplaced
from padreel.core.reference import Referenced
from padreel.core.rules import Positions, Rules
from padreel.core.segment import Key, Received, Segment
from padreel.model import (
    AppendUnit,
    CloseReason,
    DropSpan,
    Effect,
    EndReason,
    EpisodeDraft,
    Fate,
    FoldMark,
    Frame,
    FrameEnd,
    Heartbeat,
    OpenSession,
    OpenSpan,
    PadEnd,
    PadEvent,
    Schema,
    SessionInfo,
)


class Snapshot(NamedTuple):
    """What a commit remembers of an open session, and the offsets that it holds back."""

    state: OpenSession
    holds_frames: bool
    holds_pads: bool


class Session(ByReference, Denial):
    """One open session. `emit` takes the effects on its spans, in order."""

    def __init__(
        self,
        key: str,
        rules: Rules,
        new_span: Callable[[], int],
        emit: Callable[[Effect], None],
        opened: Positions,
        now_ns: int,
        state: OpenSession | None = None,
    ) -> None:
        self.key = key
        self._rules, self._new_span, self._emit = rules, new_span, emit
        self.opened = opened
        self.heard_ns = now_ns  # when its last frame came, or when it was last found silent
        self.segments: list[Segment] = []
        self.closing: CloseReason | None = None  # set once it takes no more frames
        self.detail = ""
        self.closed_at = 0  # offset of the record that closed it
        self.dropped: list[tuple[int, Fate]] = []  # frame records that are no rows, not yet counted
        self._released: dict[Fate, int] = {}  # frame records of segments that are done, not yet counted
        self._late: array[int] = array("q")  # offsets of late EVENTs that no episode has reported
        self.reference: Referenced | None = None  # of a session by reference
        self._load(state or OpenSession())
        self.pads = PadTimeline(state.pad if state else None)
        self.join = Join(
            rules.max_pre_action_ns,
            self.pads,
            first_action_ns=state.first_action_ns if state else None,
            forced_kept_ns=state.forced_kept_ns if state else None,
            fold=state.fold if state else None,
        )

    def _load(self, state: OpenSession) -> None:
        self.resume, self.pads_resume = state.resume, state.pads_resume
        self._sequence, self._received = state.sequence, Received(state.time_ns, state.frame_index)
        self._waiting = state.waiting
        self._segment_ns, self._session_ns = state.segment_ns, state.session_ns
        self._stream, self.info = state.stream, state.session
        self.last_frame, self.last_pad = state.last_frame, state.last_pad
        self._late_before, self.dormant = state.late, state.dormant

    # ---- frames, in decode order

    def frame(self, item: Frame | FrameEnd, now_ns: int) -> None:
        """Take the next frame record at or after `resume`."""
        self.last_frame = item.offset if self.last_frame is None else max(self.last_frame, item.offset)
        self.dormant = False
        self.heard_ns = now_ns
        if self.closing is not None:
            self.dropped.append((item.offset, self._fate_when_closed if isinstance(item, Frame) else Fate.STALE))
        elif self.reference is not None or (isinstance(item, Frame) and not item.unit):
            self._by_reference(item, now_ns)
        elif isinstance(item, FrameEnd):
            lost = item.frame_count is not None and item.frame_count > self._sequence
            self._close(CloseReason.END, EndReason.GAP if lost else EndReason.END, item.offset, Fate.END)
        else:
            self._frame(item, now_ns)

    def _is_other_game(self, frame: Frame) -> bool:
        """Take what the frame says of the session; whether that is of another game, which closes it."""
        if frame.session is not None:
            self.info = frame.session
            game = self._rules.game_id
            if game and frame.session.game_id and frame.session.game_id != game:
                self.detail = f"game {frame.session.game_id!r}, this consumer records {game!r}"
                self._close(CloseReason.OTHER_GAME, EndReason.SCHEMA, frame.offset, Fate.IGNORED)
                return True
        return False

    def _frame(self, frame: Frame, now_ns: int) -> None:
        received = self._received
        if self._is_other_game(frame):
            return
        if frame.sequence < self._sequence:
            if received.time_ns is not None and frame.time_ns > received.time_ns:
                before = self._sequence - 1
                self.detail = f"sequence {frame.sequence} after {before} with a later time: the rig restarted"
                self._close(CloseReason.RESTARTED, EndReason.RESTARTED, frame.offset, Fate.RESTARTED)
            else:
                self.dropped.append((frame.offset, Fate.STALE))
            return
        latest_segment = self.segments[-1] if self.segments else None
        going_on = None if self._waiting else latest_segment
        if going_on is not None and frame.sequence == self._sequence and going_on.leads(frame):
            going_on.skip(frame)
            self._sequence += 1
            self.dropped.append((frame.offset, Fate.WAIT))
            return
        is_key = begins(frame, going_on if frame.sequence == self._sequence else None, self._stream)
        wrong = misplaced(frame, is_key, received, self._sequence, self._waiting, latest_segment)
        if wrong is not None:
            self._cut(wrong)
            self._sequence = frame.sequence + 1
            self.dropped.append((frame.offset, Fate.WAIT))
            return
        if frame.sequence > self._sequence and not self._waiting:
            self._cut(EndReason.GAP)
        if self._session_ns is None:
            self._session_ns = frame.time_ns
        self._sequence = frame.sequence + 1
        latest = frame.time_ns if received.time_ns is None else max(received.time_ns, frame.time_ns)
        self._received = Received(latest, max(received.frame_index, frame.frame_index + 1))
        if is_key:
            if not self._start(frame):
                return
        elif self._waiting:
            self.dropped.append((frame.offset, Fate.WAIT))
            return
        segment = self.segments[-1]
        segment.add(frame, is_key, received, now_ns)
        if frame.unit:
            self._emit(AppendUnit(segment.span, frame.frame_index - segment.first_index, is_key, frame.unit))

    def _start(self, key: Frame) -> bool:
        """Cut at a key where the rules say so and begin a segment if none is open; False: none can begin here."""
        stream = key.stream or self._stream
        if stream is None:  # only a frame that was dropped, or was no key, has told it
            self.dropped.append((key.offset, Fate.WAIT))
            return False
        found, wanted = Schema(stream.codec, stream.width, stream.height, stream.fps), self._rules.schema
        if found != wanted:
            self.detail = f"{found}, this root holds {wanted}"
            self._close(CloseReason.SCHEMA, EndReason.SCHEMA, key.offset, Fate.REJECTED)
            return False
        segment = self.segments[-1] if self.segments and not self._waiting else None
        if segment is not None:
            if stream != self._stream:
                self._cut(EndReason.STREAM)
            elif not segment.dense_at(key.frame_index):
                self._cut(EndReason.GAP)
            elif key.time_ns >= segment.first_ns + self._rules.max_episode_ns:
                self._cut(EndReason.SPLIT)
        self._stream = stream
        if self._waiting or not self.segments:
            first_ns = key.time_ns if self._segment_ns is None else self._segment_ns
            self._segment_ns, self._waiting = None, False
            span = self._new_span()
            self.segments.append(Segment(span, stream, self.info or SessionInfo(), key, first_ns))
            if key.unit:
                self._emit(OpenSpan(span, stream))
        return True

    def _cut(self, reason: EndReason) -> None:
        """End the segment in hand; frames then wait for an IDR."""
        if self.segments and self.segments[-1].cut is None:
            self.segments[-1].cut = reason
        self._waiting = True

    def _close(self, why: CloseReason, cut: EndReason, offset: int, fate: Fate) -> None:
        self.closing, self.closed_at = why, offset
        self.dropped.append((offset, fate))
        self._cut(cut)

    # ---- pads

    def pad(self, item: PadEvent | Heartbeat | PadEnd) -> Verdict:
        """Take the next pad record at or after `pads_resume`."""
        self.last_pad = item.offset if self.last_pad is None else max(self.last_pad, item.offset)
        if isinstance(item, PadEvent):
            verdict = self.pads.event(item.offset, item.time_ns, item.payload)
            if verdict is Verdict.LATE:
                self._late.append(item.offset)
            elif verdict is Verdict.ACCEPTED and item.active and self.join.first_action_ns is None:
                self.join.first_action_ns = item.time_ns
        elif isinstance(item, Heartbeat):
            verdict = self.pads.heartbeat(item.offset, item.time_ns)
        else:
            verdict = self.pads.end(item.offset)
        if verdict is Verdict.ACCEPTED:
            self.dormant = False
        return verdict

    # ---- decisions

    def settle(self) -> None:
        """Decide and carve what the pad proves; let segments go that have no rows."""
        for segment in self.segments:
            for offset in segment.settle(self.join):
                self.dropped.append((offset, Fate.HOLE))
        for segment in [s for s in self.segments if s.complete and not s.rows]:
            if not segment.by_reference:
                self._emit(DropSpan(segment.span))
            self._release(segment)

    def _release(self, segment: Segment) -> None:
        self.segments.remove(segment)
        for fate, count in ((Fate.IDLE, len(segment.idle)), (Fate.ROW, segment.rows)):
            self._released[fate] = self._released.get(fate, 0) + count

    def force(self, arrived_until_ns: int | None = None) -> None:
        """Decide what has waited too long (None: everything) as if the pad had ended, and mark it."""
        forced = [segment.force(self.join, arrived_until_ns) for segment in self.segments]
        if any(forced):
            self.settle()

    @property
    def patience_ns(self) -> int:
        """How long a frame waits for its pad before it is decided by force."""
        promised = self.info is not None and self.info.heartbeats
        return self._rules.force_after_ns if promised else self._rules.force_after_without_heartbeats_ns

    def silence(self, at: Positions, now_ns: int) -> None:
        """No frame came for the session timeout: cut, decide everything, fold the pads. It stays open."""
        self.heard_ns = now_ns
        if self.reference is not None and not self.reference.is_done:
            self._silent_by_reference(self.reference, now_ns)
            return
        if self.closing is None:
            if self.segments and self.segments[-1].cut is None:
                self._cut(EndReason.SILENCE)
            if not self.dormant:  # the horizon counts from here, once
                self.last_frame = max(self.last_frame or 0, at.frames - 1)
                self.last_pad = max(self.last_pad or 0, at.pads - 1)
            self.dormant = True
        self.force()
        self.settle()
        if self.dormant:
            self._fold(at)

    def _fold(self, at: Positions) -> None:
        """A dormant session with nothing unaccounted holds the pads back no longer."""
        if self.segments or not self.pads.unfolded:
            return
        until_ns = self.pads.fold()
        if until_ns is not None:
            self.join.fold = FoldMark(until_ns, at.frames, at.pads)

    # ---- what is waiting, for back-pressure and for those who watch

    @property
    def rig_id(self) -> str:
        """Its rig, empty where it has not said."""
        return self.info.rig_id if self.info else ""

    @property
    def recorded_ns(self) -> int:
        """How long it has been recording, by the rig's clock."""
        latest, first = self._received.time_ns, self._session_ns
        return 0 if latest is None or first is None else latest - first

    @property
    def undecided_frames(self) -> int:
        return sum(segment.undecided for segment in self.segments)

    @property
    def undecided_pads(self) -> int:
        return self.pads.pending(self._decided_ns())

    @property
    def undecided_bytes(self) -> int:
        return self.pads.pending_bytes(self._decided_ns())

    def _decided_ns(self) -> int | None:
        return next((s.row_times[-1] for s in reversed(self.segments) if s.rows), self._received_before())

    def _received_before(self) -> int | None:
        return self.segments[0].keys[0].before.time_ns if self.segments else self._received.time_ns

    # ---- commits

    @property
    def finished(self) -> bool:
        """Whether it takes no more frames and has nothing left to commit."""
        return self.closing is not None and not self.segments

    def ready(self) -> bool:
        """Whether its first segment is a whole episode."""
        return bool(self.segments) and self.segments[0].complete

    def take_episode(self, at: Positions) -> EpisodeDraft:
        """Hand over the first segment; it is the caller's to commit."""
        segment = self.segments[0]
        media = self.reference.packets(segment) if segment.by_reference and self.reference else None
        assert self._session_ns is not None
        draft = draft_of(segment, self.join, key=self.key, session_ns=self._session_ns, late=0, media=media)
        self._release(segment)
        self._advance_pads(at)
        return replace(draft, late=self._report_late())

    def _report_late(self) -> int:
        """How many late EVENTs the commit of an episode reports: those that are not read again after it."""
        late, self._late_before = self._late_before, 0
        if self.finished:
            late, self._late = late + len(self._late), array("q")
        return late

    def _advance_pads(self, at: Positions) -> bool:
        """Let the pads go that no frame needs any more; whether records are left that must be read again."""
        received = self.segments[0].resume_key().before if self.segments else self._received
        needed = [s.lowest_serial for s in self.segments if s.lowest_serial is not None]
        held = self.pads.advance(received.time_ns, min(needed, default=None))
        self.pads_resume = at.pads if held is None else held
        self._late_before += sum(offset < self.pads_resume for offset in self._late)
        self._late = array("q", (offset for offset in self._late if offset >= self.pads_resume))
        return held is not None

    def snapshot(self, at: Positions) -> Snapshot:
        """The state to go on from; what lies below it is let go. `at` are the read positions.

        What lies below the new resume offset is then the caller's to count, with `count_below`.
        """
        key: Key | None = self.segments[0].resume_key() if self.segments else None
        row = self.reference.next_offset() if self.reference and key is None else None
        self.resume = key.offset if key else max(at.frames, self.resume) if row is None else row
        received = key.before if key else self._received
        if self.dormant:
            self._fold(at)
        holds_pads = self._advance_pads(at)
        kept = self.join.forced_kept_ns
        if kept is not None and (received.time_ns is None or kept > received.time_ns):
            kept = None
        state = OpenSession(
            resume=self.resume,
            pads_resume=self.pads_resume,
            sequence=key.sequence if key else self._sequence,
            frame_index=received.frame_index,
            time_ns=received.time_ns,
            waiting=False if key else self._waiting,
            segment_ns=self.segments[0].first_ns if self.segments else self._segment_ns,
            first_action_ns=self.join.first_action_ns,
            forced_kept_ns=kept,
            session_ns=self._session_ns,
            stream=self.segments[0].stream if self.segments else self._stream,
            session=self.segments[0].info if self.segments else self.info,
            pad=self.pads.snapshot,
            fold=self.join.fold,
            last_frame=self.last_frame,
            last_pad=self.last_pad,
            late=self._late_before,
            dormant=self.dormant,
        )
        return Snapshot(state, key is not None or row is not None, holds_pads)

    def count_below(self, offset: int) -> dict[Fate, int]:
        """Count, once, the frame records below `offset` that are rows or dropped."""
        counted: dict[Fate, int] = {}
        idle = sum(segment.count_idle_below(offset) for segment in self.segments)
        below = [fate for at, fate in self.dropped if at < offset]
        for fate, count in (*self._released.items(), (Fate.IDLE, idle), *((fate, 1) for fate in below)):
            counted[fate] = counted.get(fate, 0) + count
        self._released = {}
        self.dropped = [drop for drop in self.dropped if drop[0] >= offset]
        return counted
