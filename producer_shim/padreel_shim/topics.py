"""The two topics: the same number of partitions, and messages large enough for a 4K keyframe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code

from padreel_schemas.reach import UnreachableError, check_reachable
from padreel_schemas.security import PLAINTEXT, Security
from padreel_shim.producer import MAX_MESSAGE_BYTES

_TOPIC_EXISTS = 36
# A batch has a header of its own, and Kafka's limit is on the batch.
_TOPIC_MESSAGE_BYTES = MAX_MESSAGE_BYTES + 64 * 1024


class TopicsError(Exception):
    """The topics cannot be created, or exist and differ from what padreel needs; says in what."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it is now. `max_message_bytes` is None where the broker does not say."""

    name: str
    partitions: int
    max_message_bytes: int | None
    created: bool


async def create_topics(
    bootstrap_servers: str,
    frames_topic: str,
    pads_topic: str,
    *,
    partitions: int,
    replication_factor: int,
    security: Security = PLAINTEXT,
) -> list[Topic]:
    """Create what is missing, then return both topics, the frames' first.

    A topic that is there already keeps its partitions, and a missing one gets as many as the other has. Raises
    TopicsError where no broker can be used, it refuses, the counts differ, or a keyframe does not fit.
    """
    if frames_topic == pads_topic:
        raise TopicsError(f"topic {frames_topic}: frames and pads need a topic each")
    client_id = "padreel-shim-topics"
    try:
        await check_reachable(bootstrap_servers, security, client_id=client_id)
    except UnreachableError as error:
        raise TopicsError(str(error)) from error
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, client_id=client_id, **security.client_options())
    try:
        await client.start()
        try:
            return await _ensure(client, (frames_topic, pads_topic), partitions, replication_factor)
        finally:
            await client.close()
    except (KafkaError, OSError) as error:
        raise TopicsError(f"broker {bootstrap_servers}: {error if str(error) else type(error).__name__}") from error


async def _ensure(
    client: AIOKafkaAdminClient, names: tuple[str, str], partitions: int, replication_factor: int
) -> list[Topic]:
    existing = set(await client.list_topics()) & set(names)
    counts = await _partition_counts(client, existing)
    if counts:
        partitions = next(iter(counts.values()))
    missing = [name for name in names if name not in existing]
    created = {name for name in missing if await _create(client, name, partitions, replication_factor)}
    counts |= dict.fromkeys(created, partitions)
    counts |= await _partition_counts(client, set(missing) - created)
    frames, pads = names
    if counts[frames] != counts[pads]:
        raise TopicsError(
            f"topic {frames} has {counts[frames]} partitions, topic {pads} has {counts[pads]}; expected as many: "
            "delete the one that holds nothing of worth, or take other names"
        )
    limits = await _message_limits(client, names)
    limit = limits.get(frames)
    if limit is not None and limit < MAX_MESSAGE_BYTES:
        raise TopicsError(
            f"topic {frames}: max.message.bytes is {limit}, expected at least {MAX_MESSAGE_BYTES} so that a keyframe "
            f"fits; set it with kafka-configs --alter --topic {frames} --add-config max.message.bytes="
            f"{_TOPIC_MESSAGE_BYTES}"
        )
    return [Topic(name, counts[name], limits.get(name), name in created) for name in names]


async def _create(client: AIOKafkaAdminClient, name: str, partitions: int, replication_factor: int) -> bool:
    """Create one topic; False where somebody else did so meanwhile."""
    topic = NewTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=replication_factor,
        topic_configs={"max.message.bytes": str(_TOPIC_MESSAGE_BYTES)},
    )
    response = await client.create_topics([topic])
    for _, code, *message in response.topic_errors:
        if code == _TOPIC_EXISTS:
            return False
        if code != 0:
            reason = next((text for text in message if text), for_code(code).__name__)
            raise TopicsError(f"topic {name}: cannot be created: {reason}")
    return True


async def _partition_counts(client: AIOKafkaAdminClient, names: set[str]) -> dict[str, int]:
    if not names:
        return {}
    described: list[dict[str, Any]] = await client.describe_topics(sorted(names))
    for topic in described:
        if topic["error_code"] != 0:
            raise TopicsError(f"topic {topic['topic']}: {for_code(topic['error_code']).__name__}")
    return {topic["topic"]: len(topic["partitions"]) for topic in described}


async def _message_limits(client: AIOKafkaAdminClient, names: tuple[str, str]) -> dict[str, int]:
    limits: dict[str, int] = {}
    for name in names:
        resource = ConfigResource(ConfigResourceType.TOPIC, name, configs={"max.message.bytes": ""})
        for response in await client.describe_configs([resource]):
            for _, _, _, resource_name, entries in response.resources:
                for entry_name, entry_value, *_ in entries:
                    if entry_name == "max.message.bytes":
                        limits[resource_name] = int(entry_value)
    return limits
