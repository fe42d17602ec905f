"""Records of one partition pair through the real decoder, pipeline and shard, and what must hold whatever they are."""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass, field, replace
from pathlib import Path

from padreel.core.action import (
    ActionBinding,
    ActionDefinition,
    ActionEncoder,
    ActionMappingProfile,
    GameClass,
    GameDefinition,
)
from padreel.core.av1 import read_obus
from padreel.core.decode import Decoder
from padreel.core.pipeline import Limits, Pipeline
from padreel.core.rules import Rules
from padreel.dataset.layout import DatasetSpec
from padreel.dataset.shard import Shard
from padreel.errors import UndecodableError
from padreel.model import (
    AppendUnit,
    CloseReason,
    Commit,
    Effect,
    EpisodeDraft,
    Fate,
    OpenSpan,
    PartitionState,
    Record,
    Rejected,
    Schema,
    Topic,
)
from tests.dataset_reading import ReadEpisode, read_episodes
from tests.shard_world import read_shard
from tests.video_source import sync_samples

SCHEMA = Schema("h264", 64, 48, 30)
DTS_LEAD = {"h264": 16, "hevc": 16, "av1": 0}  # frames
GAME = "game"
TICKS = 512  # per frame, in the staged mp4
_FILES = re.compile(
    r"README\.md|commits/\d+\.json|meta/(info\.json|stats\.json|tasks\.parquet|episodes/chunk-000/file-000\.parquet)"
    r"|(data/chunk-000/file-\d{3}\.parquet|videos/observation\.images\.main/chunk-000/file-\d{3}\.mp4"
    r"|gamepad/chunk-000/file-\d{3}\.bin)"
)
_LATER_NS = 10**16


def _encoder() -> ActionEncoder:
    actions = (ActionDefinition("attack", "digital"), ActionDefinition("move", "vector2"))
    bindings = {
        "attack": (ActionBinding("button", "south"),),
        "move": (ActionBinding("stick", "left_stick"),),
    }
    return ActionEncoder(
        GameDefinition(GAME, "Game", (GameClass("main", actions),)),
        ActionMappingProfile(GAME, ("main",), "pad", bindings, complete=True),
    )


SPEC = DatasetSpec(
    repo_id="tests/hostile",
    schema=SCHEMA,
    columns="full",
    encoder=_encoder(),
    default_task="play",
    settings={},
    game_id=GAME,
    class_ids=("main",),
    profile_name="pad",
)


@dataclass(frozen=True, slots=True)
class Topics:
    """What was published to the partition pair; a record's offset is its place."""

    frames: list[Record]
    pads: list[Record]


@dataclass(slots=True)
class Outcome:
    """What became of the records."""

    rejected: dict[tuple[Topic, int], Rejected] = field(default_factory=dict)
    undecodable: int = 0  # episodes
    drafts: list[tuple[EpisodeDraft, list[AppendUnit]]] = field(default_factory=list)  # by episode, with its packets
    episodes: list[ReadEpisode] = field(default_factory=list)

    def of(self, session: str) -> list[ReadEpisode]:
        return [episode for episode in self.episodes if episode.session == session]


class Chain:
    """One consumer at a time over one shard, deep below the empty folder `sandbox`."""

    def __init__(self, sandbox: Path, rules: Rules) -> None:
        self.sandbox = sandbox
        self.path = sandbox / "some" / "where" / "root" / "partition-00000"
        self.rules = rules
        self.outcome = Outcome()
        self.restarts = 0
        self._open()

    def _open(self) -> None:
        self.shard = Shard.open(
            self.path,
            dataset=replace(SPEC, schema=self.rules.schema),
            writer="writer",
            group="group",
            cluster_id="cluster",
            frames_topic="frames",
            pads_topic="pads",
            partition=0,
            partitions=1,
        )
        state = self.shard.state or PartitionState()
        self.decoder = Decoder()
        for key, session in state.open.items():
            if session.stream is not None:
                self.decoder.remember(key, session.stream)
        self.pipeline = Pipeline(self.rules, Limits(), state)
        self._spans: dict[int, list[AppendUnit]] = {}

    def restart(self) -> None:
        """The process dies; the next one goes on from the log."""
        self.restarts += 1
        self._open()

    def read_frames(self, records: Sequence[Record]) -> None:
        items = self.decoder.frames(records)
        self._note([item for item in items if isinstance(item, Rejected)])
        self.pipeline.read_frames(items, records[-1].offset + 1, 0)
        self._apply(self.pipeline.effects())

    def read_pads(self, records: Sequence[Record]) -> None:
        items = self.decoder.pads(records)
        self._note([item for item in items if isinstance(item, Rejected)])
        self.pipeline.read_pads(items, records[-1].offset + 1, 0)
        self._apply(self.pipeline.effects())

    def _note(self, rejected: list[Rejected]) -> None:
        for item in rejected:
            assert f"{item.topic} record at offset {item.offset}: " in item.detail
            assert len(item.detail) < 1_000, "a log line must not grow with what a rig sends"
            self.outcome.rejected[item.topic, item.offset] = item

    def _apply(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            try:
                (*_, done) = (None, *self.shard.apply([effect]))
            except UndecodableError as error:
                self.shard.reject(str(error))
                (done,) = self.shard.apply(())
            if isinstance(effect, OpenSpan):
                self._spans[effect.span] = []
            elif isinstance(effect, AppendUnit):
                self._spans[effect.span].append(effect)
            elif isinstance(effect, Commit) and (draft := effect.episode) is not None:
                assert done is not None
                units = self._spans.pop(draft.span)
                if done.episode_index is None:
                    assert done.rejections[-1].reason is CloseReason.UNDECODABLE
                    self.outcome.undecodable += 1
                    continue
                assert done.episode_index == len(self.outcome.drafts)
                first = next(j for j, unit in enumerate(units) if unit.index == draft.first_unit)
                self.outcome.drafts.append((draft, units[first:]))

    def finish(self, topics: Topics) -> Outcome:
        """Nothing more comes: silence ends what has not ended, everything is committed; then judge the dataset."""
        for before_ns, now_ns in ((1, _LATER_NS), (_LATER_NS, 2 * _LATER_NS), (2 * _LATER_NS, 3 * _LATER_NS)):
            self.pipeline.observe_ends(len(topics.frames), len(topics.pads), before_ns)
            self.pipeline.tick(now_ns)
            for wanted in self.pipeline.wanted(now_ns):  # there is no recording of a session by reference
                self.pipeline.media_missed(wanted.key, "no media", now_ns, is_final=True)
            self._apply(self.pipeline.effects())
        if (commit := self.pipeline.progress()) is not None:
            self._apply([commit])
        state, totals = self.shard.state, self.shard.totals
        assert state is not None
        assert (state.frames_next, state.pads_next) == (len(topics.frames), len(topics.pads))
        self._check_counts(len(topics.frames))
        self.shard.close()
        self._check_files()
        again = self._reopened()  # what is in the log can be read
        assert (again.state, again.totals) == (state, totals)
        again.close()
        if totals.episodes:
            self._check_episodes()
        return self.outcome

    def _check_counts(self, records: int) -> None:
        totals = self.shard.totals
        rejected = sum(topic is Topic.FRAMES for topic, _ in self.outcome.rejected)
        if not self.restarts:
            assert sum(totals.accounted.values()) == records
        # Whether a hostile unit is refused may depend on what was read before, so it may count twice, or not at all.
        assert sum(totals.accounted.values()) >= records - rejected
        assert totals.accounted.get(Fate.ROW, 0) == totals.rows == sum(len(d.time_ns) for d, _ in self.outcome.drafts)
        assert self.restarts or totals.accounted.get(Fate.REJECTED, 0) >= rejected
        rows = [(d.key, d.first_frame_index + i) for d, _ in self.outcome.drafts for i in range(len(d.time_ns))]
        assert len(rows) == len(set(rows)), "a frame is in two episodes"

    def _reopened(self) -> Shard:
        self._open()
        return self.shard

    def _check_files(self) -> None:
        for path in self.sandbox.rglob("*"):
            if not path.is_dir():
                assert path.is_relative_to(self.path), path
                assert _FILES.fullmatch(str(path.relative_to(self.path))), path

    def _check_episodes(self) -> None:
        assert read_shard(self.path).frames == self.shard.totals.rows
        self.outcome.episodes = read_episodes(self.path)
        assert len(self.outcome.episodes) == len(self.outcome.drafts)
        for episode, (draft, units) in zip(self.outcome.episodes, self.outcome.drafts, strict=True):
            _check_video(episode, draft, units)
            assert len(episode) == len(draft.time_ns)
            assert episode.rows["capture.time_ns"] == [time_ns - draft.session_ns for time_ns in draft.time_ns]
            for name, values in episode.rows.items():
                flat = [one for value in values for one in (value if isinstance(value, list) else [value])]
                assert all(map(math.isfinite, flat)), name
            assert episode.events == list(draft.events)


def _check_video(episode: ReadEpisode, draft: EpisodeDraft, units: list[AppendUnit]) -> None:
    """The mp4 opens and holds the packets that the rows need, each where it belongs; whether they decode is theirs."""
    as_sent = draft.stream.extradata[:1] in (b"\x01", b"\x81")
    assert len(episode.packets) == len(units)
    assert sync_samples(episode.video) == [unit.idr for unit in units]
    positions, lead = set(), DTS_LEAD[draft.stream.codec]
    for j, (packet, unit) in enumerate(zip(episode.packets, units, strict=True)):
        pts, dts, duration, _, digest = packet
        assert (pts, dts, duration) == ((unit.index - draft.first_unit) * TICKS, (j - lead) * TICKS, TICKS)
        assert pts >= dts
        assert digest == hashlib.sha256(_stored(unit.unit, draft.stream.codec)).hexdigest() or not as_sent
        positions.add(pts // TICKS)
    start = draft.first_row - draft.first_unit
    assert len(positions) == len(units)
    assert set(range(start + len(draft.time_ns))) <= positions
    assert round(episode.from_timestamp * SCHEMA.fps) == start


def _stored(unit: bytes, codec: str) -> bytes:
    """The unit without what has no place in an mp4: of AV1 delimiters, repeated headers and padding."""
    if codec != "av1":
        return unit
    obus = read_obus(unit)
    assert not isinstance(obus, str)
    return b"".join(unit[obu.at : obu.end] for obu in obus if obu.kind not in (2, 7, 15))


def play(sandbox: Path, topics: Topics, rules: Rules, rng: random.Random, *, restarts: int = 0) -> Outcome:
    """Read both topics to their ends, in batches of random sizes and in a random order."""
    chain = Chain(sandbox, rules)
    with chdir(chain.path):  # so that a relative path that leads out of the root is seen
        while chain.pipeline.at != (len(topics.frames), len(topics.pads)):
            at, size = chain.pipeline.at, rng.choice([1, 2, 5, 40])
            frames, pads = topics.frames[at.frames : at.frames + size], topics.pads[at.pads : at.pads + size]
            if frames and (not pads or rng.random() < 0.5):
                chain.read_frames(frames)
            else:
                chain.read_pads(pads)
            if chain.restarts < restarts and rng.random() < 0.1:
                chain.restart()
        return chain.finish(topics)
