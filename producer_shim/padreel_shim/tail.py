"""A session folder that is being written: its records, as soon as they are whole. Blocking.

The records of each topic are the same, byte for byte and in the same order, however often the folder is read and
however it grew meanwhile; only how the two topics interleave differs. There is no HEARTBEAT: the recorder may still
have EVENTs in a buffer.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from pathlib import Path
from typing import Protocol

from padreel_schemas.appended import PadReader, SyncReader
from padreel_schemas.capture import RecordingError
from padreel_schemas.recording import PADS, SYNC, Pad, PublishedRecord, SyncRow, ends, forward_pad
from padreel_schemas.v1.video_pb2 import SessionInfo, VideoFrame, VideoStream
from padreel_shim.growing import DisplayOrder, GrowingVideo
from padreel_shim.state import FileMark

_READ_BYTES = 65_536
_LEAD_NS = 1_000_000_000  # EVENTs go out so far before the frames they may belong to, not a whole session
_HELD_PADS = 10_000
_HELD_ROWS = 10_000
_HELD_PACKETS = 600  # a recorder that writes its rows late must not fill the memory with pictures


class AppendedFile:
    """A file that is only ever appended to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._digest = hashlib.sha256()

    def read(self) -> bytes:
        """Return what follows, some of it if there is much; nothing while the file is not there yet.

        Raises RecordingError where it has become shorter or is gone, and OSError.
        """
        try:
            # Opened anew each time: while a file is open its folder cannot be renamed everywhere.
            with self.path.open("rb") as file:
                if file.seek(0, 2) < self.size:
                    raise RecordingError(f"{self.path}: was cut to less than the {self.size} bytes that were read")
                file.seek(self.size)
                data = file.read(_READ_BYTES)
        except FileNotFoundError as error:
            if self.size:
                raise RecordingError(f"{self.path}: is gone after {self.size} bytes were read") from error
            return b""
        self.size += len(data)
        self._digest.update(data)
        return data

    def mark(self) -> FileMark:
        """By what the beginning that was read is known again."""
        return FileMark(self.path.name, self.size, 0, self._digest.hexdigest())


def begins_with(path: Path, mark: FileMark) -> bool:
    """Whether a file begins with what `mark` is of. Raises OSError."""
    digest, left = hashlib.sha256(), mark.size
    try:
        with path.open("rb") as file:
            while left and (data := file.read(min(left, _READ_BYTES))):
                digest.update(data)
                left -= len(data)
    except FileNotFoundError:
        return mark.size == 0
    return not left and digest.hexdigest() == mark.sha256


class FrameSource(Protocol):
    """Where the frames come from: the rows alone, or rows and a video that grows."""

    @property
    def stream(self) -> VideoStream | None: ...
    @property
    def held(self) -> int: ...  # rows that wait for their pictures
    def add(self, time_ns: int, pts: int) -> None: ...
    def take(self) -> list[PublishedRecord]: ...
    def finish(self) -> list[PublishedRecord]: ...
    def close(self) -> None: ...


class ReferenceFrames:
    """A frame record per row; the pictures stay in the file that `session.media_uri` names."""

    stream: VideoStream | None = None
    held = 0

    def __init__(self, session: SessionInfo) -> None:
        self._session = session
        self._rows = 0
        self._ready: list[PublishedRecord] = []

    def add(self, time_ns: int, pts: int) -> None:
        """Take the next row."""
        index = self._rows
        frame = VideoFrame(sequence=index, frame_index=index, monotonic_ns=time_ns, pts=pts, session=self._session)
        self._rows += 1
        self._ready.append(PublishedRecord("frames", time_ns, frame.SerializeToString(deterministic=True)))

    def take(self) -> list[PublishedRecord]:
        """Return the records of the rows since the last call."""
        ready, self._ready = self._ready, []
        return ready

    def finish(self) -> list[PublishedRecord]:
        """No row follows: return the rest."""
        return self.take()

    def close(self) -> None:
        """Nothing is held."""


class InlineFrames:
    """Pictures out of a video that grows, each as soon as its row and its display position are known."""

    def __init__(self, video: GrowingVideo, session: SessionInfo, stream: VideoStream | None) -> None:
        """`stream` is the block that was published before, so that it is the same again."""
        self.stream = stream
        self._video = video
        self._session = session
        self._order = DisplayOrder(video.path)
        self._rows: dict[int, tuple[int, int]] = {}  # (time_ns, pts) by display position
        self._added = 0
        self._sequence = 0
        self._latest_ns = 0

    @property
    def held(self) -> int:
        return len(self._rows)

    def add(self, time_ns: int, pts: int) -> None:
        """Take the next row."""
        self._rows[self._added] = time_ns, pts
        self._added += 1

    def take(self) -> list[PublishedRecord]:
        """Return the records of the pictures that are whole now. Raises RecordingError."""
        if self._order.waiting <= _HELD_PACKETS:
            for packet in self._video.take():
                self._order.add(packet)
        return self._records()

    def finish(self) -> list[PublishedRecord]:
        """Neither row nor packet follows: return the rest. Raises RecordingError where they do not match in number."""
        self._video.finish()
        while not self._video.is_ended:
            for packet in self._video.take():
                self._order.add(packet)
        self._order.finish()
        records = self._records()
        if self._rows or self._order.waiting:
            frames = self._sequence + self._order.waiting
            raise RecordingError(
                f"{self._video.path}: has {frames} frames, {SYNC} has {self._added} rows; expected as many"
            )
        return records

    def close(self) -> None:
        """End the reading of the video."""
        self._video.close()

    def _records(self) -> list[PublishedRecord]:
        records: list[PublishedRecord] = []
        while (position := self._order.head()) is not None and position in self._rows:
            time_ns, pts = self._rows.pop(position)
            packet = self._order.pop()
            frame = VideoFrame(
                sequence=self._sequence, frame_index=position, monotonic_ns=time_ns, pts=pts, access_unit=packet.unit
            )
            if packet.keyframe:
                self.stream = self.stream or self._video.stream
                assert self.stream is not None  # a packet was read of it
                frame.keyframe = True
                frame.stream.CopyFrom(self.stream)
                frame.session.CopyFrom(self._session)
            self._sequence += 1
            self._latest_ns = max(self._latest_ns, time_ns)
            records.append(PublishedRecord("frames", self._latest_ns, frame.SerializeToString(deterministic=True)))
        return records


class FolderTail:
    """The records of a session folder that grows."""

    def __init__(self, folder: Path, frames: FrameSource) -> None:
        self.sync, self.actions = AppendedFile(folder / SYNC), AppendedFile(folder / PADS)
        self.frames = frames
        self.rows = self.events = 0
        self.first_ns = -1
        self.stepped_back: dict[str, int] = {}  # by file: how many times were raised to the one before
        self._sync_reader, self._pad_reader = SyncReader(self.sync.path), PadReader(self.actions.path)
        self._row_ns = self._pad_ns = 0
        self._frame_ns: int | None = None  # of the latest frame handed out
        self._pads: deque[Pad] = deque()

    def read(self) -> list[PublishedRecord]:
        """Return what is whole now and was not returned before; empty where nothing is.

        Raises RecordingError where the folder cannot be used, and OSError, after which it can be called again.
        """
        actions = self.actions.read() if len(self._pads) < _HELD_PADS else b""
        self._take_pads(actions)
        sync = self.sync.read() if self.frames.held < _HELD_ROWS else b""
        self._take_rows(self._sync_reader.feed(sync))
        return self._in_order(self.frames.take(), _LEAD_NS)

    def finish(self, end_session: SessionInfo | None = None) -> tuple[list[PublishedRecord], list[str]]:
        """Nothing is appended any more: return the rest with both ENDs, and what was repaired or left out.

        `end_session` goes with the frames' END. Raises RecordingError where rows and frames do not match, and OSError.
        """
        while data := self.actions.read():
            self._take_pads(data)
        while data := self.sync.read():
            self._take_rows(self._sync_reader.feed(data))
        self._take_rows(self._sync_reader.finish())
        cut = self._pad_reader.finish()
        records = self._in_order(self.frames.finish(), None)
        last_ns = max(self._frame_ns or 0, self._pad_ns)
        for record in ends(self.rows, last_ns):
            if record.topic == "frames" and end_session is not None:
                end = VideoFrame.FromString(record.value)
                end.session.CopyFrom(end_session)
                record = PublishedRecord("frames", last_ns, end.SerializeToString(deterministic=True))
            records.append(record)
        warnings = [
            f"{name}: the clock steps back at {count} places; raised to the time before"
            for name, count in self.stepped_back.items()
        ]
        return records, warnings + ([cut] if cut else [])

    def close(self) -> None:
        """Let the video go."""
        self.frames.close()

    def _take_rows(self, rows: list[SyncRow]) -> None:
        for row in rows:
            if row.monotonic_ns < self._row_ns:
                self._step(self.sync.path)
            self._row_ns = max(self._row_ns, row.monotonic_ns)
            if not self.rows:
                self.first_ns = self._row_ns
            self.rows += 1
            self.frames.add(self._row_ns, row.pts)

    def _take_pads(self, data: bytes) -> None:
        for payload in self._pad_reader.feed(data):
            pad = forward_pad(f"{self.actions.path}: record {self.events}", payload, self._pad_ns)
            if pad.payload != payload:
                self._step(self.actions.path)
            self._pad_ns = pad.time_ns
            self.events += 1
            self._pads.append(pad)

    def _step(self, path: Path) -> None:
        self.stepped_back[str(path)] = self.stepped_back.get(str(path), 0) + 1

    def _in_order(self, frames: list[PublishedRecord], lead_ns: int | None) -> list[PublishedRecord]:
        """The frames and the EVENTs up to `lead_ns` after the latest frame (None: all), in order of time."""
        if frames:
            self._frame_ns = frames[-1].time_ns
        pads: list[PublishedRecord] = []
        while self._pads and (
            lead_ns is None or (self._frame_ns is not None and self._pads[0].time_ns <= self._frame_ns + lead_ns)
        ):
            pad = self._pads.popleft()
            pads.append(PublishedRecord("pads", pad.time_ns, pad.payload))
        return list(heapq.merge(pads, frames, key=lambda record: record.time_ns))
