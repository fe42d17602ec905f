"""What must be true of the two topics before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from padreel.errors import BrokerError
from padreel.kafka.connect import check_connection
from padreel_schemas.security import PLAINTEXT, Security


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster that was found, and how many partitions each of the two topics has."""

    cluster_id: str
    partitions: int


async def ensure_topic(
    connection: Mapping[str, Any], topic: str, what: str, settings: Mapping[str, str], *, client_id: str
) -> None:
    """Create a topic of one partition with these settings if it is not there; `what` it is for, in words.

    Raises BrokerError.
    """
    admin = AIOKafkaAdminClient(**connection, client_id=client_id)
    try:
        await admin.start()
        if topic in await admin.list_topics():
            return
        brokers = len((await admin.describe_cluster())["brokers"])
        wanted = NewTopic(topic, num_partitions=1, replication_factor=min(3, brokers), topic_configs={**settings})
        response = await admin.create_topics([wanted])
        for _, code, *message in response.topic_errors:
            if code not in (0, TopicAlreadyExistsError.errno):
                needed = " and ".join(f"{name}={value}" for name, value in settings.items())
                raise BrokerError(
                    f"topic {topic!r} for {what} cannot be created: {message[0] or for_code(code).__name__}; "
                    f"create it with {needed}"
                )
    except (KafkaError, OSError) as error:
        raise BrokerError(f"topic {topic!r} for {what}: {error}") from error
    finally:
        await admin.close()


async def check_topics(
    bootstrap_servers: str, frames_topic: str, pads_topic: str, *, client_id: str, security: Security = PLAINTEXT
) -> Cluster:
    """See that a broker can be used, and that both topics exist and are partitioned alike.

    Raises BrokerError that names what was found and what to do.
    """
    await check_connection(bootstrap_servers, security, client_id=client_id)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, client_id=client_id, **security.client_options())
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
        # Asked for all: asking for one by its name may create it.
        counts = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
    except (KafkaError, OSError) as error:
        raise BrokerError(
            f"no Kafka broker answers at {bootstrap_servers} ({error}); check --bootstrap-servers "
            "(KAFKA_BOOTSTRAP_SERVERS)"
        ) from error
    finally:
        await admin.close()
    return Cluster(str(cluster.get("cluster_id") or ""), equal_partitions(counts, frames_topic, pads_topic))


def equal_partitions(counts: dict[str, int], frames_topic: str, pads_topic: str) -> int:
    """The partition count that both topics have; `counts` is by topic. Raises BrokerError if there is no such."""
    for topic in (frames_topic, pads_topic):
        if not counts.get(topic):
            raise BrokerError(
                f"topic {topic!r} does not exist; `padreel-shim topics` creates both topics with equal partition counts"
            )
    frames, pads = counts[frames_topic], counts[pads_topic]
    if frames != pads:
        raise BrokerError(
            f"topic {frames_topic!r} has {frames} partitions, topic {pads_topic!r} has {pads}; they must have the same "
            "number, else a session's frames and its pad go to different consumers: create the topics anew with equal "
            "counts (`padreel-shim topics`)"
        )
    return frames
