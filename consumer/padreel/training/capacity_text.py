"""What `padreel plan` prints."""

from __future__ import annotations

from padreel.core.capacity import Capacity

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def capacity_table(found: Capacity) -> str:
    """A line for each thing to choose or to buy."""
    rows = [
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
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def size(count: float) -> str:
    """A number of bytes in the unit that suits it, in powers of 1000."""
    for unit in _UNITS[:-1]:
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} {_UNITS[-1]}"
