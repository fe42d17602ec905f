"""Decoding records of both topics: keys, fields, stream blocks, access units, and what is refused why."""

from __future__ import annotations

from typing import Any

import pytest

from padreel.core.decode import Decoder, DecodeRules, parse_key, session_name
from padreel.model import (
    Frame,
    FrameEnd,
    FrameItem,
    Heartbeat,
    PadEnd,
    PadEvent,
    PadItem,
    Record,
    Rejected,
    RejectReason,
    SessionInfo,
    Stream,
    Topic,
)
from padreel_schemas.v1.gamepad_pb2 import GamepadState
from padreel_schemas.v1.video_pb2 import SessionInfo as SessionBlock
from padreel_schemas.v1.video_pb2 import VideoFrame, VideoStream
from tests.h264_units import ANNEX_B_EXTRADATA, AUD, AVCC, IDR, PPS, SEI, SLICE, SPS, annex_b, prefixed

KEY = b"session@1f"
RULES = DecodeRules()


def stream_block(**fields: Any) -> VideoStream:
    values: dict[str, Any] = {
        "codec": "h264",
        "width": 640,
        "height": 360,
        "fps_num": 30000,
        "fps_den": 1001,
        "extradata": AVCC,
        "color_range": 1,
        "color_space": 1,
        "color_primaries": 1,
        "color_transfer": 1,
    }
    return VideoStream(**(values | fields))


def keyframe(**fields: Any) -> VideoFrame:
    values: dict[str, Any] = {
        "sequence": 7,
        "frame_index": 8,
        "monotonic_ns": 9,
        "keyframe": True,
        "access_unit": prefixed(IDR),
        "stream": stream_block(),
        "session": SessionBlock(rig_id="rig", task="race", game_id="racer", heartbeats=True),
    }
    return VideoFrame(**(values | fields))


def session_of(field: str, length: int) -> SessionBlock:
    fields: dict[str, Any] = {field: "x" * length}
    return SessionBlock(**fields)


def record(message: VideoFrame | GamepadState | bytes | None, key: bytes | None = KEY, offset: int = 5) -> Record:
    value = message if isinstance(message, bytes) or message is None else message.SerializeToString()
    return Record(offset, 0, key, value)


def frame(message: VideoFrame | bytes | None, decoder: Decoder | None = None, **kwargs: Any) -> FrameItem:
    (item,) = (decoder or Decoder()).frames([record(message, **kwargs)])
    return item


def pad(message: GamepadState | bytes | None, rules: DecodeRules = RULES, **kwargs: Any) -> PadItem:
    (item,) = Decoder(rules).pads([record(message, **kwargs)])
    return item


def refused(item: FrameItem | PadItem, reason: RejectReason, *words: str) -> None:
    assert isinstance(item, Rejected), item
    assert item.reason is reason
    assert item.offset == 5
    for word in (f"{item.topic} record at offset 5", *words):
        assert word in item.detail


# ---- keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["a@0", "A-b_c.d@0123456789abcdef", "..a@f", "...@1", "x" * 128 + "@1"])
def test_a_key_is_a_session_and_a_run(key: str) -> None:
    assert parse_key(key.encode()) == key
    assert session_name(key) == key[: key.index("@")]


@pytest.mark.parametrize(
    "key",
    [
        None,
        b"",
        b"a",
        b"@1",
        b"a@",
        b"a@1@2",
        b"a@G",
        b"a@F",
        b"a@" + b"1" * 17,
        b"x" * 129 + b"@1",
        b".@1",
        b"..@1",
        b"a/b@1",
        b"../a@1",
        b"a b@1",
        b"a@1\n",
        b"\xff@1",
        "é@1".encode(),
    ],
)
def test_anything_else_is_no_key(key: bytes | None) -> None:
    assert parse_key(key) is None


def test_a_record_without_a_usable_key_is_refused_on_both_topics() -> None:
    refused(frame(keyframe(), key=None), RejectReason.KEY_MISSING, "key is missing")
    refused(frame(keyframe(), key=b""), RejectReason.KEY_MISSING)
    refused(frame(keyframe(), key=b"../../etc"), RejectReason.KEY_INVALID, "b'../../etc'", "<session>@<run>")
    refused(pad(GamepadState(), key=None), RejectReason.KEY_MISSING)
    long = pad(GamepadState(), key=b"k" * 100_000)
    refused(long, RejectReason.KEY_INVALID, "(100000 long)")
    assert isinstance(long, Rejected)
    assert len(long.detail) < 400
    assert long.key is None


# ---- frames ----------------------------------------------------------------------------------------------


def test_a_keyframe_has_all_its_fields() -> None:
    assert frame(keyframe(camera="main")) == Frame(
        offset=5,
        key="session@1f",
        sequence=7,
        frame_index=8,
        time_ns=9,
        idr=True,
        unit=prefixed(IDR),
        stream=Stream("h264", 640, 360, 30, AVCC, 1, 1, 1, 1),
        session=SessionInfo("rig", "race", "racer", "", True),
    )


def test_idr_is_read_from_the_units_and_not_from_the_flag() -> None:
    decoder = Decoder()
    flagged = frame(keyframe(access_unit=prefixed(AUD, SLICE)), decoder)
    plain = frame(VideoFrame(access_unit=prefixed(SEI, IDR)), decoder)

    assert isinstance(flagged, Frame)
    assert not flagged.idr
    assert isinstance(plain, Frame)
    assert plain.idr
    assert (plain.stream, plain.session) == (None, None)


def test_the_framing_is_remembered_per_session() -> None:
    decoder = Decoder()
    later = VideoFrame(access_unit=annex_b(SLICE))
    assert isinstance(frame(keyframe(), decoder), Frame)
    refused(
        frame(later, decoder),
        RejectReason.UNIT_INVALID,
        "access_unit: the unit of 7 bytes ends in the length prefix at byte 5",
    )

    other = keyframe(stream=stream_block(extradata=ANNEX_B_EXTRADATA), access_unit=annex_b(SPS, PPS, IDR))
    assert isinstance(frame(other, decoder, key=b"other@1"), Frame)
    assert isinstance(frame(later, decoder, key=b"other@1"), Frame)
    refused(frame(later, decoder), RejectReason.UNIT_INVALID)


def test_a_session_keeps_its_framing() -> None:
    """A span takes units of one kind: others would vanish in the muxer, or be written as they are."""
    decoder = Decoder()
    first = frame(keyframe(), decoder)
    other = keyframe(stream=stream_block(extradata=ANNEX_B_EXTRADATA), access_unit=annex_b(SLICE))
    refused(
        frame(other, decoder),
        RejectReason.STREAM_INVALID,
        "stream.extradata says start codes, expected length prefixes of 4 bytes as before in this session",
    )
    assert frame(keyframe(), decoder) == first
    assert isinstance(frame(keyframe(stream=stream_block(extradata=AVCC[:-1] + b"\xe4")), decoder), Frame)


def test_a_resumed_session_goes_on_with_what_was_remembered() -> None:
    idr = VideoFrame(access_unit=annex_b(IDR))
    refused(frame(idr), RejectReason.STREAM_MISSING, "a keyframe without a stream block")

    decoder = Decoder()
    decoder.remember("session@1f", Stream("h264", 640, 360, 30, ANNEX_B_EXTRADATA))
    assert isinstance(frame(idr, decoder), Frame)
    refused(frame(VideoFrame(access_unit=prefixed(IDR)), decoder), RejectReason.UNIT_INVALID)


def test_a_refused_keyframe_is_not_remembered() -> None:
    decoder = Decoder()
    bad = keyframe(stream=stream_block(extradata=ANNEX_B_EXTRADATA), access_unit=b"none")
    refused(frame(bad, decoder), RejectReason.UNIT_INVALID)

    assert isinstance(frame(VideoFrame(access_unit=prefixed(SLICE)), decoder), Frame)


@pytest.mark.parametrize("unit", [prefixed(SLICE), annex_b(SLICE)])
def test_units_of_a_session_that_is_not_known_yet_pass_in_either_framing(unit: bytes) -> None:
    assert isinstance(frame(VideoFrame(access_unit=unit)), Frame)


def test_the_end_says_how_many_frames() -> None:
    assert frame(VideoFrame(kind=VideoFrame.END, frame_count=0)) == FrameEnd(5, "session@1f", 0)
    assert frame(VideoFrame(kind=VideoFrame.END)) == FrameEnd(5, "session@1f", None)
    refused(
        frame(VideoFrame(kind=VideoFrame.END, frame_count=2**63)),
        RejectReason.FIELD_INVALID,
        "frame_count is 9223372036854775808",
    )


@pytest.mark.parametrize("field", ["sequence", "frame_index", "monotonic_ns"])
def test_numbers_that_do_not_fit_are_refused(field: str) -> None:
    assert isinstance(frame(keyframe(**{field: 2**63 - 1})), Frame)
    refused(frame(keyframe(**{field: 2**63})), RejectReason.FIELD_INVALID, f"{field} is 9223372036854775808")


def test_a_record_that_is_no_message_is_refused() -> None:
    refused(frame(None), RejectReason.VALUE_MISSING, "value is null")
    refused(frame(b"\xff\xff\xff"), RejectReason.UNPARSABLE, "value is no VideoFrame")
    refused(frame(b""), RejectReason.UNIT_INVALID, "no slice")
    refused(pad(None), RejectReason.VALUE_MISSING)
    refused(pad(b"\x0a"), RejectReason.UNPARSABLE, "value is no GamepadState")


def test_an_oversized_record_is_refused_unread() -> None:
    item = frame(b"\xff" * 101, Decoder(DecodeRules(max_unit_bytes=100)))
    refused(item, RejectReason.OVERSIZED, "101 bytes, expected at most 100")
    refused(pad(b"\xff" * 11, DecodeRules(max_pad_bytes=10)), RejectReason.OVERSIZED, "11 bytes", "at most 10")


def test_an_unknown_kind_is_refused() -> None:
    raw = VideoFrame(access_unit=prefixed(SLICE)).SerializeToString() + b"\x30\x09"  # field 6 = 9
    refused(frame(raw), RejectReason.FIELD_INVALID, "kind is 9", "0 (FRAME) or 1 (END)")
    refused(pad(b"\x30\x09"), RejectReason.FIELD_INVALID, "kind is 9")


def test_another_camera_is_refused() -> None:
    refused(frame(keyframe(camera="wrist")), RejectReason.CAMERA_UNSUPPORTED, "'wrist'", "'main'")


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"codec": ""}, "stream.codec"),
        ({"width": 0}, "stream.width is 0"),
        ({"width": 65_536}, "stream.width is 65536"),
        ({"height": 0}, "stream.height is 0"),
        ({"fps_num": 0}, "stream.fps_num, fps_den is (0, 1001)"),
        ({"fps_num": 1, "fps_den": 3}, "is (1, 3)"),
        ({"fps_num": 4_000_000_000, "fps_den": 0}, "is (4000000000, 0)"),
        ({"extradata": b""}, "stream.extradata is b''"),
        ({"extradata": AVCC[:-1]}, "stream.extradata"),
        ({"extradata": b"\0" * 100_000}, "stream.extradata"),
        ({"color_range": 3}, "stream.color_range is 3"),
        ({"color_space": 256}, "(256, 1, 1)"),
    ],
)
def test_an_unusable_stream_block_is_refused(fields: dict[str, Any], word: str) -> None:
    refused(frame(keyframe(stream=stream_block(**fields))), RejectReason.STREAM_INVALID, word, "expected")


def test_another_codec_is_refused() -> None:
    item = frame(keyframe(stream=stream_block(codec="vp9")))
    refused(item, RejectReason.CODEC_UNSUPPORTED, "stream.codec is 'vp9', expected one of h264")


@pytest.mark.parametrize(("num", "den", "fps"), [(30, 0, 30), (25, 1, 25), (60000, 1001, 60), (24000, 1001, 24)])
def test_the_rate_is_the_nearest_integer(num: int, den: int, fps: int) -> None:
    item = frame(keyframe(stream=stream_block(fps_num=num, fps_den=den)))
    assert isinstance(item, Frame)
    assert item.stream is not None
    assert item.stream.fps == fps


def test_colours_that_were_never_set_are_unspecified() -> None:
    unset = {"color_range": 0, "color_space": 0, "color_primaries": 0, "color_transfer": 0}
    item = frame(keyframe(stream=stream_block(**unset)))
    assert isinstance(item, Frame)
    assert item.stream == Stream("h264", 640, 360, 30, AVCC)

    rgb = frame(keyframe(stream=stream_block(color_space=0)))
    assert isinstance(rgb, Frame)
    assert rgb.stream is not None
    assert (rgb.stream.color_space, rgb.stream.color_primaries) == (0, 1)


@pytest.mark.parametrize("field", ["rig_id", "task", "game_id", "media_uri"])
def test_a_session_block_stays_small(field: str) -> None:
    assert isinstance(frame(keyframe(session=session_of(field, 4096))), Frame)
    refused(frame(keyframe(session=session_of(field, 4097))), RejectReason.FIELD_INVALID, f"session.{field}")


# ---- pads ------------------------------------------------------------------------------------------------


def test_an_event_keeps_its_bytes() -> None:
    payload = GamepadState(monotonic_ns=3, axes=[0.5], pressed_keys=[4]).SerializeToString() + b"\xa0\x06\x01"

    assert pad(payload) == PadEvent(5, "session@1f", 3, payload, True)


@pytest.mark.parametrize(
    ("state", "active"),
    [
        (GamepadState(), False),
        (GamepadState(axes=[0.05, -0.09]), False),
        (GamepadState(axes=[0, 0.1]), True),
        (GamepadState(axes=[0, 0, 0, -0.5]), True),
        (GamepadState(pressed_buttons=[0]), True),
        (GamepadState(pressed_buttons=[99]), True),
        (GamepadState(pressed_keys=[4]), True),
    ],
)
def test_an_action_is_a_button_a_key_or_an_axis_out_of_the_deadzone(state: GamepadState, active: bool) -> None:
    item = pad(state)
    assert isinstance(item, PadEvent)
    assert item.active is active


def test_the_deadzone_is_a_rule() -> None:
    item = pad(GamepadState(axes=[0.5]), DecodeRules(idle_deadzone=0.75))
    assert isinstance(item, PadEvent)
    assert not item.active


def test_heartbeats_and_the_end_carry_no_state() -> None:
    heartbeat = GamepadState(kind=GamepadState.HEARTBEAT, monotonic_ns=4, pressed_buttons=[1])
    assert pad(heartbeat) == Heartbeat(5, "session@1f", 4)
    assert pad(GamepadState(kind=GamepadState.END, monotonic_ns=2**64 - 1)) == PadEnd(5, "session@1f")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_axes_that_are_no_numbers_are_refused(value: float) -> None:
    refused(pad(GamepadState(axes=[0, value])), RejectReason.FIELD_INVALID, "axes is", "finite")


@pytest.mark.parametrize("kind", [GamepadState.EVENT, GamepadState.HEARTBEAT])
def test_a_pad_time_that_does_not_fit_is_refused(kind: GamepadState.Kind) -> None:
    refused(pad(GamepadState(kind=kind, monotonic_ns=2**63)), RejectReason.FIELD_INVALID, "monotonic_ns is")


def test_a_batch_keeps_its_order() -> None:
    records = [
        record(keyframe(), offset=10),
        record(b"\xff", offset=11),
        record(VideoFrame(access_unit=prefixed(SLICE)), offset=13),
        record(VideoFrame(kind=VideoFrame.END), offset=14),
    ]

    items = Decoder().frames(records)

    assert [type(item) for item in items] == [Frame, Rejected, Frame, FrameEnd]
    assert [item.offset for item in items] == [10, 11, 13, 14]
    rejected = items[1]
    assert isinstance(rejected, Rejected)
    assert (rejected.topic, rejected.key) == (Topic.FRAMES, "session@1f")
