"""A recorder's folder becomes the records of a live rig."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import av
import pytest

from padreel_schemas.keyframes import key_test
from padreel_schemas.recording import (
    HEARTBEAT_NS,
    PublishedRecord,
    Recording,
    RecordingError,
    read_actions_bin,
    read_sync_csv,
)
from padreel_schemas.v1.gamepad_pb2 import GamepadState
from padreel_schemas.v1.video_pb2 import VideoFrame
from tests.session_folders import (
    FRAME_NS,
    START_NS,
    event,
    frame_times,
    write_actions,
    write_folder,
    write_sync,
    write_video,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "session")


def frames_of(records: list[PublishedRecord]) -> list[VideoFrame]:
    return [VideoFrame.FromString(record.value) for record in records if record.topic == "frames"]


def pads_of(records: list[PublishedRecord]) -> list[GamepadState]:
    return [GamepadState.FromString(record.value) for record in records if record.topic == "pads"]


def test_frames_come_in_decode_order_with_their_packets(folder: Path) -> None:
    recording = Recording(folder)
    *frames, end = frames_of(list(recording.records()))
    with av.open(str(folder / "capture.mp4")) as container:
        packets = [(packet.pts, bytes(packet)) for packet in container.demux(video=0) if packet.size]
    assert [frame.access_unit for frame in frames] == [data for _, data in packets]
    order = sorted(pts for pts, _ in packets if pts is not None)
    assert [frame.frame_index for frame in frames] == [order.index(pts) for pts, _ in packets if pts is not None]
    assert [frame.sequence for frame in frames] == list(range(20))
    assert [frame.frame_index for frame in frames] != list(range(20)), "the test needs B-frames"
    times = frame_times(20)
    assert all(frame.monotonic_ns == times[frame.frame_index] for frame in frames)
    assert all(frame.pts == frame.frame_index * FRAME_NS for frame in frames)
    assert (end.kind, end.frame_count, end.sequence, end.frame_index) == (VideoFrame.END, 20, 20, 20)
    assert recording.warnings == []


def test_every_keyframe_brings_stream_and_session(folder: Path) -> None:
    recording = Recording(folder)
    records = list(recording.records(rig_id="rig", task="play", game_id="game"))
    frames = frames_of(records)
    keys = [frame for frame in frames if frame.keyframe]
    is_key = key_test(recording.stream)
    assert len(keys) == 3
    assert [is_key(frame.access_unit) for frame in frames] == [frame.keyframe for frame in frames]
    for frame in keys:
        assert frame.stream == recording.stream
        session = frame.session
        assert (session.rig_id, session.task, session.game_id, session.heartbeats) == ("rig", "play", "game", True)
    assert not any(frame.HasField("stream") or frame.HasField("session") for frame in frames if not frame.keyframe)
    stream = recording.stream
    assert (stream.codec, stream.width, stream.height, stream.fps_num, stream.fps_den) == ("h264", 64, 48, 30, 1)
    assert stream.extradata[0] == 1


def test_events_byte_for_byte_and_interleaved_by_time(folder: Path) -> None:
    records = list(Recording(folder).records())
    payloads, cut = read_actions_bin(folder / "actions.bin")
    assert cut is None
    sent = [
        r.value for r in records if r.topic == "pads" and GamepadState.FromString(r.value).kind == GamepadState.EVENT
    ]
    assert sent == payloads
    assert [record.time_ns for record in records] == sorted(record.time_ns for record in records)
    assert pads_of(records)[-1].kind == GamepadState.END
    assert [record.topic for record in records[-2:]] == ["pads", "frames"]


def test_heartbeats_never_promise_too_much(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "long", frames=100, events=40)
    pads = pads_of(list(Recording(folder).records()))
    beats = [pad.monotonic_ns for pad in pads if pad.kind == GamepadState.HEARTBEAT]
    assert len(beats) == 4
    assert all(HEARTBEAT_NS <= later - earlier < 2 * HEARTBEAT_NS for earlier, later in itertools.pairwise(beats))
    promised = -1
    for pad in pads:
        if pad.kind == GamepadState.HEARTBEAT:
            promised = pad.monotonic_ns
            assert not pad.axes
        elif pad.kind == GamepadState.EVENT:
            assert pad.monotonic_ns > promised


def test_heartbeats_are_bounded_by_the_frames(folder: Path) -> None:
    write_sync(folder / "sync.csv", [0, *range(2**62, 2**62 + 19)])
    beats = [pad for pad in pads_of(list(Recording(folder).records())) if pad.kind == GamepadState.HEARTBEAT]
    assert 1 <= len(beats) <= 20


def test_the_same_folder_gives_the_same_bytes(folder: Path) -> None:
    recording = Recording(folder)
    first = list(recording.records(rig_id="r"))
    assert first == list(recording.records(rig_id="r"))
    assert first == list(Recording(folder).records(rig_id="r"))


def test_events_after_the_last_frame_are_published(folder: Path) -> None:
    late = START_NS + 10_000_000_000
    write_actions(folder / "actions.bin", [event(START_NS - 5), event(late, 3)])
    records = list(Recording(folder).records())
    assert records[0].time_ns == START_NS - 5
    assert [record.time_ns for record in records[-3:]] == [late] * 3
    assert frames_of(records)[-1].kind == VideoFrame.END


@pytest.mark.parametrize(("cut", "found"), [(1, "10 of its 11"), (11, "0 of its 11"), (13, "2 of its 4 length bytes")])
def test_a_cut_last_event_is_left_out_with_a_warning(tmp_path: Path, cut: int, found: str) -> None:
    path = tmp_path / "actions.bin"
    payload = GamepadState(monotonic_ns=2**35, pressed_buttons=[1, 2]).SerializeToString()
    assert len(payload) == 11
    write_actions(path, [payload, payload])
    path.write_bytes(path.read_bytes()[:-cut])
    payloads, warning = read_actions_bin(path)
    assert payloads == [payload]
    assert warning is not None
    assert "record 1 at byte 15 is cut" in warning
    assert found in warning


def test_a_truncated_recording_keeps_the_whole_events(folder: Path) -> None:
    path = folder / "actions.bin"
    whole, _ = read_actions_bin(path)
    path.write_bytes(path.read_bytes()[:-3])
    recording = Recording(folder)
    assert recording.event_count == len(whole) - 1
    assert "record 9" in "".join(recording.warnings)


def test_an_empty_pad_is_told(folder: Path) -> None:
    (folder / "actions.bin").write_bytes(b"")
    recording = Recording(folder)
    kinds = [pad.kind for pad in pads_of(list(recording.records()))]
    assert kinds == [GamepadState.HEARTBEAT, GamepadState.END]
    assert "no EVENT" in "".join(recording.warnings)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"\xff\xff\xff", "record 1 is no GamepadState"),
        (GamepadState(kind=GamepadState.END).SerializeToString(), r"record 1 has kind 2, expected 0 \(EVENT\)"),
        (GamepadState(monotonic_ns=2**63).SerializeToString(), "record 1: monotonic_ns is 9223372036854775808"),
        (b"\0" * 70_000, "record 1 at byte 24 has length 70000, expected at most 65536"),
    ],
)
def test_unusable_pad_records(folder: Path, payload: bytes, message: str) -> None:
    first = GamepadState(monotonic_ns=2**40, pressed_buttons=[1] * 11).SerializeToString()
    assert len(first) == 20
    write_actions(folder / "actions.bin", [first, payload])
    with pytest.raises(RecordingError, match=rf"actions\.bin: {message}"):
        Recording(folder).check()


@pytest.mark.parametrize("rows", [19, 21, 0])
def test_more_or_fewer_rows_than_frames(folder: Path, rows: int) -> None:
    write_sync(folder / "sync.csv", frame_times(rows))
    with pytest.raises(RecordingError, match=rf"sync\.csv: {rows} rows, but capture\.mp4 has 20 frames"):
        Recording(folder).check()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "header is ''"),
        ("frame,monotonic_ns,pts\n", "header is 'frame,monotonic_ns,pts', expected 'frame_index,monotonic_ns,pts'"),
        ("frame_index,monotonic_ns,pts\n0,1\n", "line 2: 2 fields, expected 3"),
        ("frame_index,monotonic_ns,pts\n0,1,2\n1,x,3\n", "line 3: monotonic_ns is 'x', expected an integer"),
        ("frame_index,monotonic_ns,pts\n0,-1,2\n", "line 2: monotonic_ns is -1, expected 0 to"),
        (f"frame_index,monotonic_ns,pts\n0,{2**63},2\n", "line 2: monotonic_ns is 9223372036854775808"),
    ],
)
def test_unusable_sync_rows(folder: Path, text: str, message: str) -> None:
    (folder / "sync.csv").write_text(text)
    with pytest.raises(RecordingError) as caught:
        Recording(folder).check()
    assert str(caught.value).startswith(f"{folder / 'sync.csv'}: {message}")


def test_binary_sync_is_an_error(folder: Path) -> None:
    (folder / "sync.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordingError, match=r"sync\.csv: cannot be read"):
        Recording(folder).check()


def test_windows_line_ends_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "sync.csv"
    path.write_bytes(b"\xef\xbb\xbfframe_index,monotonic_ns,pts\r\n0,5,-7\r\n\r\n")
    (row,) = read_sync_csv(path)
    assert (row.frame_index, row.monotonic_ns, row.pts) == (0, 5, -7)


def test_the_row_order_defines_the_frames(folder: Path) -> None:
    times = frame_times(20)
    lines = [f"{19 - index},{time_ns},{index}" for index, time_ns in enumerate(times)]
    (folder / "sync.csv").write_text("\n".join(["frame_index,monotonic_ns,pts", *lines]))
    *frames, _ = frames_of(list(Recording(folder).records()))
    assert all(frame.monotonic_ns == times[frame.frame_index] for frame in frames)


def test_a_frame_clock_that_steps_back_is_raised(folder: Path) -> None:
    times = frame_times(20)
    times[7] = times[5]
    write_sync(folder / "sync.csv", times)
    recording = Recording(folder)
    *frames, _ = frames_of(list(recording.records()))
    by_index = {frame.frame_index: frame.monotonic_ns for frame in frames}
    assert by_index[7] == by_index[6] == times[6]
    assert by_index[8] == times[8]
    assert "sync.csv: the clock steps back at 1 of 20 rows, first at row 7" in recording.warnings[0]


def test_a_pad_clock_that_steps_back_is_raised_in_that_event_only(folder: Path) -> None:
    unusual = event(START_NS) + b"\x28\x00"  # sequence 0, written out: not what a canonical encoder makes of a default
    payloads = [unusual, event(START_NS + 9, 1), event(START_NS + 3, 2), event(START_NS + 9, 4)]
    write_actions(folder / "actions.bin", payloads)
    recording = Recording(folder)
    values = [record.value for record in recording.records() if record.topic == "pads"]
    events = [value for value in values if GamepadState.FromString(value).kind == GamepadState.EVENT]
    assert [events[0], events[1], events[3]] == [payloads[0], payloads[1], payloads[3]]
    raised = GamepadState.FromString(events[2])
    assert (raised.monotonic_ns, list(raised.pressed_buttons)) == (START_NS + 9, [2])
    assert "actions.bin: the clock steps back at 1 of 4 records, first at record 2" in recording.warnings[0]


@pytest.mark.parametrize("name", ["capture.mp4", "sync.csv", "actions.bin"])
def test_missing_files_are_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(RecordingError, match=rf"{name}: is missing"):
        Recording(folder).check()


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="is no folder"):
        Recording(tmp_path / "nothing").check()


@pytest.mark.parametrize("content", [b"", b"no mp4 at all"])
def test_what_is_no_video(folder: Path, content: bytes) -> None:
    (folder / "capture.mp4").write_bytes(content)
    with pytest.raises(RecordingError, match=r"capture\.mp4: cannot be read"):
        Recording(folder).check()


def test_a_video_cut_short_is_unreadable(folder: Path) -> None:
    path = folder / "capture.mp4"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(RecordingError, match=r"capture\.mp4"):
        Recording(folder).check()


def test_sound_alone_is_no_video(folder: Path) -> None:
    with av.open(str(folder / "capture.mp4"), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame(format="fltp", layout="stereo", samples=1024)
        frame.sample_rate = 44100
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(RecordingError, match=r"capture\.mp4: no video stream"):
        Recording(folder).check()


def test_other_codecs_are_named(folder: Path) -> None:
    write_video(folder / "capture.mp4", 20, codec="mpeg4")
    with pytest.raises(RecordingError, match=r"capture\.mp4: codec is mpeg4, expected h264, hevc or av1"):
        Recording(folder).check()


def test_a_video_that_changes_while_it_is_read(folder: Path) -> None:
    recording = Recording(folder)
    recording.check()
    write_video(folder / "capture.mp4", 12)
    with pytest.raises(RecordingError, match="ends after 12 frames, had 20"):
        list(recording.records())
    write_video(folder / "capture.mp4", 25)
    with pytest.raises(RecordingError, match="has more frames than the 20"):
        list(recording.records())


def test_a_folder_is_read_only_once_something_is_asked(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "later")
    assert recording.name == "later"
    write_folder(tmp_path / "later", frames=3, events=1)
    assert recording.frame_count == 3
    assert len(recording.sync) == 3


def test_real_recordings(recordings: Path) -> None:
    facts = {}
    for folder in sorted((recordings / "sessions").iterdir()):
        recording = Recording(folder)
        records = list(recording.records())
        *frames, end = frames_of(records)
        assert sorted(frame.frame_index for frame in frames) == list(range(recording.frame_count))
        assert [frame.frame_index for frame in frames] != list(range(recording.frame_count))
        assert frames[0].keyframe
        assert end.frame_count == len(frames)
        payloads, _ = read_actions_bin(folder / "actions.bin")
        kinds = (GamepadState.FromString(r.value).kind for r in records if r.topic == "pads")
        pads = [r.value for r in records if r.topic == "pads"]
        events = [value for value, kind in zip(pads, kinds, strict=True) if kind == GamepadState.EVENT]
        assert events == payloads
        stream = recording.stream
        facts[folder.name] = (stream.width, stream.height, stream.fps_num / stream.fps_den, len(frames), len(events))
        assert recording.warnings == []
    assert facts["melee_port1_720p"] == (1280, 720, 30.0, 30, 37)
    assert facts["melee_port2_180p25"] == (320, 180, 25.0, 325, 344)
    width, height, rate, frame_count, event_count = facts["melee_port0_480p_late"]
    assert (width, height, round(rate, 2), frame_count, event_count) == (480, 270, 29.97, 390, 418)


def test_full_range_colours_are_kept(recordings: Path, tmp_path: Path) -> None:
    shutil.copytree(recordings / "sessions" / "melee_port1_720p", tmp_path / "s")
    stream = Recording(tmp_path / "s").stream
    assert (stream.color_range, stream.color_space, stream.color_primaries, stream.color_transfer) == (2, 1, 1, 1)
