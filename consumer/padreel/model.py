"""The frozen values that stages hand to each other. No behaviour, no I/O.

Words: a *session* is one recording of one rig, known by its key `<session>@<run>`. A *segment* is an unbroken decode
sequence from an IDR; it becomes one *episode*, or none. A *span* is the mp4 that is being staged for a segment. All
`*_ns` are integers in nanoseconds; offsets are Kafka's, and `next` is that of the first record not yet accounted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from padreel.media import MediaRange


class Topic(StrEnum):
    """Which of the two co-partitioned topics a record comes from."""

    FRAMES = "frames"
    PADS = "pads"


class EndReason(StrEnum):
    """Why a segment ended; also the value of a metric label and of an episode column."""

    END = "end"  # the session's END
    SPLIT = "split"  # max_episode_seconds
    GAP = "gap"  # sequence jumped, frame_index not dense, or END counts more frames than came
    SILENCE = "silence"  # no frame for session_timeout_seconds
    CLOCK = "clock"  # time and frame_index disagree in order
    STREAM = "stream"  # new extradata
    SCHEMA = "schema"  # another codec, size or rate; the rest of the session is rejected
    RESTARTED = "restarted"  # the rig restarted under its old run; the rest is rejected


class CloseReason(StrEnum):
    """Why a session takes no more records, or a part of it is rejected."""

    END = "end"
    RESTARTED = "restarted"
    SCHEMA = "schema"  # codec, size or rate other than the root's, at the start or later
    OTHER_GAME = "other_game"  # ignored and counted, no commit says so
    DENIED = "denied"  # its rig is: dropped and counted, no commit says so
    EXPIRED = "expired"  # dormant for longer than the dedupe horizon
    ERASED = "erased"  # taken out at somebody's wish; remembered for good
    MEDIA = "media"  # the file with its pictures never came, or is not what its rows say
    UNDECODABLE = "undecodable"  # an episode whose video shows no picture of its size; the session goes on


class Fate(StrEnum):
    """What became of a frame record once it is accounted."""

    ROW = "row"
    IDLE = "idle"  # trimmed
    HOLE = "hole"  # behind a hole in display order, at a cut
    WAIT = "wait"  # waited for an IDR
    STALE = "stale"  # a duplicate, or of a closed session
    RESTARTED = "restarted"
    END = "end"
    REJECTED = "rejected"
    IGNORED = "ignored"  # another game
    DENIED = "denied"  # of a rig that is denied


class RejectReason(StrEnum):
    """Why a single record is unusable; also the value of a metric label."""

    KEY_MISSING = "key_missing"
    KEY_INVALID = "key_invalid"
    VALUE_MISSING = "value_missing"
    OVERSIZED = "oversized"
    UNPARSABLE = "unparsable"
    FIELD_INVALID = "field_invalid"
    UNIT_INVALID = "unit_invalid"
    STREAM_MISSING = "stream_missing"
    STREAM_INVALID = "stream_invalid"
    CODEC_UNSUPPORTED = "codec_unsupported"
    CAMERA_UNSUPPORTED = "camera_unsupported"


class RawRecord(Protocol):
    """What `core.decode` needs of a Kafka record (aiokafka's ConsumerRecord has it)."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Record:
    """A Kafka record; `timestamp` in milliseconds of the epoch, as Kafka has it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Stream:
    """How a session's pictures are encoded. `fps` is the integer rate (29.97 is 30)."""

    codec: str
    width: int
    height: int
    fps: int
    extradata: bytes
    color_range: int = 0
    color_space: int = 2
    color_primaries: int = 2
    color_transfer: int = 2


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What a rig says of a whole session."""

    rig_id: str = ""
    task: str = ""
    game_id: str = ""
    media_uri: str = ""
    heartbeats: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame record; `idr` and `open_gop` are as `UnitCheck` says. Without `unit` the picture lies in a file."""

    offset: int
    key: str
    sequence: int
    frame_index: int
    time_ns: int
    idr: bool
    unit: bytes
    stream: Stream | None
    session: SessionInfo | None
    open_gop: bool = False


@dataclass(frozen=True, slots=True)
class FrameEnd:
    """The END of a session's frames; `frame_count` is None where the rig does not say."""

    offset: int
    key: str
    frame_count: int | None
    media_uri: str = ""


@dataclass(frozen=True, slots=True)
class PadEvent:
    """A pad EVENT. `payload` is the record's value byte for byte; `active` means that it is an action."""

    offset: int
    key: str
    time_ns: int
    payload: bytes
    active: bool


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Every EVENT up to `time_ns` has been published."""

    offset: int
    key: str
    time_ns: int


@dataclass(frozen=True, slots=True)
class PadEnd:
    """The END of a session's pad."""

    offset: int
    key: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that cannot be used, and why, in words that name the field and the offset."""

    topic: Topic
    offset: int
    key: str | None
    reason: RejectReason
    detail: str


FrameItem = Frame | FrameEnd | Rejected
PadItem = PadEvent | Heartbeat | PadEnd | Rejected


@dataclass(frozen=True, slots=True)
class Schema:
    """What all episodes of a root share."""

    codec: str
    width: int
    height: int
    fps: int

    def __str__(self) -> str:
        return f"{self.codec} {self.width}x{self.height} at {self.fps} Hz"


class LetterKind(StrEnum):
    """What a dead letter is about."""

    RECORD = "record"  # a record that cannot be used, copied whole
    SESSION = "session"  # a session, or the rest of one, that cannot become episodes: its range of frame records
    REPLAYED = "replayed"  # that session was published again under another run


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What is written to the dead-letter topic; offsets are of `topic` and inclusive."""

    kind: LetterKind
    topic: Topic
    partition: int
    first_offset: int
    last_offset: int
    reason: str
    detail: str
    key: bytes | None
    value: bytes | None = None
    timestamp: int | None = None  # the record's own, milliseconds of the epoch


@dataclass(frozen=True, slots=True)
class PadState:
    """A session's pad, folded up to some record. Times are None before the first of their kind."""

    event: bytes | None = None  # the EVENT in force, by value
    event_ns: int | None = None  # maximum EVENT time
    heartbeat_ns: int | None = None  # maximum HEARTBEAT time
    ties: tuple[bytes, ...] = ()  # the EVENTs received at event_ns
    ended: bool = False


@dataclass(frozen=True, slots=True)
class FoldMark:
    """A silent session's pads were folded: later frames not after `until_ns` are marked forced."""

    until_ns: int
    frames_position: int
    pads_position: int


@dataclass(frozen=True, slots=True)
class OpenSession:
    """All that is needed to go on with a session at its resume offset.

    The frame fields are as they were just before the frame record at `resume`; the pad fields as they were just
    before the pad record at `pads_resume`. The defaults are those of a session of which nothing was read.
    """

    resume: int = 0  # the session's frame records below it are skipped in silence
    pads_resume: int = 0  # the same for its pad records
    sequence: int = 0  # next expected
    frame_index: int = 0  # one more than the highest received
    time_ns: int | None = None  # latest received
    waiting: bool = True  # for an IDR
    segment_ns: int | None = None  # time of the current segment's first frame
    first_action_ns: int | None = None
    forced_kept_ns: int | None = None  # time of the first frame kept by force
    session_ns: int | None = None  # time of the session's first frame
    stream: Stream | None = None
    session: SessionInfo | None = None
    pad: PadState = PadState()
    fold: FoldMark | None = None
    last_frame: int | None = None  # offsets of the last records seen
    last_pad: int | None = None
    late: int = 0  # late EVENTs below pads_resume that no episode has reported
    dormant: bool = False


@dataclass(frozen=True, slots=True)
class ClosedSession:
    """A session that takes no more records: first offset not seen, per topic."""

    frames: int
    pads: int
    reason: CloseReason


@dataclass(frozen=True, slots=True)
class LastRecord:
    """The last record read of a topic, to notice a topic that was created anew."""

    offset: int
    timestamp: int
    crc32: int


@dataclass(frozen=True, slots=True)
class PartitionState:
    """Where one partition pair stands: every record below `*_next` is accounted."""

    frames_next: int = 0
    pads_next: int = 0
    frames_position: int = 0
    pads_position: int = 0
    open: dict[str, OpenSession] = field(default_factory=dict)
    closed: dict[str, ClosedSession] = field(default_factory=dict)
    last_frame: LastRecord | None = None
    last_pad: LastRecord | None = None


@dataclass(frozen=True, slots=True)
class OpenSpan:
    """Begin a staged mp4."""

    span: int
    stream: Stream


@dataclass(frozen=True, slots=True)
class AppendUnit:
    """Mux one access unit into a span, in decode order. `index` is its display position, `idr` that it is a key."""

    span: int
    index: int
    idr: bool
    unit: bytes


@dataclass(frozen=True, slots=True)
class DropSpan:
    """Throw a staged mp4 away: nothing of it is kept."""

    span: int


@dataclass(frozen=True, slots=True)
class EpisodeDraft:
    """One episode, whole and decided, before it has a number.

    Rows are the span's display positions `first_row ... first_row + len(time_ns) - 1`. The mp4 starts at the
    IDR at display position `first_unit` (the last one at or before `first_row`); packets before it in decode order
    are left out. `pairing[i]` is the index into `events` of the EVENT in force at row i, or -1 before the first.
    """

    span: int
    key: str
    stream: Stream
    session: SessionInfo
    reason: EndReason
    first_unit: int
    first_row: int
    first_frame_index: int  # of the first row, as the rig counts
    time_ns: Sequence[int]  # (rows,) int64
    pairing: Sequence[int]  # (rows,) int64
    forced: int  # rows whose pairing was decided by force
    late: int  # EVENTs that came too late since the session's previous episode
    events: Sequence[bytes]  # EVENT payloads, from the one in force at the first row on
    event_ns: Sequence[int]  # (events,) int64
    session_ns: int  # time of the session's first frame
    first_frame_offset: int  # source offsets of the rows, inclusive
    last_frame_offset: int
    first_pad_offset: int  # of `events`; -1 where there is none or it was folded
    last_pad_offset: int
    media: MediaRange | None = None  # where the pictures are, instead of in a span
    idle_until_ns: int = 0  # frames of the session captured before it are idle; 0 where none is known to be


@dataclass(frozen=True, slots=True)
class SessionRejection:
    """A session, the rest of it or one episode of it that cannot become part of a dataset; offsets are inclusive."""

    key: str
    rig_id: str
    reason: CloseReason
    detail: str
    first_frame_offset: int
    last_frame_offset: int


@dataclass(frozen=True, slots=True)
class Commit:
    """One entry for the log: an episode, else rejections, else progress.

    Rejections go with the first commit of any kind whose state has their sessions closed: each is written once.
    """

    state: PartitionState
    accounted: dict[Fate, int]  # frame records newly accounted, by fate
    episode: EpisodeDraft | None = None
    rejections: tuple[SessionRejection, ...] = ()


Effect = OpenSpan | AppendUnit | DropSpan | Commit
