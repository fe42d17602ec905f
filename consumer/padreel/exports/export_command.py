"""What `padreel export` does around its work: a progress bar, a summary, errors of the system."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from padreel.exports.export import export, summary
from padreel.exports.settings import ExportSettings
from padreel.training.merge_command import progress, system_errors


def run_export(path: Path, settings: ExportSettings, say: Callable[[str], None]) -> None:
    """Export and say what was made. Raises DatasetError."""
    with system_errors(settings.output), progress() as tell:
        made = export(path, settings, tell)
    found = summary(made)
    line = "{outcome}: {episodes} episodes, {frames} frames as {format}, run {run}".format(**found)
    if found["episodes_left_out"] or found["frames_left_out"]:
        line += "; left out: {episodes_left_out} episodes, {frames_left_out} frames of the others".format(**found)
    say(json.dumps(found, indent=2) if settings.json_output else line)
