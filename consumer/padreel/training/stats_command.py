"""What `padreel stats` prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from padreel.training.merge.command import system_errors
from padreel.training.norm_stats import SavedStats, save_stats
from padreel.training.settings import StatsSettings


def run_stats(path: Path, settings: StatsSettings, say: Callable[[str], None]) -> None:
    """Compute, save, and say of how many rows, and which deviations were raised. Raises DatasetError."""
    with system_errors(settings.save_path):
        saved = save_stats(path, settings)
    say(json.dumps(_summary(saved), indent=2) if settings.json_output else _lines(saved, settings.save_path))


def _summary(saved: SavedStats) -> dict[str, object]:
    return {
        "format_version": 1,
        "outcome": saved.outcome,
        "run": saved.run,
        "episodes": saved.episodes,
        "frames": saved.frames,
        "figures": {
            name: {"rows": one.rows, "kept": one.kept, "slots": len(one.mean), "floored_slots": [*one.floored]}
            for name, one in saved.figures.items()
        },
    }


def _lines(saved: SavedStats, target: Path) -> str:
    lines = [
        f"{name}: {one.kept} of {one.rows} rows, {len(one.mean)} slots, {len(one.floored)} of them at the floor"
        for name, one in saved.figures.items()
    ]
    return "\n".join([*lines, f"{saved.outcome}: {target}: {saved.episodes} episodes, {saved.frames} frames"])
