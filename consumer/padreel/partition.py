"""One partition pair, as this consumer was assigned it: its pipeline, and the outbox that its writer empties.

The pipeline task alone calls what is here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from padreel.core.decode import Decoder, DecodeRules
from padreel.core.pipeline import Limits, Pipeline
from padreel.core.reference import MediaScan, Wanted
from padreel.core.rigs import NO_RIGS, RigList
from padreel.core.rules import Rules
from padreel.kafka.continuity import Continuity, last_record
from padreel.kafka.dead_letter import of_record, of_session
from padreel.kafka.events import Batch
from padreel.kafka.timestamps import Timestamps
from padreel.model import Commit, Effect, Frame, FrameItem, RawRecord, Rejected, Topic
from padreel.outbox import Letters, Outbox
from padreel.writer import Opened, Surroundings, Writer


@dataclass(frozen=True, slots=True)
class Processing:
    """How a partition's records become effects."""

    rules: Rules
    limits: Limits
    decode_rules: DecodeRules
    topic_names: Mapping[Topic, str]


class Partition:
    """One partition pair of the two topics.

    It is *resting* while nothing may be read for it: until its shard is open, and from being parked until the shard is
    known to be still ours.
    """

    def __init__(self, number: int, generation: int, processing: Processing, around: Surroundings) -> None:
        self.number = number
        self.generation = generation
        self.pipeline: Pipeline | None = None
        self.is_resting = True
        self.resumed_ns = 0
        self.progress_ns = 0  # when the last progress commit was made
        self.at: tuple[int, int] | None = None  # read positions (frames, pads), kept when the pipeline is forgotten
        self.seen_ms: dict[Topic, int] = {}  # timestamp of the last record read
        self.rigs_seen_ms: dict[str, int] = {}  # the same of the last frame by its rig's label
        self.timestamps = {topic: Timestamps() for topic in Topic}
        self.outbox = Outbox()
        self.writer = Writer(number, self.outbox, around)
        self._processing = processing
        self._decoder = Decoder(processing.decode_rules)
        self._continuity: dict[Topic, Continuity] = {}

    # ---- coming and going

    def begin(self, opened: Opened, now_ns: int, rigs: RigList = NO_RIGS) -> None:
        """Start a pipeline at the state that the shard was opened with."""
        state = opened.state
        self._decoder = Decoder(self._processing.decode_rules)
        for key, session in state.open.items():
            if session.stream is not None:
                self._decoder.remember(key, session.stream)
        self.pipeline = Pipeline(self._processing.rules, self._processing.limits, state, now_ns, rigs)
        self.at = (state.frames_next, state.pads_next)
        self.timestamps = {topic: Timestamps() for topic in Topic}
        self._continuity = {
            topic: Continuity(self._processing.topic_names[topic], self.number, start, last)
            for topic, start, last in (
                (Topic.FRAMES, state.frames_next, state.last_frame),
                (Topic.PADS, state.pads_next, state.last_pad),
            )
        }
        self.is_resting = False
        self.resumed_ns = self.progress_ns = now_ns
        self.outbox.open()
        if opened.is_new:
            # So that a restart begins where this start did, whatever --start says by then.
            self.outbox.push([Commit(state=state, accounted={})])

    def forget(self) -> None:
        """Drop the pipeline and what it asked for."""
        self.pipeline, self.is_resting = None, True
        self.outbox.drop()

    def park(self) -> bool:
        """Keep everything as it is, in case the group gives the partition back; False if there is nothing to keep."""
        self.is_resting = True
        self.writer.park()
        return self.pipeline is not None and self.writer.is_holding

    def come_back(self, generation: int) -> bool:
        """Have the writer look whether the shard is still ours; False if it is already known not to be."""
        if self.pipeline is None or not self.writer.is_holding:
            return False
        self.generation = generation
        self.writer.unpark()
        return True

    def resume(self, now_ns: int) -> None:
        """Go on after having been parked."""
        self.is_resting = False
        self.resumed_ns = now_ns

    def release(self) -> None:
        """Let it go; what is not committed is to be read again, by whoever has it next."""
        self.forget()
        self.writer.release()

    # ---- records and time

    def read(self, batch: Batch, now_ns: int) -> list[Rejected]:
        """Decode a batch and hand it to the pipeline; what was rejected.

        Raises BrokerError if the topic is not the one that the log was written from.
        """
        pipeline = self._running
        records = self._continuity[batch.topic].check(batch.records)
        if not records:
            return []
        last = records[-1]
        position, remembered = last.offset + 1, last_record(last)
        self.seen_ms[batch.topic] = last.timestamp
        self.timestamps[batch.topic].add(records)
        rejected: list[Rejected]
        if batch.topic is Topic.FRAMES:
            frames = self._decoder.frames(records)
            pipeline.read_frames(frames, position, now_ns, remembered)
            rejected = [item for item in frames if isinstance(item, Rejected)]
            self._see_rigs(pipeline, frames, records)
        else:
            pads = self._decoder.pads(records)
            pipeline.read_pads(pads, position, now_ns, remembered)
            rejected = [item for item in pads if isinstance(item, Rejected)]
        # Of a session that was erased nothing is kept, no letter either.
        bad = [item for item in rejected if not pipeline.is_erased(item.key)]
        if bad:
            by_offset = {record.offset: record for record in records}
            letters = tuple(of_record(self.number, item, by_offset[item.offset]) for item in bad)
            self.outbox.push([Letters(letters)])  # before what releases their offsets
        self._collect()
        return rejected

    def _see_rigs(self, pipeline: Pipeline, frames: Sequence[FrameItem], records: Sequence[RawRecord]) -> None:
        latest = {
            item.key: record.timestamp for item, record in zip(frames, records, strict=True) if isinstance(item, Frame)
        }
        for key, time_ms in latest.items():
            rig = pipeline.rig(key)
            self.rigs_seen_ms[rig] = max(time_ms, self.rigs_seen_ms.get(rig, 0))

    def use_rigs(self, rigs: RigList) -> None:
        """Take the list of rigs from here on."""
        if self.pipeline is not None:
            self.pipeline.use_rigs(rigs)
            self._collect()

    def rig(self, key: str | None) -> str:
        """The label of a session's rig."""
        return self._running.rig(key)

    def observe_ends(
        self, ends: tuple[int, int], positions: tuple[int, int] | None, asked_ns: int, now_ns: int
    ) -> None:
        """Take the end offsets of (frames, pads).

        `positions` are the source's: beyond the pipeline's where the topic holds control records, which are never
        delivered.
        """
        pipeline = self._running
        if positions is not None and asked_ns >= self.resumed_ns:
            if positions[0] > pipeline.at.frames:
                pipeline.read_frames((), positions[0], now_ns)
            if positions[1] > pipeline.at.pads:
                pipeline.read_pads((), positions[1], now_ns)
        pipeline.observe_ends(ends[0], ends[1], asked_ns)
        self._collect()

    def tick(self, now_ns: int) -> None:
        """Let silence and deadlines take effect."""
        self._running.tick(now_ns)
        self._collect()

    def wanted(self, now_ns: int) -> list[Wanted]:
        """The files of sessions by reference that are to be looked through now."""
        return self._running.wanted(now_ns)

    @property
    def waits_for_files(self) -> bool:
        """Whether a session whose rows have ended waits for its file."""
        return self._running.waits_for_files

    def media_found(self, key: str, scan: MediaScan) -> None:
        """A file was looked through."""
        self._running.media_found(key, scan)

    def media_missed(self, key: str, detail: str, now_ns: int, *, is_final: bool) -> None:
        """A file cannot be used, or not yet."""
        self._running.media_missed(key, detail, now_ns, is_final=is_final)
        self._collect()

    def commit_progress(self, now_ns: int) -> None:
        """Commit offsets alone, if they moved."""
        self.progress_ns = now_ns
        if (commit := self._running.progress()) is not None:
            self._push([commit])

    def allowed(self) -> tuple[bool, bool]:
        """Whether frames, and whether pads, may be read."""
        if self.pipeline is None or self.is_resting:
            return False, False
        frames, pads = self.pipeline.allowed()
        return frames and self.outbox.queued_bytes < self._processing.limits.pad_bytes, pads

    @property
    def _running(self) -> Pipeline:
        assert self.pipeline is not None, "not begun"
        return self.pipeline

    def _collect(self) -> None:
        self.at = (self._running.at.frames, self._running.at.pads)
        self._push(self._running.effects())

    def _push(self, effects: Iterable[Effect]) -> None:
        self.outbox.push(self._with_letters(effects))

    def _with_letters(self, effects: Iterable[Effect]) -> Iterator[Effect | Letters]:
        for effect in effects:
            if isinstance(effect, Commit) and effect.rejections:
                yield Letters(tuple(of_session(self.number, one) for one in effect.rejections))
            yield effect
