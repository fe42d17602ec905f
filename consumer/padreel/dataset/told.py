"""How far a shard's log has been told to those who wait for its episodes.

What is to be told is read from the log alone, so that nothing that was committed can be forgotten. How far that got is
kept in `<root>/announced/`, outside of the shards. It is never needed: where it is lost, damaged or of another topic,
everything is told once more.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from padreel.core.episodes import EpisodeEvent, EventKind
from padreel.core.gate import EpisodeQuality
from padreel.dataset import layout
from padreel.dataset.commit_log import CommitLog, Entry, Episode
from padreel.model import SessionRejection

ANNOUNCED = Path("announced")
_MOST_COMMITS = 50  # read at a time


@dataclass(frozen=True, slots=True)
class Untold:
    """Some commits that follow what was told: their events, and the last of them."""

    events: tuple[EpisodeEvent, ...]
    n: int
    uuid: str


class Told:
    """How far one partition's log was told on a topic. Blocking; everything raises OSError, DatasetError."""

    def __init__(self, root: Path, partition: int, topic: str) -> None:
        self._log = CommitLog(root / layout.shard_folder(partition))
        self._path = root / ANNOUNCED / f"{layout.shard_folder(partition)}.json"
        self._temporary = self._path.with_name(f".{self._path.name}.{uuid4().hex}")
        self._topic = topic
        self._next: int | None = None  # not known yet

    def ahead(self) -> Untold | None:
        """The next commits to tell, None where all are told. What it gives is durable."""
        if self._next is None:
            self._next = self._resume()
        found: list[Entry] = []
        while len(found) < _MOST_COMMITS and (entry := self._log.read(self._next + len(found))) is not None:
            found.append(entry)
        if not found:
            return None
        self._log.sync()  # whoever linked the last of them may not have got as far
        events = tuple(event for entry in found for event in events_of(entry, self._released_by(entry)))
        return Untold(events, found[-1].n, found[-1].uuid)

    def save(self, untold: Untold) -> None:
        """Remember that these were told."""
        self._next = untold.n + 1
        self._path.parent.mkdir(exist_ok=True)
        body = {"topic": self._topic, "commit": untold.n, "uuid": untold.uuid}
        try:
            # Not made durable: what a power loss takes is told again.
            self._temporary.write_text(json.dumps(body), encoding="utf-8")
            os.replace(self._temporary, self._path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def _released_by(self, entry: Entry) -> Entry | None:
        return None if entry.released is None else self._log.read(entry.released)

    def _resume(self) -> int:
        try:
            body = json.loads(self._path.read_bytes())
            topic, n, uuid = body["topic"], int(body["commit"]), body["uuid"]
        except FileNotFoundError:
            return 0
        except (ValueError, KeyError, TypeError):  # torn or not ours
            return 0
        entry = self._log.read(n) if n >= 0 and topic == self._topic else None
        # In a shard that was restored from a copy that number is another commit's, or none's.
        return n + 1 if entry is not None and entry.uuid == uuid else 0


def events_of(entry: Entry, released: Entry | None = None) -> list[EpisodeEvent]:
    """What there is to tell of a commit; `released` is that of the episode which it releases."""
    told = [_of_rejection(entry, one) for one in entry.rejections]
    if entry.episode is not None:
        told.append(_of_episode(entry, entry.episode, entry.episode.quality))
    if released is not None and released.episode is not None:
        told.append(_of_episode(entry, released.episode, None))
    return told


def _of_episode(entry: Entry, episode: Episode, quality: EpisodeQuality | None) -> EpisodeEvent:
    columns = episode.columns
    is_quarantined = quality is not None and quality.quarantined
    return EpisodeEvent(
        key=columns["session"],
        kind=EventKind.QUARANTINED if is_quarantined else EventKind.COMMITTED,
        group=entry.source.group,
        partition=entry.source.partition,
        commit=entry.n,
        rig_id=columns["rig"],
        reason=columns["end_reason"],
        detail=_of_quality(quality) if quality is not None and is_quarantined else "",
        first_frame_offset=columns["frames_first_offset"],
        last_frame_offset=columns["frames_last_offset"],
        episode_index=episode.index,
        first_frame_index=columns["first_frame_index"],
        frames=episode.length,
        idle_until_ns=columns["idle_until_ns"],
        seconds=episode.to_timestamp - episode.from_timestamp,
    )


def _of_quality(quality: EpisodeQuality) -> str:
    parts = ", ".join(f"{name} {value:.3f}" for name, value in quality.components.items())
    return f"quality {quality.score:.3f} is below {quality.threshold}: {parts}"


def _of_rejection(entry: Entry, rejection: SessionRejection) -> EpisodeEvent:
    closed = entry.state.closed.get(rejection.key) if entry.state is not None else None
    is_all_of_it = closed is not None and closed.reason is rejection.reason
    return EpisodeEvent(
        key=rejection.key,
        kind=EventKind.REJECTED if is_all_of_it else EventKind.QUARANTINED,
        group=entry.source.group,
        partition=entry.source.partition,
        commit=entry.n,
        rig_id=rejection.rig_id,
        reason=rejection.reason.value,
        detail=rejection.detail,
        first_frame_offset=rejection.first_frame_offset,
        last_frame_offset=rejection.last_frame_offset,
    )
