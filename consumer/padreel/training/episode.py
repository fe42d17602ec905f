"""A committed episode as those who collect episodes see it. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # settings need the filters, and must load fast
    from padreel.dataset.commit_log import CommittedFile


@dataclass(frozen=True, slots=True)
class CommittedEpisode:
    """What is taken of an episode's commit; its statistics stay in the log until they are written.

    `shard` is the shard's id, `n` the number of the commit, `index` the episode's in its shard. `columns` are the
    scalars of its metadata row. `published_ms` says when its last frame was published, in milliseconds of the epoch.
    `last_ns` is the time of its last row, since the session's first frame; None where the rows have no times.
    `quarantined`: it was held back when it was committed, and has not been released.
    """

    shard: str
    n: int
    index: int
    length: int
    task: str
    from_timestamp: float
    to_timestamp: float
    columns: Mapping[str, Any]
    files: tuple[CommittedFile, ...]
    published_ms: int
    last_ns: int | None
    quality: float | None = None
    quarantined: bool = False

    @property
    def session(self) -> str:
        """The session's key, `<session>@<run>`."""
        return str(self.columns["session"])

    def file(self, kind: str) -> CommittedFile:
        return next(one for one in self.files if one.kind == kind)

    def value(self, name: str) -> Any:
        """What a condition on the column `name` compares; KeyError for a name that no episode has."""
        own = {"length": self.length, "task": self.task, "episode_index": self.index, "quality": self.quality}
        return own[name] if name in own else self.columns[name]
