"""How good an episode is, as a score in [0, 1] with its components. Pure.

Each component is 1 where nothing is wrong and 0 at a limit of `QualityLimits` and beyond, linearly in between:

    jitter     standard deviation of the frame intervals, in frames, against `jitter_frames`; gaps do not count
    gaps       share of frames that are missing, by the times, against `missing_share`
    forced     share of rows whose pairing was decided by force, against `forced_share`
    pad_age    share of rows that have an EVENT younger than `stale_seconds`
    activity   share of rows with a button, key or axis in use, 1 from `active_share` on
    duration   seconds, 1 from `short_seconds` on

The score is the mean of those that can be told, by their weights. Without times and pad only forced and duration can.

`QualityBounds` say which score an episode must have when nobody says otherwise, and which one may be asked for; see
`core.gate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

COMPONENTS: Final = ("jitter", "gaps", "forced", "pad_age", "activity", "duration")
_DEADZONE: Final = 0.1  # an axis nearer to zero is not in use


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """Where components reach 0 or 1; see the module."""

    jitter_frames: float
    missing_share: float
    forced_share: float
    stale_seconds: float
    active_share: float
    short_seconds: float


@dataclass(frozen=True, slots=True)
class QualityBounds:
    """The threshold of the gate where none is asked for, and the lowest and highest that may be asked for."""

    threshold: float
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class QualityConfig:
    """Weights by component, the limits, and the bounds of the gate."""

    weights: Mapping[str, float]
    limits: QualityLimits
    bounds: QualityBounds


@dataclass(frozen=True, slots=True)
class EpisodeFigures:
    """What an episode is judged by; None where its rows do not have it.

    `time_ns` (rows,) int64, `pad_age` (rows,) seconds or -1, `state` (rows, slots).
    """

    rows: int
    fps: int
    forced: int
    time_ns: NDArray[np.int64] | None = None
    pad_age: NDArray[np.float32] | None = None
    state: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Quality:
    """The score and the components that could be told, all in [0, 1]."""

    score: float
    components: Mapping[str, float]


def quality_of(figures: EpisodeFigures, config: QualityConfig) -> Quality:
    """Judge one episode of at least one row."""
    limits = config.limits
    found = {
        "forced": _falling(figures.forced / figures.rows, limits.forced_share),
        "duration": _rising(figures.rows / figures.fps, limits.short_seconds),
    }
    if figures.time_ns is not None:
        jitter, missing = _pace(figures.time_ns, figures.fps)
        found["jitter"] = _falling(jitter, limits.jitter_frames)
        found["gaps"] = _falling(missing, limits.missing_share)
    if figures.pad_age is not None:
        fresh = (figures.pad_age >= 0) & (figures.pad_age <= limits.stale_seconds)
        found["pad_age"] = float(fresh.mean())
    if figures.state is not None:
        active = ((figures.state >= _DEADZONE) | (figures.state <= -_DEADZONE)).any(axis=1)
        found["activity"] = _rising(float(active.mean()), limits.active_share)
    components: dict[str, float] = {name: found[name] for name in COMPONENTS if name in found}
    weight = sum(config.weights[name] for name in components)
    score = sum(config.weights[name] * value for name, value in components.items()) / weight if weight else 0.0
    return Quality(min(1.0, max(0.0, score)), components)


def parse_quality_config(content: Any, where: str) -> QualityConfig:
    """The configuration out of parsed JSON. Raises ValueError that names `where`, the field and what was expected."""
    weights, limits, gate = content.get("weights"), content.get("limits"), content.get("gate")
    names = {
        "weights": COMPONENTS,
        "limits": tuple(QualityLimits.__dataclass_fields__),
        "gate": tuple(QualityBounds.__dataclass_fields__),
    }
    for part, expected in names.items():
        given = content.get(part)
        if not isinstance(given, dict) or set(given) != set(expected):
            raise ValueError(f"{where}: {part}: found {given!r}, expected {', '.join(expected)}")
        for name, value in given.items():
            if type(value) not in (int, float) or not 0 <= value < float("inf") or (part == "limits" and value == 0):
                raise ValueError(f"{where}: {part}.{name}: found {value!r}, expected a positive number")
    if not sum(weights.values()):
        raise ValueError(f"{where}: weights: all are 0, expected one above")
    bounds = QualityBounds(**gate)
    if not bounds.lowest <= bounds.threshold <= bounds.highest <= 1:
        raise ValueError(f"{where}: gate: found {gate!r}, expected lowest <= threshold <= highest <= 1")
    return QualityConfig(dict(weights), QualityLimits(**limits), bounds)


def _pace(time_ns: NDArray[np.int64], fps: int) -> tuple[float, float]:
    """Deviation of the intervals in frames, without those that have a gap, and the share of frames that are missing."""
    steps = np.diff(time_ns).astype(np.float64) * fps / 1e9
    missing = float(np.maximum(np.rint(steps) - 1, 0).sum())
    whole = steps[np.rint(steps) <= 1]
    jitter = float(whole.std()) if len(whole) else 0.0
    return jitter, missing / (len(time_ns) + missing)


def _falling(value: float, limit: float) -> float:
    return max(0.0, 1.0 - value / limit)


def _rising(value: float, limit: float) -> float:
    return min(1.0, value / limit)
