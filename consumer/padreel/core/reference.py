"""Sessions by reference: rows from Kafka, pictures from a file that is opened when the rows have ended.

Until then the rows are only kept, 24 bytes each: nothing can be cut before the file says where its IDRs are. Then its
packets are gone through in decode order, each with its row, as if they had come as frames; so the cuts are those of a
session that sends its pictures. An IDR at which an episode may begin stands at the same place in decode and in display
order, so that reading can begin again at its row.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from padreel.core.segment import Segment
from padreel.media import MediaMark, MediaRange
from padreel.model import Fate, Frame, SessionInfo, Stream

MAX_ROWS: Final = 10_000_000  # of one session: 46 hours at 60 Hz
_FIRST_RETRY_NS: Final = 1_000_000_000
_LONGEST_RETRY_NS: Final = 30_000_000_000


@dataclass(frozen=True, slots=True)
class MediaScan:
    """What a file holds: of each packet in decode order its time stamp, display position and what can begin there.

    `idr` and `open_gop` are 1 where a frame's would be True.
    """

    stream: Stream
    mark: MediaMark
    stamps: array[int]
    positions: array[int]
    idr: bytes
    open_gop: bytes


class Wanted(NamedTuple):
    """A file that has to be looked through: it must have `rows` pictures at least."""

    key: str
    uri: str
    rows: int


class Ending(NamedTuple):
    """Why the rows of a session have ended; `offset` is of the record that says so, None for silence."""

    at_ns: int
    is_restart: bool = False
    offset: int | None = None
    frame_count: int | None = None


class Referenced:
    """The rows of one session by reference, as far as no episode has them."""

    def __init__(self, next_index: int, time_ns: int | None) -> None:
        """`next_index` is the first row that is not accounted, `time_ns` the latest time before it."""
        self.uri = ""
        self.ending: Ending | None = None
        self.scan: MediaScan | None = None
        self.is_done = False  # every packet was gone through, or the file given up
        self.silent_since_ns: int | None = None
        self._next = next_index
        self._latest_ns = time_ns
        self._indices: array[int] = array("q")
        self._times: array[int] = array("q")
        self._offsets: array[int] = array("q")
        self._packet = 0  # the next one to go through
        self._retry_ns = 0  # not before this time
        self._failures = 0

    # ---- rows

    def row(self, frame: Frame, uri: str, now_ns: int) -> Fate | None:
        """Take a row; its fate where it is none."""
        if self.ending is not None:
            return Fate.RESTARTED if self.ending.is_restart else Fate.STALE
        if frame.frame_index < self._next:
            if self._latest_ns is not None and frame.time_ns > self._latest_ns:
                self.ending = Ending(now_ns, is_restart=True, offset=frame.offset)
                return Fate.RESTARTED
            return Fate.STALE
        if len(self._indices) >= MAX_ROWS:
            return Fate.REJECTED
        self.uri = uri  # the latest: a folder may be renamed while it is recorded
        self.silent_since_ns = None
        self._next = frame.frame_index + 1
        self._latest_ns = frame.time_ns if self._latest_ns is None else max(frame.time_ns, self._latest_ns)
        self._indices.append(frame.frame_index)
        self._times.append(frame.time_ns)
        self._offsets.append(frame.offset)
        return None

    def end(self, ending: Ending, uri: str = "") -> None:
        """No row follows."""
        self.ending = ending
        self.uri = uri or self.uri

    # ---- the file

    def wanted(self, key: str, now_ns: int) -> Wanted | None:
        """The file to look through now."""
        if self.ending is None or self.scan is not None or self.is_done or now_ns < self._retry_ns:
            return None
        self._retry_ns = now_ns + min(_LONGEST_RETRY_NS, _FIRST_RETRY_NS << min(self._failures, 10))
        return Wanted(key, self.uri, max(self._next, self.ending.frame_count or 0))

    def missed(self, now_ns: int, timeout_ns: int) -> bool:
        """The file could not be used; whether it was waited for long enough."""
        self._failures += 1
        assert self.ending is not None
        return self.ending.offset is None or now_ns - self.ending.at_ns >= timeout_ns

    def frames(self, key: str, info: SessionInfo | None, most: int) -> Iterator[Frame]:
        """The rows of the packets that follow, in decode order, up to an IDR after `most` of them or to the end."""
        scan = self.scan
        assert scan is not None
        count = 0
        while self._packet < len(scan.idr):
            packet, position = self._packet, scan.positions[self._packet]
            idr, open_gop = bool(scan.idr[packet]), bool(scan.open_gop[packet])
            if idr and position == packet and count >= most:
                return
            self._packet += 1
            at = bisect_left(self._indices, position)
            if at == len(self._indices) or self._indices[at] != position:
                continue  # its row was lost, or is in an episode
            count += 1
            stream = scan.stream if idr or open_gop else None
            yield Frame(self._offsets[at], key, packet, position, self._times[at], idr, b"", stream, info, open_gop)

    @property
    def is_gone_through(self) -> bool:
        """Whether `frames` has no more."""
        return self.scan is not None and self._packet >= len(self.scan.idr)

    def next_offset(self) -> int | None:
        """Offset of the first row that `frames` has not given."""
        if self.is_done or not self._indices:
            return None
        if self.scan is None or self._packet >= len(self.scan.idr):
            at = 0 if self.scan is None else len(self._indices)
        else:
            # It stopped before an IDR, or has not begun: what it gave are the rows before that position.
            at = bisect_left(self._indices, self.scan.positions[self._packet]) if self._packet else 0
        return self._offsets[at] if at < len(self._offsets) else None

    def offsets_ahead(self) -> list[int]:
        """Offsets of the rows that `frames` has not given."""
        first = self.next_offset()
        return [] if first is None else [offset for offset in self._offsets if offset >= first]

    def offsets_left(self) -> array[int]:
        """Offsets of all rows, for a session whose file is given up."""
        return self._offsets

    def packets(self, segment: Segment) -> MediaRange:
        """The packets of a segment from the key on at which its episode begins."""
        scan, key = self.scan, segment.resume_key()
        assert scan is not None
        end = segment.first_sequence + segment.received + segment.leading
        keys = {one.sequence for one in segment.keys}
        return MediaRange(
            self.uri,
            scan.mark,
            scan.stamps[key.sequence : end],
            array("q", (position - key.frame_index for position in scan.positions[key.sequence : end])),
            bytes(packet in keys for packet in range(key.sequence, end)),
        )
