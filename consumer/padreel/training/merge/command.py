"""What `padreel merge` does around its work: a progress bar, a summary, errors of the system."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from padreel.errors import DatasetError
from padreel.training.merge.merge import merge, summary
from padreel.training.settings import MergeSettings
from padreel.training.write_tree import Tell


def run_merge(roots: Sequence[Path], settings: MergeSettings, say: Callable[[str], None]) -> None:
    """Merge and print the summary. Raises DatasetError."""
    with system_errors(settings.output), progress() as tell:
        merged = merge(roots, settings, tell)
    found = summary(merged)
    say(json.dumps(found, ensure_ascii=False, indent=2) if settings.json_output else summary_table(found))


def summary_table(found: Mapping[str, Any]) -> str:
    """The summary for people: a line per shard, and what became of the output."""
    rows = [("shard", "episodes", "frames", "quality", "not let in")]
    for shard in found["shards"]:
        rejected = ", ".join(f"{count} {reason}" for reason, count in shard["rejected"].items())
        quality = "" if shard["mean_quality"] is None else f"{shard['mean_quality']:.3f}"
        rows.append((shard["path"], str(shard["episodes"]), str(shard["frames"]), quality, rejected))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in (1, 2, 3)), row[4]]).rstrip()
        for row in rows
    ]
    total = f"{found['episodes']} episodes, {found['frames']} frames, {found['seconds'] / 3600:.2f} hours"
    lines.append(f"{found['outcome']}: {total}; {found['added']} episodes added by run {found['run']}")
    return "\n".join(lines)


@contextlib.contextmanager
def system_errors(output: Path) -> Iterator[None]:
    """Say a system's error, such as a full disk, in one line, and that the work can be gone on with."""
    try:
        yield
    except OSError as error:
        where = error.filename2 or error.filename or output
        raise DatasetError(
            f"{where}: {error.strerror or error}; the sources are untouched, and the same command goes on where it "
            "stopped"
        ) from error


@contextlib.contextmanager
def progress() -> Iterator[Tell]:
    """A bar for each step on a terminal; elsewhere nothing."""
    if not sys.stderr.isatty():
        yield lambda step, done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def tell(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield tell
