"""The episodes topic: one event per committed, rejected or quarantined episode, keyed by its session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from padreel.core.episodes import EpisodeEvent
from padreel.errors import BrokerError, EpisodesTopicError
from padreel.kafka.leaving import in_time

_PATIENCE_MS = 10_000  # a stop waits for an attempt in hand
_MAX_EVENT_BYTES = 2**20
TOPIC_SETTINGS = {"retention.ms": "-1"}


class Episodes:
    """Writes events. An `async with` block."""

    def __init__(self, connection: Mapping[str, Any], topic: str, *, client_id: str) -> None:
        self._topic = topic
        self._producer = AIOKafkaProducer(
            **connection,
            client_id=client_id,
            enable_idempotence=True,  # acks=all, and in order
            max_request_size=_MAX_EVENT_BYTES,
            request_timeout_ms=_PATIENCE_MS,
        )

    async def __aenter__(self) -> Episodes:
        """Connect. Raises BrokerError."""
        try:
            await self._producer.start()
        except KafkaError as error:
            await self._producer.stop()
            raise BrokerError(f"topic {self._topic!r} for events of episodes: {error}") from error
        return self

    async def __aexit__(self, *error: object) -> None:
        await in_time(self._producer.stop(), f"closed topic {self._topic!r} without a word")

    async def send(self, events: Sequence[EpisodeEvent]) -> None:
        """Return once every event is acknowledged, in order.

        Raises EpisodesTopicError; the first of them may have been written then.
        """
        try:
            # One after the other: what follows a failed one must not overtake it.
            for event in events:
                await self._producer.send_and_wait(self._topic, key=event.key.encode(), value=event.message())
        except KafkaError as error:
            raise EpisodesTopicError(
                f"topic {self._topic!r} does not take the event of commit {events[0].commit} of partition "
                f"{events[0].partition} ({type(error).__name__}: {error}); recording goes on, it is told later"
            ) from error
