"""What `padreel augment` does around its work: a progress bar, a line or JSON, errors of the system."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from padreel.exports.augment.bundle import make_bundle
from padreel.exports.augment.record import REQUESTS
from padreel.exports.augment.requests import write_requests
from padreel.exports.augment.returning import import_returned
from padreel.exports.augment.settings import AugmentBundleSettings, AugmentImportSettings, AugmentRequestsSettings
from padreel.training.merge.command import progress, system_errors

Say = Callable[[str], None]


def run_bundle(path: Path, settings: AugmentBundleSettings, say: Say) -> None:
    """Make a bundle and say what is in it. Raises DatasetError."""
    with system_errors(settings.output), progress() as tell:
        made = make_bundle(path, settings, tell)
    record = made.record
    found = {
        "outcome": made.outcome,
        "run": record.run,
        "episodes": len(record.episodes),
        "jobs": len(record.jobs()),
        "input_seconds": sum(one.frames for one in record.episodes) / record.fps,
    }
    line = "{outcome}: {episodes} episodes, {jobs} jobs, {input_seconds:g} s of video to vary, run {run}"
    _say(found, line, say, as_json=settings.json_output)


def run_requests(bundle: Path, settings: AugmentRequestsSettings, say: Say) -> None:
    """Write the requests and say how many. Raises DatasetError."""
    with system_errors(settings.output or bundle / REQUESTS):
        made = write_requests(bundle, settings)
    found = {
        "outcome": made.saved.outcome,
        "run": made.saved.run,
        "path": str(made.path),
        "originals": made.originals,
        "variants": made.variants,
        "of_variants": made.of_variants,
    }
    line = "{outcome}: {path}: {originals} originals, {variants} of {of_variants} variants, run {run}"
    _say(found, line, say, as_json=settings.json_output)


def run_import(path: Path, settings: AugmentImportSettings, say: Say) -> None:
    """Make the dataset and say what is in it. Raises InputError, DatasetError."""
    with system_errors(settings.output), progress() as tell:
        made = import_returned(path, settings, tell)
    manifest = made.manifest
    found = {
        "outcome": made.outcome,
        "run": manifest.run,
        "episodes": manifest.total_episodes,
        "frames": manifest.total_frames,
        "missing": list(made.missing),
    }
    line = f"{{outcome}}: {{episodes}} episodes, {{frames}} frames, {len(made.missing)} files missing, run {{run}}"
    _say(found, line, say, as_json=settings.json_output)


def _say(found: dict[str, Any], line: str, say: Say, *, as_json: bool) -> None:
    content = {"format_version": 1, **found}
    say(json.dumps(content, indent=2, ensure_ascii=False) if as_json else line.format(**found))
