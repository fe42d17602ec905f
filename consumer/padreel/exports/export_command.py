"""What `padreel export` does around its work: a progress bar, a summary, errors of the system."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from padreel.exports.export import Exported, export, summary
from padreel.exports.settings import ExportSettings
from padreel.training.merge.command import progress, system_errors


def run_export(path: Path, settings: ExportSettings, say: Callable[[str], None]) -> None:
    """Export and say what was made. Raises DatasetError."""
    with system_errors(settings.output), progress() as tell:
        made = export(path, settings, tell)
    say_exported(made, say, as_json=settings.json_output)


def say_exported(made: Exported, say: Callable[[str], None], *, as_json: bool) -> None:
    """Print what was made, as JSON or as a line."""
    found = summary(made)
    line = "{outcome}: {episodes} episodes, {frames} frames as {format}, run {run}".format(**found)
    if found["episodes_left_out"] or found["frames_left_out"]:
        line += "; left out: {episodes_left_out} episodes, {frames_left_out} frames of the others".format(**found)
    if found["videos_with_hidden_pictures"]:
        line += "; {videos_with_hidden_pictures} videos have pictures that their edit list hides".format(**found)
    say(json.dumps(found, indent=2) if as_json else line)
