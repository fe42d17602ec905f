"""Good sessions of real access units, and what a broken or hostile rig may make of their messages."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

from padreel.model import Record
from padreel_schemas.v1.gamepad_pb2 import GamepadState
from padreel_schemas.v1.video_pb2 import SessionInfo, VideoFrame, VideoStream
from tests.properties.chain import GAME, Topics
from tests.video_source import START_CODE, Clip, Source, annex_b, encode_clip, moving_pictures, stream_block

ROUNDS = int(os.environ.get("PADREEL_HOSTILE_ROUNDS", "40"))
FIRST_SEED = int(os.environ.get("PADREEL_HOSTILE_SEED", "0"))

FRAME_NS = 33_333_333
START_NS = 5_000_000_000
FRAMES = 18
GOP = 6
# Where signs, widths and limits change, in every integer field there is.
EDGES = (
    0,
    1,
    2,
    15,
    16,
    17,
    255,
    256,
    1_000,
    1_001,
    65_535,
    65_536,
    2**22,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**53,
    2**54,
    2**60,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
# What would leave the output root if anything made a path of it, or upset what it is written to.
TEXTS = (
    "",
    "../../../../escaped",
    "..",
    "/escaped",
    "a/b",
    "nul\0byte",
    "new\nline",
    "\N{GRINNING FACE}\u202e\uffff",
    ".parquet",
    "'\";--",
    "{video_key}",
    "x" * 300,
    "\N{GRINNING FACE}" * 4096,
)
KEYS = (
    None,
    b"",
    b"\0",
    b"..@1",
    b"../../escaped@1",
    b"a/b@1",
    b"x" * 300 + b"@1",
    b"\xff\xfe@1",
    b".parquet@1",
    b"info.json@2",
    "\N{GRINNING FACE}@1".encode(),
)


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Let a failure say how to repeat the round."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"PADREEL_HOSTILE_SEED={seed} PADREEL_HOSTILE_ROUNDS=1 begins with this round")
        raise


CODECS = {
    "h264": Clip(gop=GOP, b_frames=2),
    "hevc": Clip("libx265", gop=GOP, b_frames=2),
    "av1": Clip("libsvtav1", gop=GOP),
}


@cache
def source(codec: str = "h264", size: tuple[int, int] = (64, 48), *, open_gop: bool = False) -> Source:
    """Three GOPs, in H.264 and HEVC with B-frames."""
    return encode_clip(moving_pictures(FRAMES, *size), replace(CODECS[codec], open_gop=open_gop))


@cache
def reframed(codec: str = "h264", *, open_gop: bool = False) -> Source:
    """The same framed in the other way: with start codes; of AV1 the extradata alone, with a delimiter in each unit."""
    of = source(codec, open_gop=open_gop)
    if codec != "av1":
        return annex_b(of)
    units = [replace(unit, data=b"\x12\0" + unit.data) for unit in of.units]
    return replace(of, stream=replace(of.stream, extradata=of.stream.extradata[4:]), units=units)


@dataclass(slots=True)
class Session:
    """The values of a session's records, in order."""

    frames: list[bytes]
    pads: list[bytes]


def good_session(of: Source | None = None, *, task: str = "") -> Session:
    """Frames in decode order, an EVENT every five frames, a HEARTBEAT after each, END on both topics."""
    of = of or source()
    session = SessionInfo(rig_id="rig", task=task, game_id=GAME, heartbeats=True)
    frames = []
    for sequence, unit in enumerate(of.units):
        message = VideoFrame(
            sequence=sequence,
            frame_index=unit.index,
            monotonic_ns=START_NS + unit.index * FRAME_NS,
            pts=unit.index * FRAME_NS,
            access_unit=unit.data,
            keyframe=unit.idr,
        )
        if unit.idr or unit.index % GOP == 0:  # there an open GOP may begin
            message.stream.CopyFrom(stream_block(of))
            message.session.CopyFrom(session)
        frames.append(message.SerializeToString())
    count = len(of.units)
    frames.append(VideoFrame(sequence=count, kind=VideoFrame.END, frame_count=count).SerializeToString())
    pads = []
    for number in range(FRAMES // 5 + 1):
        time_ns = START_NS + 5 * number * FRAME_NS - 1
        axes = [0.25 * number, -0.5, 0, 0, 0, 1]
        pads.append(GamepadState(monotonic_ns=time_ns, axes=axes, pressed_buttons=[number]).SerializeToString())
        pads.append(GamepadState(monotonic_ns=time_ns + 3, kind=GamepadState.HEARTBEAT).SerializeToString())
    pads.append(GamepadState(kind=GamepadState.END).SerializeToString())
    return Session(frames, pads)


# ---- damage ------------------------------------------------------------------------------------------------


def flip(rng: random.Random, value: bytes) -> bytes:
    """Bytes with some bits turned, cut off, put in, put in twice or swapped."""
    data = bytearray(value)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        at = rng.randrange(len(data) + 1) if rng.random() < 0.5 else rng.randrange(min(len(data), 24) + 1)
        size = rng.choice([1, 1, 2, 4, 8, 64])
        match rng.randrange(7):
            case 0 | 1:
                data[at : at + 1] = bytes([rng.choice([0, 1, 5, 127, 128, 255, rng.randrange(256)])])
            case 2 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 3:
                del data[at : rng.choice([at + size, at + size, len(data)])]
            case 4:
                data[at:at] = rng.randbytes(size)
            case 5:
                data[at:at] = data[max(0, at - size) : at]
            case _:
                data[at : at + 2 * size] = data[at + size : at + 2 * size] + data[at : at + size]
    return bytes(data)


def prefixed(*nals: bytes) -> bytes:
    return b"".join(len(nal).to_bytes(4, "big") + nal for nal in nals)


def obu(header: int, payload: bytes) -> bytes:
    size = len(payload)
    return bytes([header]) + (bytes([size & 127 | 128]) * (size > 127)) + bytes([size >> 7 or size]) + payload


def inside(codec: str, unit: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The unit's first NAL unit or OBU with another content, where no check looks, and nothing after it."""
    if codec == "av1":
        at = 2 if unit[:1] == b"\x12" else 0
        return obu(0x32, unit[at + 2 : at + 3] + change(unit[at + 3 :])[:16_000])
    header = 4 + (1 if codec == "h264" else 2)
    return prefixed(unit[4:header] + change(unit[header:]))


# What little of a picture passes the check, and shows nothing.
NOTHING = {"h264": b"\x65\x88", "hevc": b"\x28\x01\x80", "av1": b"\x0a\x04\0\0\0\0\x32\x02\x10\0"}


def parameter_sets(of: Source) -> bytes:
    """Those of a stream as they stand in an access unit."""
    if of.stream.codec == "av1":
        return of.stream.extradata[4:]
    nals = annex_b(of).stream.extradata.split(START_CODE)[1:]
    return prefixed(*nals)


def damaged_unit(rng: random.Random, unit: bytes, codec: str) -> bytes:
    """An access unit that is damaged, of another stream, or framed in another way."""
    other = rng.choice([*CODECS])
    others = [
        *source(codec).units,
        *source(codec, open_gop=True).units,
        *reframed(codec).units,
        *source(codec, (128, 96)).units,
        *source(other).units,
    ]
    few = [b"\x65", b"\x41", b"\x65\x88", b"\x28\x01", b"\x02\x01\x80", b"\x01" + rng.randbytes(30)]
    match rng.randrange(8):
        case 0:
            return flip(rng, unit)
        case 1:
            return inside(codec, unit, lambda content: flip(rng, content))
        case 2:
            return inside(codec, unit, lambda content: content[: rng.randrange(len(content) + 1)])
        case 3:
            return unit + rng.choice(others).data
        case 4:
            return rng.choice(others).data
        case 5:  # parameter sets of another picture size, in band
            return parameter_sets(source(codec, (128, 96))) + unit
        case 6:
            return obu(0x32, rng.choice(few)) if codec == "av1" else prefixed(rng.choice(few))
        case _:
            return rng.randbytes(rng.randrange(80))


def damaged_frame(rng: random.Random, value: bytes, codec: str) -> bytes:
    """A VideoFrame with one wrong field."""
    message = VideoFrame.FromString(value)
    number = rng.choice(EDGES)
    match rng.randrange(10):
        case 0 | 1 | 2:
            message.access_unit = damaged_unit(rng, message.access_unit, codec)
        case 3:
            setattr(message, rng.choice(["sequence", "frame_index", "monotonic_ns", "frame_count"]), number)
        case 4:
            field = rng.choice(["sequence", "frame_index", "monotonic_ns"])
            near = getattr(message, field) + rng.choice([-FRAME_NS, -17, -1, 1, 2, 17, FRAME_NS, 1_000, 2**33, 2**55])
            setattr(message, field, max(0, near))
        case 5:
            message.pts = rng.choice([-(2**63), -1, 2**63 - 1])
            message.keyframe = not message.keyframe
        case 6:
            of = rng.choice([source(codec), reframed(codec), source(codec, (128, 96)), source(rng.choice([*CODECS]))])
            message.stream.CopyFrom(stream_block(of))
            damage_stream(rng, message.stream)
        case 7:
            field = rng.choice(["rig_id", "task", "game_id", "media_uri"])
            setattr(message.session, field, rng.choice(TEXTS))
        case 8:
            message.ClearField(rng.choice(["stream", "session", "access_unit", "sequence", "frame_index"]))
        case _:
            message.camera = rng.choice(TEXTS)
    return message.SerializeToString()


def damage_stream(rng: random.Random, stream: VideoStream) -> None:
    match rng.randrange(6):
        case 0 | 1:
            stream.extradata = flip(rng, stream.extradata)
        case 2:
            stream.extradata = rng.choice(
                [
                    *(b"", b"\0\0\0\1", b"\1" * 1_000_000, rng.randbytes(40), b"\0\0\1\x67\0\0\1\x68"),
                    *(b"\0\0\1\x40\1\1\0\0\1\x42\1\1\0\0\1\x44\1\1", b"\x81\0\0\0", b"\x81\0\0\0\x0a\4\0\0\0\0"),
                ]
            )
        case 3:
            field = rng.choice(["width", "height", "fps_num", "fps_den"])
            setattr(stream, field, min(rng.choice(EDGES), 2**32 - 1))
        case 4:
            field = rng.choice(["color_range", "color_space", "color_primaries", "color_transfer"])
            setattr(stream, field, rng.randrange(300))
        case _:
            stream.codec = rng.choice([*TEXTS, *CODECS])


def damaged_pad(rng: random.Random, value: bytes) -> bytes:
    """A GamepadState with one wrong field."""
    state = GamepadState.FromString(value)
    match rng.randrange(7):
        case 0:
            state.monotonic_ns = rng.choice(EDGES)
        case 1:
            state.monotonic_ns = max(0, state.monotonic_ns + rng.choice([-FRAME_NS, -1, 1, 2**33, 2**55]))
        case 2:
            state.axes.append(rng.choice([float("nan"), float("inf"), 3.4e38, -3.4e38, 1e-45, -0.0]))
        case 3:
            state.axes.extend([1.0] * rng.choice([7, 1_000, 20_000]))
        case 4:
            state.pressed_buttons.extend(min(rng.choice(EDGES), 2**32 - 1) for _ in range(rng.choice([1, 9, 5_000])))
        case 5:
            state.pressed_keys.extend(min(rng.choice(EDGES), 2**32 - 1) for _ in range(rng.choice([1, 9, 5_000])))
        case _:
            state.kind = rng.choice([GamepadState.EVENT, GamepadState.HEARTBEAT, GamepadState.END])
            state.sequence = rng.choice(EDGES)
    return state.SerializeToString()


def hostile_session(rng: random.Random, codec: str = "h264") -> Session:
    """A good session in which some records are damaged, lost, repeated or out of order."""
    open_gop = codec == "hevc" and rng.random() < 0.5
    is_reframed = rng.random() < 0.2
    of = reframed(codec, open_gop=open_gop) if is_reframed else source(codec, open_gop=open_gop)
    if rng.random() < 0.2:  # pictures that nothing can show
        nothing = NOTHING[codec]
        if codec != "av1":
            nothing = START_CODE + nothing if is_reframed else prefixed(nothing)
        of = replace(of, units=[replace(one, data=nothing) if one.idr else one for one in of.units])
    session = good_session(of, task=rng.choice(TEXTS))
    topics: tuple[tuple[list[bytes], Callable[[random.Random, bytes], bytes]], ...] = (
        (session.frames, lambda rng, value: damaged_frame(rng, value, codec)),
        (session.pads, damaged_pad),
    )
    for values, damaged in topics:
        sound = values[:]
        for _ in range(rng.choice([0, 1, 1, 2, 3, 8])):
            at = rng.randrange(len(values))
            kind = rng.random()
            if kind < 0.6:
                values[at] = damaged(rng, sound[min(at, len(sound) - 1)])
            elif kind < 0.75:
                values[at] = flip(rng, values[at])
            elif kind < 0.8:
                values[at] = rng.randbytes(rng.randrange(60))
            elif kind < 0.9:
                other = rng.randrange(len(values))
                values[at], values[other] = values[other], values[at]
            elif kind < 0.95 or len(values) < 3:
                values.insert(at, values[rng.randrange(len(values))])
            else:
                del values[at]
    return session


def mixed(rng: random.Random, sessions: Sequence[tuple[bytes, Session]]) -> Topics:
    """The sessions' records interleaved at random; some have keys that are none."""

    def records(topic: Callable[[Session], list[bytes]], hostile: int) -> list[Record]:
        turns = [number for number, (_, session) in enumerate(sessions) for _ in topic(session)]
        rng.shuffle(turns)
        values = [iter(topic(session)) for _, session in sessions]
        published: list[tuple[bytes | None, bytes | None]] = [(sessions[n][0], next(values[n])) for n in turns]
        for _ in range(hostile):
            value = rng.choice([None, b"", rng.randbytes(20), published[0][1]])
            published.insert(rng.randrange(len(published) + 1), (rng.choice(KEYS), value))
        return [Record(offset, 0, key, value) for offset, (key, value) in enumerate(published)]

    return Topics(records(lambda s: s.frames, rng.randrange(4)), records(lambda s: s.pads, rng.randrange(4)))
