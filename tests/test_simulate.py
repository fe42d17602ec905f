from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest
from av.video.codeccontext import VideoCodecContext
from click.testing import CliRunner

from padreel_schemas.recording import PublishedRecord, Recording
from padreel_schemas.v1.gamepad_pb2 import GamepadState
from padreel_schemas.v1.video_pb2 import VideoFrame
from padreel_shim.cli import cli
from padreel_shim.producer import PublishError, TopicKind
from padreel_shim.sample import write_session_folder
from padreel_shim.scene import read_frame_number
from padreel_shim.simulate import play, play_all, rigs_like
from padreel_shim.synthetic import H264Encoder, SyntheticRig
from tests.video_source import rgb

SECOND = 1_000_000_000
RIG = SyntheticRig("11-0", 4.3, 160, 120, gop=25, rig_id="rig-0", task="Win the round", game_id="padreel-demo")


@pytest.fixture(scope="module")
def records() -> list[PublishedRecord]:
    return list(RIG.records())


def frames_of(records: Iterable[PublishedRecord]) -> list[VideoFrame]:
    return [VideoFrame.FromString(record.value) for record in records if record.topic == "frames"]


def pads_of(records: Iterable[PublishedRecord]) -> list[GamepadState]:
    return [GamepadState.FromString(record.value) for record in records if record.topic == "pads"]


def decode_numbers(frames: Iterable[VideoFrame]) -> list[int | None]:
    """Decode access units and read the number of every picture, in display order."""
    decoder: VideoCodecContext | None = None
    numbers: list[int | None] = []
    for frame in frames:
        if decoder is None:
            context = av.CodecContext.create("h264", "r")
            assert isinstance(context, VideoCodecContext)
            decoder = context
            decoder.extradata = frame.stream.extradata
        packet = av.Packet(frame.access_unit)
        packet.pts = frame.frame_index
        numbers += [read_frame_number(rgb(picture)) for picture in decoder.decode(packet)]
    assert decoder is not None
    return numbers + [read_frame_number(rgb(picture)) for picture in decoder.decode(None)]


def test_every_frame_says_its_number_after_decoding(records: list[PublishedRecord]) -> None:
    *frames, _end = frames_of(records)
    assert decode_numbers(frames) == list(range(RIG.frame_count)) == list(range(129))


@pytest.mark.parametrize(("width", "height"), [(320, 180), (642, 362)])
def test_other_sizes_and_rates_read_back_too(width: int, height: int) -> None:
    rig = SyntheticRig("2", 1, width, height, fps=Fraction(30_000, 1_001), gop=9)
    *frames, _end = frames_of(rig.records())
    assert decode_numbers(frames) == list(range(29))
    stream = frames[0].stream
    assert (stream.width, stream.height, stream.fps_num, stream.fps_den) == (width, height, 30_000, 1_001)


def test_frames_come_in_decode_order_with_b_frames_and_closed_gops(records: list[PublishedRecord]) -> None:
    *frames, end = frames_of(records)
    order = [frame.frame_index for frame in frames]
    assert [frame.sequence for frame in frames] == list(range(RIG.frame_count))
    assert sorted(order) == list(range(RIG.frame_count))
    assert sum(later < earlier for earlier, later in pairwise(order)) > RIG.frame_count // 5  # pictures are reordered
    keys = [position for position, frame in enumerate(frames) if frame.keyframe]
    assert [order[position] for position in keys] == list(range(0, RIG.frame_count, RIG.gop))
    assert all(max(order[:position], default=-1) < order[position] for position in keys)  # nothing crosses a key
    assert (end.kind, end.frame_count, end.sequence) == (VideoFrame.END, RIG.frame_count, RIG.frame_count)
    assert all(frame.kind == VideoFrame.FRAME for frame in frames)


def test_a_consumer_can_start_at_any_keyframe(records: list[PublishedRecord]) -> None:
    *frames, _end = frames_of(records)
    for start in (position for position, frame in enumerate(frames) if frame.keyframe):
        assert frames[start].stream == frames[0].stream
        assert frames[start].session == frames[0].session
        first = frames[start].frame_index
        assert decode_numbers(frames[start:]) == list(range(first, RIG.frame_count))
    assert not any(frame.HasField("stream") for frame in frames if not frame.keyframe)
    session = frames[0].session
    assert (session.rig_id, session.task, session.game_id) == ("rig-0", "Win the round", "padreel-demo")
    assert session.heartbeats


def test_units_are_length_prefixed_and_idr_is_the_keyframe(records: list[PublishedRecord]) -> None:
    *frames, _end = frames_of(records)
    assert frames[0].stream.extradata[0] == 1
    assert frames[0].stream.extradata[4] & 3 == 3
    for frame in frames:
        types, at = [], 0
        while at < len(frame.access_unit):
            size = int.from_bytes(frame.access_unit[at : at + 4], "big")
            types.append(frame.access_unit[at + 4] & 31)
            at += 4 + size
        assert at == len(frame.access_unit)
        assert (5 in types) == frame.keyframe


def test_the_pad_in_force_at_every_frame_is_the_scripts(records: list[PublishedRecord]) -> None:
    events = [pad for pad in pads_of(records) if pad.kind == GamepadState.EVENT]
    assert [event.sequence for event in events] == list(range(len(events)))
    paired = set()
    for frame in frames_of(records)[:-1]:
        latest = max((e for e in events if e.monotonic_ns <= frame.monotonic_ns), key=lambda e: e.monotonic_ns)
        state = RIG.script.state_at(frame.monotonic_ns)
        assert state is not None
        assert (tuple(latest.axes), tuple(latest.pressed_buttons)) == (state.axes, state.buttons)
        paired.add(latest.sequence)
    assert len(paired) > 30


def test_heartbeats_claim_no_more_than_is_published(records: list[PublishedRecord]) -> None:
    claimed = 0
    heartbeats = []
    for pad in pads_of(records):
        if pad.kind == GamepadState.HEARTBEAT:
            claimed = pad.monotonic_ns
            heartbeats.append(claimed)
            assert not pad.axes
        elif pad.kind == GamepadState.EVENT:
            assert pad.monotonic_ns > claimed
    assert [time_ns - RIG.start_ns for time_ns in heartbeats] == [SECOND, 2 * SECOND, 3 * SECOND, 4 * SECOND]
    assert [pad.kind for pad in pads_of(records)].index(GamepadState.END) == len(pads_of(records)) - 1


def test_records_come_in_order_and_never_before_their_time(records: list[PublishedRecord]) -> None:
    assert all(earlier.time_ns <= later.time_ns for earlier, later in pairwise(records))
    for record in records:
        message = (VideoFrame if record.topic == "frames" else GamepadState).FromString(record.value)
        assert record.time_ns >= message.monotonic_ns
        assert record.time_ns - message.monotonic_ns < SECOND // 5  # the encoder's delay


def test_capture_times_jitter_and_never_step_back() -> None:
    times = [RIG.frame_ns(index) for index in range(RIG.frame_count)]
    steps = {later - earlier for earlier, later in pairwise(times)}
    assert len(steps) > 100
    assert min(steps) > 0.8 * SECOND / 30
    assert max(steps) < 1.2 * SECOND / 30


def test_a_seed_gives_the_same_bytes_and_another_gives_others(records: list[PublishedRecord]) -> None:
    assert list(replace(RIG).records()) == records
    other = list(replace(RIG, seed="11-1").records())
    assert {record.value for record in other}.isdisjoint(record.value for record in records)


def test_a_folder_holds_what_is_published(records: list[PublishedRecord], tmp_path: Path) -> None:
    write_session_folder(tmp_path / "session", RIG)
    recording = Recording(tmp_path / "session")
    again = list(recording.records(rig_id="rig-0", task="Win the round", game_id="padreel-demo"))
    assert recording.warnings == []
    assert frames_of(again)[:-1] == frames_of(records)[:-1]
    events = [[p for p in pads_of(rs) if p.kind == GamepadState.EVENT] for rs in (again, records)]
    assert events[0] == events[1]
    with av.open(str(tmp_path / "session" / "capture.mp4")) as container:
        pictures = [rgb(picture) for picture in container.decode(video=0)]
    assert [read_frame_number(picture) for picture in pictures] == list(range(RIG.frame_count))
    with pytest.raises(FileExistsError):
        write_session_folder(tmp_path / "session", RIG)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"width": 161}, "even width"),
        ({"gop": 0}, "gop 0"),
        ({"seconds": 0}, "must be positive"),
        ({"fps": Fraction(0)}, "must be positive"),
        ({"width": 100}, "too small"),
    ],
)
def test_rigs_that_cannot_be_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(RIG, **changed)


def test_the_encoder_gives_back_everything_at_the_end() -> None:
    encoder = H264Encoder(160, 120, Fraction(30), 10)
    units = [unit for number in range(7) for unit in encoder.encode(number, RIG.picture(number))]
    assert len(units) < 7
    assert sorted(unit.frame_index for unit in units + encoder.flush()) == list(range(7))


class Sink:
    """A publisher that keeps what it is sent, with the loop's time at which it came; `broken` refuses everything."""

    cluster_id = "memory"

    def __init__(self, *, broken: bool = False) -> None:
        self.published: dict[bytes, list[tuple[str, bytes]]] = {}
        self.times: list[float] = []
        self.drained = 0
        self.broken = broken

    async def send(
        self, topic: TopicKind, key: bytes, value: bytes, acknowledged: Callable[[], None] | None = None
    ) -> None:
        if self.broken:
            raise PublishError("broker memory: refused")
        self.published.setdefault(key, []).append((topic, value))
        self.times.append(asyncio.get_running_loop().time())

    async def drain(self) -> None:
        self.drained = len(self.times)


def test_playing_publishes_every_record_in_order_under_one_key_each() -> None:
    rigs = rigs_like(replace(RIG, seed="5", seconds=0.6), 3)
    sink = Sink()
    played = asyncio.run(play_all(rigs, sink, speed=math.inf))
    assert list(rigs) == ["sim-5-0", "sim-5-1", "sim-5-2"]
    assert [one.key.partition("@")[0] for one in played] == list(rigs)
    for one, rig in zip(played, rigs.values(), strict=True):
        assert sink.published[one.key.encode()] == [(record.topic, record.value) for record in rig.records()]
        assert one.records == len(sink.published[one.key.encode()])
    assert sink.drained == sum(one.records for one in played)
    again = asyncio.run(play_all(rigs, Sink(), speed=math.inf))
    assert {one.key for one in again}.isdisjoint(one.key for one in played)


def test_live_playing_publishes_nothing_before_its_time() -> None:
    rig = replace(RIG, seconds=0.8)
    sink = Sink()

    async def run() -> tuple[float, float]:
        started = asyncio.get_running_loop().time()
        return started, (await play(rig, b"s@1", sink, speed=2.0)).behind_s

    started, behind_s = asyncio.run(run())
    misses = [
        at - started - (record.time_ns - rig.start_ns) / 2e9
        for at, record in zip(sink.times, rig.records(), strict=True)
    ]
    assert min(misses) > -0.005
    assert behind_s >= 0


def test_what_the_publisher_refuses_is_told_as_it_is() -> None:
    with pytest.raises(PublishError, match="broker memory: refused"):
        asyncio.run(play_all(rigs_like(replace(RIG, seconds=0.2), 2), Sink(broken=True), speed=math.inf))


def test_sample_writes_folders_that_are_recordings(tmp_path: Path) -> None:
    command = ["sample", str(tmp_path), "--rigs", "2", "--seconds", "0.5", "--size", "160x120", "--seed", "9"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    assert [Recording(tmp_path / f"sim-9-{index}").frame_count for index in range(2)] == [15, 15]
    again = CliRunner().invoke(cli, command)
    assert again.exit_code == 1
    assert "sim-9-0: exists already" in again.output


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--size", "1280", "no size"),
        ("--size", "101x100", "too small"),
        ("--fps", "1/0", "no frame rate"),
        ("--speed", "0", "no speed"),
        ("--speed", "nan", "no speed"),
        ("--rigs", "0", "x>=1"),
    ],
)
def test_impossible_options_are_named(option: str, value: str, message: str) -> None:
    result = CliRunner().invoke(cli, ["simulate", "--bootstrap-servers", "127.0.0.1:1", option, value])
    assert result.exit_code == 2
    assert message in result.output
