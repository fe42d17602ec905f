"""A broker and an output root in memory, with the consumer's side of them."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from padreel.dataset.commit_log import Kind
from padreel.dataset.committed import Committed
from padreel.dataset.entries import without_episode
from padreel.errors import BrokerError, FencedError
from padreel.kafka.events import Answer, Assigned, Batch, Pair, Revoked, out_of_range
from padreel.model import Commit, DeadLetter, Effect, EpisodeDraft, PartitionState, Record, SessionRejection, Topic


class FakeBroker:
    """Two co-partitioned topics and one consumer group. Everything takes effect at once."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.records: dict[Pair, list[Record]] = {(topic, n): [] for topic in Topic for n in range(partitions)}
        self.begin: dict[Pair, int] = dict.fromkeys(self.records, 0)
        self.members: list[FakeSource] = []
        self.committed: dict[Pair, int] = {}
        self.answers = True  # False: as if it were out of reach
        self.letters: list[DeadLetter] = []
        self.letter_errors: list[Exception] = []  # raised by the next attempts to send letters, one each

    async def send_letters(self, letters: Sequence[DeadLetter]) -> None:
        if self.letter_errors:
            raise self.letter_errors.pop(0)
        self.letters += letters

    def produce(self, pair: Pair, key: bytes | None, value: bytes | None, timestamp: int = 0) -> int:
        """Append a record; its offset."""
        offset = self.end(pair)
        self.records[pair].append(Record(offset, timestamp, key, value))
        return offset

    def end(self, pair: Pair) -> int:
        return self.begin[pair] + len(self.records[pair])

    def delete_before(self, pair: Pair, offset: int) -> None:
        """As retention does."""
        self.records[pair] = [record for record in self.records[pair] if record.offset >= offset]
        self.begin[pair] = offset

    def rebalance(self) -> None:
        """Take everything from everybody and assign it anew, by ranges."""
        for member in self.members:
            member.take_away()
        share, rest = divmod(self.partitions, len(self.members)) if self.members else (0, 0)
        first = 0
        for rank, member in enumerate(self.members):
            count = share + (rank < rest)
            member.assign(range(first, first + count))
            first += count


class FakeSource:
    """`padreel.kafka.source.KafkaSource` on a `FakeBroker`."""

    def __init__(self, broker: FakeBroker, *, max_records: int = 500) -> None:
        self.broker = broker
        self.max_records = max_records
        self.assigned: set[int] = set()
        self.paused: set[Pair] = set()
        self.at: dict[Pair, int] = {}
        self.generation = 0
        self.resumed: list[tuple[int, int, int]] = []
        self._post: Callable[[Assigned | Revoked], None] | None = None
        self._turn = itertools.count()

    # ---- the group's side

    def take_away(self) -> None:
        assert self._post is not None
        if self.assigned:
            self._post(Revoked(tuple(sorted(self.assigned))))
        self.assigned = set()

    def assign(self, partitions: Iterable[int]) -> None:
        assert self._post is not None
        self.generation += 1
        self.assigned = set(partitions)
        self.at = {(topic, n): 0 for topic in Topic for n in self.assigned}
        self.paused = set(self.at)
        self._post(Assigned(tuple(sorted(self.assigned)), self.generation))

    # ---- the consumer's side

    async def start(self, post: Callable[[Assigned | Revoked], None]) -> None:
        self._post = post
        self.broker.members.append(self)
        self.broker.rebalance()

    async def stop(self) -> None:
        if self in self.broker.members:
            self.broker.members.remove(self)
            self.assigned = set()
            self.broker.rebalance()

    async def getmany(self, allowed: Iterable[Pair], *, timeout_ms: int) -> list[Batch]:
        allowed = list(allowed)
        assert allowed
        for _ in range(max(1, timeout_ms // 10)):
            if found := self._available(allowed):
                return found
            await asyncio.sleep(0.01)
        return []

    def _available(self, allowed: list[Pair]) -> list[Batch]:
        found: list[Batch] = []
        left = self.max_records
        turn = next(self._turn) % len(allowed)
        for pair in allowed[turn:] + allowed[:turn]:
            if pair not in self.at or pair in self.paused or not self.broker.answers:
                continue
            begin, end, at = self.broker.begin[pair], self.broker.end(pair), self.at[pair]
            if not begin <= at <= end:
                raise BrokerError(out_of_range(pair[0].value, pair[1], at, begin, end))
            records = self.broker.records[pair][at - begin :][:left]
            if records:
                left -= len(records)
                self.at[pair] = records[-1].offset + 1
                found.append(Batch(pair[0], pair[1], records, self.generation))
            if not left:
                break
        return found

    def pause(self, partition: int) -> None:
        self.paused |= {pair for pair in self.at if pair[1] == partition}

    def resume(self, partition: int, frames: int, pads: int, generation: int) -> bool:
        if generation != self.generation or partition not in self.assigned:
            return False
        self.resumed.append((partition, frames, pads))
        for topic, offset in ((Topic.FRAMES, frames), (Topic.PADS, pads)):
            self.at[topic, partition] = offset
            self.paused.discard((topic, partition))
        return True

    async def positions(self, pairs: Iterable[Pair]) -> dict[Pair, int]:
        return {pair: self.at[pair] for pair in pairs if pair[1] in self.assigned}

    async def end_offsets(self, pairs: Iterable[Pair]) -> dict[Pair, int] | None:
        return {pair: self.broker.end(pair) for pair in pairs} if self.broker.answers else None

    async def beginning_offsets(self, pairs: Iterable[Pair]) -> dict[Pair, int] | None:
        return {pair: self.broker.begin[pair] for pair in pairs} if self.broker.answers else None

    async def offsets_at(self, timestamp_ms: int, pairs: Iterable[Pair]) -> dict[Pair, int | None] | None:
        def first(pair: Pair) -> int | None:
            return next((one.offset for one in self.broker.records[pair] if one.timestamp >= timestamp_ms), None)

        return {pair: first(pair) for pair in pairs} if self.broker.answers else None

    async def committed(self, pairs: Iterable[Pair]) -> dict[Pair, int] | None:
        return {pair: self.broker.committed.get(pair, 0) for pair in pairs} if self.broker.answers else None

    async def commit(self, positions: Mapping[Pair, int]) -> Answer:
        if not positions:
            raise ValueError(positions)  # as aiokafka does
        if not self.broker.answers:
            return Answer.UNKNOWN
        if not {pair[1] for pair in positions} <= self.assigned:
            return Answer.REFUSED
        self.broker.committed |= dict(positions)
        return Answer.ACCEPTED


class FakeDisk:
    """The shards of an output root, in memory; what is committed stays, whoever opens a shard next."""

    def __init__(self) -> None:
        self.states: dict[int, PartitionState] = {}
        self.episodes: list[tuple[int, EpisodeDraft]] = []
        self.owners: dict[int, FakeShard] = {}
        self.opened: list[int] = []
        self.open_errors: list[Exception] = []  # raised by the next openings, one each
        self.apply_errors: list[Exception] = []  # raised by the next calls that hold a whole episode, one each
        self.gate: threading.Event | None = None  # a call that holds a whole episode waits for it
        self.reached = threading.Event()  # set when such a call waits

    def open(self, partition: int) -> FakeShard:
        self.opened.append(partition)
        if self.open_errors:
            raise self.open_errors.pop(0)
        shard = FakeShard(self, partition)
        self.owners[partition] = shard
        return shard

    def rows(self) -> dict[str, int]:
        """Rows per session, over all shards."""
        rows: dict[str, int] = {}
        for _, draft in self.episodes:
            rows[draft.key] = rows.get(draft.key, 0) + len(draft.time_ns)
        return rows


class FakeShard:
    """`padreel.dataset.shard.Shard` on a `FakeDisk`."""

    def __init__(self, disk: FakeDisk, partition: int) -> None:
        self.disk = disk
        self.partition = partition
        self.closed = False
        self.kept: list[Effect] = []

    @property
    def state(self) -> PartitionState | None:
        return self.disk.states.get(self.partition)

    def apply(self, effects: Sequence[Effect]) -> list[Committed]:
        assert not self.closed
        self.kept += effects
        done: list[Committed] = []
        while self.kept:
            effect = self.kept[0]
            if isinstance(effect, Commit):
                done.append(self._commit(effect))
            self.kept.pop(0)
        return done

    def _commit(self, commit: Commit) -> Committed:
        draft = commit.episode
        if draft is not None:
            if self.disk.gate is not None:
                self.disk.reached.set()
                assert self.disk.gate.wait(300)
            if self.disk.apply_errors:
                raise self.disk.apply_errors.pop(0)
        self.check_tail()
        self.disk.states[self.partition] = commit.state
        if draft is None:
            return Committed(0, Kind.PROGRESS, commit.accounted, commit.rejections)
        self.disk.episodes.append((self.partition, draft))
        rows = len(draft.time_ns)
        return Committed(
            n=1,
            kind=Kind.EPISODE,
            accounted=commit.accounted,
            rejections=commit.rejections,
            episode_index=len(self.disk.episodes) - 1,
            key=draft.key,
            rig_id=draft.session.rig_id,
            reason=draft.reason,
            frames=rows,
            seconds=rows / 30,
            pad_ages=(0.25, 0.5),
            step_seconds={"stage": 1.0, "commit": 2.0, "publish": 3.0},
        )

    def reject(self, detail: str) -> SessionRejection:
        commit = self.kept[0]
        assert isinstance(commit, Commit)
        self.kept[0] = rejected = without_episode(commit, detail)
        return rejected.rejections[-1]

    def check_tail(self) -> None:
        if self.disk.owners.get(self.partition) is not self:
            raise FencedError(f"partition {self.partition} was taken")

    def close(self) -> None:
        assert not self.closed
        self.closed = True
