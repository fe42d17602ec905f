"""`padreel skip`: record that Kafka no longer has what a shard still needs, so that reading goes on behind the hole."""

from __future__ import annotations

import os
import socket
from uuid import uuid4

from padreel.dataset import entries
from padreel.dataset.commit_log import CommitLog, Lost, Source
from padreel.dataset.layout import shard_folder
from padreel.dataset.lost import commit_lost
from padreel.dataset.root import read_root
from padreel.errors import DatasetError, SettingsError
from padreel.kafka.reading import Range, open_reader
from padreel.kafka.topics import check_topics
from padreel.model import PartitionState, Topic
from padreel.settings import SkipSettings

_CLIENT = "padreel-skip"


async def skip(settings: SkipSettings) -> list[Lost]:
    """Commit what is lost; returns it, at most one range per topic.

    Raises SettingsError, BrokerError, DatasetError, OSError.
    """
    try:
        root = read_root(settings.output_root)
    except FileNotFoundError as error:
        raise SettingsError(
            f"--output-root (PADREEL_OUTPUT_ROOT): {error.filename}: no output root of padreel"
        ) from error
    if not 0 <= settings.partition < root.partitions:
        raise SettingsError(f"--partition: found {settings.partition}, expected 0 to {root.partitions - 1}")
    names = {Topic.FRAMES: root.frames_topic, Topic.PADS: root.pads_topic}
    cluster = await check_topics(
        settings.bootstrap_servers,
        root.frames_topic,
        root.pads_topic,
        client_id=_CLIENT,
        security=settings.security,
    )
    async with open_reader(settings.connection, client_id=_CLIENT) as reader:
        there = {topic: await reader.range(name, settings.partition) for topic, name in names.items()}
    shard = settings.output_root / shard_folder(settings.partition)
    last = CommitLog(shard).last() if shard.is_dir() else None
    if last is None or last.state is None:
        raise DatasetError(f"{shard}: no commit says where reading goes on; there is nothing to skip")
    asked = {Topic.FRAMES: settings.frames_to, Topic.PADS: settings.pads_to}
    lost = [found for topic in Topic if (found := _lost(topic, names[topic], last.state, there[topic], asked[topic]))]
    if not lost:
        raise DatasetError(
            f"{shard}: nothing is lost: reading goes on at offset {last.state.frames_next} of {names[Topic.FRAMES]} "
            f"and {last.state.pads_next} of {names[Topic.PADS]}, which are there. --frames-to and --pads-to give up "
            "more"
        )
    source = Source(
        cluster.cluster_id, root.frames_topic, root.pads_topic, settings.partition, cluster.partitions, root.group
    )
    commit_lost(shard, source, f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}-skip", lost)
    return lost


def _lost(topic: Topic, name: str, state: PartitionState, there: Range, asked: int | None) -> Lost | None:
    """What is to be given up of one topic: up to `asked`, else what the broker has deleted."""
    start = entries.next_offset(state, topic)
    until = max(start, there.begin) if asked is None else asked
    if until == start and asked is None:
        return None
    flag = "--frames-to" if topic is Topic.FRAMES else "--pads-to"
    if not start < until <= there.end:
        raise SettingsError(
            f"{flag}: found {until}, expected an offset above {start}, where reading of {name} goes on, and not beyond "
            f"{there.end}, where it ends"
        )
    if until < there.begin:
        raise SettingsError(f"{flag}: found {until}, but the oldest record of {name} is {there.begin}")
    return Lost(topic, start, until)
