"""What of a session is published again after a fix, and how: under a new run, from its first IDR that is in no episode.

The new key follows from the old one, so that replaying twice sends the same records under the same key, and the
consumer drops the second ones as duplicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from padreel.core.decode import Decoder
from padreel.model import Frame, FrameEnd, PadEnd, PartitionState, RawRecord, Rejected
from padreel_schemas.v1 import gamepad_pb2, video_pb2


def replay_key(key: str) -> str:
    """The key `<session>@<run>` that a session is published again under."""
    session, _, run = key.partition("@")
    digest = sha256(f"padreel replay {session}@{run}".encode()).digest()
    return f"{session}@{int.from_bytes(digest[:8], 'big'):x}"


def accounted_below(state: PartitionState, key: str) -> int | None:
    """The offset below which no frame record of a session can become a row any more; None: none can, ever."""
    if key in state.closed:
        return None
    opened = state.open.get(key)
    return state.frames_next if opened is None else max(opened.resume, state.frames_next)


@dataclass(slots=True)
class Replayed:
    """What was found while a session's frames were gone through."""

    frames: int = 0  # to be published
    in_episodes: int = 0
    unusable: int = 0  # still rejected
    before_idr: int = 0  # not decodable without what is in an episode or lost


class FrameReplay:
    """Turns a session's frame records, in offset order, into those to publish.

    `in_episodes` are the offset ranges (inclusive) whose frames are rows of episodes. `sequence` and `frame_index`
    count from the first frame published, so that what is left out in the middle is a gap there too.
    """

    def __init__(self, in_episodes: Sequence[tuple[int, int]]) -> None:
        self.found = Replayed()
        self.ended = False  # the session's END came
        self._in_episodes = in_episodes
        self._decoder = Decoder()
        self._base: tuple[int, int] | None = None  # (sequence, frame_index) of the first frame published
        self._has_leading = False  # pictures that are shown before that one may follow it
        self._next = 0  # sequence after the last one published

    def take(self, record: RawRecord) -> bytes | None:
        """The value to publish for a record, None if there is none."""
        (item,) = self._decoder.frames([record])
        if isinstance(item, FrameEnd):
            self.ended = True
        elif isinstance(item, Rejected):
            self.found.unusable += 1
        elif any(first <= record.offset <= last for first, last in self._in_episodes):
            self.found.in_episodes += 1
        else:
            return self._renumbered(item, record)
        return None

    def _renumbered(self, frame: Frame, record: RawRecord) -> bytes | None:
        if not frame.unit:  # its place is that of its picture in the file
            self._next = max(self._next, frame.sequence + 1)
            self.found.frames += 1
            return record.value
        if self._base is None and (frame.idr or frame.open_gop):
            self._base = frame.sequence, frame.frame_index
            self._has_leading = frame.open_gop
        sequence, frame_index = self._base or (frame.sequence + 1, 0)
        if frame.sequence < sequence or frame.frame_index < frame_index:
            if self._has_leading and frame.sequence > sequence:  # shown before the first key: left out without a gap
                self._base = sequence + 1, frame_index
            self.found.before_idr += 1
            return None
        message = video_pb2.VideoFrame.FromString(record.value or b"")
        message.sequence, message.frame_index = frame.sequence - sequence, frame.frame_index - frame_index
        self._next = max(self._next, message.sequence + 1)
        self.found.frames += 1
        return message.SerializeToString(deterministic=True)

    def end(self) -> bytes:
        """The value of the END that follows."""
        return video_pb2.VideoFrame(kind=video_pb2.VideoFrame.END, frame_count=self._next).SerializeToString()


class PadReplay:
    """The same for its pad records: those that can be used, byte for byte."""

    def __init__(self) -> None:
        self.ended = False
        self._decoder = Decoder()

    def take(self, record: RawRecord) -> bytes | None:
        """The value to publish for a record, None if there is none."""
        (item,) = self._decoder.pads([record])
        self.ended = isinstance(item, PadEnd)
        return None if isinstance(item, PadEnd | Rejected) else record.value

    @staticmethod
    def end() -> bytes:
        """The value of the END that follows."""
        return gamepad_pb2.GamepadState(kind=gamepad_pb2.GamepadState.END).SerializeToString()
