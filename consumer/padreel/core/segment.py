"""Segments: unbroken decode sequences from a key picture, read off in display order.

Frames arrive in decode order and are rows in display order. A segment keeps what is not yet *carved*: frames
that are undecided, or that lie behind one that has not arrived. At its cut the rows are the unbroken display
prefix of what was decoded; what lies behind a hole is dropped and counted.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from typing import Final, NamedTuple

from padreel.core.align import NO_EVENT, Join
from padreel.core.codecs import CODECS
from padreel.model import EndReason, Frame, SessionInfo, Stream

MAX_AHEAD: Final = 1_000  # frames from a hole to one behind it: no encoder looks so far ahead, every mp4 can say it


class Received(NamedTuple):
    """A session's maxima over the frames received: latest time, and one more than the highest frame_index."""

    time_ns: int | None
    frame_index: int


class Key(NamedTuple):
    """A picture at which reading can begin again; `before` is what had been received when it came.

    It is an IDR; the first one of a segment can be where an open GOP begins.
    """

    frame_index: int
    offset: int
    sequence: int
    before: Received


class _Frame:
    """A frame that is not carved yet. `serial` is set once `decided`."""

    __slots__ = ("arrived_ns", "decided", "forced", "offset", "row", "serial", "time_ns")

    def __init__(self, offset: int, time_ns: int, arrived_ns: int) -> None:
        self.offset = offset
        self.time_ns = time_ns
        self.arrived_ns = arrived_ns
        self.decided = self.row = self.forced = False
        self.serial = NO_EVENT


class Segment:
    """One segment of a session; it becomes one episode, or none if all of it is idle.

    All positions are `frame_index` values; the span's display position of one is `frame_index - first_index`.
    """

    __slots__ = (
        "_ahead",
        "_codec",
        "_gop",
        "_hole",
        "_pending",
        "by_reference",
        "cut",
        "first_index",
        "first_ns",
        "first_offset",
        "first_sequence",
        "idle",
        "info",
        "keys",
        "last_offset",
        "leading",
        "lowest_serial",
        "next_index",
        "received",
        "row_forced",
        "row_index",
        "row_serials",
        "row_times",
        "span",
        "stream",
        "undecided",
    )

    def __init__(self, span: int, stream: Stream, info: SessionInfo, first: Frame, first_ns: int) -> None:
        first_index = first.frame_index
        self.span, self.stream, self.info = span, stream, info
        self.first_sequence, self.by_reference = first.sequence, not first.unit
        self.first_index = self.next_index = first_index
        self.first_ns = first_ns  # a split counts from here, kept or not
        self.received = self.undecided = 0
        self.leading = 0  # frames that followed the first one and are shown before it: they are no part of it
        self._codec = CODECS[stream.codec]
        self.cut: EndReason | None = None
        self.keys: list[Key] = []
        self.idle: array[int] = array("q")  # offsets of trimmed frames, not yet counted
        self.row_index = first_index  # of the first row
        self.row_times: array[int] = array("q")
        self.first_offset = self.last_offset = -1  # lowest and highest of the rows
        self.row_serials: array[int] = array("q")
        self.row_forced = bytearray()
        self.lowest_serial: int | None = None  # that a decided frame is paired with
        self._pending: dict[int, _Frame] = {}
        self._gop: list[tuple[int, int]] = []  # (frame_index, time_ns) from the last key on, sorted
        self._hole = first_index  # lowest index not received
        self._ahead: set[int] = set()  # indices received beyond it

    # ---- decode side

    def contradicts(self, frame: Frame) -> bool:
        """Whether a frame below the highest index received disagrees in order with its GOP."""
        gop = self._gop
        at = bisect_left(gop, (frame.frame_index,))
        if at == 0 or (at < len(gop) and gop[at][0] == frame.frame_index):
            return True  # before the key, or a second frame in one place
        return frame.time_ns < gop[at - 1][1] or (at < len(gop) and frame.time_ns > gop[at][1])

    def reaches(self, frame_index: int) -> bool:
        """Whether the next frame may stand there: it fills the hole, or the hole can still be filled after it."""
        if frame_index <= self._hole:
            return True
        return len(self._ahead) < self._codec.max_reorder and frame_index - self._hole <= MAX_AHEAD

    def leads(self, frame: Frame) -> bool:
        """Whether the next frame is a leading picture of the first one, which may not be decodable without the past."""
        in_place = self._codec.has_leading and self.received == 1 and not (frame.idr or frame.open_gop)
        return in_place and frame.frame_index < self.first_index and frame.time_ns <= self._gop[0][1]

    def skip(self, frame: Frame) -> None:
        """Take a leading picture, which is left out. Read again, it comes after the key again."""
        self.leading += 1
        if frame.offset < self.keys[0].offset:  # by reference records are in display order
            self.keys[0] = self.keys[0]._replace(offset=frame.offset)

    def add(self, frame: Frame, key: bool, before: Received, now_ns: int) -> None:
        """Take the next frame in decode order; `key`: reading can begin at it."""
        if key:
            self.keys.append(Key(frame.frame_index, frame.offset, frame.sequence, before))
            self._gop = [(frame.frame_index, frame.time_ns)]
        else:
            insort(self._gop, (frame.frame_index, frame.time_ns))
        self.received += 1
        self.undecided += 1
        self._pending[frame.frame_index] = _Frame(frame.offset, frame.time_ns, now_ns)
        self._ahead.add(frame.frame_index)
        while self._hole in self._ahead:
            self._ahead.remove(self._hole)
            self._hole += 1

    def dense_at(self, frame_index: int) -> bool:
        """Whether exactly the frames before `frame_index` have been received."""
        return self.received == frame_index - self.first_index

    # ---- display side

    @property
    def waiting_since_ns(self) -> int | None:
        """When the oldest frame arrived that is not decided yet; None if all are."""
        return next((frame.arrived_ns for frame in self._pending.values() if not frame.decided), None)

    @property
    def pending(self) -> int:
        return len(self._pending)

    @property
    def complete(self) -> bool:
        """Whether it is cut and every frame is a row, idle, or behind a hole."""
        return self.cut is not None and not self._pending

    @property
    def rows(self) -> int:
        return len(self.row_times)

    def settle(self, join: Join) -> array[int]:
        """Carve every frame that is decided and next in display order.

        Returns:
            The offsets of the frames that a cut leaves behind a hole.
        """
        while (frame := self._pending.get(self.next_index)) is not None:
            if not frame.decided and not self._decide(frame, join, force=False):
                return array("q")
            del self._pending[self.next_index]
            self._carve(frame)
            self.next_index += 1
        holes: array[int] = array("q")
        if self.cut is not None:
            holes.extend(frame.offset for frame in self._pending.values())
            self._pending.clear()
            self.undecided = 0
        # Behind a hole frames are decided all the same: back-pressure must see what the pads can still change.
        for _, frame in sorted(self._pending.items()):
            if not frame.decided and not self._decide(frame, join, force=False):
                break
        return holes

    def force(self, join: Join, arrived_until_ns: int | None) -> bool:
        """Decide every frame that arrived at or before a time (None: all) without waiting longer; False: none did."""
        due = [
            (index, frame)
            for index, frame in self._pending.items()
            if not frame.decided and (arrived_until_ns is None or frame.arrived_ns <= arrived_until_ns)
        ]
        for _, frame in sorted(due):
            self._decide(frame, join, force=True)
        return bool(due)

    def _decide(self, frame: _Frame, join: Join, *, force: bool) -> bool:
        decision = join.decide(frame.time_ns, force=force)
        if decision is None:
            return False
        frame.decided, frame.row, frame.serial, frame.forced = True, *decision
        self.undecided -= 1
        if frame.serial != NO_EVENT and (self.lowest_serial is None or frame.serial < self.lowest_serial):
            self.lowest_serial = frame.serial
        return True

    def _carve(self, frame: _Frame) -> None:
        if not frame.row:
            self.idle.append(frame.offset)
            return
        if not self.row_times:
            self.row_index, self.first_offset = self.next_index, frame.offset
        self.first_offset = min(self.first_offset, frame.offset)
        self.last_offset = max(self.last_offset, frame.offset)
        self.row_times.append(frame.time_ns)
        self.row_serials.append(frame.serial)
        self.row_forced.append(frame.forced)

    # ---- commits

    def resume_key(self) -> Key:
        """The last key at or before the first frame that is neither committed nor trimmed."""
        first = self.row_index if self.row_times else self.next_index
        at = len(self.keys) - 1
        while self.keys[at].frame_index > first:
            at -= 1
        del self.keys[:at]
        return self.keys[0]

    def count_idle_below(self, offset: int) -> int:
        """How many trimmed frames lie below `offset`; they are counted once."""
        rest = array("q", (o for o in self.idle if o >= offset))
        counted = len(self.idle) - len(rest)
        self.idle = rest
        return counted
