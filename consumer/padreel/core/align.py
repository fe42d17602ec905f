"""The as-of join of frames with pad EVENTs, under a watermark.

A frame captured at T is paired with the latest EVENT at or before T; ties count. The pad is event-driven, so
silence is ambiguous: "unchanged" or "not here yet". A frame is therefore *decided* only when the watermark has
passed T, that is when something proves that no EVENT at or before T can still come:

- an EVENT later than T (EVENTs are published in order),
- a HEARTBEAT at or after T ("every EVENT up to here has been published"),
- the pad's END,
- or, when none of these comes, somebody's decision to wait no longer. Such a pairing is marked *forced*.

Lateness is judged in pad order alone, never by what has been decided: how the two partitions interleave must
not change the outcome.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple

from padreel.core.payloads import Payloads
from padreel.model import FoldMark, PadState

NO_EVENT = -1
# Every commit carries the ties by value, and each EVENT is compared with them: a clock that stands still must not let
# them grow.
MAX_TIES: Final = 256
MAX_TIE_BYTES: Final = 65_536


class Verdict(Enum):
    """What became of a pad record."""

    ACCEPTED = "accepted"
    LATE = "late"
    DUPLICATE = "duplicate"
    AFTER_END = "after_end"


class PadTimeline:
    """One session's pad records as far as they are still needed, and the watermark they prove.

    EVENTs are known by their *serial*, the position in the session's accepted EVENTs since this reading began; a
    serial stays valid until `advance` is told that no row needs it.

    `snapshot` is the pad as it was just before the record at `resume`: what a commit remembers.
    """

    __slots__ = (
        "_end_offset",
        "_first",
        "_folded",
        "_heartbeats",
        "_offsets",
        "_payloads",
        "_times",
        "ended",
        "event_ns",
        "heartbeat_ns",
        "snapshot",
        "ties",
    )

    def __init__(self, state: PadState | None = None) -> None:
        self._first = 0  # serial of the first EVENT held
        self._times: array[int] = array("q")
        self._offsets: array[int] = array("q")
        self._payloads = Payloads()
        self._heartbeats: list[tuple[int, int]] = []  # (offset, time_ns), not yet in the snapshot
        self._end_offset: int | None = None
        self._folded = 0  # serial of the first EVENT that is not in the snapshot
        self.snapshot = state = state or PadState()
        self.event_ns, self.heartbeat_ns = state.event_ns, state.heartbeat_ns
        self.ties, self.ended = state.ties, state.ended
        if state.event is not None and state.event_ns is not None:
            self._hold(-1, state.event_ns, state.event)
            self._folded = 1

    def _hold(self, offset: int, time_ns: int, payload: bytes) -> None:
        self._times.append(time_ns)
        self._offsets.append(offset)
        self._payloads.append(payload)

    # ---- records, in pad order

    def event(self, offset: int, time_ns: int, payload: bytes) -> Verdict:
        """Take an EVENT. Late: below the maximum EVENT time, or not after the maximum HEARTBEAT time.

        So is one at the maximum EVENT time where MAX_TIES EVENTs, or MAX_TIE_BYTES of them, have that time already.
        """
        if self.ended:
            return Verdict.AFTER_END
        latest = self.event_ns
        tie = time_ns == latest
        if tie and payload in self.ties:
            return Verdict.DUPLICATE
        if (latest is not None and time_ns < latest) or (
            self.heartbeat_ns is not None and time_ns <= self.heartbeat_ns
        ):
            return Verdict.LATE
        if tie and (len(self.ties) >= MAX_TIES or sum(map(len, self.ties)) + len(payload) > MAX_TIE_BYTES):
            return Verdict.LATE
        self.ties = (*self.ties, payload) if tie else (payload,)
        self.event_ns = time_ns
        self._hold(offset, time_ns, payload)
        return Verdict.ACCEPTED

    def heartbeat(self, offset: int, time_ns: int) -> Verdict:
        """Take a HEARTBEAT; one that does not raise the watermark is a duplicate."""
        if self.ended:
            return Verdict.AFTER_END
        if self.heartbeat_ns is not None and time_ns <= self.heartbeat_ns:
            return Verdict.DUPLICATE
        self.heartbeat_ns = time_ns
        self._heartbeats.append((offset, time_ns))
        return Verdict.ACCEPTED

    def end(self, offset: int) -> Verdict:
        """Take the END."""
        if self.ended:
            return Verdict.AFTER_END
        self.ended = True
        self._end_offset = offset
        return Verdict.ACCEPTED

    # ---- what they prove

    def passed(self, time_ns: int) -> bool:
        """Whether no EVENT at or before `time_ns` can come any more, except a late one."""
        return (
            self.ended
            or (self.event_ns is not None and self.event_ns > time_ns)
            or (self.heartbeat_ns is not None and self.heartbeat_ns >= time_ns)
        )

    def as_of(self, time_ns: int) -> int:
        """Serial of the latest EVENT at or before `time_ns`, or NO_EVENT."""
        at = bisect_right(self._times, time_ns)
        return self._first + at - 1 if at else NO_EVENT

    def first_after(self, time_ns: int) -> int | None:
        """Serial of the first EVENT held that is later than `time_ns`, or None."""
        at = bisect_right(self._times, time_ns)
        return self._first + at if at < len(self._times) else None

    @property
    def folded_event(self) -> int:
        """Serial of the EVENT in force in the snapshot, or NO_EVENT."""
        return self._folded - 1 if self.snapshot.event is not None else NO_EVENT

    def events(self, first: int, last: int, until_ns: int) -> tuple[Sequence[bytes], array[int], array[int]]:
        """Payloads, times and offsets of the EVENTs from serial `first` to `last`, and on to `until_ns`.

        The offset is -1 for an EVENT that was carried by value.
        """
        a, b = first - self._first, max(bisect_right(self._times, until_ns), last - self._first + 1)
        return self._payloads.part(a, b), self._times[a:b], self._offsets[a:b]

    def pending(self, time_ns: int | None) -> int:
        """How many records held are later than `time_ns` (all, for None)."""
        return self._later(time_ns) + len(self._heartbeats)

    def pending_bytes(self, time_ns: int | None) -> int:
        """About how many bytes the EVENTs among them take."""
        return self._payloads.held_bytes * self._later(time_ns) // (len(self._times) or 1)

    def _later(self, time_ns: int | None) -> int:
        return len(self._times) - (0 if time_ns is None else bisect_right(self._times, time_ns))

    # ---- what a commit remembers

    def advance(self, accounted_ns: int | None, needed: int | None) -> int | None:
        """Move the snapshot up to the first record later than `accounted_ns`.

        Args:
            accounted_ns: time of the session's last accounted frame; None: no frame is accounted.
            needed: lowest serial that an uncommitted row is paired with; EVENTs before it are let go.

        Returns:
            The offset of the first record that is not in the snapshot, or None where all are.
        """
        first = self._folded - self._first
        if accounted_ns is not None:
            first = max(first, bisect_right(self._times, accounted_ns))
        later = [self._offsets[first]] if first < len(self._offsets) else []
        beats = (offset for offset, time_ns in self._heartbeats if accounted_ns is None or time_ns > accounted_ns)
        later += [offset for offset in (next(beats, None),) if offset is not None]
        self._fold_below(min(later) if later else None)
        self._let_go(needed)
        return self._first_unfolded()

    def fold(self) -> int | None:
        """Move the snapshot past every record held; return the time up to which that fixes the pairing."""
        self._fold_below(None)
        self._let_go(None)
        known = [t for t in (self.event_ns, self.heartbeat_ns) if t is not None]
        return max(known) if known else None

    @property
    def unfolded(self) -> bool:
        """Whether a record is held that is not in the snapshot."""
        return self._first_unfolded() is not None

    def _first_unfolded(self) -> int | None:
        at = self._folded - self._first
        firsts = [self._offsets[at]] if at < len(self._offsets) else []
        firsts += [self._heartbeats[0][0]] if self._heartbeats else []
        firsts += [self._end_offset] if self._end_offset is not None else []
        return min(firsts) if firsts else None

    def _fold_below(self, stop: int | None) -> None:
        """Fold the records whose offset is below `stop` (all, for None) into the snapshot."""
        event, event_ns, heartbeat_ns = self.snapshot.event, self.snapshot.event_ns, self.snapshot.heartbeat_ns
        ties, ended, at = self.snapshot.ties, self.snapshot.ended, self._folded - self._first
        until = len(self._offsets) if stop is None else bisect_left(self._offsets, stop, at)
        if until > at:
            latest = self._times[until - 1]
            newest = tuple(self._payloads.part(bisect_left(self._times, latest, at, until), until))
            ties = (*ties, *newest) if self._times[at] == event_ns == latest else newest
            event, event_ns = newest[-1], latest
            self._folded = self._first + until
        kept = [beat for beat in self._heartbeats if stop is not None and beat[0] >= stop]
        if len(kept) < len(self._heartbeats):
            heartbeat_ns = self._heartbeats[len(self._heartbeats) - len(kept) - 1][1]
            self._heartbeats = kept
        if self._end_offset is not None and (stop is None or self._end_offset < stop):
            ended, self._end_offset = True, None
        self.snapshot = PadState(event, event_ns, heartbeat_ns, ties, ended)

    def _let_go(self, needed: int | None) -> None:
        """Drop folded EVENTs before the one in force and before every serial that is needed."""
        keep = self._folded - 1 if needed is None else min(self._folded - 1, needed)
        at = keep - self._first
        if at > 0:
            del self._times[:at], self._offsets[:at]
            self._payloads.drop(at)
            self._first = keep


class Decision(NamedTuple):
    """A frame that is decided: a row paired with an EVENT, or idle. `forced`: not proven by the pad."""

    row: bool
    serial: int
    forced: bool


class Join:
    """Decides frames: the as-of join, and the trimming of what precedes the first action.

    With a window, a frame at T is kept if the first action is at or before T + window, and idle once the watermark
    has passed that without one. Nothing is idle before the first EVENT, so a session without any keeps its
    frames. What follows a kept frame in display order is kept, what precedes an idle one is idle.
    """

    __slots__ = ("_window", "first_action_ns", "fold", "forced_idle_ns", "forced_kept_ns", "pads")

    def __init__(
        self,
        window_ns: int | None,
        pads: PadTimeline,
        *,
        first_action_ns: int | None = None,
        forced_kept_ns: int | None = None,
        fold: FoldMark | None = None,
    ) -> None:
        self._window = window_ns
        self.pads = pads
        self.first_action_ns = first_action_ns
        self.forced_kept_ns = forced_kept_ns  # time of the first frame kept by force
        self.forced_idle_ns: int | None = None  # time of the last frame trimmed by force
        self.fold = fold

    def decide(self, time_ns: int, *, force: bool = False) -> Decision | None:
        """Decide the frame captured at `time_ns`, or return None while the pad leaves it open.

        With `force` it is decided as if the pad had ended.
        """
        decision = self._trim(time_ns, force) or self._pair(time_ns, force)
        if force and decision is not None and decision.forced:
            if decision.row:
                self.forced_kept_ns = min(time_ns, time_ns if self.forced_kept_ns is None else self.forced_kept_ns)
            else:
                self.forced_idle_ns = max(time_ns, time_ns if self.forced_idle_ns is None else self.forced_idle_ns)
        return decision

    @property
    def idle_until_ns(self) -> int:
        """Frames before it are idle, by proof; 0 where none is known to be."""
        if self._window is None or self.first_action_ns is None or self.forced_kept_ns is not None:
            return 0
        return max(0, self.first_action_ns - self._window)

    def _kept_by_force(self, time_ns: int) -> bool:
        return self.forced_kept_ns is not None and self.forced_kept_ns <= time_ns

    def _trim(self, time_ns: int, force: bool) -> Decision | None:
        """The frame's Decision if it is idle, else None."""
        if self._window is None or self._kept_by_force(time_ns):
            return None
        if self.forced_idle_ns is not None and time_ns < self.forced_idle_ns:
            return Decision(False, NO_EVENT, False)
        if self.first_action_ns is not None:
            return None if self.first_action_ns <= time_ns + self._window else Decision(False, NO_EVENT, False)
        if self.pads.event_ns is None:
            return None
        if self.pads.passed(time_ns + self._window):
            return Decision(False, NO_EVENT, False)
        return Decision(False, NO_EVENT, True) if force else None

    def _pair(self, time_ns: int, force: bool) -> Decision | None:
        pads = self.pads
        trimmable = self._window is not None and self.first_action_ns is None and not self._kept_by_force(time_ns)
        if trimmable and not (force or pads.ended):
            return None  # the first action may still come
        if self.fold is not None and time_ns <= self.fold.until_ns:
            return Decision(True, pads.folded_event, True)
        if pads.passed(time_ns):
            return Decision(True, pads.as_of(time_ns), force and trimmable and pads.event_ns is None and not pads.ended)
        return Decision(True, pads.as_of(time_ns), True) if force else None
