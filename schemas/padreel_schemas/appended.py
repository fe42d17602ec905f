"""`sync.csv` and `actions.bin` read as they grow: what is whole comes out, what is half-written waits.

However the bytes are divided into pieces, what comes out is what `padreel_schemas.recording` reads from the finished
files.
"""

from __future__ import annotations

import csv
import io
import struct
from pathlib import Path

from padreel_schemas.capture import RecordingError, unreadable
from padreel_schemas.recording import MAX_PAD_BYTES, SyncRow, check_header, sync_row


class SyncReader:
    """The rows of a `sync.csv` that grows. `path` is named in errors only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting = b""
        self._lines = 0
        self._encoding = "utf-8-sig"  # a byte order mark stands at the beginning only
        self._has_header = False

    def feed(self, data: bytes) -> list[SyncRow]:
        """Take what was appended; return the rows that are whole now.

        Raises RecordingError for another header or a line that is no row; the reader is of no use then.
        """
        whole, line_end, self._waiting = (self._waiting + data).rpartition(b"\n")
        if whole.count(b'"') % 2:  # the line's end is inside a quoted field
            self._waiting = whole + line_end + self._waiting
            return []
        return self._rows(whole + line_end)

    def finish(self) -> list[SyncRow]:
        """Nothing follows: return the row of a last line without an end. Raises RecordingError."""
        rest, self._waiting = self._waiting, b""
        rows = self._rows(rest)
        if not self._has_header:
            check_header(self._path, [])
        return rows

    def _rows(self, data: bytes) -> list[SyncRow]:
        if not data:
            return []
        try:
            text = data.decode(self._encoding)
            self._encoding = "utf-8"
            reader = csv.reader(io.StringIO(text, newline=""))
            rows = []
            for cells in reader:
                if not self._has_header:
                    check_header(self._path, cells)
                    self._has_header = True
                elif cells:
                    rows.append(sync_row(self._path, self._lines + reader.line_num, cells))
        except (UnicodeDecodeError, csv.Error) as error:
            raise RecordingError(unreadable(self._path, error)) from error
        self._lines += reader.line_num
        return rows


class PadReader:
    """The payloads of an `actions.bin` that grows. `path` is named in errors only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting = b""
        self._at = 0  # byte in the file at which what waits begins
        self.count = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was appended; return the payloads that are whole now.

        Raises RecordingError for a length beyond what a pad's state can have.
        """
        buffer = self._waiting + data
        payloads: list[bytes] = []
        at = 0
        while len(buffer) - at >= 4:
            (size,) = struct.unpack_from("<I", buffer, at)
            if size > MAX_PAD_BYTES:
                where = f"{self._path}: record {self.count} at byte {self._at + at}"
                raise RecordingError(
                    f"{where} has length {size}, expected at most {MAX_PAD_BYTES}: the file is damaged"
                )
            if len(buffer) - at - 4 < size:
                break
            payloads.append(buffer[at + 4 : at + 4 + size])
            self.count += 1
            at += 4 + size
        self._waiting = buffer[at:]
        self._at += at
        return payloads

    def finish(self) -> str | None:
        """Nothing follows: return a warning where the last record is cut; it is left out."""
        found, where = len(self._waiting), f"{self._path}: record {self.count} at byte {self._at}"
        if not found:
            return None
        if found < 4:
            return f"{where} is cut: {found} of its 4 length bytes; left out"
        (size,) = struct.unpack_from("<I", self._waiting)
        return f"{where} is cut: {found - 4} of its {size} bytes; left out"
