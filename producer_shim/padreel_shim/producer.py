"""Records to the broker: idempotent, in order, with a bound on what is under way.

Two Kafka producers, because compression is a producer's setting: pads compress well, H.264 not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Protocol, Self

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from padreel_schemas.reach import UnreachableError, check_reachable
from padreel_schemas.security import PLAINTEXT, Security

TopicKind = Literal["frames", "pads"]

FRAMES_TOPIC = "padreel.frames"
PADS_TOPIC = "padreel.gamepad"
# An intra picture of 4K H.264 at the highest rates in use stays below 8 MiB; twice that is the topics' limit.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024


class PublishError(Exception):
    """The broker cannot be reached or refuses a record; says which broker and topic."""


class Publisher(Protocol):
    """What publishing needs: `RigProducer`, or an in-memory one in tests."""

    @property
    def cluster_id(self) -> str: ...

    async def send(
        self, topic: TopicKind, key: bytes, value: bytes, acknowledged: Callable[[], None] | None = None
    ) -> None: ...

    async def drain(self) -> None: ...


class RigProducer:
    """An `async with` block that publishes records.

    Within a topic and key the broker stores records in the order of `send`, each once. `send` returns when the
    record is queued and waits while `max_in_flight_records` records or `max_in_flight_bytes` bytes are queued and not
    yet acknowledged by all in-sync replicas; a single record larger than that goes when nothing else is under way.

    Once the block is entered `cluster_id` is the broker's name for itself; `frames_sent`, `pads_sent` and
    `bytes_sent` count acknowledged records and their values' bytes.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        frames_topic: str = FRAMES_TOPIC,
        pads_topic: str = PADS_TOPIC,
        *,
        max_in_flight_records: int = 2_000,
        max_in_flight_bytes: int = 32 * 1024 * 1024,
        timeout_seconds: float = 30.0,
        client_id: str = "padreel-shim",
        security: Security = PLAINTEXT,
    ) -> None:
        if max_in_flight_records < 1 or max_in_flight_bytes < 1:
            raise ValueError("at least one record and one byte must be allowed in flight")
        self._bootstrap_servers = bootstrap_servers
        self._topics: dict[TopicKind, str] = {"frames": frames_topic, "pads": pads_topic}
        self._max_records = max_in_flight_records
        self._max_bytes = max_in_flight_bytes
        self._timeout_ms = round(timeout_seconds * 1000)
        self._client_id = client_id
        self._security = security
        self._producers: dict[TopicKind, AIOKafkaProducer] = {}
        self._changed = asyncio.Event()
        self._failure: PublishError | None = None
        self.cluster_id = ""
        self.in_flight_records = 0
        self.in_flight_bytes = 0
        self.frames_sent = 0
        self.pads_sent = 0
        self.bytes_sent = 0

    async def __aenter__(self) -> Self:
        """Connect. Raises PublishError."""
        try:
            await check_reachable(self._bootstrap_servers, self._security, client_id=self._client_id)
            self.cluster_id = await self._ask_cluster_id()
            for kind in self._topics:
                producer = self._producer(kind)
                self._producers[kind] = producer
                await producer.start()
            await self._check_partitions()
        except UnreachableError as error:
            raise PublishError(str(error)) from error
        except (KafkaError, OSError) as error:
            await self._stop()
            reason = error if str(error) else type(error).__name__
            raise PublishError(
                f"broker {self._bootstrap_servers}: {reason}; `padreel-shim topics` makes topics"
            ) from error
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def send(
        self, topic: TopicKind, key: bytes, value: bytes, acknowledged: Callable[[], None] | None = None
    ) -> None:
        """Queue one record; `acknowledged` is called once the broker has it for good.

        Raises PublishError for this record or an earlier one.
        """
        size = len(key) + len(value)
        await self._room(size)
        name = self._topics[topic]
        self.in_flight_records += 1
        self.in_flight_bytes += size
        try:
            future = await self._producers[topic].send(name, value=value, key=key)
        except (KafkaError, OSError) as error:
            self._fail(name, error)
            self._leave(size)
            raise self._failure or PublishError(str(error)) from error
        except BaseException:
            self._leave(size)
            raise

        def done(result: asyncio.Future[object]) -> None:
            self._leave(size)
            if result.cancelled():
                self._fail(name, "sending was cancelled")
            elif (error := result.exception()) is not None:
                self._fail(name, error)
            else:
                self._count(topic, len(value))
                if acknowledged is not None:
                    acknowledged()

        future.add_done_callback(done)

    async def drain(self) -> None:
        """Wait until everything sent is acknowledged. Raises PublishError."""
        while self.in_flight_records and self._failure is None:
            self._changed.clear()
            await self._changed.wait()
        if self._failure is not None:
            raise self._failure

    async def _room(self, size: int) -> None:
        while self._failure is None and self.in_flight_records:
            if self.in_flight_records < self._max_records and self.in_flight_bytes + size <= self._max_bytes:
                break
            self._changed.clear()
            await self._changed.wait()
        if self._failure is not None:
            raise self._failure

    def _leave(self, size: int) -> None:
        self.in_flight_records -= 1
        self.in_flight_bytes -= size
        self._changed.set()

    def _count(self, topic: TopicKind, size: int) -> None:
        self.bytes_sent += size
        if topic == "frames":
            self.frames_sent += 1
        else:
            self.pads_sent += 1

    def _fail(self, topic: str, error: object) -> None:
        """Keep the first failure: later ones follow from it."""
        if self._failure is None:
            reason = error if str(error) else type(error).__name__
            self._failure = PublishError(f"broker {self._bootstrap_servers}: topic {topic}: {reason}")
        self._changed.set()

    async def _ask_cluster_id(self) -> str:
        client = AIOKafkaAdminClient(
            bootstrap_servers=self._bootstrap_servers,
            client_id=self._client_id,
            **self._security.client_options(),
        )
        try:
            await client.start()
            return str((await client.describe_cluster())["cluster_id"])
        finally:
            await client.close()

    async def _check_partitions(self) -> None:
        """A session's frames and pads must come to partitions of one number, which one consumer reads."""
        counts = {name: len(await self._producers[kind].partitions_for(name)) for kind, name in self._topics.items()}
        if len(set(counts.values())) != 1:
            found = ", ".join(f"topic {name} has {count} partitions" for name, count in counts.items())
            raise PublishError(f"broker {self._bootstrap_servers}: {found}; expected as many")

    async def _stop(self) -> None:
        for producer in self._producers.values():
            await producer.stop()
        self._producers.clear()

    def _producer(self, kind: TopicKind) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            bootstrap_servers=self._bootstrap_servers,
            client_id=f"{self._client_id}-{kind}",
            enable_idempotence=True,  # acks=all, and no retry is stored twice or out of order
            compression_type="lz4" if kind == "pads" else None,
            max_request_size=MAX_MESSAGE_BYTES,
            max_batch_size=256 * 1024 if kind == "frames" else 64 * 1024,
            linger_ms=5,
            request_timeout_ms=self._timeout_ms,
            **self._security.client_options(),
        )
