"""What of a session is published again: the new key, the frames left out, the numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from padreel.core.decode import Decoder, parse_key
from padreel.core.replay import FrameReplay, PadReplay, accounted_below, replay_key
from padreel.model import ClosedSession, CloseReason, Frame, OpenSession, PartitionState, Record
from padreel_schemas.v1 import gamepad_pb2, video_pb2

AVCC = b"\x01\x64\x00\x1f\xff\xe1\x00\x02\x67\x64\x01\x00\x02\x68\xee"
GOP = 5


def frame(n: int, *, first: int = 0, bad: bool = False) -> bytes:
    """Frame `n` of a session with an IDR every five; a bad one has a unit whose length prefix lies."""
    idr = n % GOP == 0
    unit = (9).to_bytes(4, "big") + (b"\x65" if idr else b"\x41") + bytes(8)
    message = video_pb2.VideoFrame(
        sequence=first + n, frame_index=first + n, monotonic_ns=1_000 + n, access_unit=unit[:-1] if bad else unit
    )
    if idr:
        message.keyframe = True
        message.stream.CopyFrom(video_pb2.VideoStream(codec="h264", width=64, height=48, fps_num=30, extradata=AVCC))
    return message.SerializeToString()


def record(offset: int, value: bytes) -> Record:
    return Record(offset, 0, b"one@1", value)


def replayed(values: Iterable[bytes], in_episodes: list[tuple[int, int]]) -> tuple[FrameReplay, list[Frame]]:
    replay = FrameReplay(in_episodes)
    out = [value for at, one in enumerate(values) if (value := replay.take(record(at, one))) is not None]
    decoded = Decoder().frames(Record(at, 0, b"one@2", one) for at, one in enumerate(out))
    assert all(isinstance(item, Frame) for item in decoded)
    return replay, [item for item in decoded if isinstance(item, Frame)]


@given(
    st.text("abcXYZ019._-", min_size=1, max_size=128).filter(lambda name: name not in (".", "..")),
    st.integers(0, 2**64 - 1),
)
def test_a_new_key_is_valid_the_same_each_time_and_another(session: str, run: int) -> None:
    key = f"{session}@{run:x}"
    new = replay_key(key)
    assert parse_key(new.encode()) == new
    assert new == replay_key(key)
    assert new != key
    assert new.startswith(f"{session}@")
    assert replay_key(new) != new


def test_the_key_of_a_replay_never_changes() -> None:
    assert replay_key("game-7@1f") == "game-7@" + re.sub(r".*@", "", replay_key("game-7@1f"))
    assert replay_key("game-7@1f") != replay_key("game-7@1e")


def test_a_session_in_no_episode_is_published_whole() -> None:
    values = [frame(n, first=40) for n in range(12)]
    replay, frames = replayed(values, [])
    assert [(one.sequence, one.frame_index, one.time_ns) for one in frames] == [(n, n, 1_000 + n) for n in range(12)]
    assert replay.found.frames == 12
    end = video_pb2.VideoFrame.FromString(replay.end())
    assert (end.kind, end.frame_count) == (video_pb2.VideoFrame.END, 12)


def test_frames_in_episodes_are_left_out_and_leave_a_gap() -> None:
    replay, frames = replayed([frame(n) for n in range(20)], [(0, 4), (10, 14)])
    assert [one.time_ns for one in frames] == [1_000 + n for n in (*range(5, 10), *range(15, 20))]
    assert [one.sequence for one in frames] == [*range(5), *range(10, 15)]
    assert replay.found.in_episodes == 10


def test_what_stands_before_an_idr_cannot_be_used() -> None:
    replay, frames = replayed([frame(n) for n in range(3, 12)], [])
    assert [one.time_ns for one in frames] == [1_000 + n for n in range(5, 12)]
    assert replay.found.before_idr == 2


def test_what_is_still_bad_is_left_out() -> None:
    values = [frame(n, bad=n == 7) for n in range(10)]
    replay, frames = replayed(values, [])
    assert [one.sequence for one in frames] == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    assert replay.found.unusable == 1


def test_it_ends_with_the_session() -> None:
    end = video_pb2.VideoFrame(kind=video_pb2.VideoFrame.END, frame_count=5).SerializeToString()
    replay, _ = replayed([frame(0), end], [])
    assert replay.ended


def test_pads_are_kept_byte_for_byte() -> None:
    event = gamepad_pb2.GamepadState(monotonic_ns=5, pressed_buttons=[3]).SerializeToString() + b"\xf8\x07\x01"
    beat = gamepad_pb2.GamepadState(monotonic_ns=9, kind=gamepad_pb2.GamepadState.HEARTBEAT).SerializeToString()
    replay = PadReplay()
    taken = [replay.take(record(at, value)) for at, value in enumerate((event, b"\xff", beat))]
    assert taken == [event, None, beat]
    assert not replay.ended
    assert replay.take(record(3, replay.end())) is None
    assert replay.ended


@pytest.mark.parametrize(
    ("key", "below"),
    [
        ("closed@1", None),  # nothing of it can become a row any more
        ("open@1", 70),  # from its resume offset on it can
        ("ahead@1", 60),
        ("unknown@1", 60),  # what the log has not passed may be of a session that it does not know yet
    ],
)
def test_only_what_is_accounted_is_published_again(key: str, below: int | None) -> None:
    state = PartitionState(
        frames_next=60,
        open={"open@1": OpenSession(resume=70), "ahead@1": OpenSession(resume=60)},
        closed={"closed@1": ClosedSession(50, 0, CloseReason.SCHEMA)},
    )
    assert accounted_below(state, key) == below
