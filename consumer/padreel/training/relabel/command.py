"""What `padreel relabel` does around its work: a shard or a root is merged first, with links that go away again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from padreel.dataset import files
from padreel.errors import DatasetError
from padreel.options import load
from padreel.training.manifest import MANIFEST
from padreel.training.merge.command import progress, system_errors
from padreel.training.merge.merge import merge
from padreel.training.relabel.relabel import RelabelledSet, refuse_taken, relabel
from padreel.training.settings import MergeSettings, RelabelSettings
from padreel.training.write_tree import Tell


def run_relabel(path: Path, settings: RelabelSettings, say: Callable[[str], None]) -> None:
    """Relabel and say what was made. Raises ProfileError, DatasetError."""
    with system_errors(settings.output), progress() as tell:
        made = relabel_any(path, settings, tell)
    manifest = made.manifest
    found = {
        "format_version": 1,
        "outcome": made.outcome,
        "run": manifest.run,
        "episodes": manifest.total_episodes,
        "frames": manifest.total_frames,
    }
    line = f"{made.outcome}: {manifest.total_episodes} episodes, {manifest.total_frames} frames, run {manifest.run}"
    say(json.dumps(found, indent=2) if settings.json_output else line)


def relabel_any(path: Path, settings: RelabelSettings, tell: Tell) -> RelabelledSet:
    """Relabel a merged dataset, or all shards at and below a folder. Raises ProfileError, DatasetError, OSError."""
    if not path.is_dir():
        raise DatasetError(f"{path}: is no folder; expected a merged dataset, a shard or an output root")
    if (path / MANIFEST).exists():
        return relabel(path, settings, tell)
    refuse_taken(settings.output)  # before all is merged
    between = settings.output.parent / f".{settings.output.name}.padreel-merged"
    gone = between.with_name(f"{between.name}-gone")  # so that no run takes what is half removed for a dataset
    if files.exists(gone):
        shutil.rmtree(gone)
    merge([path], load(MergeSettings, {"output": between, "update": files.exists(between)}), tell)
    made = relabel(between, settings, tell, path)
    files.rename(between, gone)
    shutil.rmtree(gone)
    return made
