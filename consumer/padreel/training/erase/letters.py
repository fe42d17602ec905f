"""What Kafka has of sessions that are erased: their dead letters, which can go, and their records, which cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from padreel.dataset.commit_log import Source
from padreel.dataset.erasure import ErasedSession
from padreel.kafka.connect import check_connection
from padreel.kafka.letters_removal import LettersOf, find_letters, remove_letters
from padreel.kafka.reading import open_reader
from padreel.training.settings import EraseSettings

_CLIENT = "padreel-erase"


@dataclass(frozen=True, slots=True)
class SourceRange:
    """Records of a session in a topic, offsets inclusive; others lie between them.

    `is_there` says whether the broker still has some of them; None where it was not asked.
    """

    topic: str
    partition: int
    session: str
    first_offset: int
    last_offset: int
    is_there: bool | None = None


@dataclass(frozen=True, slots=True)
class InKafka:
    """What was found. `letters` is None where no broker was named."""

    sources: tuple[SourceRange, ...]
    letters: tuple[LettersOf, ...] | None
    removed: bool


def source_ranges(source: Source, sessions: Sequence[ErasedSession]) -> list[SourceRange]:
    """Where the records of the sessions were; none for recordings that were converted without a broker."""
    found: list[SourceRange] = []
    for one in sessions if source.cluster_id else ():
        ranges = (
            (source.frames_topic, one.frames_first_offset, one.frames_last_offset),
            (source.pads_topic, one.pads_first_offset, one.pads_last_offset),
        )
        for topic, first, last in ranges:
            if first >= 0:
                found.append(SourceRange(topic, source.partition, one.key, first, last))
    return found


async def look_into_kafka(
    settings: EraseSettings, is_wanted: Callable[[str], bool], sources: Sequence[SourceRange], *, remove: bool
) -> InKafka:
    """Find the letters of the sessions, and remove them if asked for; see which records are still there.

    Raises BrokerError, and SettingsError, BrokerError as any connection.
    """
    if not settings.bootstrap_servers:
        return InKafka(tuple(sources), None, removed=False)
    await check_connection(settings.bootstrap_servers, settings.security, client_id=_CLIENT)
    topic = settings.dead_letters_topic
    async with open_reader(settings.connection, client_id=_CLIENT) as reader:
        letters = await find_letters(reader, topic, is_wanted)
        is_removing = remove and bool(letters) and not settings.keep_letters
        if is_removing:
            letters = await remove_letters(reader, settings.connection, topic, letters, client_id=_CLIENT)
        checked: list[SourceRange] = []
        for one in sources:
            is_there = one.partition in await reader.partitions(one.topic)
            if is_there:
                there = await reader.range(one.topic, one.partition)
                is_there = there.begin <= one.last_offset and one.first_offset < there.end
            checked.append(replace(one, is_there=is_there))
    return InKafka(tuple(checked), tuple(letters), is_removing)
