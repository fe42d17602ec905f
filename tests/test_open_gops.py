"""What a codec that is not H.264 changes in what is decoded and published again: open GOPs, and another codec."""

from __future__ import annotations

from padreel.core.decode import Decoder
from padreel.core.replay import FrameReplay
from padreel.model import Frame, Record, Rejected
from padreel_schemas.v1.video_pb2 import VideoFrame, VideoStream
from tests import h264_units
from tests.h264_units import prefixed
from tests.hevc_units import CRA, HVCC, IDR, RASL, TRAIL

KEY = b"one@1"
HEVC = VideoStream(codec="hevc", width=64, height=48, fps_num=30, extradata=HVCC)
H264 = VideoStream(codec="h264", width=64, height=48, fps_num=30, extradata=h264_units.AVCC)


def record(sequence: int, index: int, nal: bytes, stream: VideoStream | None = None) -> Record:
    frame = VideoFrame(sequence=sequence, frame_index=index, monotonic_ns=index, access_unit=prefixed(nal))
    if stream is not None:
        frame.stream.CopyFrom(stream)
    return Record(sequence, 0, KEY, frame.SerializeToString())


def test_a_session_is_published_again_from_an_open_gop_on_without_its_leading_pictures_and_without_a_gap() -> None:
    replay = FrameReplay([(0, 1)])
    records = [
        record(0, 0, IDR, HEVC),
        record(1, 1, TRAIL),
        record(2, 4, CRA, HEVC),
        record(3, 2, RASL),
        record(4, 3, RASL),
        record(5, 5, TRAIL),
        record(7, 7, TRAIL),  # the one before it was lost
    ]
    published = [VideoFrame.FromString(value) for one in records if (value := replay.take(one)) is not None]
    assert [(one.sequence, one.frame_index) for one in published] == [(0, 0), (1, 1), (3, 3)]
    found = replay.found
    assert (found.in_episodes, found.before_idr, found.frames) == (2, 2, 3)


def test_another_codec_at_a_key_is_for_the_session_to_judge_and_elsewhere_refused() -> None:
    decoder = Decoder()
    first, wrong, key = decoder.frames(
        [record(0, 0, IDR, HEVC), record(1, 1, h264_units.SLICE, H264), record(2, 2, h264_units.IDR, H264)]
    )
    assert isinstance(first, Frame)
    assert isinstance(wrong, Rejected)
    assert "stream.codec is h264 at a picture that is no key, expected hevc as before" in wrong.detail
    assert isinstance(key, Frame)
    assert key.idr
