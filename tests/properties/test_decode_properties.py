"""Whatever the bytes, the decoder gives one item per record; and what encoders make is never refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import av
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from padreel.core.av1 import OBUS, read_obus
from padreel.core.codecs import CODECS, Framing, check_unit, framing_of
from padreel.core.decode import Decoder
from padreel.core.h264 import check_h264, form_of_h264
from padreel.core.hevc import length_prefixed
from padreel.core.nal import ANNEX_B, UnitCheck
from padreel.model import Frame, FrameEnd, Heartbeat, PadEnd, PadEvent, Record, Rejected, Stream
from padreel_schemas.keyframes import key_test
from padreel_schemas.v1.gamepad_pb2 import GamepadState
from padreel_schemas.v1.video_pb2 import SessionInfo, VideoFrame, VideoStream
from tests.video_source import Clip, moving_pictures, write_clip

KEY = b"session@1"


# Length prefixes (and of AV1 an av1C) come out of an mp4, start codes (and delimiters) out of the bare streams.
SOURCES = [("h264", "mp4"), ("h264", "h264"), ("hevc", "mp4"), ("hevc", "hevc"), ("av1", "mp4"), ("av1", "obu")]
_CLIPS = {
    "h264": Clip(gop=12, slices=2),
    "hevc": Clip("libx265", gop=12, slices=2),
    "av1": Clip("libsvtav1", gop=12),
}


@cache
def encoded(codec: str, container: str, b_frames: int = 3) -> tuple[bytes, tuple[tuple[bytes, bool], ...]]:
    """Extradata and packets (bytes, key flag) of a clip with moving noise."""
    file = io.BytesIO()
    write_clip(file, moving_pictures(40, 128, 160), replace(_CLIPS[codec], b_frames=b_frames), container)
    file.seek(0)
    with av.open(file, "r") as source:
        extradata = source.streams.video[0].codec_context.extradata
        packets = tuple((bytes(packet), packet.is_keyframe) for packet in source.demux(video=0) if packet.size)
    assert extradata is not None
    assert len(packets) == 40
    return extradata, packets


def message(codec: str, extradata: bytes, unit: bytes) -> VideoFrame:
    stream = VideoStream(codec=codec, width=128, height=160, fps_num=30, fps_den=1, extradata=extradata)
    return VideoFrame(sequence=1, frame_index=1, monotonic_ns=1, access_unit=unit, stream=stream)


@pytest.mark.parametrize("b_frames", [0, 3])
@pytest.mark.parametrize(("codec", "container"), SOURCES)
def test_what_encoders_make_passes(codec: str, container: str, b_frames: int) -> None:
    extradata, packets = encoded(codec, container, b_frames)
    framing = framing_of(codec, extradata)

    assert framing is not None
    assert framing.form == (OBUS if codec == "av1" else 4 if container == "mp4" else ANNEX_B)
    is_key = key_test(VideoStream(codec=codec, extradata=extradata))
    for unit, key in packets:
        check = check_unit(unit, framing)
        assert check.fault is None
        assert (check.idr, check.open_gop) == (key, False)
        assert is_key(unit) == key
        assert check_unit(unit, None) == check  # and with codec and framing unknown
        others = [other for other in CODECS if other != codec]
        assert all(CODECS[other].check(unit, form).fault for other in others for form in CODECS[other].forms)
    assert sum(key for _, key in packets) == 4


def test_what_recorders_make_passes(recordings: Path) -> None:
    sessions = sorted((recordings / "sessions").iterdir())
    assert sessions
    for session in sessions:
        with av.open(str(session / "capture.mp4")) as container:
            extradata = container.streams.video[0].codec_context.extradata
            assert extradata is not None
            form = form_of_h264(extradata)
            assert form == 4
            checks = [check_h264(bytes(packet), form) for packet in container.demux(video=0) if packet.size]
        assert [check.fault for check in checks if check.fault is not None] == []
        assert checks[0].idr


framings = st.one_of(
    st.none(),
    st.builds(Framing, st.sampled_from(["h264", "hevc"]), st.sampled_from([ANNEX_B, 1, 2, 4])),
    st.just(Framing("av1", OBUS)),
)
_PICTURE: dict[str, Callable[[int], bool]] = {  # what the header of one may be
    "h264": lambda byte: byte & 31 in (1, 5),
    "hevc": lambda byte: byte >> 1 < 22,
    "av1": lambda byte: byte >> 3 in (3, 6),
}


@given(unit=st.binary(max_size=64), framing=framings)
@example(unit=b"\0\0\x01", framing=Framing("h264", ANNEX_B))
@example(unit=b"\0\0\0", framing=Framing("hevc", 4))
@example(unit=b"\x32\x80", framing=Framing("av1", OBUS))
def test_no_bytes_upset_the_check(unit: bytes, framing: Framing | None) -> None:
    check = check_unit(unit, framing)

    assert check.fault is None or not (check.idr or check.open_gop)
    if check.fault is None and framing is not None:
        assert any(map(_PICTURE[framing.codec], unit))


def mangled(valid: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Valid bytes with some of them replaced, cut out or put in twice."""

    def edit(original: bytes, edits: list[tuple[int, int, int]]) -> bytes:
        value = bytearray(original)
        for kind, place, byte in edits:
            at = place % (len(value) + 1)
            if kind == 0:
                value[at : at + 1] = bytes([byte])
            elif kind == 1:
                del value[at : at + byte]
            else:
                value[at:at] = value[max(0, at - byte) : at]
        return bytes(value)

    edits = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 100_000), st.integers(0, 255)), max_size=4)
    return st.builds(edit, valid, edits)


@st.composite
def extradatas(draw: st.DrawFn) -> bytes:
    """Any bytes, some of them after what parameter sets begin with."""
    beginnings = [b"", b"\x01", b"\x81\0\0\0", b"\0\0\1\x40\1", b"\x0a", *(encoded(*one)[0] for one in SOURCES)]
    return draw(mangled(st.sampled_from(beginnings))) + draw(st.binary(max_size=32))


@given(extradata=extradatas(), codec=st.sampled_from([*CODECS]))
def test_no_bytes_upset_the_reading_of_extradata(extradata: bytes, codec: str) -> None:
    framing = framing_of(codec, extradata)

    assert framing is None or framing.form in ((OBUS,) if codec == "av1" else (ANNEX_B, 1, 2, 4))
    if framing is not None and codec == "hevc":
        stored, _ = length_prefixed(Stream(codec, 1, 1, 1, extradata))
        assert framing_of(codec, stored.extradata) == Framing(codec, framing.form or 4)


@given(data=st.data(), source=st.sampled_from(SOURCES))
def test_a_unit_cut_short_passes_only_where_a_part_ends(data: st.DataObject, source: tuple[str, str]) -> None:
    codec, container = source
    extradata, packets = encoded(codec, container)
    unit, _ = data.draw(st.sampled_from(packets))
    size = data.draw(st.integers(0, len(unit) - 1))

    check = check_unit(unit[:size], framing_of(codec, extradata))

    if codec == "av1":
        whole = read_obus(unit)
        assert not isinstance(whole, str)
        assert check.fault is not None or size in {obu.end for obu in whole}
    elif container == "mp4":
        ends, position = set(), 0
        while position < len(unit):
            position += 4 + int.from_bytes(unit[position : position + 4], "big")
            ends.add(position)
        assert check.fault is not None or size in ends
    else:
        kinds = (0x01, 0x21, 0x41, 0x61, 0x25, 0x45, 0x65) if codec == "h264" else (0x00, 0x02, 0x26, 0x28)
        slices = [unit.find(b"\0\0\x01" + bytes([kind])) for kind in kinds]
        assert check.fault is not None or any(0 <= place < size - 3 for place in slices)


@st.composite
def frame_values(draw: st.DrawFn) -> bytes:
    codec, container = draw(st.sampled_from(SOURCES))
    extradata, packets = encoded(codec, container)
    unit = draw(mangled(st.sampled_from([unit for unit, _ in packets])))
    frame = message(codec, extradata, unit)
    if draw(st.booleans()):
        frame.ClearField("stream")
    if draw(st.booleans()):
        frame.session.CopyFrom(SessionInfo(rig_id="rig", task="t", game_id="g"))
    frame.kind = draw(st.sampled_from([VideoFrame.FRAME, VideoFrame.FRAME, VideoFrame.END]))
    return frame.SerializeToString()


pad_values = st.builds(
    lambda time_ns, axes, buttons, kind: GamepadState(
        monotonic_ns=time_ns, axes=axes, pressed_buttons=buttons, kind=kind
    ).SerializeToString(),
    st.integers(0, 2**64 - 1),
    st.lists(st.floats(width=32), max_size=8),
    st.lists(st.integers(0, 2**32 - 1), max_size=4),
    st.sampled_from([GamepadState.EVENT, GamepadState.HEARTBEAT, GamepadState.END]),
)
keys = st.one_of(st.just(KEY), st.just(b"other@2"), st.none(), st.binary(max_size=20), mangled(st.just(KEY)))


def records_of(values: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[Record]]:
    value = st.one_of(values, mangled(values), st.binary(max_size=40), st.none())
    pairs = st.lists(st.tuples(keys, value), max_size=8)
    return pairs.map(lambda drawn: [Record(offset, 0, key, value) for offset, (key, value) in enumerate(drawn)])


@given(records=records_of(frame_values()))
def test_hostile_frame_records_never_raise(records: list[Record]) -> None:
    items = Decoder().frames(records)

    assert [item.offset for item in items] == [record.offset for record in records]
    for item in items:
        assert isinstance(item, Frame | FrameEnd | Rejected)
        if isinstance(item, Frame):
            known = framing_of(item.stream.codec, item.stream.extradata) if item.stream is not None else None
            if known is not None:
                assert check_unit(item.unit, known) == UnitCheck(item.idr, open_gop=item.open_gop)
            assert max(item.sequence, item.frame_index, item.time_ns) < 2**63


@given(records=records_of(pad_values))
def test_hostile_pad_records_never_raise(records: list[Record]) -> None:
    items = Decoder().pads(records)

    assert [item.offset for item in items] == [record.offset for record in records]
    for item, record in zip(items, records, strict=True):
        assert isinstance(item, PadEvent | Heartbeat | PadEnd | Rejected)
        if isinstance(item, PadEvent):
            assert item.payload == record.value


@pytest.mark.parametrize("decode", [Decoder.frames, Decoder.pads])
def test_a_batch_is_decoded_as_its_records_one_by_one(decode: Callable[[Decoder, list[Record]], list[object]]) -> None:
    extradata, packets = encoded("hevc", "mp4")
    frames = [message("hevc", extradata, unit).SerializeToString() for unit, _ in packets]
    pads = [GamepadState(monotonic_ns=time_ns).SerializeToString() for time_ns in range(20)]
    records = [Record(offset, 0, KEY, value) for offset, value in enumerate(frames + pads)]
    whole, single = Decoder(), Decoder()

    assert decode(whole, records) == [item for record in records for item in decode(single, [record])]
