from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

import padreel.app
from padreel.app import run_consumer, stop_on_signals
from padreel.errors import BrokerError, CorruptShardError, PadreelError
from padreel.settings import ConsumerSettings


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    async def consume(settings: ConsumerSettings) -> None:
        raise error

    monkeypatch.setattr(padreel.app, "consume", consume)


@pytest.mark.parametrize(
    "error",
    [
        BrokerError("first"),
        ExceptionGroup("tasks", [CorruptShardError("first"), BrokerError("second")]),
        ExceptionGroup("tasks", [ExceptionGroup("inner", [BrokerError("first")])]),
    ],
)
def test_an_error_of_a_task_comes_out_alone(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    fail_with(monkeypatch, error)
    with pytest.raises(PadreelError, match=r"^first$"):
        run_consumer(ConsumerSettings.model_construct())


def test_a_bug_beside_an_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, ExceptionGroup("tasks", [BrokerError("first"), ZeroDivisionError()]))
    with pytest.raises(ExceptionGroup) as caught:
        run_consumer(ConsumerSettings.model_construct())
    assert caught.group_contains(ZeroDivisionError)


class Stoppable:
    def __init__(self) -> None:
        self.stopped = asyncio.Event()

    def stop(self) -> None:
        self.stopped.set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_stops_and_the_second_exits(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)

    async def play() -> None:
        consumer: Any = Stoppable()
        stop_on_signals(consumer)
        os.kill(os.getpid(), number)
        await asyncio.wait_for(consumer.stopped.wait(), 300)
        assert exits == []
        os.kill(os.getpid(), number)
        async with asyncio.timeout(300):
            while not exits:  # noqa: ASYNC110 - set by a signal
                await asyncio.sleep(0.01)

    asyncio.run(play())
    assert exits == [128 + number]
