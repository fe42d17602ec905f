"""What is told of episodes, and of sessions that cannot become some: the messages of the episodes topic. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from padreel_schemas.v1.episodes_pb2 import EpisodeEvent as Message


class EventKind(StrEnum):
    """What became of it; also the value of a metric label."""

    COMMITTED = "committed"  # the episode is in the shard
    REJECTED = "rejected"  # the session, or the rest of it; it takes no more
    QUARANTINED = "quarantined"  # one episode: in the shard but held back, or not in it; the session goes on


@dataclass(frozen=True, slots=True)
class EpisodeEvent:
    """One event of a session. Offsets are of its frame records, inclusive.

    From `episode_index` on it is said of one in the shard alone: its `frames` rows are those from `first_frame_index`
    on, and frames captured before `idle_until_ns` were trimmed.
    """

    key: str
    kind: EventKind
    group: str
    partition: int
    commit: int
    rig_id: str
    reason: str
    first_frame_offset: int
    last_frame_offset: int
    detail: str = ""
    episode_index: int = 0
    first_frame_index: int = 0
    frames: int = 0
    idle_until_ns: int = 0
    seconds: float = 0.0

    def message(self) -> bytes:
        """The record's value; its key is `key`."""
        return Message(
            kind=_KINDS[self.kind],
            consumergroup=self.group,
            partition=self.partition,
            commit=self.commit,
            rig_id=self.rig_id,
            reason=self.reason,
            detail=self.detail,
            first_frame_offset=self.first_frame_offset,
            last_frame_offset=self.last_frame_offset,
            episode_index=self.episode_index,
            first_frame_index=self.first_frame_index,
            frames=self.frames,
            idle_until_ns=self.idle_until_ns,
            seconds=self.seconds,
        ).SerializeToString(deterministic=True)


_KINDS = {
    EventKind.COMMITTED: Message.COMMITTED,
    EventKind.REJECTED: Message.REJECTED,
    EventKind.QUARANTINED: Message.QUARANTINED,
}
