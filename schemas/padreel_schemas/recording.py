"""A recorder's session folder, and how it becomes the records of a live rig.

The folder holds three files:

- `capture.mp4` (or `.mkv`, `.ts`), one video stream; its packets are published as they are, never decoded;
- `sync.csv`, with the header `frame_index,monotonic_ns,pts` and one row per picture: the order of the rows is the
  display order, whatever the frame_index column says;
- `actions.bin`, one record per change of the pad: a little-endian uint32 length and a GamepadState payload.

The same folder gives the same records, byte for byte, however often it is read: a publisher that was interrupted
goes on by skipping as many records as were acknowledged.
"""

from __future__ import annotations

import csv
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from av.error import FFmpegError
from google.protobuf.message import DecodeError

from padreel_schemas.capture import VIDEO as VIDEO
from padreel_schemas.capture import RecordingError as RecordingError
from padreel_schemas.capture import open_video, packets_of, read_video, unreadable, video_path
from padreel_schemas.keyframes import key_test
from padreel_schemas.v1.gamepad_pb2 import GamepadState
from padreel_schemas.v1.video_pb2 import SessionInfo, VideoFrame, VideoStream

SYNC, PADS = "sync.csv", "actions.bin"
SYNC_HEADER = ["frame_index", "monotonic_ns", "pts"]
MAX_PAD_BYTES = 65_536
HEARTBEAT_NS = 1_000_000_000
_INT64_END = 2**63


@dataclass(frozen=True, slots=True)
class SyncRow:
    """One row of `sync.csv`. `monotonic_ns` and `pts` are in nanoseconds."""

    frame_index: int
    monotonic_ns: int
    pts: int


@dataclass(frozen=True, slots=True)
class PublishedRecord:
    """One record to publish: to which topic, when by the rig's clock, and the serialised message."""

    topic: Literal["frames", "pads"]
    time_ns: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Pad:
    """An EVENT of `actions.bin`, its payload as it is published."""

    time_ns: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class _Content:
    """What is known of a recording before its packets are streamed. `ranks[j]` is packet j's display position."""

    video: Path
    stream: VideoStream
    ranks: list[int]
    rows: list[SyncRow]
    times: list[int]
    pads: list[Pad]
    warnings: list[str]


def read_sync_csv(path: Path) -> list[SyncRow]:
    """Return the rows in the file's order.

    Raises RecordingError where the file cannot be read, has another header or a row that is not three integers.
    """
    rows: list[SyncRow] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            check_header(path, header)
            rows.extend(sync_row(path, reader.line_num, cells) for cells in reader if cells)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecordingError(unreadable(path, error)) from error
    return rows


def check_header(path: Path, header: Sequence[str]) -> None:
    """Raise RecordingError unless the first row is `sync.csv`'s header."""
    if [name.strip() for name in header] != SYNC_HEADER:
        raise RecordingError(f"{path}: header is {','.join(header)!r}, expected {','.join(SYNC_HEADER)!r}")


def sync_row(path: Path, line: int, cells: Sequence[str]) -> SyncRow:
    """Return the row that a line's cells say. Raises RecordingError."""
    where = f"{path}: line {line}"
    if len(cells) != len(SYNC_HEADER):
        raise RecordingError(f"{where}: {len(cells)} fields, expected {len(SYNC_HEADER)} ({','.join(SYNC_HEADER)})")
    numbers = []
    for name, cell in zip(SYNC_HEADER, cells, strict=True):
        try:
            number = int(cell)
        except ValueError as error:
            raise RecordingError(f"{where}: {name} is {cell!r}, expected an integer") from error
        lowest = -_INT64_END if name == "pts" else 0
        if not lowest <= number < _INT64_END:
            raise RecordingError(f"{where}: {name} is {number}, expected {lowest} to {_INT64_END - 1}")
        numbers.append(number)
    return SyncRow(*numbers)


def read_actions_bin(path: Path) -> tuple[list[bytes], str | None]:
    """Return the payloads in the file's order, and a warning where the last one is cut (it is left out).

    Raises RecordingError where the file cannot be read or a length is beyond what a pad's state can have.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecordingError(unreadable(path, error)) from error
    payloads: list[bytes] = []
    at = 0
    while at < len(data):
        where = f"{path}: record {len(payloads)} at byte {at}"
        if len(data) - at < 4:
            return payloads, f"{where} is cut: {len(data) - at} of its 4 length bytes; left out"
        (size,) = struct.unpack_from("<I", data, at)
        if size > MAX_PAD_BYTES:
            raise RecordingError(f"{where} has length {size}, expected at most {MAX_PAD_BYTES}: the file is damaged")
        payload = data[at + 4 : at + 4 + size]
        if len(payload) < size:
            return payloads, f"{where} is cut: {len(payload)} of its {size} bytes; left out"
        payloads.append(payload)
        at += 4 + size
    return payloads, None


class Recording:
    """A session folder. Nothing is read before the first attribute that needs it; then the folder is checked.

    Every attribute but `path` and `name` raises RecordingError where the folder cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @property
    def name(self) -> str:
        """The session's name: the folder's."""
        return self.path.resolve().name

    def check(self) -> None:
        """Read and check the folder now, if that has not happened."""
        _ = self._content

    @property
    def stream(self) -> VideoStream:
        """How the pictures are encoded, as on every keyframe."""
        return self._content.stream

    @property
    def frame_count(self) -> int:
        return len(self._content.ranks)

    @property
    def sync(self) -> list[SyncRow]:
        """The rows of `sync.csv`, one per frame in display order."""
        return self._content.rows

    @property
    def event_count(self) -> int:
        """How many whole EVENTs `actions.bin` holds."""
        return len(self._content.pads)

    @property
    def warnings(self) -> list[str]:
        """What was repaired or left out, one sentence each, naming the file."""
        return self._content.warnings

    def records(
        self, *, rig_id: str = "", task: str = "", game_id: str = "", heartbeats: bool = True
    ) -> Iterator[PublishedRecord]:
        """Yield all records in the order and at the times at which a live rig would have published them.

        Frames come in decode order; where pictures are reordered a frame's `time_ns` is the latest of the
        capture times so far, since an encoder can hand it out no earlier. A HEARTBEAT stands at a frame's time about
        once a second, after all EVENTs up to it, unless `heartbeats` is False; both topics end with END.
        """
        content = self._content
        session = SessionInfo(rig_id=rig_id, task=task, game_id=game_id, heartbeats=heartbeats)
        frames = self._frames(content, session)
        pads = iter(content.pads)
        pad = next(pads, None)
        heartbeat_ns: int | None = None
        last_ns = 0
        for frame in frames:
            last_ns = frame.time_ns
            while pad is not None and pad.time_ns <= last_ns:
                yield PublishedRecord("pads", pad.time_ns, pad.payload)
                pad = next(pads, None)
            if heartbeats and (heartbeat_ns is None or last_ns - heartbeat_ns >= HEARTBEAT_NS):
                heartbeat_ns = last_ns
                beat = GamepadState(monotonic_ns=last_ns, kind=GamepadState.HEARTBEAT)
                yield PublishedRecord("pads", last_ns, beat.SerializeToString(deterministic=True))
            yield frame
        while pad is not None:
            last_ns = pad.time_ns
            yield PublishedRecord("pads", pad.time_ns, pad.payload)
            pad = next(pads, None)
        yield from ends(len(content.ranks), last_ns)

    def _frames(self, content: _Content, session: SessionInfo) -> Iterator[PublishedRecord]:
        """Yield the frames in decode order, `time_ns` never going back. Packets are read one at a time."""
        is_key = key_test(content.stream)
        latest_ns = 0
        count = 0
        path = content.video
        try:
            with open_video(path, is_known=True) as container:
                for packet in packets_of(container.streams.video[0]):
                    if count == len(content.ranks):
                        raise RecordingError(f"{path}: has more frames than the {count} it had when it was opened")
                    rank = content.ranks[count]
                    unit = bytes(packet)
                    frame = VideoFrame(
                        sequence=count,
                        frame_index=rank,
                        monotonic_ns=content.times[rank],
                        pts=content.rows[rank].pts,
                        access_unit=unit,
                    )
                    if packet.is_keyframe or is_key(unit):
                        frame.keyframe = True
                        frame.stream.CopyFrom(content.stream)
                        frame.session.CopyFrom(session)
                    latest_ns = max(latest_ns, content.times[rank])
                    count += 1
                    yield PublishedRecord("frames", latest_ns, frame.SerializeToString(deterministic=True))
        except (OSError, FFmpegError) as error:
            raise RecordingError(unreadable(path, error)) from error
        if count != len(content.ranks):
            raise RecordingError(f"{path}: ends after {count} frames, had {len(content.ranks)} when it was opened")

    @cached_property
    def _content(self) -> _Content:
        if not self.path.is_dir():
            raise RecordingError(f"{self.path}: is no folder, expected one with {VIDEO}, {SYNC} and {PADS}")
        sync_path, pads_path = self.path / SYNC, self.path / PADS
        rows = read_sync_csv(sync_path)
        video = video_path(self.path)
        stream, ranks = read_video(video)
        if len(rows) != len(ranks):
            raise RecordingError(
                f"{sync_path}: {len(rows)} rows, but {video.name} has {len(ranks)} frames; expected as many"
            )
        times, warnings = forward_times(sync_path, rows)
        payloads, cut = read_actions_bin(pads_path)
        pads, stepped = _forward_pads(pads_path, payloads)
        warnings += stepped
        if cut is not None:
            warnings.append(cut)
        if not pads:
            warnings.append(f"{pads_path}: no EVENT; every frame gets the neutral pad")
        return _Content(video, stream, ranks, rows, times, pads, warnings)


def ends(frame_count: int, last_ns: int) -> Iterator[PublishedRecord]:
    """Yield the END of both topics; `last_ns` is the latest time of a record before them."""
    pad_end = GamepadState(monotonic_ns=last_ns, kind=GamepadState.END)
    frame_end = VideoFrame(
        sequence=frame_count,
        frame_index=frame_count,
        monotonic_ns=last_ns,
        kind=VideoFrame.END,
        frame_count=frame_count,
    )
    yield PublishedRecord("pads", last_ns, pad_end.SerializeToString(deterministic=True))
    yield PublishedRecord("frames", last_ns, frame_end.SerializeToString(deterministic=True))


def forward_times(path: Path, rows: Sequence[SyncRow]) -> tuple[list[int], list[str]]:
    """Return the capture times in display order, those that step back raised to their predecessor's; and warnings."""
    times: list[int] = []
    raised: list[int] = []
    for position, row in enumerate(rows):
        time_ns = row.monotonic_ns
        if times and time_ns < times[-1]:
            raised.append(position)
            time_ns = times[-1]
        times.append(time_ns)
    if not raised:
        return times, []
    what = f"{path}: the clock steps back at {len(raised)} of {len(rows)} rows, first at row {raised[0]}"
    return times, [f"{what}; raised to the time before"]


def forward_pad(where: str, payload: bytes, latest_ns: int) -> Pad:
    """Return an EVENT, its payload untouched but where its time is before `latest_ns`: that one is written anew.

    Raises RecordingError where the payload is no EVENT.
    """
    try:
        state = GamepadState.FromString(payload)
    except DecodeError as error:
        raise RecordingError(f"{where} is no GamepadState: {error}") from error
    if state.kind != GamepadState.EVENT:
        raise RecordingError(f"{where} has kind {state.kind}, expected {GamepadState.EVENT} (EVENT)")
    if state.monotonic_ns >= _INT64_END:
        raise RecordingError(f"{where}: monotonic_ns is {state.monotonic_ns}, expected at most {_INT64_END - 1}")
    if state.monotonic_ns < latest_ns:
        state.monotonic_ns = latest_ns
        payload = state.SerializeToString(deterministic=True)
    return Pad(state.monotonic_ns, payload)


def _forward_pads(path: Path, payloads: Sequence[bytes]) -> tuple[list[Pad], list[str]]:
    """Return the EVENTs, their payloads untouched but where a time steps back: that one is written anew."""
    pads: list[Pad] = []
    raised: list[int] = []
    for position, payload in enumerate(payloads):
        where = f"{path}: record {position}"
        pad = forward_pad(where, payload, pads[-1].time_ns if pads else 0)
        if pad.payload != payload:
            raised.append(position)
        pads.append(pad)
    if not raised:
        return pads, []
    what = f"{path}: the clock steps back at {len(raised)} of {len(payloads)} records, first at record {raised[0]}"
    return pads, [f"{what}; raised to the time before"]
