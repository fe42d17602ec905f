"""Episode bundles for tests: sessions of two rigs, shards of them, and reading what is written plainly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from padreel.exports.export import Exported, export
from padreel.exports.settings import ExportSettings
from padreel.options import load
from tests.fakes import FakeBroker
from tests.training_world import Played, consume, publish
from tests.video_source import encode, moving_pictures

SESSIONS = [
    Played(f"session-{i}@{i}", rig, encode(moving_pictures(13 + 3 * i, seed=i), gop=6, b_frames=i), task=task)
    for i, (rig, task) in enumerate([("lab-1", ""), ("lab/2", "Win the match"), ("lab-1", "")])
]
INDEX, INFO = "lerobot/meta/episode_index.json", "lerobot/dataset_info.json"
RECORDING = "recordings/episode_0002.json"


def silent(step: str, done: int, total: int) -> None:
    return None


def played(root: Path, partitions: list[list[Played]]) -> Path:
    broker = FakeBroker(len(partitions))
    for i, sessions in enumerate(partitions):
        publish(broker, i, sessions)
    return consume(broker, root)


def write(source: Path, output: Path, **more: object) -> Exported:
    return export(source, load(ExportSettings, {"format": "bundle", "output": output, **more}), silent)


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def parsed(path: Path) -> Any:
    return json.loads(path.read_bytes())
