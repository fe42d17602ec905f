"""What a partition still has to carry out: in order, letters before what releases their records, units together."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

import padreel.outbox
from padreel.model import (
    AppendUnit,
    Commit,
    DeadLetter,
    DropSpan,
    Effect,
    LetterKind,
    OpenSpan,
    PartitionState,
    Stream,
    Topic,
)
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


def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let units gather for longer than any test takes."""
    monkeypatch.setattr(padreel.outbox, "_GATHER_SECONDS", 3_600)


def test_units_alone_are_taken_once_they_have_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(padreel.outbox, "_GATHER_SECONDS", 0.05)

    async def play() -> None:
        outbox = opened(UNIT)
        outbox.push([UNIT, UNIT])
        assert outbox.take() is None
        assert not outbox.is_idle
        assert await outbox.wait(60)
        assert taken(outbox) == [[UNIT] * 3]
        outbox.push([UNIT])  # and so do the next ones
        assert outbox.take() is None
        assert await outbox.wait(60)
        assert taken(outbox) == [[UNIT]]

    asyncio.run(play())


@pytest.mark.parametrize("pressing", [COMMIT, LETTERS, DropSpan(1), OpenSpan(2, STREAM)])
def test_nothing_else_waits_nor_what_lies_before_it(
    pressing: Effect | Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    never(monkeypatch)

    async def play() -> None:
        outbox = opened(UNIT)
        assert outbox.take() is None
        outbox.push([pressing])
        assert await outbox.wait(60)
        expected = [[UNIT], LETTERS] if pressing is LETTERS else [[UNIT, pressing]]
        assert taken(outbox) == expected

    asyncio.run(play())


def test_many_bytes_and_many_units_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backlog is written as fast as before, and no more than so much waits for nothing."""
    never(monkeypatch)
    monkeypatch.setattr(padreel.outbox, "_GATHER_BYTES", 10)
    monkeypatch.setattr(padreel.outbox, "_EFFECTS_PER_STEP", 3)

    async def play() -> None:
        large = AppendUnit(1, 0, True, bytes(6))
        outbox = opened(large)
        assert outbox.take() is None
        outbox.push([large])
        assert taken(outbox) == [[large, large]]
        small = AppendUnit(1, 0, True, b"x")
        outbox.push([small] * 4)
        assert taken(outbox) == [[small] * 3, [small]]  # the rest of what was due waits no more either

    asyncio.run(play())


def test_what_is_dropped_while_it_gathers_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(padreel.outbox, "_GATHER_SECONDS", 0.05)

    async def play() -> None:
        outbox = opened(UNIT)
        outbox.drop()
        outbox.open()
        assert not await outbox.wait(0.2)  # nothing is due any more
        monkeypatch.setattr(padreel.outbox, "_GATHER_SECONDS", 3_600)
        outbox.push([UNIT])
        assert outbox.take() is None

    asyncio.run(play())


@given(
    pushes=st.lists(st.lists(st.sampled_from([UNIT, COMMIT, LETTERS, DropSpan(1)]), max_size=6), max_size=8),
    takes=st.lists(st.integers(0, 3), min_size=8, max_size=8),
)
def test_everything_is_taken_once_and_in_order(pushes: list[list[Effect | Letters]], takes: list[int]) -> None:
    async def play() -> list[list[Effect] | Letters]:
        outbox = opened()
        steps: list[list[Effect] | Letters] = []
        for entries, count in zip(pushes, takes, strict=False):
            outbox.push(entries)
            steps += [step for _ in range(count) if (step := outbox.take()) is not None]
        outbox.push([COMMIT])
        return steps + taken(outbox)

    steps = asyncio.run(play())
    flat = [entry for step in steps for entry in ([step] if isinstance(step, Letters) else step)]
    assert flat == [entry for entries in pushes for entry in entries] + [COMMIT]
    assert all(COMMIT not in step[:-1] for step in steps if isinstance(step, list))


def test_what_is_in_hand_is_not_done() -> None:
    outbox = opened(COMMIT)
    assert outbox.take() == [COMMIT]
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
        outbox.push([COMMIT])
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
        outbox.push([COMMIT])
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(play())
