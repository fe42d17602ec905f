"""Whatever the bytes, the decoder gives one item per record; and what encoders make is never refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from padreel.core.decode import Decoder
from padreel.core.nal import ANNEX_B, UnitCheck, check_h264, unit_form
from padreel.model import Frame, FrameEnd, Heartbeat, PadEnd, PadEvent, Record, Rejected
from padreel_schemas.v1.gamepad_pb2 import GamepadState
from padreel_schemas.v1.video_pb2 import SessionInfo, VideoFrame, VideoStream

KEY = b"session@1"


@cache
def encoded(container: str, b_frames: int = 3) -> tuple[bytes, tuple[tuple[bytes, bool], ...]]:
    """Extradata and packets (bytes, key flag) of a clip with moving noise: avcC from mp4, Annex B from plain h264."""
    file = io.BytesIO()
    noise = np.random.default_rng(7).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    with av.open(file, "w", format=container) as output:
        options = {"bf": str(b_frames), "g": "12", "x264-params": "scenecut=0:slices=2"}
        stream = output.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for number in range(40):
            picture = av.VideoFrame.from_ndarray(np.roll(noise, number * 3, axis=1), format="rgb24")
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, "r") as source:
        extradata = source.streams.video[0].codec_context.extradata
        packets = tuple((bytes(packet), packet.is_keyframe) for packet in source.demux(video=0) if packet.size)
    assert extradata is not None
    assert len(packets) == 40
    return extradata, packets


def message(extradata: bytes, unit: bytes) -> VideoFrame:
    stream = VideoStream(codec="h264", width=128, height=96, fps_num=30, fps_den=1, extradata=extradata)
    return VideoFrame(sequence=1, frame_index=1, monotonic_ns=1, access_unit=unit, stream=stream)


@pytest.mark.parametrize("b_frames", [0, 3])
@pytest.mark.parametrize("container", ["mp4", "h264"])
def test_what_x264_makes_passes(container: str, b_frames: int) -> None:
    extradata, packets = encoded(container, b_frames)
    form = unit_form(extradata)

    assert form == (4 if container == "mp4" else ANNEX_B)
    for unit, key in packets:
        check = check_h264(unit, form)
        assert check.fault is None
        assert check.idr == key
        assert check_h264(unit, None) == check  # and with the framing unknown
    assert sum(key for _, key in packets) == 4


def test_what_recorders_make_passes(recordings: Path) -> None:
    sessions = sorted((recordings / "sessions").iterdir())
    assert sessions
    for session in sessions:
        with av.open(str(session / "capture.mp4")) as container:
            extradata = container.streams.video[0].codec_context.extradata
            assert extradata is not None
            form = unit_form(extradata)
            assert form == 4
            checks = [check_h264(bytes(packet), form) for packet in container.demux(video=0) if packet.size]
        assert [check.fault for check in checks if check.fault is not None] == []
        assert checks[0].idr


@given(unit=st.binary(max_size=64), form=st.sampled_from([None, ANNEX_B, 1, 2, 4]))
@example(unit=b"\0\0\x01", form=ANNEX_B)
@example(unit=b"\0\0\0", form=4)
def test_no_bytes_upset_the_check(unit: bytes, form: int | None) -> None:
    check = check_h264(unit, form)

    assert check.fault is None or not check.idr
    if check.fault is None:
        assert any(byte & 31 in (1, 5) for byte in unit)


@given(extradata=st.one_of(st.binary(max_size=32), st.binary(max_size=32).map(lambda rest: b"\x01" + rest)))
def test_no_bytes_upset_the_reading_of_extradata(extradata: bytes) -> None:
    assert unit_form(extradata) in (None, ANNEX_B, 1, 2, 4)


@given(data=st.data(), container=st.sampled_from(["mp4", "h264"]))
def test_a_unit_cut_short_passes_only_where_a_nal_ends(data: st.DataObject, container: str) -> None:
    extradata, packets = encoded(container)
    unit, _ = data.draw(st.sampled_from(packets))
    size = data.draw(st.integers(0, len(unit) - 1))

    check = check_h264(unit[:size], unit_form(extradata))

    if container == "mp4":
        ends, position = set(), 0
        while position < len(unit):
            position += 4 + int.from_bytes(unit[position : position + 4], "big")
            ends.add(position)
        assert check.fault is not None or size in ends
    else:
        slices = [unit.find(b"\0\0\x01" + bytes([kind])) for kind in (0x01, 0x21, 0x41, 0x61, 0x25, 0x45, 0x65)]
        assert check.fault is not None or any(0 <= place < size - 3 for place in slices)


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
def frame_values(draw: st.DrawFn) -> bytes:
    extradata, packets = encoded(draw(st.sampled_from(["mp4", "h264"])))
    unit = draw(mangled(st.sampled_from([unit for unit, _ in packets])))
    frame = message(extradata, unit)
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
            forms = [unit_form(item.stream.extradata)] if item.stream is not None else [4, ANNEX_B]
            assert any(check_h264(item.unit, form) == UnitCheck(item.idr) for form in forms)
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
    extradata, packets = encoded("mp4")
    frames = [message(extradata, unit).SerializeToString() for unit, _ in packets]
    pads = [GamepadState(monotonic_ns=time_ns).SerializeToString() for time_ns in range(20)]
    records = [Record(offset, 0, KEY, value) for offset, value in enumerate(frames + pads)]
    whole, single = Decoder(), Decoder()

    assert decode(whole, records) == [item for record in records for item in decode(single, [record])]
