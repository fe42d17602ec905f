"""The files that sessions by reference name: found below the media root, looked through, copied from. Blocking.

Nothing is decoded. What a file may be is said by its name, so that no playlist is opened that names other files.
"""

from __future__ import annotations

import itertools
import os
import stat
import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Final

import av

from padreel.core.codecs import check_unit, framing_of
from padreel.core.decode import stream_of
from padreel.core.reference import MediaScan
from padreel.dataset.remux import SpanWriter, system_errors
from padreel.errors import MediaError
from padreel.media import MediaMark, MediaRange
from padreel_schemas import capture

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet

_FORMATS: Final = {".mp4": "mp4", ".mkv": "matroska", ".ts": "mpegts"}
_AT_ONCE: Final = 4  # copies going on at the same time: a share gives no more with more


class MediaNotReadyError(Exception):
    """A file cannot be used yet: it may be late, still be written, or lie on a share that fails for a while."""


class MediaFiles:
    """The files below one media root; None: no session by reference can be used. For any thread."""

    def __init__(self, root: Path | None, *, at_once: int = _AT_ONCE) -> None:
        self._root = root
        self._turn = threading.BoundedSemaphore(at_once)
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Let `scan` end soon, as if the file was not ready. A copy is finished: its commit is in hand."""
        self._stopping.set()

    def scan(self, uri: str, rows: int) -> MediaScan:
        """Look through a file that has to have `rows` pictures at least.

        Raises MediaError where waiting does not help, and MediaNotReadyError.
        """
        try:
            path = self._resolve(uri)
            before = _mark(path, uri)
            found = _look_through(path, uri, before, self._stopping)
            if _mark(path, uri) != before:
                raise MediaNotReadyError(f"media_uri {uri!r}: the file changed while it was read")
        except OSError as error:
            raise MediaNotReadyError(f"media_uri {uri!r}: {error}") from error
        if len(found.idr) < rows:
            raise MediaNotReadyError(f"media_uri {uri!r}: the file has {len(found.idr)} frames, expected {rows}")
        return found

    def copy(self, media: MediaRange, writer: SpanWriter) -> None:
        """Append the packets of a range to a span.

        Raises MediaError where the file is gone or is another than was looked through, and OSError, after which it can
        be tried again.
        """
        with self._turn, system_errors():
            path = self._resolve(media.uri)
            try:
                self._copy(path, media, writer)
            except FileNotFoundError as error:
                assert self._root is not None
                if any(self._root.iterdir()):  # else the share is not there, which may pass
                    raise MediaError(f"media_uri {media.uri!r}: the file is gone") from error
                raise

    def _copy(self, path: Path, media: MediaRange, writer: SpanWriter) -> None:
        if _mark(path, media.uri) != media.mark:
            raise MediaError(f"media_uri {media.uri!r}: the file was replaced or changed after it was looked through")
        wanted = zip(media.stamps, media.positions, media.idr, strict=True)
        with _opened(path) as container:
            for packet, (stamp, position, idr) in zip(_from(container, media.stamps[0]), wanted, strict=False):
                if packet.pts != stamp:
                    raise MediaError(f"media_uri {media.uri!r}: a packet at pts {packet.pts}, expected {stamp}")
                if position >= 0:
                    writer.append(position, bool(idr), bytes(packet))
        needed = sum(position >= 0 for position in media.positions)
        if writer.packets != needed:
            found = f"the file ends after {writer.packets} of an episode's {needed} packets"
            raise MediaError(f"media_uri {media.uri!r}: {found}")

    def _resolve(self, uri: str) -> Path:
        if self._root is None:
            raise MediaError(
                f"media_uri {uri!r}: this consumer has no --media-root; give it the folder that the rigs' is, "
                "then replay the dead letter"
            )
        parts = PurePosixPath(uri)
        is_inside = not (parts.is_absolute() or PureWindowsPath(uri).anchor or ".." in parts.parts or "\\" in uri)
        if not is_inside or "\0" in uri or parts.suffix not in _FORMATS:
            raise MediaError(
                f"media_uri {uri!r}: expected a relative path below --media-root, with forward slashes, without '..', "
                f"of a file {', '.join(_FORMATS)}"
            )
        path = (self._root / parts).resolve()
        if not path.is_relative_to(self._root.resolve()):
            raise MediaError(f"media_uri {uri!r}: leads out of --media-root {self._root}")
        return path


def _mark(path: Path, uri: str) -> MediaMark:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"media_uri {uri!r}: is no regular file")
    return MediaMark(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    with av.open(str(path), format=_FORMATS[path.suffix], metadata_errors="replace") as container:
        yield container


def _from(container: InputContainer, stamp: int) -> Iterator[Packet]:
    """The packets in decode order from the one with that stamp on."""
    video = container.streams.video[0]
    for seeking in (True, False):
        # Where a container's index is inexact the way from the beginning is long but sure.
        container.seek(stamp if seeking else 0, stream=video, backward=True)
        packets = capture.packets_of(video)
        first = next((packet for packet in packets if packet.pts == stamp), None)
        if first is not None:
            return itertools.chain([first], packets)
    return iter(())


def _look_through(path: Path, uri: str, mark: MediaMark, stopping: threading.Event) -> MediaScan:
    stamps: array[int] = array("q")
    idr, open_gop = bytearray(), bytearray()
    try:
        with _opened(path) as container:
            if not container.streams.video:
                raise MediaError(f"media_uri {uri!r}: no video stream in the file, expected one")
            video = container.streams.video[0]
            told = capture.stream_of(path, video)
            stream = stream_of(told)
            if isinstance(stream, str):
                raise MediaError(f"media_uri {uri!r}: {stream}")
            framing = framing_of(stream.codec, stream.extradata)
            for packet in capture.packets_of(video):
                check = check_unit(bytes(packet), framing)
                if stopping.is_set():
                    raise MediaNotReadyError(f"media_uri {uri!r}: stopped")
                if check.fault is not None:  # cut, perhaps because not all of it is here yet
                    raise MediaNotReadyError(f"media_uri {uri!r}: frame {len(idr)} in decode order: {check.fault}")
                if packet.pts is None or packet.is_discard:
                    raise MediaError(f"media_uri {uri!r}: frame {len(idr)} in decode order is hidden, or has no pts")
                stamps.append(packet.pts)
                idr.append(check.idr)
                open_gop.append(check.open_gop)
    except capture.RecordingError as error:
        raise MediaNotReadyError(f"media_uri {uri!r}: {error}") from error
    except av.FFmpegError as error:  # no index yet: it is still being written, or is none of the kind
        raise MediaNotReadyError(f"media_uri {uri!r}: {error.strerror}") from error
    ordered = sorted(stamps)
    if any(one == other for one, other in itertools.pairwise(ordered)):
        raise MediaNotReadyError(f"media_uri {uri!r}: two frames have one pts, so their order is unknown")
    positions = array("q", (bisect_left(ordered, stamp) for stamp in stamps))
    return MediaScan(stream, mark, stamps, positions, bytes(idr), bytes(open_gop))
