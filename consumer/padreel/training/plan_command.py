"""What `padreel plan` works out and prints."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from padreel.core.capacity import Capacity, Fleet, capacity_of
from padreel.core.pilot import Augmentation, Pilot, augmentation_of
from padreel.training.settings import PlanSettings

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def run_plan(settings: PlanSettings, say: Callable[[str], None]) -> None:
    """Plan what the settings describe: a fleet, an augmentation, or both."""
    fleet, augmentation = fleet_of(settings), planned_augmentation(settings)
    found = capacity_of(fleet) if fleet else None
    if settings.json_output:
        content: dict[str, Any] = asdict(found) if found else {}
        say(json.dumps(content | ({"augmentation": asdict(augmentation)} if augmentation else {}), indent=2))
        return
    rows = (capacity_rows(found) if found else []) + (augmentation_rows(augmentation) if augmentation else [])
    say(table(rows))


def fleet_of(settings: PlanSettings) -> Fleet | None:
    """The fleet that the settings describe, if they do."""
    if settings.rigs is None or settings.hours_per_day is None or settings.bitrate is None:
        return None
    return Fleet(
        rigs=settings.rigs,
        hours_per_day=settings.hours_per_day,
        bitrate=settings.bitrate * 1e6,
        fps=settings.fps,
        retention_days=settings.retention_days,
        replicas=settings.replicas,
        buffer_bytes=settings.buffer_bytes,
    )


def planned_augmentation(settings: PlanSettings) -> Augmentation | None:
    """What augmenting takes, if the settings have a pilot: `augment_seconds`, or a day of the fleet."""
    if settings.pilot_output_seconds is None or settings.pilot_wall_seconds is None:
        return None
    pilot = Pilot(settings.pilot_output_seconds, settings.pilot_wall_seconds, settings.pilot_num_gpus)
    seconds = settings.augment_seconds
    if seconds is None:
        assert settings.rigs is not None
        assert settings.hours_per_day is not None
        seconds = settings.rigs * settings.hours_per_day * 3600
    return augmentation_of(pilot, seconds, settings.variants_per_episode, settings.target_num_gpus)


def capacity_rows(found: Capacity) -> list[tuple[str, str]]:
    """A row for each thing to choose or to buy."""
    return [
        ("consumers", str(found.consumers)),
        ("partitions of both topics", str(found.partitions)),
        ("dataset, a day", size(found.disk_bytes_per_day)),
        ("dataset, a second of play", size(found.disk_bytes_per_second)),
        ("Kafka, with replicas", size(found.kafka_bytes)),
        ("retention.ms", str(found.retention_ms)),
        ("retention.bytes of the frames", str(found.retention_bytes)),
        ("cores, a consumer", f"{found.cores_per_consumer:.2f}"),
        ("memory, a consumer", size(found.memory_bytes_per_consumer)),
    ]


def augmentation_rows(found: Augmentation) -> list[tuple[str, str]]:
    """A row for each figure of an augmentation."""
    return [
        ("recordings to augment", f"{found.input_seconds / 3600:.4g} h"),
        ("augmented video", f"{found.output_seconds / 3600:.4g} h"),
        ("made in a GPU's second", f"{found.output_seconds_per_gpu_second:.4g} s"),
        ("GPU hours", f"{found.gpu_hours:.4g}"),
        (f"hours on {found.num_gpus} GPUs", f"{found.wall_hours:.4g}"),
        ("GPUs to do this every day", f"{found.gpus_to_keep_up:.4g}"),
    ]


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Two columns."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def size(count: float) -> str:
    """A number of bytes in the unit that suits it, in powers of 1000."""
    for unit in _UNITS[:-1]:
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} {_UNITS[-1]}"
