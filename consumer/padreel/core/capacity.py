"""What a fleet of rigs needs, from measured figures. Pure.

The figures are those of the operator's guide, measured by `make bench`: one consumer for up to 200 rigs, with eight
partitions; 110 us of CPU for a frame of 20 KB with its pads, its part of the episode's commit among them; 200 MB for a
consumer, 1 MB for an open session and 170 bytes for each frame of its episode, and up to twice the buffer for each of
its partitions; a hundredth of the video for the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

RIGS_PER_CONSUMER: Final = 200
PARTITIONS_PER_CONSUMER: Final = 8
FRAME_SECONDS: Final = 110e-6
CONSUMER_BYTES: Final = 200_000_000
SESSION_BYTES: Final = 1_000_000
FRAME_BYTES: Final = 170  # of an open session's episode, which is the longest there can be
EPISODE_SECONDS: Final = 900  # the default of --max-episode-seconds
OVERHEAD: Final = 1.01
UNEVEN: Final = 2.0  # the fullest partition against the mean: keys do not spread evenly


@dataclass(frozen=True, slots=True)
class Fleet:
    """Rigs that play so many hours a day; `bitrate` in bits/s of each, `retention_days` as Kafka shall keep records."""

    rigs: int
    hours_per_day: float
    bitrate: float
    fps: int
    retention_days: float
    replicas: int
    buffer_bytes: int


@dataclass(frozen=True, slots=True)
class Capacity:
    """What they need. `retention_bytes` is the setting of the topic of frames, which counts one partition."""

    consumers: int
    partitions: int
    disk_bytes_per_day: int
    disk_bytes_per_second: int  # while all play
    kafka_bytes: int  # with replicas
    retention_ms: int
    retention_bytes: int
    cores_per_consumer: float
    memory_bytes_per_consumer: int


def capacity_of(fleet: Fleet) -> Capacity:
    """Plan for all rigs playing at the same time. Raises ValueError where there is no rig."""
    if fleet.rigs < 1:
        raise ValueError(f"{fleet.rigs} rigs, expected one at least")
    consumers = math.ceil(fleet.rigs / RIGS_PER_CONSUMER)
    partitions = consumers * PARTITIONS_PER_CONSUMER
    per_second = fleet.rigs * fleet.bitrate / 8 * OVERHEAD
    per_day = per_second * fleet.hours_per_day * 3600
    retained = per_day * fleet.retention_days
    frames = fleet.rigs * fleet.fps / consumers
    session_bytes = SESSION_BYTES + FRAME_BYTES * EPISODE_SECONDS * fleet.fps
    buffers = PARTITIONS_PER_CONSUMER * 2 * fleet.buffer_bytes
    return Capacity(
        consumers=consumers,
        partitions=partitions,
        disk_bytes_per_day=math.ceil(per_day),
        disk_bytes_per_second=math.ceil(per_second),
        kafka_bytes=math.ceil(retained * fleet.replicas),
        retention_ms=round(fleet.retention_days * 86_400_000),
        retention_bytes=math.ceil(retained / partitions * UNEVEN),
        cores_per_consumer=frames * FRAME_SECONDS,
        memory_bytes_per_consumer=CONSUMER_BYTES + buffers + math.ceil(fleet.rigs / consumers) * session_bytes,
    )
