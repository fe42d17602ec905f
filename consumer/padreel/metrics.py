"""Every metric: its name, help and labels, in one place.

Names have one prefix and base units. No label carries a session id: only what is bounded by the topics' partitions and
by the enumerations of `padreel.model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# A series beside each counter that says when it was made: no dashboard asks for it, and it doubles what is scraped.
disable_created_metrics()  # type: ignore[no-untyped-call]

_TOPIC = ("topic", "partition", "consumergroup")
_PARTITION = ("partition", "consumergroup")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class Definition:
    """What a metric is, for the documentation; `name` as a dashboard queries it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


class Metrics:
    """The metrics of one consumer, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.definitions: list[Definition] = []

        self.build_info = self._gauge("build_info", "Always 1; the version is in the label.", ("version",))
        self.records = self._counter("records", "Records read.", _TOPIC)
        self.bytes = self._counter("bytes", "Bytes of record values read.", _TOPIC)
        self.rejected = self._counter(
            "rejected", "Records that cannot be used, by reason; each is in the log.", (*_TOPIC, "reason")
        )
        self.frames = self._counter(
            "frames", "Frame records accounted for, by what became of them.", (*_PARTITION, "fate")
        )
        self.episodes = self._counter("episodes", "Episodes committed, by why they ended.", (*_PARTITION, "reason"))
        self.sessions_rejected = self._counter(
            "sessions_rejected", "Sessions, or parts of them, rejected as a whole.", (*_PARTITION, "reason")
        )
        self.pad_events = self._counter("pad_records", "Pad records by how they were taken.", (*_PARTITION, "verdict"))
        self.forced = self._counter(
            "forced_frames", "Frames whose pad was decided by a deadline instead of by the pad stream.", _PARTITION
        )
        self.lag_records = self._gauge("lag_records", "Records published but not yet read.", _TOPIC)
        self.lag_seconds = self._gauge(
            "lag_seconds", "How far reading is behind what the rigs published; 0 when all is read.", _TOPIC
        )
        self.position = self._gauge("read_position", "Offset of the next record to read.", _TOPIC)
        self.buffered_bytes = self._gauge(
            "buffered_bytes",
            "Bytes held: of pad records not yet paired, of video waiting for the disk.",
            (*_PARTITION, "what"),
        )
        self.open_sessions = self._gauge("open_sessions", "Sessions that have begun and not ended.", _PARTITION)
        self.commit_seconds = self._histogram(
            "commit_seconds", "From staging an episode's files to having it published in the dataset.", _PARTITION
        )
        self.storage_retries = self._counter(
            "storage_retries", "Times that writing to the output root failed and was tried again.", _PARTITION
        )
        self.dead_letters = self._counter(
            "dead_letters", "Dead letters acknowledged by their topic.", (*_PARTITION, "kind", "reason")
        )
        self.dead_letter_retries = self._counter(
            "dead_letter_retries", "Times that the dead-letter topic took nothing and was tried again.", _PARTITION
        )
        self.reread_bytes = self._counter(
            "reread_bytes", "Bytes of record values that were read again, by this consumer or after another.", _TOPIC
        )
        self.fences = self._counter("fences", "Times that another writer took a shard from this one.", _PARTITION)
        self.rebalances = self._counter("rebalances", "Times that the group assigned partitions.", ("consumergroup",))

    def drop_partition(self, topics: Sequence[str], partition: int, group: str) -> None:
        """Forget the gauges of a partition that this consumer no longer has; counters go on."""
        for topic in topics:
            for gauge in (self.lag_records, self.lag_seconds, self.position):
                _remove(gauge, (topic, str(partition), group))
        for what in ("pads", "video"):
            _remove(self.buffered_bytes, (str(partition), group, what))
        _remove(self.open_sessions, (str(partition), group))

    def render(self) -> bytes:
        """The exposition text, as `CONTENT_TYPE` says."""
        return generate_latest(self.registry)

    def table(self) -> str:
        """All metrics as a Markdown table, for the documentation."""
        lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
        for one in self.definitions:
            labels = ", ".join(f"`{label}`" for label in one.labels)
            lines.append(f"| `{one.name}` | {one.kind} | {labels} | {one.help} |")
        return "\n".join(lines) + "\n"

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        self.definitions.append(Definition(f"padreel_{name}_total", "counter", labels, text))
        return Counter(f"padreel_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...]) -> Gauge:
        self.definitions.append(Definition(f"padreel_{name}", "gauge", labels, text))
        return Gauge(f"padreel_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, labels: tuple[str, ...]) -> Histogram:
        self.definitions.append(Definition(f"padreel_{name}", "histogram", labels, text))
        return Histogram(f"padreel_{name}", text, labels, registry=self.registry, buckets=_SECONDS)


def _remove(gauge: Gauge, labels: tuple[str, ...]) -> None:
    try:
        gauge.remove(*labels)
    except KeyError:
        return  # never set: nothing to forget
