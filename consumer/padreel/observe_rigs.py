"""What a consumer says of single rigs: metrics by the labels that a list of rigs allows. It decides nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from padreel.core.rigs import NO_RIGS, RigList
from padreel.dataset.committed import Committed
from padreel.metrics import Metrics
from padreel.model import Fate

if TYPE_CHECKING:
    from padreel.partition import Partition


class RigObserver:
    """Turns what happens to rigs into metrics. Rigs that are not listed are one."""

    def __init__(self, metrics: Metrics, group: str) -> None:
        self._metrics = metrics
        self._group = group
        self._rigs = NO_RIGS
        self._last_ms: dict[str, int] = {}
        # Counters of a pipeline that was there before, and what of it the metrics already have.
        self._counted: dict[int, tuple[object, Mapping[tuple[str, Fate], int]]] = {}

    def use(self, rigs: RigList) -> None:
        """Begin the series of the rigs of a list, and forget those of others."""
        self._metrics.forget_rigs(self._rigs.labels - rigs.labels, self._group)
        self._metrics.begin_rigs(rigs.labels, self._group)
        self._rigs = rigs
        self._last_ms = {rig: time_ms for rig, time_ms in self._last_ms.items() if rig in rigs.labels}

    def look(self, partitions: Iterable[Partition]) -> None:
        """Bring the gauges, and the counts of frames, up to date."""
        recording: Counter[str] = Counter(dict.fromkeys(self._rigs.labels, 0))
        for partition in partitions:
            pipeline = partition.pipeline
            if pipeline is None:
                continue
            for key, session in pipeline.sessions.items():
                if session.info is not None and session.closing is None and not session.waits_for_file:
                    recording[pipeline.rig(key)] += 1
            for rig, time_ms in partition.rigs_seen_ms.items():
                self._last_ms[rig] = max(time_ms, self._last_ms.get(rig, 0))
            known, before = self._counted.get(partition.number, (None, {}))
            if known is not pipeline:
                before = {}
            counts = dict(pipeline.ledger.by_rig)
            for (rig, fate), count in counts.items():
                if rig in self._rigs.labels and (more := count - before.get((rig, fate), 0)) > 0:
                    self._metrics.rig_frames.labels(rig, self._group, fate.value).inc(more)
            self._counted[partition.number] = pipeline, counts
        for rig, sessions in recording.items():
            self._metrics.rig_open_sessions.labels(rig, self._group).set(sessions)
        for rig, time_ms in self._last_ms.items():
            if rig in self._rigs.labels:
                self._metrics.rig_last_frame.labels(rig, self._group).set(time_ms / 1000)

    def rejected(self, rigs: Sequence[str]) -> None:
        """A record of each of these rigs cannot be used."""
        for rig, count in Counter(rigs).items():
            self._metrics.rig_rejected.labels(rig, self._group).inc(count)

    def committed(self, committed: Committed) -> None:
        """A commit is in the log."""
        for rejection in committed.rejections:
            rig = self._rigs.label(rejection.rig_id)
            self._metrics.rig_sessions_rejected.labels(rig, self._group).inc()
        pad_age = self._metrics.rig_pad_age_seconds.labels(self._rigs.label(committed.rig_id), self._group)
        for age in committed.pad_ages:
            pad_age.observe(age)
