"""Plays a world through the real Pipeline, with crashes, and checks every commit and the outcome."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar
from unittest import mock

from padreel.core import session as session_module
from padreel.core.align import Join
from padreel.core.pipeline import Limits, Pipeline
from padreel.core.rules import Rules
from padreel.core.segment import Segment, _Frame
from padreel.model import (
    AppendUnit,
    Commit,
    DropSpan,
    EpisodeDraft,
    Fate,
    Frame,
    FrameEnd,
    Heartbeat,
    OpenSpan,
    PadEnd,
    PadEvent,
    PartitionState,
    Schema,
    SessionInfo,
    Stream,
)
from tests.properties.worlds import IDR, NEUTRAL, OPEN, OPEN_IDR, OTHER, World, accepted_pads, oracle, random_world

Codec = Callable[[PartitionState], PartitionState]


class ViolationError(Exception):
    """A rule of the design does not hold."""


def schema_of(world: World) -> Schema:
    """What all sessions of a world are."""
    return Schema(world.codec, 64, 64, 30)


def frame_item(world: World, offset: int) -> Frame | FrameEnd:
    record = world.frames[offset]
    if record[0] == "X":
        return FrameEnd(offset, record[1], None)
    _, session, sequence, index, time_ns, kind = record
    unit = f"{sequence}/{index}".encode()
    stream = Stream(world.codec, 64, 64, 30, b"\x01") if kind != OTHER else None
    idr, open_gop = kind in (IDR, OPEN_IDR), kind in (OPEN, OPEN_IDR)
    return Frame(offset, session, sequence, index, time_ns, idr, unit, stream, SessionInfo(), open_gop)


def pad_item(world: World, offset: int) -> PadEvent | Heartbeat | PadEnd:
    record = world.pads[offset]
    if record[0] == "X":
        return PadEnd(offset, record[1])
    if record[0] == "H":
        return Heartbeat(offset, record[1], record[2])
    return PadEvent(offset, record[1], record[2], record[3].encode(), record[4])


class Player:
    """One consumer at a time over one world; the log is all that a crash leaves."""

    def __init__(
        self, world: World, rules: Rules, limits: Limits, *, gives_up: bool, codec: Codec = lambda state: state
    ) -> None:
        self.world, self.rules, self.limits, self.gives_up, self.codec = world, rules, limits, gives_up, codec
        self.log: list[Commit] = []
        self.seen: set[tuple[str, int]] = set()
        self.accounted: Counter[Fate] = Counter()
        self.episodes: dict[str, list[list[tuple[int, str, bool]]]] = {}
        self.forced: dict[int, tuple[str, str, int, str]] = {}  # offset: session, kind, pads position, how
        self.silences: dict[int, tuple[str, int]] = {}  # offset of the last frame before it: session, sequence
        self.frames_end = self.pads_end = 0
        self.recover()

    # ---- a process

    def recover(self) -> None:
        state = self.codec(self.log[-1].state) if self.log else PartitionState()
        self.pipeline = Pipeline(self.rules, self.limits, state)
        self.spans: dict[int, list[AppendUnit]] = {}
        for known in (self.forced, self.silences):
            for offset in [o for o in known if not self._settled(o, state)]:
                del known[offset]

    def _settled(self, offset: int, state: PartitionState) -> bool:
        """Whether a frame record is not read again after a crash."""
        key = self.world.frames[offset][1]
        if key in state.open:
            return offset < state.open[key].resume
        return offset < state.frames_next or (key in state.closed and offset < state.closed[key].frames)

    def decided(self, segment: Segment, frame: _Frame, join: Join, by_force: bool) -> None:
        """Note a decision that the pad did not prove."""
        if not frame.forced:
            return
        key = self.world.frames[frame.offset][1]
        how, position = "force", self.pipeline.at.pads
        if frame.row and join.fold is not None and frame.time_ns <= join.fold.until_ns:
            how, position = "fold", join.fold.pads_position
            if frame.offset < join.fold.frames_position:
                raise ViolationError(f"{key}: frame record {frame.offset} had been read before its pads were folded")
        self.forced[frame.offset] = (key, "row" if frame.row else "idle", position, how)

    def read_frame(self) -> None:
        at = self.pipeline.at.frames
        self.pipeline.read_frames([frame_item(self.world, at)], at + 1, 0)

    def read_pad(self) -> None:
        at = self.pipeline.at.pads
        self.pipeline.read_pads([pad_item(self.world, at)], at + 1, 0)

    def read(self, frames_first: bool) -> bool:
        may_frames, may_pads = self.pipeline.allowed()
        frames = may_frames and self.pipeline.at.frames < self.frames_end
        pads = may_pads and self.pipeline.at.pads < self.pads_end
        if frames and (frames_first or not pads):
            self.read_frame()
        elif pads:
            self.read_pad()
        return frames or pads

    def silence(self, key: str) -> None:
        session = self.pipeline.sessions[key]
        segment = session.segments[-1] if session.segments else None
        if session.closing is None and segment is not None and segment.cut is None:
            last = max(
                o for o, r in enumerate(self.world.frames[: self.pipeline.at.frames]) if r[1] == key and r[0] == "F"
            )
            self.silences[last] = (key, session._sequence)
        self.pipeline.silence(key, 0)
        self.drain()

    def force(self, key: str) -> None:
        self.pipeline.force(key, 0)

    # ---- commits

    def commit(self, key: str | None) -> None:
        """Commit a session's first whole episode, or only progress."""
        marks: list[bool] = []
        if key is not None:
            marks = [bool(m) for m in self.pipeline.sessions[key].segments[0].row_forced]
            self.pipeline.commit_episode(key)
        else:
            commit = self.pipeline.progress()
            if commit is not None:
                self.check(commit, [])
        self.drain(marks)

    def drain(self, marks: list[bool] | None = None) -> None:
        for effect in self.pipeline.drain():
            match effect:
                case OpenSpan(span, _):
                    self.spans[span] = []
                case AppendUnit(span, _, _, _):
                    self.spans[span].append(effect)
                case DropSpan(span):
                    del self.spans[span]
                case Commit():
                    self.check(effect, marks or [])

    def check(self, commit: Commit, marks: list[bool]) -> None:
        if self.log:
            before = self.log[-1].state
            if commit.state.frames_next < before.frames_next or commit.state.pads_next < before.pads_next:
                raise ViolationError("next went back")
        if commit.episode is not None:
            self.check_episode(commit.episode, marks)
        self.accounted.update(commit.accounted)
        self.log.append(commit)
        if sum(self.accounted.values()) < commit.state.frames_next:
            raise ViolationError("a frame record below next is neither committed nor dropped")

    def check_episode(self, draft: EpisodeDraft, marks: list[bool]) -> None:
        units = self.spans.pop(draft.span)
        first = next(i for i, u in enumerate(units) if u.index == draft.first_unit)
        if not units[first].idr:
            raise ViolationError("the mp4 does not start at an IDR")
        packets = [tuple(map(int, u.unit.split(b"/"))) for u in units[first:]]
        follow = packets[1:]
        if follow and [p[0] for p in follow] != list(range(follow[0][0], follow[0][0] + len(follow))):
            raise ViolationError("packets are missing")
        if min(p[1] for p in packets) != packets[0][1]:
            raise ViolationError("a packet is shown before the first one")
        # A rig that restarted may have sent the same numbers again, of another kind; of that nothing is taken.
        kinds = {r[2:4]: r[5] for r in reversed(self.world.frames) if r[0] == "F" and r[1] == draft.key}
        if follow and follow[0][0] != packets[0][0] + 1 and kinds[packets[0]] not in (OPEN, OPEN_IDR):
            raise ViolationError("packets are missing after the first")
        indices = range(draft.first_frame_index, draft.first_frame_index + len(draft.time_ns))
        if not set(indices) <= {p[1] for p in packets}:
            raise ViolationError("rows without a packet")
        if draft.first_frame_index - draft.first_row != packets[0][1] - draft.first_unit:
            raise ViolationError("display positions do not agree with frame_index")
        rows = []
        for i, index in enumerate(indices):
            if (draft.key, index) in self.seen:
                raise ViolationError(f"frame {index} of {draft.key} twice")
            self.seen.add((draft.key, index))
            event = draft.pairing[i]
            value = NEUTRAL if event < 0 else draft.events[event].decode()
            rows.append((index, value, marks[i]))
        self.episodes.setdefault(draft.key, []).append(rows)

    # ---- the outcome

    def finish(self, rng: random.Random, frames_first: float) -> None:
        """A lone consumer goes to the end."""
        world = self.world
        self.frames_end, self.pads_end = len(world.frames), len(world.pads)
        for _ in range(100 * (self.frames_end + self.pads_end) + 100):
            ready = self.pipeline.ready()
            if ready and rng.random() < 0.2:
                self.commit(ready[0])
            elif self.read(rng.random() < frames_first):
                continue
            elif ready:
                self.commit(ready[0])
            elif not self.gives_up:
                return
            elif any(s.undecided_frames for s in self.pipeline.sessions.values()) and (
                self.pipeline.at.pads == self.pads_end
            ):
                for key in sorted(self.pipeline.sessions):
                    self.force(key)
            elif self.pipeline.at == (self.frames_end, self.pads_end):
                for key in sorted(self.pipeline.sessions):
                    self.silence(key)
                if not self.pipeline.ready():
                    self.commit(None)
                    return
            else:
                raise ViolationError(f"blocked at {self.pipeline.at}")
        raise ViolationError("does not finish")

    def check_outcome(self) -> None:
        world, rules = self.world, self.rules
        forced: dict[tuple[str, int], Any] = {}
        for offset, (key, kind, position, how) in self.forced.items():
            _, _, sequence, _, time_ns, _ = world.frames[offset]
            events = accepted_pads(world.pads, key, position)[0]
            events = [e for e in events if e[0] <= time_ns] if how == "force" else events
            forced[key, sequence] = ("row", events[-1][1] if events else NEUTRAL) if kind == "row" else ("idle",)
        want, fates = oracle(world, rules.max_episode_ns, rules.max_pre_action_ns, set(self.silences.values()), forced)
        for key in sorted(set(want) | set(self.episodes)):
            if want.get(key) != self.episodes.get(key):
                raise ViolationError(f"episodes of {key}: {self.episodes.get(key)}, should be {want.get(key)}")
        if not self.gives_up:
            return
        last = self.log[-1].state if self.log else PartitionState()
        if (last.frames_next, last.pads_next) != (len(world.frames), len(world.pads)):
            raise ViolationError(f"pinned at {last.frames_next}, {last.pads_next}")
        counted, expected = Counter(map(_sum_name, self.accounted.elements())), Counter(map(_sum_name, fates.values()))
        if counted != expected:
            raise ViolationError(f"counted {counted}, should be {expected}")


def _sum_name(fate: str) -> str:
    return "stale" if fate in ("end", "restarted") else str(fate)


class _ObservedSegment(Segment):
    """Tells the player of each decision."""

    player: Player | None = None

    def _decide(self, frame: _Frame, join: Join, *, force: bool) -> bool:
        done = super()._decide(frame, join, force=force)
        if done and self.player is not None:
            self.player.decided(self, frame, join, force)
        return done


P = TypeVar("P", bound="Player")


def play(seed: int, *, codec: Codec = lambda state: state, **overrides: Any) -> Player:
    """Play one random world; raises ViolationError where a rule does not hold."""
    rng = random.Random(seed)
    world = random_world(rng)
    gives_up = rng.random() < 0.6
    horizon = world.horizon()
    rules = Rules(
        schema=schema_of(world),
        max_episode_ns=rng.choice([2, 4, 9, 1000]),
        max_pre_action_ns=rng.choice([None, 0, 2, 6]),
        dedupe_horizon=horizon,
        silent_after_records=horizon if rng.random() < 0.5 else 10**9,
    )
    limits = Limits()
    if gives_up and rng.random() < 0.5:
        limits = Limits(frames=rng.randint(1, 5), pads=rng.randint(1, 5))
    return play_out(rng, lambda: Player(world, rules, limits, gives_up=gives_up, codec=codec))


def play_out(rng: random.Random, make: Callable[[], P]) -> P:
    """Play the world of the player that `make` gives, by a random schedule. Raises ViolationError."""
    observed: Any = type("Observed", (_ObservedSegment,), {})
    with mock.patch.object(session_module, "Segment", observed):
        player = make()
        observed.player = player
        _schedule(rng, player)
    return player


def _schedule(rng: random.Random, player: Player) -> None:
    world = player.world
    published, frames_first = 0, rng.random()
    crash = rng.choice([0.0, 0.04, 0.12])
    for _ in range(rng.choice([0, 40, 150])):
        x, pipeline = rng.random(), player.pipeline
        ready = pipeline.ready()
        keys = sorted(pipeline.sessions)
        caught_up = pipeline.at == (player.frames_end, player.pads_end)
        if x < 0.25 and published < len(world.published):
            for topic in world.published[published : published + rng.choice([1, 2, 8])]:
                published += 1
                player.frames_end += topic == "f"
                player.pads_end += topic == "p"
            pipeline.observe_ends(player.frames_end, player.pads_end, 0)
        elif x < 0.25 + crash:
            player.recover()
            player.pipeline.observe_ends(player.frames_end, player.pads_end, 0)
        elif x < 0.40 and ready:
            player.commit(rng.choice(sorted(ready)))
        elif x < 0.44:
            player.commit(None)
        elif x < 0.47 and player.gives_up and keys and pipeline.at.pads == player.pads_end:
            player.force(rng.choice(keys))
        elif x < 0.54 and player.gives_up and keys:
            silent = [k for k in keys if caught_up or pipeline._passed_by(pipeline.sessions[k])]
            if silent:
                player.silence(rng.choice(silent))
        else:
            player.read(rng.random() < frames_first)
        player.drain()
        if rng.random() < 0.02:
            frames_first = rng.random()
    player.pipeline.observe_ends(len(world.frames), len(world.pads), 0)
    player.finish(rng, frames_first)
    player.check_outcome()
