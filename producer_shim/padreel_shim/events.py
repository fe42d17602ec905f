"""Reads the episodes topic: what consumers have told of sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from google.protobuf.message import DecodeError

from padreel_schemas.reach import UnreachableError, check_reachable
from padreel_schemas.security import Security
from padreel_schemas.v1.episodes_pb2 import EpisodeEvent

EPISODES_TOPIC = "padreel.episodes"
_CLIENT = "padreel-shim-prune"
_WAIT_MS = 500
_FETCH_BYTES = 8 * 2**20


class EventsError(Exception):
    """The episodes topic cannot be read; says which and why."""


@asynccontextmanager
async def _connected(
    bootstrap_servers: str, security: Security
) -> AsyncIterator[tuple[AIOKafkaConsumer, AIOKafkaAdminClient]]:
    connection = {"bootstrap_servers": bootstrap_servers, "client_id": _CLIENT, **security.client_options()}
    consumer = AIOKafkaConsumer(
        **connection, enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_bytes=_FETCH_BYTES
    )
    admin = AIOKafkaAdminClient(**connection)
    try:
        await check_reachable(bootstrap_servers, security, client_id=_CLIENT)
        await consumer.start()
        await admin.start()
        yield consumer, admin
    except UnreachableError as error:
        raise EventsError(str(error)) from error
    except (KafkaError, OSError) as error:
        raise EventsError(f"broker {bootstrap_servers}: {error or type(error).__name__}") from error
    finally:
        await admin.close()
        await consumer.stop()


async def read_events(
    bootstrap_servers: str, topic: str, security: Security
) -> tuple[str, list[tuple[str, EpisodeEvent]]]:
    """The cluster's id, and all events that the topic holds now, each with its session key.

    Records that are no events are passed over. Raises EventsError, also where there is no such topic.
    """
    async with _connected(bootstrap_servers, security) as (consumer, admin):
        cluster_id = str((await admin.describe_cluster())["cluster_id"])
        # Asked for all: asking for one by its name may create it.
        described = [one for one in await admin.describe_topics() if one["topic"] == topic]
        if not described:
            raise EventsError(
                f"broker {bootstrap_servers}: topic {topic} does not exist; a consumer makes it when it starts"
            )
        partitions = [TopicPartition(topic, one["partition"]) for one in described[0]["partitions"]]
        return cluster_id, [event async for event in _events(consumer, partitions)]


async def _events(
    consumer: AIOKafkaConsumer, partitions: list[TopicPartition]
) -> AsyncIterator[tuple[str, EpisodeEvent]]:
    consumer.assign(partitions)
    ends = await consumer.end_offsets(partitions)
    await consumer.seek_to_beginning(*partitions)
    while any([await consumer.position(one) < ends[one] for one in partitions]):
        for records in (await consumer.getmany(timeout_ms=_WAIT_MS)).values():
            for record in records:
                if (event := parse_event(record.key, record.value)) is not None:
                    yield event


def parse_event(key: bytes | None, value: bytes | None) -> tuple[str, EpisodeEvent] | None:
    """The session key and the event in a record, None where it is none."""
    if key is None or value is None:
        return None
    try:
        return key.decode("ascii"), EpisodeEvent.FromString(value)
    except (UnicodeDecodeError, DecodeError):
        return None
