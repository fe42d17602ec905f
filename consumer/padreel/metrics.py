"""Every metric: its name, help and labels, in one place.

Names have one prefix and base units. No label carries a session id: only what is bounded by the topics' partitions, by
the enumerations of `padreel.model`, and by the list of rigs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from padreel.core.align import Verdict
from padreel.core.episodes import EventKind
from padreel.core.quality import COMPONENTS
from padreel.model import CloseReason, EndReason, Fate, LetterKind, RejectReason

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# A series beside each counter that says when it was made: no dashboard asks for it, and it doubles what is scraped.
disable_created_metrics()  # type: ignore[no-untyped-call]

_TOPIC = ("topic", "partition", "consumergroup")
_PARTITION = ("partition", "consumergroup")
_GROUP = ("consumergroup",)
_RIG = ("rig", "consumergroup")

_STALLS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# A commit outlasts the longest of these while the disk is full.
_COMMITS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_PAD_AGES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

RECORD_BUFFERS = ("frames", "pads")
BYTE_BUFFERS = ("video", "pads")
STEPS = ("stage", "commit", "publish")
_SESSION_REJECTIONS = (CloseReason.RESTARTED, CloseReason.SCHEMA, CloseReason.MEDIA, CloseReason.UNDECODABLE)


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
        self._of_topic: list[Gauge] = []
        self._of_partition: list[Gauge] = []
        self._of_buffer: list[Gauge] = []

        self.build_info = self._gauge("build_info", "Always 1; the version is in the label.", ("version",))
        self._define_reading()
        self._define_sessions()
        self._define_rigs()
        self._define_writing()
        self._define_process()

    def _define_reading(self) -> None:
        self.records = self._counter("records", "Records read.", _TOPIC)
        self.bytes = self._counter("bytes", "Bytes of record values read.", _TOPIC)
        self.rejected = self._counter(
            "rejected", "Records that cannot be used, by reason; each is in the log.", (*_TOPIC, "reason")
        )
        self.reread_bytes = self._counter(
            "reread_bytes", "Bytes of record values that were read again, by this consumer or after another.", _TOPIC
        )
        self.lag_records = self._gauge("lag_records", "Records published but not yet read.", _TOPIC)
        self.lag_seconds = self._gauge(
            "lag_seconds", "How far reading is behind what the rigs published; 0 when all is read.", _TOPIC
        )
        self.position = self._gauge("read_position", "Offset of the next record to read.", _TOPIC)
        self.next_offset = self._gauge(
            "next_offset", "Offset that the shard's log says to go on from: what lies before it is accounted.", _TOPIC
        )
        self.next_age_seconds = self._gauge(
            "next_age_seconds",
            "Age of the oldest record that is still needed, 0 when none is; retention must be longer.",
            _TOPIC,
        )

    def _define_sessions(self) -> None:
        self.open_sessions = self._gauge("open_sessions", "Sessions that have begun and not ended.", _PARTITION)
        self.silent_sessions = self._gauge(
            "silent_sessions", "Open sessions that had no frame for the session timeout.", _PARTITION
        )
        self.longest_session_seconds = self._gauge(
            "longest_session_seconds",
            "How long the longest of the open sessions that are not silent has been recording, by its rig's clock.",
            _PARTITION,
        )
        self.watermark_delay_seconds = self._gauge(
            "watermark_delay_seconds",
            "How long a frame has been waiting for its pad, of those that wait the one that waits longest; 0 when none "
            "does.",
            _PARTITION,
        )
        self.pad_events = self._counter("pad_records", "Pad records by how they were taken.", (*_PARTITION, "verdict"))
        self.frames = self._counter(
            "frames", "Frame records accounted for, by what became of them.", (*_PARTITION, "fate")
        )
        self.forced = self._counter(
            "forced_frames", "Frames whose pad was decided by a deadline instead of by the pad stream.", _PARTITION
        )
        self.pad_age_seconds = self._histogram(
            "pad_age_seconds",
            "Age of the EVENT that a committed frame is paired with, of one frame in each second of video.",
            _PARTITION,
            _PAD_AGES,
        )
        buffer = (*_PARTITION, "what")
        self.buffered_records = self._gauge(
            "buffered_records", "Records held that are not yet paired.", buffer, self._of_buffer
        )
        self.buffer_limit_records = self._gauge(
            "buffer_limit_records", "How many of them make reading wait.", buffer, self._of_buffer
        )
        self.buffered_bytes = self._gauge(
            "buffered_bytes",
            "Bytes held: of pad records not yet paired, of video waiting for the disk.",
            buffer,
            self._of_buffer,
        )
        self.buffer_limit_bytes = self._gauge(
            "buffer_limit_bytes", "How many of them make reading wait.", buffer, self._of_buffer
        )

    def _define_rigs(self) -> None:
        """Of single rigs, as --rigs lists them; the others are 'unknown' together."""
        self.rig_last_frame = self._gauge(
            "rig_last_frame_timestamp_seconds", "When the rig's latest frame was published, in Unix time.", _RIG
        )
        self.rig_open_sessions = self._gauge(
            "rig_open_sessions", "The rig's sessions whose frames have begun and not ended, silent ones too.", _RIG
        )
        self.rig_frames = self._counter(
            "rig_frames",
            "The rig's frame records accounted for, by what became of them; all but 'row' were dropped.",
            (*_RIG, "fate"),
        )
        self.rig_rejected = self._counter("rig_rejected", "The rig's records that cannot be used.", _RIG)
        self.rig_sessions_rejected = self._counter(
            "rig_sessions_rejected", "The rig's sessions, or parts of them, rejected as a whole.", _RIG
        )
        self.rig_pad_age_seconds = self._histogram(
            "rig_pad_age_seconds",
            "Age of the EVENT that a committed frame of the rig is paired with, of one frame in each second of video.",
            _RIG,
            _PAD_AGES,
        )

    def _define_writing(self) -> None:
        self.episodes = self._counter("episodes", "Episodes committed, by why they ended.", (*_PARTITION, "reason"))
        self.episodes_quarantined = self._counter(
            "episodes_quarantined",
            "Episodes committed whose quality is below the threshold, by the component that costs it most.",
            (*_PARTITION, "component"),
        )
        self.sessions_rejected = self._counter(
            "sessions_rejected", "Sessions, or parts of them, rejected as a whole.", (*_PARTITION, "reason")
        )
        self.remuxed_bytes = self._counter(
            "remuxed_bytes", "Bytes of access units written to staged mp4 files.", _PARTITION
        )
        self.commit_seconds = self._histogram(
            "commit_seconds",
            "From staging an episode's files to having it published in the dataset, with all waiting.",
            _PARTITION,
            _COMMITS,
        )
        self.commit_step_seconds = self._histogram(
            "commit_step_seconds",
            "The same by step, the last attempt of each: stage the files, commit them to the log, publish them.",
            (*_PARTITION, "step"),
            _COMMITS,
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
        self.episode_events = self._counter(
            "episode_events",
            "Events of episodes acknowledged by the episodes topic; some are told again after a recovery.",
            (*_PARTITION, "kind"),
        )
        self.episode_event_retries = self._counter(
            "episode_event_retries", "Times that events of episodes could not be told and were tried again.", _PARTITION
        )
        self.fences = self._counter("fences", "Times that another writer took a shard from this one.", _PARTITION)

    def _define_process(self) -> None:
        self.rebalances = self._counter("rebalances", "Times that the group assigned partitions.", _GROUP)
        self.event_loop_stall_seconds = self._histogram(
            "event_loop_stall_seconds",
            "How much later than asked the event loop woke a task, ten times a second.",
            _GROUP,
            _STALLS,
        )
        self.storage_available_bytes = self._gauge(
            "storage_available_bytes", "Bytes that can still be written below the output root.", _GROUP
        )
        self.storage_size_bytes = self._gauge("storage_size_bytes", "Bytes that its filesystem has in all.", _GROUP)

    # ---- series come and go with partitions

    def begin_partition(self, topics: Sequence[str], partition: int, group: str) -> None:
        """Let a partition's counters begin at 0: Prometheus cannot see the first step of one that begins above."""
        where = str(partition), group
        for topic in topics:
            for counter in (self.records, self.bytes, self.reread_bytes):
                counter.labels(topic, *where)
            for why in RejectReason:
                self.rejected.labels(topic, *where, why.value)
        for fate in Fate:
            self.frames.labels(*where, fate.value)
        for end in EndReason:
            self.episodes.labels(*where, end.value)
        for component in COMPONENTS:
            self.episodes_quarantined.labels(*where, component)
        for close in _SESSION_REJECTIONS:
            self.sessions_rejected.labels(*where, close.value)
            self.dead_letters.labels(*where, LetterKind.SESSION.value, close.value)
        for why in RejectReason:
            self.dead_letters.labels(*where, LetterKind.RECORD.value, why.value)
        for verdict in Verdict:
            self.pad_events.labels(*where, verdict.value)
        for counter in (
            self.forced,
            self.remuxed_bytes,
            self.storage_retries,
            self.dead_letter_retries,
            self.episode_event_retries,
            self.fences,
        ):
            counter.labels(*where)
        for kind in EventKind:
            self.episode_events.labels(*where, kind.value)
        self.pad_age_seconds.labels(*where)
        self.commit_seconds.labels(*where)
        for step in STEPS:
            self.commit_step_seconds.labels(*where, step)

    def drop_partition(self, topics: Sequence[str], partition: int, group: str) -> None:
        """Forget the gauges of a partition that this consumer no longer has; counters go on."""
        where = str(partition), group
        for gauge in self._of_topic:
            for topic in topics:
                _remove(gauge, (topic, *where))
        for gauge in self._of_partition:
            _remove(gauge, where)
        for gauge in self._of_buffer:
            for what in {*RECORD_BUFFERS, *BYTE_BUFFERS}:
                _remove(gauge, (*where, what))

    # ---- and with the list of rigs

    def begin_rigs(self, rigs: Iterable[str], group: str) -> None:
        """Let the counters of these rigs begin at 0."""
        for rig in rigs:
            for fate in Fate:
                self.rig_frames.labels(rig, group, fate.value)
            for one in (self.rig_rejected, self.rig_sessions_rejected, self.rig_pad_age_seconds):
                one.labels(rig, group)

    def forget_rigs(self, rigs: Iterable[str], group: str) -> None:
        """Forget everything of rigs that are not listed any more."""
        for rig in rigs:
            for fate in Fate:
                _remove(self.rig_frames, (rig, group, fate.value))
            for one in (
                self.rig_last_frame,
                self.rig_open_sessions,
                self.rig_rejected,
                self.rig_sessions_rejected,
                self.rig_pad_age_seconds,
            ):
                _remove(one, (rig, group))

    # ---- what is served and documented

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

    def _gauge(self, name: str, text: str, labels: tuple[str, ...], group: list[Gauge] | None = None) -> Gauge:
        self.definitions.append(Definition(f"padreel_{name}", "gauge", labels, text))
        gauge = Gauge(f"padreel_{name}", text, labels, registry=self.registry)
        if group is not None:
            group.append(gauge)
        elif labels == _TOPIC:
            self._of_topic.append(gauge)
        elif labels == _PARTITION:
            self._of_partition.append(gauge)
        return gauge

    def _histogram(self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
        self.definitions.append(Definition(f"padreel_{name}", "histogram", labels, text))
        return Histogram(f"padreel_{name}", text, labels, registry=self.registry, buckets=buckets)


def _remove(metric: Counter | Gauge | Histogram, labels: tuple[str, ...]) -> None:
    try:
        metric.remove(*labels)
    except KeyError:
        return  # never set: nothing to forget
