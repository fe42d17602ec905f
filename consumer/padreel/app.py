"""Wiring of `padreel consume`: settings in, a running consumer out. No other module of it reads clocks or signals."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from uuid import uuid4

import structlog

from padreel.announcer import Announcing
from padreel.consumer import Clock, Consumer
from padreel.dataset.layout import DatasetSpec, shard_folder
from padreel.dataset.media import MediaFiles
from padreel.dataset.root import RootIdentity, identity_of, open_root
from padreel.dataset.shard import Shard
from padreel.dataset.spec import dataset_spec, log_gate
from padreel.dataset.told import Told
from padreel.errors import PadreelError, SettingsError
from padreel.kafka import dead_letter, episodes
from padreel.kafka.dead_letter import DeadLetters
from padreel.kafka.episodes import Episodes
from padreel.kafka.source import KafkaSource
from padreel.kafka.topics import Cluster, check_topics, ensure_topic
from padreel.lean import collect_seldom
from padreel.metrics import Metrics
from padreel.model import Topic
from padreel.rig_file import load_rigs
from padreel.server import Server
from padreel.settings import ConsumerSettings

_THREADS = 16  # shards at work at one time; more partitions than that take turns
_SCANNING_THREADS = 2  # recordings of sessions by reference that are looked through at one time

_log = structlog.get_logger("padreel.app")


def run_consumer(settings: ConsumerSettings) -> None:
    """Consume until told to stop. Raises PadreelError; anything else that comes out is a bug."""
    try:
        asyncio.run(consume(settings))
    except* PadreelError as group:
        raise _first(group) from group


def _first(group: BaseExceptionGroup[PadreelError]) -> PadreelError:
    one: BaseException = group
    while isinstance(one, BaseExceptionGroup):
        one = one.exceptions[0]
    assert isinstance(one, PadreelError)
    return one


async def consume(settings: ConsumerSettings) -> None:
    """Check everything that can be checked beforehand, then consume."""
    rigs = load_rigs(settings.rigs)
    spec = dataset_spec(settings, settings.schema_of_root)
    client_id = "padreel"
    cluster = await check_topics(
        settings.bootstrap_servers,
        settings.frames_topic,
        settings.pads_topic,
        client_id=client_id,
        security=settings.security,
    )
    identity = await opened_root(settings, spec, cluster)
    log_gate(settings)
    source = KafkaSource(
        settings.bootstrap_servers,
        settings.group_id,
        settings.frames_topic,
        settings.pads_topic,
        client_id=client_id,
        group_timeout_seconds=settings.group_timeout_seconds,
        security=settings.security,
    )
    media = MediaFiles(settings.media_root)
    metrics = Metrics()
    await ensure_own_topics(settings, client_id)
    topic_names = {Topic.FRAMES: settings.frames_topic, Topic.PADS: settings.pads_topic}
    events = Episodes(settings.connection, settings.episodes_topic, client_id=client_id)
    letters = DeadLetters(settings.connection, settings.dead_letters_topic, topic_names, client_id=client_id)
    with (
        ThreadPoolExecutor(_THREADS, thread_name_prefix="shard") as threads,
        ThreadPoolExecutor(_SCANNING_THREADS, thread_name_prefix="media") as scanning,
    ):
        consumer = Consumer(
            settings,
            settings.rules(spec.schema, spec.game_id),
            partitions=cluster.partitions,
            source=source,
            open_shard=shard_opener(settings, spec, identity, media),
            send_letters=letters.send,
            threads=threads,
            metrics=metrics,
            clock=Clock(time.monotonic_ns, time.time),
            media=media,
            scanning=scanning,
            rigs=rigs,
            announcing=Announcing(partial(Told, settings.output_root, topic=settings.episodes_topic), events.send),
        )
        stop_on_signals(consumer)
        collect_seldom()
        async with letters, events:
            await serve(consumer, metrics, settings)


async def opened_root(settings: ConsumerSettings, spec: DatasetSpec, cluster: Cluster) -> RootIdentity:
    """Make the output root this dataset's, or see that it is. Raises SettingsError, DatasetError."""
    identity = identity_of(
        spec,
        cluster_id=cluster.cluster_id,
        frames_topic=settings.frames_topic,
        pads_topic=settings.pads_topic,
        partitions=cluster.partitions,
        group=settings.group_id,
    )
    try:
        await asyncio.to_thread(open_root, settings.output_root, identity)
    except OSError as error:
        raise SettingsError(f"--output-root (PADREEL_OUTPUT_ROOT): {settings.output_root}: {error}") from error
    return identity


async def ensure_own_topics(settings: ConsumerSettings, client_id: str) -> None:
    """Make the topics that the consumer writes to, where they are not there. Raises BrokerError."""
    for topic, what, made in (
        (settings.dead_letters_topic, "dead letters", dead_letter.TOPIC_SETTINGS),
        (settings.episodes_topic, "events of episodes", episodes.TOPIC_SETTINGS),
    ):
        await ensure_topic(settings.connection, topic, what, made, client_id=client_id)


def shard_opener(
    settings: ConsumerSettings, spec: DatasetSpec, identity: RootIdentity, media: MediaFiles
) -> Callable[[int], Shard]:
    """What opens the shard of a partition, as this process. It blocks, and raises DatasetError, OSError."""
    writer = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"

    def open_shard(partition: int) -> Shard:
        open_root(settings.output_root, identity)
        return Shard.open(
            settings.output_root / shard_folder(partition),
            dataset=spec,
            writer=writer,
            group=identity.group,
            cluster_id=identity.cluster_id,
            frames_topic=identity.frames_topic,
            pads_topic=identity.pads_topic,
            partition=partition,
            partitions=identity.partitions,
            media=media,
            now_ns=time.monotonic_ns,
        )

    return open_shard


async def serve(consumer: Consumer, metrics: Metrics, settings: ConsumerSettings) -> None:
    """Run the consumer, with the HTTP port beside it if there is to be one."""
    server = None
    if settings.metrics_port is not None:
        server = Server(metrics, live=consumer.live, ready=consumer.ready)
        port = await server.start(settings.metrics_host, settings.metrics_port)
        _log.info("serving metrics", host=settings.metrics_host, port=port)
    try:
        await consumer.run()
    finally:
        if server is not None:
            await server.stop()


def stop_on_signals(consumer: Consumer) -> None:
    """SIGTERM and SIGINT stop in good order; the second one at once."""
    loop = asyncio.get_running_loop()
    received: list[int] = []

    def stop(number: int) -> None:
        if received:
            os._exit(128 + number)  # what is committed is safe, the rest is read again
        received.append(number)
        _log.info("stopping", signal=signal.Signals(number).name)
        consumer.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
