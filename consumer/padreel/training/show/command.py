"""What `padreel show` does around its work: a progress bar, what it says, errors of the system."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from padreel.errors import DatasetError
from padreel.training.merge.command import progress
from padreel.training.settings import ShowSettings
from padreel.training.show.show import show, summary


def run_show(path: Path, settings: ShowSettings, say: Callable[[str], None]) -> None:
    """Render and say what was made. Raises InputError, SettingsError, DatasetError."""
    try:
        with progress() as tell:
            run, shown = show(path, settings, tell)
    except OSError as error:
        where = error.filename2 or error.filename or settings.output_dir or path
        raise DatasetError(
            f"{where}: {error.strerror or error}; what was rendered before stays, and --skip-existing goes on behind it"
        ) from error
    if settings.json_output:
        say(json.dumps(summary(run, shown), ensure_ascii=False, indent=2))
        return
    for one in shown:
        say(f"{one.path}" if one.outcome == "made" else f"{one.path} (is there already)")
    made = sum(one.outcome == "made" for one in shown)
    say(f"{made} of {len(shown)} episodes rendered by run {run}")
