"""What a partition still has to carry out: in order, letters before what releases their records."""

from __future__ import annotations

import asyncio

import pytest

from padreel.model import AppendUnit, Commit, DeadLetter, Effect, LetterKind, OpenSpan, PartitionState, Stream, Topic
from padreel.outbox import Letters, Outbox

STREAM = Stream("h264", 64, 48, 30, b"\x01extradata")
UNIT = AppendUnit(1, 0, True, b"unit")
COMMIT = Commit(PartitionState(), {})
LETTERS = Letters((DeadLetter(LetterKind.RECORD, Topic.FRAMES, 0, 3, 3, "unparsable", "why", b"k", b"value"),))


def opened(*entries: Effect | Letters) -> Outbox:
    outbox = Outbox()
    outbox.open()
    outbox.push(entries)
    return outbox


def taken(outbox: Outbox) -> list[list[Effect] | Letters]:
    steps: list[list[Effect] | Letters] = []
    while (step := outbox.take()) is not None:
        steps.append(step)
        outbox.done()
    return steps


def test_effects_are_taken_up_to_a_commit_and_letters_alone() -> None:
    span = OpenSpan(1, STREAM)
    outbox = opened(span, UNIT, LETTERS, UNIT, COMMIT, LETTERS, COMMIT, UNIT)
    assert outbox.queued_bytes == 3 * len(b"unit") + 2 * len(b"value")
    assert taken(outbox) == [[span, UNIT], LETTERS, [UNIT, COMMIT], LETTERS, [COMMIT], [UNIT]]
    assert outbox.queued_bytes == 0
    assert outbox.is_idle


def test_what_is_in_hand_is_not_done() -> None:
    outbox = opened(UNIT)
    assert outbox.take() == [UNIT]
    assert not outbox.is_idle
    outbox.done()
    assert outbox.is_idle


def test_what_is_dropped_and_what_comes_before_it_opens_again_is_forgotten() -> None:
    outbox = opened(UNIT, COMMIT)
    outbox.drop()
    outbox.push([UNIT])
    assert outbox.take() is None
    assert outbox.queued_bytes == 0
    outbox.open()
    outbox.push([COMMIT])
    assert taken(outbox) == [[COMMIT]]


def test_waiting_ends_when_something_is_pushed_or_time_is_up() -> None:
    async def play() -> tuple[bool, bool, bool]:
        outbox = opened()
        nothing = await outbox.wait(0.01)
        outbox.push([UNIT])
        pushed = await outbox.wait(60)
        asyncio.get_running_loop().call_soon(outbox.nudge)
        return nothing, pushed, await outbox.wait(60)

    assert asyncio.run(play()) == (False, True, True)


def test_a_cancellation_together_with_a_push_is_not_lost() -> None:
    """A writer that misses it would keep a consumer from ending for ever."""

    async def play() -> None:
        outbox = opened()
        waiting = asyncio.create_task(outbox.wait(60))
        await asyncio.sleep(0.01)
        outbox.push([UNIT])
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(play())
