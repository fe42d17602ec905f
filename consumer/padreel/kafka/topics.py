"""What must be true of the two topics before anything is read."""

from __future__ import annotations

from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from padreel.errors import BrokerError
from padreel.kafka.connect import check_connection
from padreel_schemas.security import PLAINTEXT, Security


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster that was found, and how many partitions each of the two topics has."""

    cluster_id: str
    partitions: int


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
