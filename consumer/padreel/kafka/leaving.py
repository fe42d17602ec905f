"""The last things that are asked of a client, which must come to an end also where the broker is away.

With its broker away an aiokafka client looks for it for as long as it takes, also when it is told to stop; and what
awaits tasks of its own that it has cancelled is cancelled itself, which must not reach who asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog
from aiokafka.errors import KafkaError

PATIENCE_SECONDS = 10.0

_log = structlog.get_logger("padreel.kafka")


async def in_time(last: Coroutine[Any, Any, object], otherwise: str) -> None:
    """Wait for it, but not for long; where it does not come to an end, or to a bad one, the log says `otherwise`.

    Raises what is no failure of Kafka's.
    """
    task = asyncio.ensure_future(last)
    await asyncio.wait([task], timeout=PATIENCE_SECONDS)
    if not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=1)
        _log.warning(otherwise, detail=f"no answer for {PATIENCE_SECONDS:g} seconds")
    elif task.cancelled():
        _log.warning(otherwise, detail="the client was looking for its broker")
    elif isinstance(error := task.exception(), KafkaError):
        _log.warning(otherwise, detail=f"{type(error).__name__}: {error}")
    else:
        task.result()
