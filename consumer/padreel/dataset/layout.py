"""Where everything in a shard lies, what it is called, and what its descriptive files say.

A shard is a LeRobot v3.0 dataset plus `commits/`, `gamepad/` and `staging/`. Final names are derived from the commit
number N: chunk N // 1000, file N % 1000. Episode metadata is kept in files of `EPISODES_PER_FILE` rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from padreel.core.action import ActionEncoder, ActionLayoutEntry
from padreel.core.gate import Gate
from padreel.core.pad import OBSERVATION_NAMES
from padreel.model import Schema

CODEBASE_VERSION = "v3.0"
CHUNK_SIZE = 1000  # files per chunk folder
EPISODES_PER_FILE = 250
NAMES_KEPT = 250  # session names a live info.json lists
DATA_FILES_SIZE_IN_MB = 100  # LeRobot's defaults; its writing tools read them
VIDEO_FILES_SIZE_IN_MB = 200

CAMERA = "observation.images.main"
ACTION = "action"
OBSERVATION = "observation.state"
KEYS = "observation.keys"
TIME_NS = "capture.time_ns"
PAD_AGE = "capture.pad_age"

_CHUNK_FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA_PATH = f"data/{_CHUNK_FILE}.parquet"
VIDEO_PATH = "videos/{video_key}/" + f"{_CHUNK_FILE}.mp4"
GAMEPAD_PATH = f"gamepad/{_CHUNK_FILE}.bin"
EPISODES_PATH = f"meta/episodes/{_CHUNK_FILE}.parquet"

INFO = Path("meta/info.json")
STATS = Path("meta/stats.json")
TASKS = Path("meta/tasks.parquet")
CARD = Path("README.md")
COMMITS = Path("commits")
STAGING = Path("staging")
ROOT_FILE = "padreel.json"

FileKind = Literal["video", "data", "gamepad"]
FILE_KINDS: tuple[FileKind, ...] = ("video", "data", "gamepad")
_SUFFIX: dict[FileKind, str] = {"video": ".mp4", "data": ".parquet", "gamepad": ".bin"}
_STAGED = re.compile(r"(\d+)-[0-9a-f]{32}\.[a-z0-9.]+")


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """What all episodes of a dataset share, and what its info.json says of it.

    `settings` goes into info.json as it is and must be JSON-able; `columns` "minimal" leaves only the camera and the
    action beside LeRobot's own columns. Without a `gate` no episode is judged.
    """

    repo_id: str
    schema: Schema
    columns: Literal["full", "minimal"]
    encoder: ActionEncoder
    default_task: str
    settings: Mapping[str, Any]
    game_id: str
    class_ids: tuple[str, ...]
    profile_name: str
    gate: Gate | None = None

    @property
    def key_names(self) -> tuple[str, ...]:
        """The slots of the keyboard's column; none where there is no such column."""
        return self.encoder.key_names if self.columns == "full" else ()


def shard_folder(partition: int) -> str:
    """The name of a partition's shard below the output root."""
    return f"partition-{partition:05d}"


def chunk_and_file(number: int) -> tuple[int, int]:
    """(chunk index, file index) of a file's running number."""
    return divmod(number, CHUNK_SIZE)


def final_path(kind: FileKind, n: int) -> Path:
    """Where commit N's file lies, relative to the shard."""
    chunk, file = chunk_and_file(n)
    pattern = {"video": VIDEO_PATH, "data": DATA_PATH, "gamepad": GAMEPAD_PATH}[kind]
    return Path(pattern.format(video_key=CAMERA, chunk_index=chunk, file_index=file))


def episodes_path(number: int) -> Path:
    """Where the episodes file of that running number lies, relative to the shard."""
    chunk, file = chunk_and_file(number)
    return Path(EPISODES_PATH.format(chunk_index=chunk, file_index=file))


def commit_path(n: int) -> Path:
    """Where commit N lies, relative to the shard."""
    return COMMITS / f"{n}.json"


def staged_name(claim: int, kind: FileKind) -> str:
    """A fresh name in `staging/`: the writer's claim, by which a later claim knows what it may sweep, and a uuid."""
    return f"{claim:08d}-{uuid4().hex}{_SUFFIX[kind]}"


def staged_claim(name: str) -> int | None:
    """The claim in a staged file's name; None if it is no such name."""
    match = _STAGED.fullmatch(name)
    return int(match[1]) if match else None


def _scalar(dtype: str) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [1], "names": None}


def features(spec: DatasetSpec) -> dict[str, dict[str, Any]]:
    """info.json's `features`: every data column and the camera, in the order of the columns.

    What the camera's `info` says must be equal in all shards of a root, so it says only what the schema says.
    """
    schema = spec.schema
    found: dict[str, dict[str, Any]] = {
        ACTION: {"dtype": "float32", "shape": [spec.encoder.size], "names": list(spec.encoder.names)}
    }
    if spec.columns == "full":
        found[OBSERVATION] = {"dtype": "float32", "shape": [len(OBSERVATION_NAMES)], "names": list(OBSERVATION_NAMES)}
        if spec.key_names:
            found[KEYS] = {"dtype": "float32", "shape": [len(spec.key_names)], "names": list(spec.key_names)}
        found[TIME_NS] = _scalar("int64")
        found[PAD_AGE] = _scalar("float32")
    found[CAMERA] = {
        "dtype": "video",
        "shape": [schema.height, schema.width, 3],
        "names": ["height", "width", "channels"],
        "info": {
            "video.height": schema.height,
            "video.width": schema.width,
            "video.codec": schema.codec,
            "video.fps": schema.fps,
            "video.channels": 3,
            "video.is_depth_map": False,
            "has_audio": False,
        },
    }
    found["timestamp"] = _scalar("float32")
    for name in ("frame_index", "episode_index", "index", "task_index"):
        found[name] = _scalar("int64")
    return found


@dataclass(frozen=True, slots=True)
class SkippedSession:
    """A session that made no episode, or not all it had, and why."""

    session: str
    reason: str
    detail: str


def info(
    spec: DatasetSpec,
    *,
    episodes: int,
    frames: int,
    tasks: int,
    converted: Sequence[str],
    converted_count: int,
    skipped: Sequence[SkippedSession],
    skipped_count: int,
    quarantined: Sequence[int] = (),
    quarantined_count: int = 0,
) -> dict[str, Any]:
    """The content of info.json.

    `converted`, `skipped` and `quarantined` (indices of episodes) may be the last of more; the counts say how many.
    """
    return {
        "codebase_version": CODEBASE_VERSION,
        "robot_type": "gamepad",
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": CHUNK_SIZE,
        "data_files_size_in_mb": DATA_FILES_SIZE_IN_MB,
        "video_files_size_in_mb": VIDEO_FILES_SIZE_IN_MB,
        "fps": spec.schema.fps,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "features": features(spec),
        "extensions": {
            "game_converter": {
                "game_id": spec.game_id,
                "class_ids": list(spec.class_ids),
                "profile_name": spec.profile_name,
                "settings": dict(spec.settings),
                "action_layout": described(spec.encoder.layout),
                "gamepad_path": GAMEPAD_PATH,
                "converted_session_count": converted_count,
                "converted_sessions": list(converted),
                "skipped_session_count": skipped_count,
                "skipped_sessions": [
                    {"session": one.session, "reason": one.reason, "detail": one.detail} for one in skipped
                ],
                "quality_gate": spec.gate.described() if spec.gate is not None else None,
                "quarantined_episode_count": quarantined_count,
                "quarantined_episodes": list(quarantined),
            }
        },
    }


def described(layout: Sequence[ActionLayoutEntry]) -> list[dict[str, Any]]:
    """The action layout as info.json has it."""
    return [
        {"action_id": entry.action_id, "kind": entry.kind, "start": entry.start, "size": entry.size} for entry in layout
    ]


def card(spec: DatasetSpec) -> str:
    """README.md: the card by which `datasets.load_dataset` finds the rows, and a few words for people."""
    return card_of(
        spec.repo_id or "dataset",
        spec.game_id,
        spec.schema,
        f"""\
LeRobot's tools that write belong on a copy: `commits/` is the source of truth here, and `meta/` is made from it.
`gamepad/` holds each episode's raw gamepad states, `{GAMEPAD_PATH.split("/", 1)[0]}/chunk-*/file-*.bin`, each state
after its length as a little-endian uint32. Image statistics come from at most 16 keyframes of each episode.
""",
    )


def card_of(name: str, game_id: str, schema: Schema, ending: str) -> str:
    """The card of any dataset of padreel's; `ending` is what is to be known of this kind."""
    return f"""---
task_categories:
- robotics
tags:
- LeRobot
configs:
- config_name: default
  data_files: data/*/*.parquet
---

# {name}

Recordings of `{game_id}`: {schema.width}x{schema.height} at {schema.fps} frames per second ({schema.codec}), each
frame with the gamepad's action at that moment. The video is the captured one, stream-copied.

```python
from lerobot.datasets.lerobot_dataset import LeRobotDataset

dataset = LeRobotDataset("{name}", root="path/of/this/folder")
print(dataset[0]["action"], dataset[0]["{CAMERA}"].shape)
```

{ending}"""
