"""`padreel dead-letters`: what could not become part of an episode, and publishing it again after a fix.

A session is replayed as a whole: its frame records are read again from its first letter on, those that are in no
episode are published under a new run from the first IDR on, and its pad records with them. Letters hold copies of bad
records, so those are found even when the topic has them no more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from padreel.core.erase import is_erased
from padreel.core.replay import FrameReplay, PadReplay, Replayed, accounted_below, replay_key
from padreel.dataset import layout
from padreel.dataset.commit_log import CommitLog
from padreel.dataset.root import RootIdentity, read_root
from padreel.errors import BrokerError, DatasetError, SettingsError
from padreel.kafka.connect import check_connection
from padreel.kafka.dead_letter import DeadLetters, StoredLetter, read_letters
from padreel.kafka.reading import Range, Reader, open_reader
from padreel.model import DeadLetter, LetterKind, PartitionState, RawRecord, Record, Topic
from padreel.settings import DeadLettersSettings, ReplaySettings

_CLIENT = "padreel-dead-letters"
_MAX_MESSAGE_BYTES = 64 * 2**20
_IN_FLIGHT = 200  # records


@dataclass(frozen=True, slots=True)
class Listed:
    """A letter, and the key its session was published again under, if it was."""

    letter: StoredLetter
    replayed_as: str | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one session's replay; `why_not` is empty where it was published."""

    key: str
    new_key: str
    why_not: str
    frames: Replayed
    pads: int


async def list_letters(settings: DeadLettersSettings) -> tuple[list[Listed], int]:
    """The letters that are asked for, and how many records of the topic are no letters. Raises BrokerError."""
    await check_connection(settings.bootstrap_servers, settings.security, client_id=_CLIENT)
    async with open_reader(settings.connection, client_id=_CLIENT) as reader:
        letters, others = await read_letters(reader, settings.dead_letters_topic)
    replayed = {one.session: one.detail for one in letters if one.kind is LetterKind.REPLAYED}
    listed = [
        Listed(letter, replayed.get(letter.session) if letter.session else None)
        for letter in letters
        if letter.kind is not LetterKind.REPLAYED and settings.session in (None, letter.session)
    ]
    return [one for one in listed if settings.every or one.replayed_as is None], others


async def replay(settings: ReplaySettings, progress: Callable[[Outcome], None]) -> list[Outcome]:
    """Publish sessions again; `progress` is called after each.

    Raises SettingsError, BrokerError, DatasetError, OSError; what was published by then is published.
    """
    try:
        root = read_root(settings.output_root)
    except FileNotFoundError as error:
        raise SettingsError(
            f"--output-root (PADREEL_OUTPUT_ROOT): {error.filename}: no output root of padreel"
        ) from error
    listed, _ = await list_letters(settings)
    sessions: dict[str, list[StoredLetter]] = {}
    for one in listed:
        if one.letter.session is not None and one.letter.source_topic in (root.frames_topic, root.pads_topic):
            sessions.setdefault(one.letter.session, []).append(one.letter)
    if settings.session is not None and settings.session not in sessions:
        raise SettingsError(f"--session: no dead letter of {settings.session} that was not replayed; see --every")
    outcomes: list[Outcome] = []
    topic_names = {Topic.FRAMES: root.frames_topic, Topic.PADS: root.pads_topic}
    async with (
        open_reader(settings.connection, client_id=_CLIENT) as reader,
        _Publisher(settings.connection) as publisher,
        DeadLetters(settings.connection, settings.dead_letters_topic, topic_names, client_id=_CLIENT) as marks,
    ):
        for key, letters in sessions.items():
            outcome = await _replay_session(settings, root, key, letters, reader, publisher)
            if not outcome.why_not:
                await marks.send([_mark(key, outcome.new_key, letters[0])])
            outcomes.append(outcome)
            progress(outcome)
    return outcomes


async def _replay_session(
    settings: ReplaySettings,
    root: RootIdentity,
    key: str,
    letters: Sequence[StoredLetter],
    reader: Reader,
    publisher: _Publisher,
) -> Outcome:
    new_key = replay_key(key)
    partition = letters[0].partition
    state, in_episodes, again = _committed(settings, root, partition, key, new_key)
    frame_letters = [letter for letter in letters if letter.source_topic == root.frames_topic]
    if is_erased(state, key):
        return Outcome(key, new_key, f"it was erased of {layout.shard_folder(partition)}", Replayed(), 0)
    if again:
        return Outcome(key, new_key, f"episode {again[0]} of {again[1]} is of {new_key} already", Replayed(), 0)
    if not frame_letters:
        return Outcome(key, new_key, "only gamepad records were rejected, no frames", Replayed(), 0)
    there = await reader.range(root.frames_topic, partition)
    below = accounted_below(state, key)
    wanted = Range(min(letter.first_offset for letter in frame_letters), there.end if below is None else below)
    late = [letter.first_offset for letter in frame_letters if letter.first_offset >= wanted.end]
    if late:
        why = f"frame record {late[0]} may still become a row: no commit has passed it; try again later"
        return Outcome(key, new_key, why, Replayed(), 0)
    copies = {
        letter.first_offset: Record(letter.first_offset, letter.timestamp, letter.key, letter.value)
        for letter in frame_letters
        if letter.kind is LetterKind.RECORD
    }

    def frames_of_session() -> AsyncIterator[RawRecord]:
        return _merged(copies, _of_session(reader, root.frames_topic, partition, wanted, key))

    looked = FrameReplay(in_episodes)
    async for _ in _replayed(looked, frames_of_session()):
        pass  # a session may be too large to hold: once to see what there is, once to publish it
    if not looked.found.frames:
        return Outcome(key, new_key, "none of its frames is an IDR that is in no episode", looked.found, 0)
    pads = PadReplay()
    pads_there = await reader.range(root.pads_topic, partition)
    # The pads first: then no frame waits for them.
    of_pads = _replayed(pads, _of_session(reader, root.pads_topic, partition, pads_there, key))
    pad_count = await publisher.send(root.pads_topic, new_key, of_pads, pads.end)
    frames = FrameReplay(in_episodes)
    await publisher.send(root.frames_topic, new_key, _replayed(frames, frames_of_session()), frames.end)
    return Outcome(key, new_key, "", frames.found, pad_count)


async def _replayed(replay: FrameReplay | PadReplay, records: AsyncIterator[RawRecord]) -> AsyncIterator[bytes]:
    async for record in records:
        if (value := replay.take(record)) is not None:
            yield value
        if replay.ended:
            return


async def _of_session(reader: Reader, topic: str, partition: int, wanted: Range, key: str) -> AsyncIterator[RawRecord]:
    name = key.encode()
    async for record in reader.records(topic, partition, wanted):
        if record.key == name:
            yield record


async def _merged(copies: dict[int, Record], records: AsyncIterator[RawRecord]) -> AsyncIterator[RawRecord]:
    """The records, and in their places the copies of those that the topic has no more."""
    left = dict(sorted(copies.items()))
    async for record in records:
        while left and (first := next(iter(left))) <= record.offset:
            copy = left.pop(first)
            if first < record.offset:
                yield copy
        yield record
    for copy in left.values():
        yield copy


def _committed(
    settings: ReplaySettings, root: RootIdentity, partition: int, key: str, new_key: str
) -> tuple[PartitionState, list[tuple[int, int]], tuple[int, str] | None]:
    """The shard's state, the offset ranges of the session's rows, and an episode of the new key if there is one."""
    shards = [settings.output_root / layout.shard_folder(number) for number in range(root.partitions)]
    erasures = _erasures(shards)
    last = CommitLog(shards[partition]).last() if shards[partition].is_dir() else None
    if last is None or last.state is None:
        raise DatasetError(f"{shards[partition]}: no commit yet; there is nothing that could have been left out")
    ranges: list[tuple[int, int]] = []
    again: tuple[int, str] | None = None
    columns = ["episode_index", "session", "frames_first_offset", "frames_last_offset"]
    for shard in shards:
        for path in sorted((shard / "meta" / "episodes").glob("*/*.parquet")):
            for row in pq.read_table(path, columns=columns).to_pylist():
                if row["session"] == key and shard == shards[partition]:
                    ranges.append((row["frames_first_offset"], row["frames_last_offset"]))
                if row["session"] == new_key:
                    again = again or (row["episode_index"], shard.name)
    if _erasures(shards) != erasures:
        raise DatasetError(f"{settings.output_root}: sessions are being erased; replay again when that is done")
    return last.state, ranges, again


def _erasures(shards: Sequence[Path]) -> list[int | None]:
    """The latest erase of each shard. Raises DatasetError where one is not carried out: then not all episodes show."""
    lasts = [CommitLog(shard).last() if shard.is_dir() else None for shard in shards]
    for shard, last in zip(shards, lasts, strict=True):
        if last is not None and last.erasing:
            raise DatasetError(
                f"{shard}: sessions are being erased, or that was interrupted; run `padreel erase` again"
            )
    return [None if last is None else last.latest_erasure for last in lasts]


def _mark(key: str, new_key: str, letter: StoredLetter) -> DeadLetter:
    return DeadLetter(
        LetterKind.REPLAYED,
        Topic.FRAMES,
        letter.partition,
        letter.first_offset,
        letter.last_offset,
        "replayed",
        new_key,
        key.encode(),
    )


class _Publisher:
    def __init__(self, connection: dict[str, Any]) -> None:
        self._producer = AIOKafkaProducer(
            **connection, client_id=_CLIENT, enable_idempotence=True, max_request_size=_MAX_MESSAGE_BYTES
        )

    async def __aenter__(self) -> _Publisher:
        await self._producer.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._producer.stop()

    async def send(self, topic: str, key: str, values: AsyncIterator[bytes], end: Callable[[], bytes]) -> int:
        """Publish `values` and then `end`, in order; how many values there were. Raises BrokerError."""
        name, count = key.encode(), 0
        under_way: deque[asyncio.Future[Any]] = deque()
        try:
            async for value in values:
                under_way.append(await self._producer.send(topic, key=name, value=value))
                count += 1
                if len(under_way) >= _IN_FLIGHT:
                    await under_way.popleft()
            under_way.append(await self._producer.send(topic, key=name, value=end()))
            await asyncio.gather(*under_way)
        except KafkaError as error:
            raise BrokerError(f"topic {topic!r}: publishing {key} failed: {error}; replay it again") from error
        return count
