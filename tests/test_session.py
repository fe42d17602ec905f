"""What an episode carries besides its rows, and what numbers that no rig should send do, told by small sessions."""

from __future__ import annotations

import pytest

from padreel.core.align import MAX_TIE_BYTES, MAX_TIES, PadTimeline, Verdict
from padreel.core.codecs import MAX_REORDER
from padreel.core.pipeline import Limits, Pipeline
from padreel.core.rules import Rules
from padreel.core.segment import MAX_AHEAD
from padreel.model import (
    AppendUnit,
    Commit,
    Effect,
    EndReason,
    EpisodeDraft,
    Fate,
    Frame,
    FrameEnd,
    PadEnd,
    PadEvent,
    PartitionState,
    Schema,
    Stream,
)

KEY = "one@1"
STREAM = Stream("h264", 64, 48, 30, b"", 1, 1, 1, 1)


def episode(frame_times: list[int], event_times: list[int]) -> EpisodeDraft:
    """The one episode of a session with these times."""
    pipeline = Pipeline(Rules(schema=Schema("h264", 64, 48, 30)), Limits(), PartitionState(0, 0))
    frames = [
        Frame(i, KEY, i, i, time_ns, i == 0, b"unit", STREAM if i == 0 else None, None)
        for i, time_ns in enumerate(frame_times)
    ]
    events = [PadEvent(i, KEY, time_ns, str(time_ns).encode(), True) for i, time_ns in enumerate(event_times)]
    pipeline.read_frames([*frames, FrameEnd(len(frames), KEY, len(frames))], len(frames) + 1, 0)
    pipeline.read_pads([*events, PadEnd(len(events), KEY)], len(events) + 1, 0)
    (commit,) = (effect for effect in pipeline.effects() if isinstance(effect, Commit))
    assert commit.episode is not None
    return commit.episode


@pytest.mark.parametrize(
    ("event_times", "kept", "pairing"),
    [
        ([5, 15, 17, 25, 35], [5, 15, 17, 25], (0, 2, 3)),  # from the one in force at the first row on
        ([5, 8, 15], [8, 15], (0, 1, 1)),
        ([12, 17, 25], [12, 17, 25], (-1, 1, 2)),  # none in force at the first row: from the first that came
        ([40], [], (-1, -1, -1)),
        ([], [], (-1, -1, -1)),
    ],
)
def test_an_episode_carries_its_events_without_a_hole(
    event_times: list[int], kept: list[int], pairing: tuple[int, ...]
) -> None:
    found = episode([10, 20, 30], event_times)
    assert (list(found.event_ns), tuple(found.pairing)) == (kept, pairing)
    assert [int(payload) for payload in found.events] == kept


# ---- places that no stream has


def placed(indices: list[int], idrs: tuple[int, ...] = (0,)) -> list[Effect]:
    """The effects of a session whose frames, in decode order, say these display positions; `idrs` are of them."""
    pipeline = Pipeline(Rules(schema=Schema("h264", 64, 48, 30)), Limits(), PartitionState())
    frames = [
        Frame(i, KEY, i, index, index, index in idrs, b"unit", STREAM if index in idrs else None, None)
        for i, index in enumerate(indices)
    ]
    pipeline.read_frames([*frames, FrameEnd(len(frames), KEY, len(frames))], len(frames) + 1, 0)
    pipeline.read_pads([PadEnd(0, KEY)], 1, 0)
    return pipeline.effects()


def commits(effects: list[Effect]) -> list[tuple[EndReason, int, int]]:
    """Of each episode why it ended, its first frame and its rows."""
    drafts = [effect.episode for effect in effects if isinstance(effect, Commit) and effect.episode is not None]
    return [(draft.reason, draft.first_frame_index, len(draft.time_ns)) for draft in drafts]


def positions(effects: list[Effect]) -> list[int]:
    return [effect.index for effect in effects if isinstance(effect, AppendUnit)]


def counted(effects: list[Effect]) -> dict[Fate, int]:
    total: dict[Fate, int] = {}
    for commit in (effect for effect in effects if isinstance(effect, Commit)):
        for fate, count in commit.accounted.items():
            total[fate] = total.get(fate, 0) + count
    return {fate: count for fate, count in total.items() if count}


@pytest.mark.parametrize("far", [2 + MAX_AHEAD + 1, 2**31, 2**54, 2**63 - 1])
def test_a_frame_far_ahead_is_cut_off_and_the_session_goes_on(far: int) -> None:
    """Its time stamp would not fit the mp4, or any integer."""
    effects = placed([0, 1, far, 2, 3, 4, 5], idrs=(0, 4))
    assert positions(effects) == [0, 1, 0, 1]
    assert commits(effects) == [(EndReason.GAP, 0, 2), (EndReason.END, 4, 2)]
    assert counted(effects) == {Fate.ROW: 4, Fate.WAIT: 3, Fate.END: 1}


def test_a_frame_ahead_within_reason_is_waited_for() -> None:
    effects = placed([0, MAX_AHEAD + 1, *range(1, MAX_AHEAD + 1)])
    assert commits(effects) == [(EndReason.END, 0, MAX_AHEAD + 2)]


@pytest.mark.parametrize(("depth", "whole"), [(MAX_REORDER, True), (MAX_REORDER + 1, False)])
def test_frames_are_reordered_as_deep_as_h264_can(depth: int, whole: bool) -> None:
    """Deeper, a packet would be shown before it is decoded, which no mp4 takes."""
    effects = placed([0, *range(depth + 1, 0, -1)])
    assert min(index - (j - MAX_REORDER) for j, index in enumerate(positions(effects))) >= 0
    assert commits(effects) == [(EndReason.END, 0, depth + 2) if whole else (EndReason.GAP, 0, 1)]


def test_a_hole_that_nothing_fills_is_given_up() -> None:
    """What lies behind it is not held until the next IDR, which may never come."""
    effects = placed([0, 1, *range(3, 500)])
    assert len(positions(effects)) == 2 + MAX_REORDER
    assert commits(effects) == [(EndReason.GAP, 0, 2)]
    assert counted(effects) == {Fate.ROW: 2, Fate.HOLE: MAX_REORDER, Fate.WAIT: 497 - MAX_REORDER, Fate.END: 1}


def test_an_idr_whose_stream_only_a_dropped_frame_told_waits() -> None:
    """Decode remembers the framing by the first frame; the session knows no stream to begin with."""
    pipeline = Pipeline(Rules(schema=Schema("h264", 64, 48, 30)), Limits(), PartitionState())
    told = Frame(0, KEY, 0, 0, 0, False, b"unit", STREAM, None)
    bare = Frame(1, KEY, 1, 1, 1, True, b"unit", None, None)
    whole = Frame(2, KEY, 2, 2, 2, True, b"unit", STREAM, None)
    pipeline.read_frames([told, bare, whole, FrameEnd(3, KEY, 3)], 4, 0)
    pipeline.read_pads([PadEnd(0, KEY)], 1, 0)
    effects = pipeline.effects()
    assert commits(effects) == [(EndReason.END, 2, 1)]
    assert counted(effects) == {Fate.WAIT: 2, Fate.ROW: 1, Fate.END: 1}


@pytest.mark.parametrize(("size", "most"), [(8, MAX_TIES), (MAX_TIE_BYTES // 3, 3)])
def test_a_clock_that_stands_still_does_not_grow_what_a_commit_carries(size: int, most: int) -> None:
    pads = PadTimeline()
    payloads = [str(number).encode().ljust(size) for number in range(2 * most)]
    verdicts = [pads.event(number, 7, payload) for number, payload in enumerate(payloads)]
    assert verdicts == [Verdict.ACCEPTED] * most + [Verdict.LATE] * most
    assert pads.event(0, 7, payloads[0]) is Verdict.DUPLICATE
    assert pads.event(0, 8, payloads[-1]) is Verdict.ACCEPTED
    assert pads.ties == (payloads[-1],)


def test_a_frame_that_came_after_its_pad_was_folded_carries_the_later_event_that_it_is_paired_with() -> None:
    pipeline = Pipeline(Rules(schema=Schema("h264", 64, 48, 30)), Limits(), PartitionState())
    pipeline.read_pads([PadEvent(0, KEY, 50, b"late", True)], 1, 0)
    pipeline.silence(KEY, 0)
    pipeline.read_frames([Frame(0, KEY, 0, 0, 10, True, b"unit", STREAM, None), FrameEnd(1, KEY, 1)], 2, 0)
    pipeline.read_pads([PadEnd(1, KEY)], 2, 0)
    (commit,) = (effect for effect in pipeline.effects() if isinstance(effect, Commit))
    assert commit.episode is not None
    draft = commit.episode
    assert (list(draft.events), list(draft.pairing), draft.forced) == ([b"late"], [0], 1)


# ---- back-pressure


def test_pads_wait_by_the_bytes_that_no_frame_has_decided() -> None:
    """EVENTs of a session that goes on are held however many they are; only what is read ahead makes reading wait."""
    pipeline = Pipeline(Rules(schema=Schema("h264", 64, 48, 30)), Limits(pad_bytes=1_000), PartitionState())
    pipeline.observe_ends(200, 400, 1)  # the frames are not caught up
    frames = [Frame(i, KEY, i, i, 10 * i, i == 0, b"unit", STREAM if i == 0 else None, None) for i in range(101)]
    events = [PadEvent(i, KEY, 10 * i, bytes(100), True) for i in range(101)]
    pipeline.read_pads(events, 101, 0)
    assert pipeline.allowed() == (True, False)
    assert pipeline.undecided_bytes == sum(len(event.payload) for event in events)
    pipeline.read_frames(frames[:51], 51, 0)
    assert (pipeline.undecided_pads, pipeline.undecided_bytes) == (50, 5_000)
    assert pipeline.allowed() == (True, False)
    pipeline.read_frames(frames[51:100], 100, 0)
    assert (pipeline.undecided_pads, pipeline.undecided_bytes) == (1, 100)
    assert pipeline.allowed() == (True, True)
    assert pipeline.undecided_frames == 0


def test_frames_that_wait_for_their_pad_are_counted_until_they_are_decided_or_cut_off() -> None:
    pipeline = Pipeline(Rules(schema=Schema("h264", 64, 48, 30)), Limits(frames=3), PartitionState())
    frames = [
        Frame(i, KEY, i, index, index, i == 0, b"unit", STREAM if i == 0 else None, None)
        for i, index in enumerate([0, 1, 2, 4])
    ]
    pipeline.read_frames(frames, 4, 0)
    assert (pipeline.undecided_frames, pipeline.allowed()[0]) == (4, False)
    pipeline.read_pads([PadEvent(0, KEY, 1, b"event", True)], 1, 0)
    assert (pipeline.undecided_frames, pipeline.allowed()[0]) == (3, False), "one is proven"
    pipeline.read_pads([PadEvent(1, KEY, 9, b"event", True)], 2, 0)
    assert (pipeline.undecided_frames, pipeline.allowed()[0]) == (0, True), "also the one behind the hole"
    pipeline.read_frames([FrameEnd(4, KEY, 5)], 5, 0)
    assert pipeline.undecided_frames == 0
