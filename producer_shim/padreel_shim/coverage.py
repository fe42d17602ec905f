"""Whether every frame of a session is in a shard: what was told of it, against what was recorded. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from padreel_schemas.v1.episodes_pb2 import EpisodeEvent


class Episode(NamedTuple):
    """An episode in a shard: frames `first` to `end - 1`; those captured before `idle_until_ns` were trimmed."""

    first: int
    end: int
    idle_until_ns: int


@dataclass(slots=True)
class Session:
    """What one consumer group has told of a session. What is told twice counts once."""

    episodes: set[Episode] = field(default_factory=set)
    rejected: set[str] = field(default_factory=set)  # why
    quarantined: set[str] = field(default_factory=set)  # why

    def add(self, event: EpisodeEvent) -> None:
        """Take one more event of it."""
        is_held_back = event.kind == EpisodeEvent.QUARANTINED and event.frames > 0  # in the shard all the same
        if event.kind == EpisodeEvent.COMMITTED or is_held_back:
            first = event.first_frame_index
            self.episodes.add(Episode(first, first + event.frames, event.idle_until_ns))
        elif event.kind == EpisodeEvent.REJECTED:
            self.rejected.add(event.reason)
        elif event.kind == EpisodeEvent.QUARANTINED:
            self.quarantined.add(event.reason)


def collect(events: Iterable[tuple[str, EpisodeEvent]], group: str) -> Mapping[str, Session]:
    """What `group` has told, by session key."""
    found: dict[str, Session] = {}
    for key, event in events:
        if event.consumergroup == group:
            found.setdefault(key, Session()).add(event)
    return found


def why_kept(told: Session | None, times: Sequence[int], *, rejected_too: bool) -> str | None:
    """Why a session whose frames were captured at `times`, in display order, must be kept; None: it need not.

    It need not where each frame is a row of an episode, or lies before the first one and was trimmed as idle. After a
    rejection nothing more of a session becomes an episode, and what did has been told before.
    """
    if told is None:
        return "nothing was told of it"
    if told.rejected:
        return None if rejected_too else f"it was rejected ({', '.join(sorted(told.rejected))})"
    if told.quarantined:
        return f"an episode of it is in the dead letters ({', '.join(sorted(told.quarantined))})"
    if not told.episodes:
        return "no episode of it was told"
    first, *others = sorted(told.episodes)
    if first.first > len(times):
        return f"an episode begins at frame {first.first}, the recording has {len(times)}"
    if first.first and times[first.first - 1] >= first.idle_until_ns:
        return f"frame {first.first - 1} is in no episode and was not idle"
    end = first.end
    for episode in others:
        if episode.first > end:
            return f"frames {end} to {episode.first - 1} are in no episode"
        end = max(end, episode.end)
    if end < len(times):
        return f"frames {end} to {len(times) - 1} are in no episode yet"
    if end > len(times):
        return f"an episode ends at frame {end - 1}, the recording has {len(times)}"
    return None
