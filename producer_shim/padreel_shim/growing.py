"""Video files that can be read while they grow: Matroska, MPEG-TS and fragmented mp4.

The demuxer runs in a thread of its own on a file that has no end yet: where nothing more is there it waits, so it never
takes a half-written packet for a whole one.
"""

from __future__ import annotations

import queue
import struct
import threading
from bisect import insort
from collections import deque
from pathlib import Path
from typing import Final, NamedTuple

import av
from av.error import FFmpegError

from padreel_schemas.capture import RecordingError, packets_of, stream_of, unreadable
from padreel_schemas.keyframes import key_test
from padreel_schemas.v1.video_pb2 import VideoStream

MAX_REORDER: Final = 16  # frames decoded before one that is shown earlier: no encoder may have more
_FORMATS: Final = {".mp4": "mp4", ".mkv": "matroska", ".ts": "mpegts"}
_QUEUED_PACKETS: Final = 64
_POLL_SECONDS: Final = 0.1
_MAX_MOOV_BYTES: Final = 64 * 2**20


def can_grow(path: Path) -> bool | None:
    """Whether a video file can be read while it grows; None while too little is there to tell.

    An mp4 can if its `moov` box stands before the first pictures and announces fragments. Raises OSError.
    """
    if path.suffix != ".mp4":
        return True if path.exists() else None
    try:
        with path.open("rb") as file:
            at = 0
            while True:
                file.seek(at)
                head = file.read(16)
                if len(head) < 8:
                    return None
                size, kind = struct.unpack(">I4s", head[:8])
                if size == 1 and len(head) == 16:
                    (size,) = struct.unpack(">Q", head[8:])
                if kind == b"mdat" or size < 8 or (kind == b"moov" and size > _MAX_MOOV_BYTES):
                    return False
                if kind == b"moov":
                    file.seek(at)
                    box = file.read(size)
                    return b"mvex" in box if len(box) == size else None
                at += size
    except FileNotFoundError:
        return None


class VideoPacket(NamedTuple):
    """One encoded picture; `stamp` is its presentation time in the file's unit."""

    stamp: int
    unit: bytes
    keyframe: bool


class _EndlessFile:
    """A file object for FFmpeg whose reads wait for more until `finish`. It has no seek, so nothing is looked up."""

    def __init__(self, path: Path, poll_seconds: float) -> None:
        self._path = path
        self._poll_seconds = poll_seconds
        self._at = 0
        self.is_finished = threading.Event()
        self.is_stopped = threading.Event()

    def read(self, size: int) -> bytes:
        """Return what is there, up to `size` bytes; nothing at the end of a finished file, or when stopped."""
        while not self.is_stopped.is_set():
            is_whole = self.is_finished.is_set()  # asked before reading: what was written until then is seen
            data = self._there(size)
            if data is not None and (data or is_whole):
                self._at += len(data)
                return data
            (self.is_stopped if is_whole else self.is_finished).wait(self._poll_seconds)
        return b""

    def _there(self, size: int) -> bytes | None:
        """What is there, None while that cannot be said."""
        try:
            # Opened anew each time: an open file cannot be renamed everywhere, and a stale one is never read again.
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._at:
                    raise RecordingError(f"{self._path}: was cut to less than the {self._at} bytes that were read")
                file.seek(self._at)
                return file.read(size)
        except FileNotFoundError as error:
            raise RecordingError(f"{self._path}: is gone after {self._at} bytes were read") from error
        except OSError:  # a share that is stale for a while
            return None


class GrowingVideo:
    """The packets of a growing file in decode order. `stream` is known once a packet was taken."""

    def __init__(self, path: Path, *, poll_seconds: float = _POLL_SECONDS) -> None:
        self.path = path
        self.stream: VideoStream | None = None
        self.is_ended = False  # every packet was taken
        self._file = _EndlessFile(path, poll_seconds)
        self._packets: queue.Queue[VideoPacket | RecordingError | None] = queue.Queue(_QUEUED_PACKETS)
        self._thread = threading.Thread(target=self._demux, name=f"demux {path.parent.name}", daemon=True)
        self._thread.start()

    def take(self) -> list[VideoPacket]:
        """Return the packets that are whole now, not all at once if there are many.

        Raises RecordingError where the file cannot be read.
        """
        taken: list[VideoPacket] = []
        while not self.is_ended and len(taken) < _QUEUED_PACKETS:
            is_finished = self._file.is_finished.is_set()
            try:
                found = self._packets.get(block=is_finished, timeout=_POLL_SECONDS)
            except queue.Empty:
                if is_finished and not self._file.is_stopped.is_set():
                    continue  # the end is sure to come
                break
            if isinstance(found, VideoPacket):
                taken.append(found)
            elif found is None:
                self.is_ended = True
            elif taken:
                self._packets.put(found)
                break
            else:
                raise found
        return taken

    def finish(self) -> None:
        """Nothing is appended any more: from now on `take` waits, until the last packet was taken."""
        self._file.is_finished.set()

    def close(self) -> None:
        """End the thread."""
        self._file.is_stopped.set()
        self._file.is_finished.set()
        while self._thread.is_alive():
            while not self._packets.empty():
                self._packets.get_nowait()
            self._thread.join(0.05)

    def _demux(self) -> None:
        failure: RecordingError | None = None
        try:
            with av.open(self._file, format=_FORMATS[self.path.suffix], metadata_errors="replace") as container:
                if not container.streams.video:
                    raise RecordingError(f"{self.path}: no video stream, expected one")
                video = container.streams.video[0]
                self.stream = stream_of(self.path, video)
                is_key = key_test(self.stream)
                for count, packet in enumerate(packets_of(video)):
                    if self._file.is_stopped.is_set():
                        return
                    if packet.pts is None:
                        raise RecordingError(f"{self.path}: frame {count} in decode order has no pts")
                    unit = bytes(packet)
                    self._packets.put(VideoPacket(packet.pts, unit, packet.is_keyframe or is_key(unit)))
        except RecordingError as error:
            failure = error
        except (OSError, FFmpegError) as error:
            failure = RecordingError(unreadable(self.path, error))
        finally:
            if not self._file.is_stopped.is_set():
                self._packets.put(failure)


class DisplayOrder:
    """The display position of each packet, as soon as no later one can change it.

    A picture's position is known once more than `MAX_REORDER` packets with later stamps were taken: one that is shown
    before it would then have been passed by too many. Packets come out in decode order.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: deque[VideoPacket] = deque()  # decode order
        self._stamps: list[int] = []  # without a position yet, in display order
        self._positions: dict[int, int] = {}  # by stamp, of packets that wait
        self._placed = 0
        self._latest: int | None = None  # stamp of the last one placed

    @property
    def waiting(self) -> int:
        """How many packets were taken and not handed over."""
        return len(self._waiting)

    def add(self, packet: VideoPacket) -> None:
        """Take the next packet in decode order. Raises RecordingError where it is shown before one that has a place."""
        if (self._latest is not None and packet.stamp <= self._latest) or packet.stamp in self._stamps:
            raise RecordingError(
                f"{self._path}: frame {self._placed + len(self._stamps)} in decode order has pts {packet.stamp}, which "
                f"another has, or which is before one that came more than {MAX_REORDER} frames earlier"
            )
        insort(self._stamps, packet.stamp)
        self._waiting.append(packet)
        if len(self._stamps) > MAX_REORDER:
            self._place()

    def finish(self) -> None:
        """No packet follows."""
        while self._stamps:
            self._place()

    def head(self) -> int | None:
        """The position of the next packet in decode order, None while it is not known."""
        return self._positions.get(self._waiting[0].stamp) if self._waiting else None

    def pop(self) -> VideoPacket:
        """Hand over the packet whose position `head` said."""
        packet = self._waiting.popleft()
        del self._positions[packet.stamp]
        return packet

    def _place(self) -> None:
        self._latest = self._stamps.pop(0)
        self._positions[self._latest] = self._placed
        self._placed += 1
