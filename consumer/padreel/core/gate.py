"""The quality gate: which episodes are held back from training sets when they are committed. Pure.

An episode whose score (see `core.quality`) is below the threshold is *quarantined*: committed and kept like any other,
but no part of a merge until it is released.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from padreel.core.quality import COMPONENTS, EpisodeFigures, QualityConfig, quality_of

DEFAULT: Final = "default"  # the origin of a threshold that nobody has asked for


@dataclass(frozen=True, slots=True)
class EpisodeQuality:
    """What was judged of an episode when it was committed.

    `components` are those that could be told, in [0, 1]. `weakest` is the one that costs the score most by its weight,
    empty where none costs anything. `quarantined` says what was decided then; a release comes later.
    """

    score: float
    components: dict[str, float]
    weakest: str
    threshold: float
    quarantined: bool


@dataclass(frozen=True, slots=True)
class Gate:
    """What an episode must score not to be held back.

    `origin` says where `threshold` is from, in words; `lowest` and `highest` are what could have been asked for.
    """

    config: QualityConfig
    threshold: float
    lowest: float
    highest: float
    origin: str

    def judge(self, figures: EpisodeFigures) -> EpisodeQuality:
        """Judge one episode of at least one row."""
        found = quality_of(figures, self.config)
        return EpisodeQuality(
            score=found.score,
            components=dict(found.components),
            weakest=weakest(found.components, self.config.weights),
            threshold=self.threshold,
            quarantined=found.score < self.threshold,
        )

    def described(self) -> dict[str, Any]:
        """The gate as info.json has it."""
        return {"threshold": self.threshold, "range": [self.lowest, self.highest], "origin": self.origin}


def gate_of(config: QualityConfig, asked: float | None, origin: str) -> Gate:
    """The gate with the threshold that is asked for, else the configured one.

    Raises ValueError where what is asked for is outside of the range.
    """
    bounds = config.bounds
    if asked is None:
        return Gate(config, bounds.threshold, bounds.lowest, bounds.highest, DEFAULT)
    if not bounds.lowest <= asked <= bounds.highest:
        raise ValueError(f"expected {bounds.lowest} to {bounds.highest}, the range that quality_config.json allows")
    return Gate(config, asked, bounds.lowest, bounds.highest, origin)


def gate_described(config: QualityConfig, described: Mapping[str, Any]) -> Gate:
    """The gate that `Gate.described` describes. Raises KeyError, TypeError, ValueError for what is none."""
    lowest, highest = described["range"]
    return Gate(config, float(described["threshold"]), float(lowest), float(highest), str(described["origin"]))


def weakest(components: Mapping[str, float], weights: Mapping[str, float]) -> str:
    """The component that costs the score most by its weight, the first of equals; empty where none costs anything."""
    costs = {name: weights[name] * (1 - components[name]) for name in COMPONENTS if name in components}
    worst = max(costs, key=lambda name: costs[name])
    return worst if costs[worst] > 0 else ""
