"""From Kafka records to values: keys, messages, fields, access units. Pure; one item for every record.

A record that cannot be used becomes a `Rejected` that names the field and the offset; nothing here raises for bytes
that came from outside.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final

from google.protobuf.message import DecodeError

from padreel.core.codecs import CODECS, Framing, check_unit, framing_of
from padreel.model import (
    Frame,
    FrameEnd,
    FrameItem,
    Heartbeat,
    PadEnd,
    PadEvent,
    PadItem,
    RawRecord,
    Rejected,
    RejectReason,
    SessionInfo,
    Stream,
    Topic,
)
from padreel_schemas.v1 import gamepad_pb2, video_pb2

CAMERAS: Final = ("", "main")
MAX_SIDE: Final = 65_535  # pixels; an mp4 sample entry has 16 bits for each
MAX_FPS: Final = 1_000
# Whatever a session block says is carried by every commit, so it has to stay small.
MAX_TEXT: Final = 4_096
MAX_EXTRADATA_BYTES: Final = 65_536

_KEY: Final = re.compile(rb"(?!\.{1,2}@)[A-Za-z0-9._-]{1,128}@[0-9a-f]{1,16}")
_REMEMBERED_KEYS: Final = 65_536
_UNSPECIFIED: Final = 2  # colour code point of ITU-T H.273

# Looked up once: a message's class finds its constants and its parser anew each time, and each record asks for some.
_parse_frame: Final = video_pb2.VideoFrame.FromString
_parse_pad: Final = gamepad_pb2.GamepadState.FromString
_FRAME: Final = video_pb2.VideoFrame.FRAME
_EVENT: Final = gamepad_pb2.GamepadState.EVENT
_HEARTBEAT: Final = gamepad_pb2.GamepadState.HEARTBEAT
_PAD_END: Final = gamepad_pb2.GamepadState.END


@dataclass(frozen=True, slots=True)
class DecodeRules:
    """Limits on records, in bytes, and from which distance to zero an axis counts as an action."""

    idle_deadzone: float = 0.1
    max_unit_bytes: int = 64 * 1024 * 1024
    max_pad_bytes: int = 65_536


@dataclass(frozen=True, slots=True)
class _Fault:
    reason: RejectReason
    detail: str


def parse_key(key: bytes | None) -> str | None:
    """The text of a record key `<session>@<run>`, or None where it is missing or not of that form.

    `session` is 1-128 of `A-Za-z0-9._-` and not `.` or `..`; `run` is 1-16 lowercase hexadecimal digits.
    """
    if key is None or _KEY.fullmatch(key) is None:
        return None
    return key.decode("ascii")


def session_name(key: str) -> str:
    """The session's name in a key `<session>@<run>`."""
    return key.partition("@")[0]


def is_active(state: gamepad_pb2.GamepadState, axes: Sequence[float], idle_deadzone: float) -> bool:
    """Whether a snapshot is an action: a button or key is down, or an axis at least `idle_deadzone` from zero.

    `axes` are the snapshot's, all finite.
    """
    if state.pressed_buttons or state.pressed_keys:
        return True
    return bool(axes) and (max(axes) >= idle_deadzone or min(axes) <= -idle_deadzone)


class Decoder:
    """Decodes batches of records of both topics.

    It remembers how each session's access units are framed, since only keyframes say so; after a restart
    `remember` brings that back.
    """

    def __init__(self, rules: DecodeRules | None = None) -> None:
        self._rules = rules or DecodeRules()
        self._keys: dict[bytes, str] = {}
        self._framings: dict[str, Framing] = {}  # the most recently described session last

    def remember(self, key: str, stream: Stream) -> None:
        """Take `stream` as what the session's last keyframe said."""
        framing = framing_of(stream.codec, stream.extradata)
        if framing is not None:
            self._remember(key, framing)

    def frames(self, records: Iterable[RawRecord]) -> list[FrameItem]:
        """Decode records of the frame topic: one item per record, in the same order."""
        return [self._frame(record) for record in records]

    def pads(self, records: Iterable[RawRecord]) -> list[PadItem]:
        """Decode records of the pad topic: one item per record, in the same order."""
        return [self._pad(record) for record in records]

    def _frame(self, record: RawRecord) -> FrameItem:
        key = self._key(record.key)
        value = record.value
        if key is None or value is None or len(value) > self._rules.max_unit_bytes:
            return self._unreadable(Topic.FRAMES, record, key, self._rules.max_unit_bytes)
        try:
            message = _parse_frame(value)
        except DecodeError as error:
            return _unparsable(Topic.FRAMES, record, key, "VideoFrame", error)
        item: Frame | FrameEnd | _Fault
        if message.kind == _FRAME:
            item = self._picture(record.offset, key, message)
        else:
            item = _frame_end(record.offset, key, message)
        if isinstance(item, _Fault):
            return _rejected(Topic.FRAMES, record, key, item)
        return item

    def _picture(self, offset: int, key: str, message: video_pb2.VideoFrame) -> Frame | _Fault:
        sequence, frame_index, time_ns = message.sequence, message.frame_index, message.monotonic_ns
        if (sequence | frame_index | time_ns) >> 63:
            return _too_large({"sequence": sequence, "frame_index": frame_index, "monotonic_ns": time_ns})
        if message.camera not in CAMERAS:
            return _Fault(RejectReason.CAMERA_UNSUPPORTED, f"camera is {_short(message.camera)}, expected 'main'")
        unit = message.access_unit  # a copy each time that it is asked for
        if not unit and message.session.media_uri:
            return _by_reference(offset, key, message)
        stream: Stream | None = None
        session: SessionInfo | None = None
        before = self._framings.get(key)
        framing = before
        if message.HasField("stream"):
            parsed = _stream(message.stream)
            if isinstance(parsed, _Fault):
                return parsed
            stream, framing = parsed
        if message.HasField("session"):
            info = _session(message.session)
            if isinstance(info, _Fault):
                return info
            session = info
        check = check_unit(unit, framing)
        if check.fault is not None:
            return _Fault(RejectReason.UNIT_INVALID, f"access_unit: {check.fault}")
        is_key = check.idr or check.open_gop
        if framing is not before and before is not None and framing is not None:
            fault = _mixed(before, framing, is_key)
            if fault is not None:
                return fault
        if is_key and framing is None:
            return _Fault(
                RejectReason.STREAM_MISSING,
                "a keyframe without a stream block in a session that has sent none yet; rigs send it with every one",
            )
        if stream is not None and framing is not None:
            self._remember(key, framing)
        return Frame(
            offset, key, sequence, frame_index, time_ns, check.idr, unit, stream, session, open_gop=check.open_gop
        )

    def _pad(self, record: RawRecord) -> PadItem:
        key = self._key(record.key)
        value = record.value
        if key is None or value is None or len(value) > self._rules.max_pad_bytes:
            return self._unreadable(Topic.PADS, record, key, self._rules.max_pad_bytes)
        try:
            state = _parse_pad(value)
        except DecodeError as error:
            return _unparsable(Topic.PADS, record, key, "GamepadState", error)
        kind = state.kind
        if kind == _PAD_END:
            return PadEnd(record.offset, key)
        time_ns = state.monotonic_ns
        if time_ns >> 63:
            return _rejected(Topic.PADS, record, key, _too_large({"monotonic_ns": time_ns}))
        if kind == _HEARTBEAT:
            return Heartbeat(record.offset, key, time_ns)
        if kind != _EVENT:
            return _rejected(Topic.PADS, record, key, _unknown_kind(kind, "0 (EVENT), 1 (HEARTBEAT) or 2 (END)"))
        axes = state.axes[:]
        if not isfinite(sum(axes)):  # of 32-bit floats: no sum of finite ones overflows
            fault = _Fault(RejectReason.FIELD_INVALID, f"axes is {axes[:8]}, expected finite numbers")
            return _rejected(Topic.PADS, record, key, fault)
        return PadEvent(record.offset, key, time_ns, value, is_active(state, axes, self._rules.idle_deadzone))

    def _key(self, key: bytes | None) -> str | None:
        if key is None:
            return None
        text = self._keys.get(key)
        if text is None:
            text = parse_key(key)
            if text is not None:
                if len(self._keys) >= _REMEMBERED_KEYS:
                    self._keys.clear()  # a cache only: it fills again
                self._keys[key] = text
        return text

    def _remember(self, key: str, framing: Framing) -> None:
        framings = self._framings
        framings.pop(key, None)
        framings[key] = framing
        if len(framings) > _REMEMBERED_KEYS:
            del framings[next(iter(framings))]

    @staticmethod
    def _unreadable(topic: Topic, record: RawRecord, key: str | None, max_bytes: int) -> Rejected:
        if not record.key:
            fault = _Fault(RejectReason.KEY_MISSING, "key is missing, expected <session>@<run>")
        elif key is None:
            fault = _Fault(
                RejectReason.KEY_INVALID,
                f"key is {_short(record.key)}, expected <session>@<run>: 1-128 of A-Za-z0-9._-, then 1-16 of 0-9a-f",
            )
        elif record.value is None:
            fault = _Fault(RejectReason.VALUE_MISSING, "value is null, expected a message")
        else:
            fault = _Fault(RejectReason.OVERSIZED, f"value has {len(record.value)} bytes, expected at most {max_bytes}")
        return _rejected(topic, record, key, fault)


def _by_reference(offset: int, key: str, message: video_pb2.VideoFrame) -> Frame | _Fault:
    """A row whose picture lies in a file: in display order, so that its place is its sequence."""
    info = _session(message.session)
    if isinstance(info, _Fault):
        return info
    if message.sequence != message.frame_index:
        return _Fault(
            RejectReason.FIELD_INVALID,
            f"sequence is {message.sequence} and frame_index {message.frame_index}, expected the same number by "
            "reference: rows are published in display order",
        )
    return Frame(offset, key, message.sequence, message.frame_index, message.monotonic_ns, False, b"", None, info)


def _frame_end(offset: int, key: str, message: video_pb2.VideoFrame) -> FrameEnd | _Fault:
    if message.kind != video_pb2.VideoFrame.END:
        return _unknown_kind(message.kind, "0 (FRAME) or 1 (END)")
    uri = message.session.media_uri
    if len(uri) > MAX_TEXT:
        return _Fault(RejectReason.FIELD_INVALID, f"session.media_uri has more than {MAX_TEXT} characters")
    if not message.HasField("frame_count"):
        return FrameEnd(offset, key, None, uri)
    if message.frame_count >> 63:
        return _too_large({"frame_count": message.frame_count})
    return FrameEnd(offset, key, message.frame_count, uri)


def _mixed(before: Framing, framing: Framing, is_key: bool) -> _Fault | None:
    """What is wrong with a change of how units are encoded: a span that is open takes units of one kind only.

    At a key another codec is for the session to judge.
    """
    if before.codec != framing.codec:
        if is_key:
            return None
        wrong = f"stream.codec is {framing.codec} at a picture that is no key, expected {before.codec}"
    elif before != framing:
        wrong = f"stream.extradata says {framing}, expected {before}"
    else:
        return None
    return _Fault(RejectReason.STREAM_INVALID, f"{wrong} as before in this session")


def _stream(message: video_pb2.VideoStream) -> tuple[Stream, Framing] | _Fault:
    """A stream block and the framing of its access units.

    Colour code points that are all 0 were never set (0 is reserved for two of them), so they count as unspecified.
    """
    if not message.codec:
        return _stream_fault("codec", message.codec, "one of " + ", ".join(CODECS))
    if message.codec not in CODECS:
        return _Fault(
            RejectReason.CODEC_UNSUPPORTED,
            f"stream.codec is {_short(message.codec)}, expected one of {', '.join(CODECS)}",
        )
    for name, side in (("width", message.width), ("height", message.height)):
        if not 1 <= side <= MAX_SIDE:
            return _stream_fault(name, side, f"1 to {MAX_SIDE}")
    fps = round(message.fps_num / (message.fps_den or 1))
    if not 1 <= fps <= MAX_FPS:
        return _stream_fault("fps_num, fps_den", (message.fps_num, message.fps_den), f"a rate from 1 to {MAX_FPS}")
    extradata = message.extradata
    framing = framing_of(message.codec, extradata) if len(extradata) <= MAX_EXTRADATA_BYTES else None
    if framing is None:
        return _stream_fault("extradata", extradata[:16], CODECS[message.codec].extradata)
    if message.color_range > 2:
        return _stream_fault("color_range", message.color_range, "0, 1 or 2")
    colors = (message.color_space, message.color_primaries, message.color_transfer)
    if max(colors) > 255:
        return _stream_fault("color_space/primaries/transfer", colors, "code points from 0 to 255")
    if not any(colors):
        colors = (_UNSPECIFIED, _UNSPECIFIED, _UNSPECIFIED)
    stream = Stream(message.codec, message.width, message.height, fps, extradata, message.color_range, *colors)
    return stream, framing


def stream_of(message: video_pb2.VideoStream) -> Stream | str:
    """A stream block's value, or in words what is wrong with it."""
    parsed = _stream(message)
    return parsed.detail if isinstance(parsed, _Fault) else parsed[0]


def _session(message: video_pb2.SessionInfo) -> SessionInfo | _Fault:
    info = SessionInfo(message.rig_id, message.task, message.game_id, message.media_uri, message.heartbeats)
    for name, text in (("rig_id", info.rig_id), ("task", info.task), ("game_id", info.game_id)):
        if len(text) > MAX_TEXT:
            return _Fault(RejectReason.FIELD_INVALID, f"session.{name} has {len(text)} characters, at most {MAX_TEXT}")
    if len(info.media_uri) > MAX_TEXT:
        return _Fault(RejectReason.FIELD_INVALID, f"session.media_uri has more than {MAX_TEXT} characters")
    return info


def _stream_fault(name: str, found: object, expected: str) -> _Fault:
    return _Fault(RejectReason.STREAM_INVALID, f"stream.{name} is {found!r}, expected {expected}")


def _unknown_kind(kind: int, expected: str) -> _Fault:
    return _Fault(RejectReason.FIELD_INVALID, f"kind is {kind}, expected {expected}")


def _too_large(fields: dict[str, int]) -> _Fault:
    name, number = next((name, number) for name, number in fields.items() if number >> 63)
    return _Fault(RejectReason.FIELD_INVALID, f"{name} is {number}, expected less than 2**63")


def _short(value: str | bytes) -> str:
    text = repr(value[:64])
    return text if len(value) <= 64 else f"{text}... ({len(value)} long)"


def _unparsable(topic: Topic, record: RawRecord, key: str, message: str, error: DecodeError) -> Rejected:
    return _rejected(topic, record, key, _Fault(RejectReason.UNPARSABLE, f"value is no {message}: {error}"))


def _rejected(topic: Topic, record: RawRecord, key: str | None, fault: _Fault) -> Rejected:
    detail = f"{topic} record at offset {record.offset}: {fault.detail}"
    return Rejected(topic, record.offset, key, fault.reason, detail)
