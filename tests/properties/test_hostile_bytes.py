"""Whatever rigs send, every outcome is an episode or a rejection that names its cause, and nobody else is harmed.

The records go through the real decoder, pipeline and shard; `chain.play` checks what must hold in the end. Rounds are
made from seeds, which a failure names; PADREEL_HOSTILE_ROUNDS says how many there are, PADREEL_HOSTILE_SEED where they
begin.
"""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from padreel.core.decode import Decoder
from padreel.core.pipeline import Limits, Pipeline
from padreel.core.rules import Rules
from padreel.dataset import codec
from padreel.model import PartitionState, Record, Rejected, RejectReason
from padreel_schemas.v1.gamepad_pb2 import GamepadState
from padreel_schemas.v1.video_pb2 import SessionInfo, VideoFrame, VideoStream
from tests.dataset_reading import ReadEpisode
from tests.properties.chain import GAME, SCHEMA, Outcome, Topics, play
from tests.properties.hostile_world import (
    CODECS,
    EDGES,
    FIRST_SEED,
    FRAME_NS,
    KEYS,
    ROUNDS,
    START_NS,
    TEXTS,
    Session,
    good_session,
    hostile_session,
    mixed,
    reframed,
    repeatable,
    source,
)

GOOD = b"good@1"


def rules(rng: random.Random, codec: str) -> Rules:
    return Rules(
        schema=replace(SCHEMA, codec=codec),
        game_id=GAME,
        max_pre_action_ns=rng.choice([None, None, 50_000_000]),
        max_episode_ns=rng.choice([900 * 10**9, 250_000_000]),
    )


def play_round(topics: Topics, which: Rules, rng: random.Random, *, restarts: int = 0) -> Outcome:
    with TemporaryDirectory() as folder:
        return play(Path(folder), topics, which, rng, restarts=restarts)


@cache
def alone(which: Rules) -> list[ReadEpisode]:
    """What becomes of the good session if it is the only one."""
    rng = random.Random(0)
    good = good_session(source(which.schema.codec))
    return play_round(mixed(rng, [(GOOD, good)]), which, rng).of("good")


def play_beside_a_good_one(
    rng: random.Random, hostile: list[Session], *, codec: str = "h264", restarts: int = 0
) -> Outcome:
    """The hostile sessions, and a good one that must come out as if they were not there."""
    which = rules(rng, codec)
    sessions = [
        (GOOD, good_session(source(codec))),
        *((f"bad-{n}@{n}".encode(), session) for n, session in enumerate(hostile)),
    ]
    found = play_round(mixed(rng, sessions), which, rng, restarts=restarts)
    assert sum(map(len, alone(which))) > 10
    assert found.of("good") == alone(which), "the good session is not what it is without the others"
    return found


@pytest.mark.parametrize("codec", CODECS)
def test_sound_sessions_are_neither_rejected_nor_mixed_up(codec: str) -> None:
    """Else the other tests here prove little."""
    sound = [good_session(source(codec)), good_session(reframed(codec), task="other")]
    found = play_beside_a_good_one(random.Random(1), sound, codec=codec)
    assert [one for one in found.rejected.values() if one.key in ("good@1", "bad-0@0", "bad-1@1")] == []
    assert found.undecodable == 0
    wanted = [episode.rows for episode in found.of("good")]
    for session in ("bad-0", "bad-1"):
        assert [episode.rows for episode in found.of(session)] == wanted


@pytest.mark.parametrize("codec", CODECS)
def test_seeded_damage(codec: str) -> None:
    """Bits, fields, access units, parameter sets and whole records of three sessions; at times the process dies."""
    for seed in range(FIRST_SEED, FIRST_SEED + ROUNDS):
        with repeatable(seed):
            rng = random.Random(seed)
            hostile = [hostile_session(rng, codec) for _ in range(3)]
            play_beside_a_good_one(rng, hostile, codec=codec, restarts=rng.choice([0, 0, 3]))


def test_random_bytes() -> None:
    rng = random.Random(FIRST_SEED)
    with repeatable(FIRST_SEED):
        values = [rng.randbytes(rng.choice([0, 1, 2, 3, 8, 40, 1000])) for _ in range(600)]
        found = play_beside_a_good_one(rng, [Session(values[:150], values[150:300]), Session(values[300:], [])])
    assert {RejectReason.UNPARSABLE, RejectReason.UNIT_INVALID} <= {one.reason for one in found.rejected.values()}


# ---- messages of the right structure and any values ----------------------------------------------------------

numbers = st.one_of(st.sampled_from(EDGES), st.integers(0, 2**64 - 1), st.integers(0, 40))
small_numbers = numbers.map(lambda number: number & 0xFFFFFFFF)
texts = st.one_of(st.sampled_from(TEXTS), st.text(max_size=8))


def mostly(value: Any, others: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.just(value), st.just(value), st.just(value), others)


@st.composite
def streams(draw: st.DrawFn) -> VideoStream:
    codec = draw(mostly("h264", st.sampled_from([*CODECS])))
    extradata = st.one_of(st.just(reframed(codec).stream.extradata), st.binary(max_size=40))
    return VideoStream(
        codec=draw(mostly(codec, texts)),
        width=draw(mostly(64, small_numbers)),
        height=draw(mostly(48, small_numbers)),
        fps_num=draw(mostly(30, small_numbers)),
        fps_den=draw(mostly(1, small_numbers)),
        extradata=draw(mostly(source(codec).stream.extradata, extradata)),
        color_range=draw(mostly(0, small_numbers)),
        color_space=draw(st.integers(0, 300)),
        color_primaries=draw(st.integers(0, 300)),
        color_transfer=draw(st.integers(0, 300)),
    )


@st.composite
def frames(draw: st.DrawFn, at: int) -> bytes:
    unit = source().units[at]
    message = VideoFrame(
        sequence=draw(mostly(at, numbers)),
        frame_index=draw(mostly(unit.index, numbers)),
        monotonic_ns=draw(mostly(START_NS + unit.index * FRAME_NS, numbers)),
        pts=draw(st.integers(-(2**63), 2**63 - 1)),
        camera=draw(mostly("", texts)),
        kind=draw(mostly(VideoFrame.FRAME, st.just(VideoFrame.END))),
        access_unit=draw(mostly(unit.data, st.binary(max_size=40))),
        keyframe=draw(st.booleans()),
    )
    if unit.idr or draw(st.integers(0, 9)) == 0:
        message.stream.CopyFrom(draw(streams()))
        message.session.CopyFrom(
            SessionInfo(
                rig_id=draw(texts),
                task=draw(texts),
                game_id=draw(mostly(GAME, texts)),
                media_uri=draw(texts),
                heartbeats=draw(st.booleans()),
            )
        )
    if draw(st.integers(0, 9)) == 0:
        message.frame_count = draw(numbers)
    return message.SerializeToString()


pads = st.builds(
    lambda time_ns, axes, buttons, keys, sequence, kind: GamepadState(
        monotonic_ns=time_ns, axes=axes, pressed_buttons=buttons, pressed_keys=keys, sequence=sequence, kind=kind
    ).SerializeToString(),
    st.one_of(numbers, st.integers(START_NS, START_NS + 20 * FRAME_NS)),
    st.lists(st.floats(width=32), max_size=8),
    st.lists(small_numbers, max_size=4),
    st.lists(small_numbers, max_size=4),
    st.one_of(st.none(), numbers),
    st.sampled_from([GamepadState.EVENT, GamepadState.EVENT, GamepadState.HEARTBEAT, GamepadState.END]),
)


@st.composite
def arbitrary_sessions(draw: st.DrawFn) -> Session:
    count = draw(st.integers(0, len(source().units)))
    return Session([draw(frames(at)) for at in range(count)], draw(st.lists(pads, max_size=6)))


@given(sessions=st.lists(arbitrary_sessions(), min_size=1, max_size=2), seed=st.integers(0, 2**32))
@settings(max_examples=max(5, ROUNDS // 2), deadline=None)
def test_arbitrary_messages(sessions: list[Session], seed: int) -> None:
    play_beside_a_good_one(random.Random(seed), sessions)


# ---- numbers cost nothing ------------------------------------------------------------------------------------


def records(values: list[bytes], key: bytes = b"bad@1") -> list[Record]:
    return [Record(offset, 0, key, value) for offset, value in enumerate(values)]


def read(topics: Topics) -> tuple[Pipeline, int]:
    """The pipeline after both topics, and the most bytes that Python held while it read them."""
    decoder = Decoder()
    tracemalloc.start()
    try:
        pipeline = Pipeline(Rules(schema=SCHEMA, game_id=GAME), Limits(), PartitionState())
        pipeline.read_frames(decoder.frames(topics.frames), len(topics.frames), 0)
        pipeline.read_pads(decoder.pads(topics.pads), len(topics.pads), 0)
        pipeline.drain()
        pipeline.progress()
        return pipeline, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("field", ["sequence", "frame_index", "monotonic_ns", "frame_count"])
def test_memory_follows_bytes_and_not_numbers(field: str) -> None:
    plain = good_session()
    _, usual = read(Topics(records(plain.frames), records(plain.pads)))
    for number in EDGES:
        values = plain.frames[:]
        for at in (7, 8, 18):
            message = VideoFrame.FromString(values[at])
            setattr(message, field, number)
            values[at] = message.SerializeToString()
        _, peak = read(Topics(records(values), records(plain.pads)))
        assert peak < 2 * usual + 100_000, f"{field} = {number}"


@pytest.mark.parametrize("number", [1, 2**32 - 1])
def test_lists_cost_what_they_weigh(number: int) -> None:
    states = [
        GamepadState(monotonic_ns=time_ns, axes=[0.5] * 5_000, pressed_buttons=[number] * 5_000, pressed_keys=[number])
        for time_ns in range(20)
    ]
    values = [state.SerializeToString() for state in states]
    pipeline, peak = read(Topics([], records(values)))
    assert 0 < pipeline.undecided_bytes <= sum(map(len, values))
    assert peak < 3 * sum(map(len, values))


def test_what_is_too_long_is_refused() -> None:
    first = VideoFrame.FromString(good_session().frames[0])
    huge = VideoFrame.FromString(good_session().frames[0])
    huge.stream.extradata = huge.stream.extradata * 20_000
    long = GamepadState(axes=[0.0] * 100_000).SerializeToString()
    items = [*Decoder().frames(records([huge.SerializeToString()])), *Decoder().pads(records([long]))]
    assert [item.reason for item in items if isinstance(item, Rejected)] == [
        RejectReason.STREAM_INVALID,
        RejectReason.OVERSIZED,
    ]
    assert not isinstance(Decoder().frames(records([first.SerializeToString()]))[0], Rejected)


def test_a_clock_that_stands_still_costs_a_commit_little() -> None:
    """Each EVENT has its number, so that none is a duplicate; a commit carries those that tie."""
    values = [GamepadState(monotonic_ns=7, sequence=n).SerializeToString() for n in range(5_000)]
    pipeline, peak = read(Topics([], records(values)))
    commit = pipeline.ledger.commit(pipeline.sessions, pipeline.at, (None, None))
    assert len(str(codec.encode(commit.state))) < 10_000
    assert peak < 20 * sum(map(len, values)) + 100_000


def test_keys_that_are_none_open_nothing() -> None:
    session = good_session()
    frame_records = [Record(offset, 0, key, session.frames[0]) for offset, key in enumerate(KEYS)]
    pad_records = [Record(offset, 0, key, session.pads[0]) for offset, key in enumerate(KEYS)]
    pipeline, _ = read(Topics(frame_records, pad_records))
    assert sorted(pipeline.sessions) == [".parquet@1", "info.json@2"]  # names they may have; nothing is called by them
