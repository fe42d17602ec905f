"""What is told of a commit once it is in the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from padreel.core.gate import EpisodeQuality
from padreel.dataset.commit_log import Kind
from padreel.model import EndReason, Fate, SessionRejection

Step = Literal["stage", "commit", "publish"]


@dataclass(frozen=True, slots=True)
class Committed:
    """What one commit did, for progress lines and metrics; from `episode_index` on it speaks of the episode, if any."""

    n: int
    kind: Kind
    accounted: Mapping[Fate, int] = field(default_factory=dict)  # frame records
    rejections: tuple[SessionRejection, ...] = ()
    episode_index: int | None = None
    key: str | None = None
    rig_id: str = ""
    reason: EndReason | None = None
    frames: int = 0  # rows
    seconds: float = 0.0  # of video
    pad_age_max: float = 0.0  # seconds
    pad_ages: tuple[float, ...] = ()  # seconds, of one row in each second that has an EVENT
    step_seconds: Mapping[Step, float] = field(default_factory=dict)  # the last attempt of each
    forced: int = 0
    late: int = 0
    quality: EpisodeQuality | None = None
