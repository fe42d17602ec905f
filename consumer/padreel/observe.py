"""What a consumer says of its work: metrics, and one line per episode. It decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import structlog

from padreel.core.decode import session_name
from padreel.core.episodes import EpisodeEvent
from padreel.core.pipeline import Pipeline
from padreel.dataset.committed import Committed
from padreel.kafka.events import Batch, Pair
from padreel.kafka.timestamps import Timestamps
from padreel.logs import log_episode
from padreel.metrics import BYTE_BUFFERS, RECORD_BUFFERS, Metrics
from padreel.model import DeadLetter, Rejected, Topic
from padreel.observe_rigs import RigObserver
from padreel.settings import ConsumerSettings
from padreel.version import __version__
from padreel.writer import Failure

if TYPE_CHECKING:
    from padreel.partition import Partition

_log = structlog.get_logger("padreel")


class Observer:
    """Turns what happens into metrics and log lines."""

    def __init__(self, metrics: Metrics, settings: ConsumerSettings, wall_seconds: Callable[[], float]) -> None:
        self._metrics = metrics
        self._group = settings.group_id
        self._names = {Topic.FRAMES: settings.frames_topic, Topic.PADS: settings.pads_topic}
        self._wall_seconds = wall_seconds
        self._ends: Mapping[Pair, int] = {}
        self._behind_since: dict[Pair, float] = {}
        # Counters of a pipeline that was there before, and what of it the metrics already have.
        self._counted: dict[int, tuple[object, dict[str, int]]] = {}
        self.rigs = RigObserver(metrics, settings.group_id)
        metrics.build_info.labels(__version__).set(1)

    # ---- what was read

    def read(self, batch: Batch, rejected: Sequence[Rejected], reread_below: int) -> None:
        """A batch was handed to the pipeline; what lies below `reread_below` had been read before."""
        labels = self._topic_labels((batch.topic, batch.partition))
        self._metrics.records.labels(*labels).inc(len(batch.records))
        self._metrics.bytes.labels(*labels).inc(batch.bytes)
        if batch.records[0].offset < reread_below:
            again = sum(len(record.value or b"") for record in batch.records if record.offset < reread_below)
            self._metrics.reread_bytes.labels(*labels).inc(again)
        for item in rejected:
            self._metrics.rejected.labels(*labels, item.reason.value).inc()

    def ends(self, ends: Mapping[Pair, int]) -> None:
        """End offsets came."""
        self._ends = {**self._ends, **ends}

    def look(self, partitions: Collection[Partition], now_ns: int) -> None:
        """Bring the gauges up to date."""
        self.rigs.look(partitions)
        for partition in partitions:
            if partition.at is None:
                continue  # its shard was never open: where reading begins is not known
            pipeline = partition.pipeline
            if pipeline is not None:
                self._sessions(partition.number, pipeline, now_ns)
                self._buffers(partition.number, pipeline, partition.outbox.queued_bytes)
                seen = {f"pad:{verdict.name.lower()}": count for verdict, count in pipeline.counts.pads.items()}
                self._count(partition.number, pipeline, {**seen, "forced": pipeline.counts.forced})
            else:
                self._hold_nothing(partition.number)
            # Also while the shard cannot be opened again: that is when somebody has to see it.
            for at, topic in enumerate((Topic.FRAMES, Topic.PADS)):
                pair, position = (topic, partition.number), partition.at[at]
                self._lag(pair, position, partition.seen_ms.get(topic))
                if partition.writer.next is not None:
                    self._next(pair, partition.writer.next[at], position, partition.timestamps[topic])

    def _sessions(self, number: int, pipeline: Pipeline, now_ns: int) -> None:
        labels = str(number), self._group
        recording = [session for session in pipeline.sessions.values() if not session.dormant]
        self._metrics.open_sessions.labels(*labels).set(len(pipeline.sessions))
        self._metrics.silent_sessions.labels(*labels).set(len(pipeline.sessions) - len(recording))
        longest_ns = max((session.recorded_ns for session in recording), default=0)
        self._metrics.longest_session_seconds.labels(*labels).set(longest_ns / 1e9)
        since_ns = pipeline.waiting_since_ns
        delay_ns = 0 if since_ns is None else now_ns - since_ns
        self._metrics.watermark_delay_seconds.labels(*labels).set(delay_ns / 1e9)

    def _buffers(self, number: int, pipeline: Pipeline, video_bytes: int) -> None:
        metrics, labels, limits = self._metrics, (str(number), self._group), pipeline.limits
        for what, records, limit in (
            ("frames", pipeline.undecided_frames, limits.frames),
            ("pads", pipeline.undecided_pads, limits.pads),
        ):
            metrics.buffered_records.labels(*labels, what).set(records)
            metrics.buffer_limit_records.labels(*labels, what).set(limit)
        for what, size in (("video", video_bytes), ("pads", pipeline.undecided_bytes)):
            metrics.buffered_bytes.labels(*labels, what).set(size)
            metrics.buffer_limit_bytes.labels(*labels, what).set(limits.pad_bytes)

    def _hold_nothing(self, number: int) -> None:
        """A pipeline that is forgotten holds nothing; its sessions are open all the same."""
        metrics, labels = self._metrics, (str(number), self._group)
        for what in RECORD_BUFFERS:
            metrics.buffered_records.labels(*labels, what).set(0)
        for what in BYTE_BUFFERS:
            metrics.buffered_bytes.labels(*labels, what).set(0)
        metrics.watermark_delay_seconds.labels(*labels).set(0)

    def _next(self, pair: Pair, offset: int, position: int, timestamps: Timestamps) -> None:
        """How old what the log still needs is; `position` is where reading is."""
        labels = self._topic_labels(pair)
        self._metrics.next_offset.labels(*labels).set(offset)
        written_ms = timestamps.at(offset)
        if offset < position and written_ms is not None:
            age = max(0.0, self._wall_seconds() - written_ms / 1000)
        elif pair in self._ends:
            age = self._behind_seconds(pair)  # nothing that was read is needed: it is as old as what was not read
        else:
            return
        self._metrics.next_age_seconds.labels(*labels).set(age)

    def _lag(self, pair: Pair, position: int, seen_ms: int | None) -> None:
        labels = self._topic_labels(pair)
        self._metrics.position.labels(*labels).set(position)
        if pair not in self._ends:
            return
        records = max(0, self._ends[pair] - position)
        self._metrics.lag_records.labels(*labels).set(records)
        if not records:
            self._behind_since.pop(pair, None)
        elif seen_ms is not None:
            self._behind_since[pair] = seen_ms / 1000
        else:
            # Before the first record was read it is known only for how long something has been waiting.
            self._behind_since.setdefault(pair, self._wall_seconds())
        self._metrics.lag_seconds.labels(*labels).set(self._behind_seconds(pair))

    def _behind_seconds(self, pair: Pair) -> float:
        since = self._behind_since.get(pair)
        return 0.0 if since is None else max(0.0, self._wall_seconds() - since)

    def _count(self, number: int, pipeline: object, counts: dict[str, int]) -> None:
        known, before = self._counted.get(number, (None, {}))
        if known is not pipeline:
            before = {}
        labels = str(number), self._group
        for name, count in counts.items():
            if (more := count - before.get(name, 0)) <= 0:
                continue
            if name == "forced":
                self._metrics.forced.labels(*labels).inc(more)
            else:
                self._metrics.pad_events.labels(*labels, name.removeprefix("pad:")).inc(more)
        self._counted[number] = pipeline, counts

    # ---- what was written

    def committed(self, number: int, committed: Committed) -> None:
        """A commit is in the log of partition `number`; the progress line of an episode."""
        for fate, count in committed.accounted.items():
            self._metrics.frames.labels(str(number), self._group, fate.value).inc(count)
        for rejection in committed.rejections:
            self._metrics.sessions_rejected.labels(str(number), self._group, rejection.reason.value).inc()
            _log.warning(
                "session rejected",
                session=session_name(rejection.key),
                partition=number,
                reason=rejection.reason.value,
                detail=rejection.detail,
                frames_offsets=[rejection.first_frame_offset, rejection.last_frame_offset],
            )
        if committed.reason is not None:
            self._metrics.episodes.labels(str(number), self._group, committed.reason.value).inc()
            pad_age = self._metrics.pad_age_seconds.labels(str(number), self._group)
            for age in committed.pad_ages:
                pad_age.observe(age)
            if committed.quality is not None and committed.quality.quarantined:
                component = committed.quality.weakest
                self._metrics.episodes_quarantined.labels(str(number), self._group, component).inc()
            for step, seconds in committed.step_seconds.items():
                self._metrics.commit_step_seconds.labels(str(number), self._group, step).observe(seconds)
        self.rigs.committed(committed)
        log_episode(committed, partition=number)

    def buried(self, number: int, letters: Sequence[DeadLetter]) -> None:
        """Dead letters are acknowledged."""
        for letter in letters:
            self._metrics.dead_letters.labels(str(number), self._group, letter.kind.value, letter.reason).inc()

    def timed(self, number: int, seconds: float) -> None:
        """So long took the call that committed an episode."""
        self._metrics.commit_seconds.labels(str(number), self._group).observe(seconds)

    def muxed(self, number: int, size: int) -> None:
        """So many bytes of access units were written to staged mp4 files."""
        self._metrics.remuxed_bytes.labels(str(number), self._group).inc(size)

    def failed(self, number: int, what: Failure) -> None:
        """The storage or the dead-letter topic failed and is tried again, or a fence fell."""
        counters = {
            "fence": self._metrics.fences,
            "storage": self._metrics.storage_retries,
            "dead letters": self._metrics.dead_letter_retries,
        }
        counters[what].labels(str(number), self._group).inc()

    def told(self, number: int, events: Sequence[EpisodeEvent]) -> None:
        """Events of episodes are acknowledged."""
        for event in events:
            self._metrics.episode_events.labels(str(number), self._group, event.kind.value).inc()

    def untold(self, number: int) -> None:
        """Events of episodes could not be told, and will be."""
        self._metrics.episode_event_retries.labels(str(number), self._group).inc()

    # ---- the group

    def assigned(self) -> None:
        """The group assigned partitions."""
        self._metrics.rebalances.labels(self._group).inc()

    def began(self, number: int) -> None:
        """Reading of a partition begins."""
        self._metrics.begin_partition(tuple(self._names.values()), number, self._group)

    def revoked(self, number: int) -> None:
        """A partition is not this consumer's any more."""
        self._metrics.drop_partition(tuple(self._names.values()), number, self._group)
        for topic in Topic:
            self._behind_since.pop((topic, number), None)
        self._ends = {pair: end for pair, end in self._ends.items() if pair[1] != number}

    # ---- the process

    def stalled(self, seconds: float) -> None:
        """The event loop woke a task so much too late."""
        self._metrics.event_loop_stall_seconds.labels(self._group).observe(seconds)

    def room(self, available: int, size: int) -> None:
        """Bytes below the output root."""
        self._metrics.storage_available_bytes.labels(self._group).set(available)
        self._metrics.storage_size_bytes.labels(self._group).set(size)

    def _topic_labels(self, pair: Pair) -> tuple[str, str, str]:
        return self._names[pair[0]], str(pair[1]), self._group
