"""What a client is asked last comes to an end, whatever the client does with it."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError
from structlog.testing import capture_logs

from padreel.kafka import leaving
from padreel.kafka.leaving import in_time


async def done() -> None:
    return None


async def never() -> None:
    await asyncio.Event().wait()


async def cancelled_from_within() -> None:
    inner = asyncio.ensure_future(never())
    await asyncio.sleep(0)
    inner.cancel()
    await inner


async def deaf() -> None:
    """One that a cancellation does not end."""
    while True:
        try:
            await asyncio.sleep(3)
            return
        except asyncio.CancelledError:
            continue


async def refused() -> None:
    raise KafkaConnectionError("gone")


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (done, None),
        (never, "no answer for 0.05 seconds"),
        (cancelled_from_within, "looking for its broker"),
        (deaf, "no answer for 0.05 seconds"),
        (refused, "KafkaConnectionError"),
    ],
)
def test_it_ends_and_says_so(monkeypatch: pytest.MonkeyPatch, last: object, said: str | None) -> None:
    monkeypatch.setattr(leaving, "PATIENCE_SECONDS", 0.05)

    async def ask() -> str:
        await in_time(last(), "went")  # type: ignore[operator]
        return "went on"

    with capture_logs() as lines:
        assert asyncio.run(ask()) == "went on"
    assert [(line["event"], line["log_level"]) for line in lines] == ([("went", "warning")] if said else [])
    assert said is None or said in lines[0]["detail"]


def test_a_bug_is_not_hidden() -> None:
    async def bug() -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        asyncio.run(in_time(bug(), "went"))
