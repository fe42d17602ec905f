"""What `padreel hdf5` does around its work: files that are written, summaries, errors of the system."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from padreel.dataset import files
from padreel.exports.export_command import say_exported
from padreel.exports.hdf5.merge import merge_hdf5
from padreel.exports.hdf5.validate import validate
from padreel.exports.hdf5.video import MANIFEST
from padreel.exports.hdf5.write import manifest_text
from padreel.exports.settings import Hdf5MergeSettings, Hdf5ValidateSettings
from padreel.training.check.report import EXIT_CODES, as_json, table, worst
from padreel.training.merge.command import progress, system_errors
from padreel.training.write_rows import TEMPORARY

REPORT: Final = Path("hdf5_report.json")


def run_validate(path: Path, settings: Hdf5ValidateSettings, say: Callable[[str], None]) -> int:
    """Validate, write manifest and report, and print; the exit code. Raises DatasetError."""
    folder = settings.output or (path if path.is_dir() else path.parent)
    with system_errors(folder):
        found = validate(path)
        reports = [found.report]
        files.make_folder(folder)
        if not files.exists(folder / MANIFEST):  # one that says something else is a finding, and stays
            _put(folder / MANIFEST, manifest_text(found.lines))
        _put(folder / REPORT, json.dumps(as_json(reports), ensure_ascii=False, indent=2).encode() + b"\n")
    say(json.dumps(as_json(reports), ensure_ascii=False, indent=2) if settings.json_output else table(reports))
    return EXIT_CODES[worst(one.verdict for one in reports)]


def run_hdf5_merge(paths: Sequence[Path], settings: Hdf5MergeSettings, say: Callable[[str], None]) -> None:
    """Merge and say what was made. Raises DatasetError."""
    with system_errors(settings.output), progress() as tell:
        made = merge_hdf5(paths, settings.output, tell)
    say_exported(made, say, as_json=settings.json_output)


def _put(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + TEMPORARY)
    files.unlink(temporary)
    files.write_durable(temporary, content)
    files.rename(temporary, path, "replace")
