"""What the tests of the dataset's storage share: a small dataset, a stage without pictures, a plain reader."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from padreel.core.action import ActionEncoder, ActionLayoutEntry
from padreel.core.gate import EpisodeQuality
from padreel.dataset import files, layout
from padreel.dataset.committed import Committed
from padreel.dataset.layout import DatasetSpec, FileKind
from padreel.dataset.media import MediaFiles
from padreel.dataset.shard import Shard
from padreel.model import (
    AppendUnit,
    CloseReason,
    Commit,
    DropSpan,
    Effect,
    EndReason,
    EpisodeDraft,
    Fate,
    OpenSpan,
    PartitionState,
    Schema,
    SessionInfo,
    SessionRejection,
    Stream,
)

STREAM = Stream("h264", 64, 48, 30, b"\x01extradata")


@dataclass(frozen=True)
class TwoSlots:
    """As much of an action encoder as a dataset's description needs."""

    names: tuple[str, ...] = ("move.x", "move.y")
    size: int = 2
    layout: tuple[ActionLayoutEntry, ...] = (ActionLayoutEntry("move", "vector2", 0, 2),)
    key_names: tuple[str, ...] = ()


SPEC = DatasetSpec(
    repo_id="tests/small",
    schema=Schema("h264", 64, 48, 30),
    columns="minimal",
    encoder=cast(ActionEncoder, TwoSlots()),
    default_task="play",
    settings={"task": "play", "strict": False, "max_pre_action_seconds": None},
    game_id="melee",
    class_ids=("default",),
    profile_name="standard",
)


@dataclass(frozen=True)
class MadeFile:
    kind: FileKind
    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class MadeEpisode:
    files: tuple[MadeFile, ...]
    length: int
    from_timestamp: float
    to_timestamp: float
    stats: dict[str, dict[str, list[Any]]]
    row: dict[str, Any]
    pad_age_max: float
    pad_ages: tuple[float, ...]
    quality: EpisodeQuality | None = None


def stats_of(length: int) -> dict[str, dict[str, list[Any]]]:
    """Statistics of the right shapes for every feature of SPEC."""
    found: dict[str, dict[str, list[Any]]] = {}
    for name, feature in layout.features(SPEC).items():
        video = feature["dtype"] == "video"
        size = 3 if video else feature["shape"][0]
        found[name] = {"count": [length]}
        for key in ("min", "max", "mean", "std", "q01", "q10", "q50", "q90", "q99"):
            values: list[Any] = [1 if feature["dtype"] == "int64" and key in ("min", "max") else 0.5] * size
            found[name][key] = [[[value]] for value in values] if video else values
    return found


class PlainStage:
    """Stands in for the real stage: files of a few bytes whose content tells which episode they are of."""

    def __init__(
        self, folder: Path, spec: DatasetSpec, claim: int, media: MediaFiles | None = None, decoders: int = 1
    ) -> None:
        self._folder, self._claim = folder, claim
        self._spans: dict[int, list[bytes]] = {}

    def open_span(self, effect: OpenSpan) -> None:
        self._spans[effect.span] = []

    def append(self, effect: AppendUnit) -> None:
        self._spans[effect.span].append(effect.unit)

    def drop(self, span: int) -> None:
        del self._spans[span]

    def episode(self, draft: EpisodeDraft, *, episode_index: int, first_row_index: int, task_index: int) -> MadeEpisode:
        length = len(draft.time_ns)
        sink = io.BytesIO()
        rows = list(range(first_row_index, first_row_index + length))
        table = {"index": rows, "episode_index": [episode_index] * length, "task_index": [task_index] * length}
        pq.write_table(pa.table(table), sink)
        contents: dict[FileKind, bytes] = {
            "video": b"".join(self._spans.pop(draft.span)) + draft.key.encode(),
            "data": sink.getvalue(),
            "gamepad": b"".join(draft.events),
        }
        made = tuple(self._write(kind, content) for kind, content in contents.items())
        return MadeEpisode(made, length, 0.0, length / 30, stats_of(length), {}, 0.25, (0.25,))

    def _write(self, kind: FileKind, content: bytes) -> MadeFile:
        name = layout.staged_name(self._claim, kind)
        files.write_durable(self._folder / name, content)
        return MadeFile(kind, name, hashlib.sha256(content).hexdigest(), len(content))

    def close(self) -> None:
        self._spans.clear()


def open_shard(path: Path, **changes: Any) -> Shard:
    source: dict[str, Any] = {
        "dataset": SPEC,
        "writer": "writer-0",
        "group": "recorders",
        "cluster_id": "cluster",
        "frames_topic": "padreel.frames",
        "pads_topic": "padreel.gamepad",
        "partition": 3,
        "partitions": 4,
    }
    return Shard.open(path, **{**source, **changes})


# A world is a list of steps; step i accounts one frame record, so that `frames_next` says how many are done.


def episode_effects(i: int, length: int = 3, task: str = "") -> list[Effect]:
    draft = EpisodeDraft(
        span=i,
        key=f"session-{i}@{i:x}",
        stream=STREAM,
        session=SessionInfo(rig_id="rig-1", task=task),
        reason=EndReason.END,
        first_unit=0,
        first_row=0,
        first_frame_index=0,
        time_ns=tuple(range(length)),
        pairing=(-1,) * length,
        forced=0,
        late=i % 2,
        events=(b"event",),
        event_ns=(1,),
        session_ns=0,
        first_frame_offset=i,
        last_frame_offset=i,
        first_pad_offset=-1,
        last_pad_offset=-1,
    )
    commit = Commit(PartitionState(frames_next=i + 1), {Fate.ROW: length}, episode=draft)
    return [OpenSpan(i, STREAM), AppendUnit(i, 0, True, b"unit-%d" % i), commit]


def rejected_effects(i: int) -> list[Effect]:
    rejection = SessionRejection(f"session-{i}@{i:x}", "rig-1", CloseReason.SCHEMA, "25 fps, expected 30", i, i)
    state = PartitionState(frames_next=i + 1)
    return [OpenSpan(i, STREAM), DropSpan(i), Commit(state, {Fate.REJECTED: 1}, rejections=(rejection,))]


def progress_effects(i: int) -> list[Effect]:
    return [Commit(PartitionState(frames_next=i + 1), {Fate.IDLE: 1})]


WORLD: tuple[Callable[[int], list[Effect]], ...] = (
    progress_effects,
    episode_effects,
    rejected_effects,
    lambda i: episode_effects(i, 2, "another task"),
)


def play(shard: Shard, world: Sequence[Callable[[int], list[Effect]]] = WORLD) -> list[Committed]:
    """Apply every step that the shard's log has not."""
    done: list[Committed] = []
    for i in range(shard.state.frames_next if shard.state else 0, len(world)):
        done += shard.apply(world[i](i))
    return done


@dataclass(frozen=True)
class Seen:
    """A shard as a reader finds it: sessions in order, and the frames."""

    sessions: tuple[str, ...] = ()
    frames: int = 0
    tasks: int = 0
    skipped: int = 0


def _table(path: Path) -> pa.Table:
    """One file, without pyarrow's dataset machinery: thousands are read."""
    return pq.ParquetFile(path).read(use_threads=False)


def read_shard(path: Path, ahead: int = 1) -> Seen:
    """Read the tree as LeRobot would, with json and pyarrow alone; AssertionError where it does not hold together.

    So many episodes may have metadata before info.json counts them.
    """
    if not (path / layout.INFO).exists():
        return Seen()
    info = json.loads((path / layout.INFO).read_bytes())
    tasks = _table(path / layout.TASKS).to_pydict()
    assert tasks["task_index"] == list(range(len(tasks["task"])))
    assert info["total_tasks"] <= len(tasks["task"])
    assert (path / layout.CARD).exists()
    stats = json.loads((path / layout.STATS).read_bytes())
    assert stats.keys() == info["features"].keys()
    rows: list[dict[str, Any]] = []
    for file in sorted((path / "meta/episodes").glob("*/*.parquet")):
        rows += _table(file).to_pylist()
    assert [row["episode_index"] for row in rows] == list(range(len(rows)))
    assert info["total_episodes"] <= len(rows) <= info["total_episodes"] + ahead
    frames = 0
    for row in rows[: info["total_episodes"]]:
        numbers = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
        data = _table(path / info["data_path"].format(**numbers))
        assert data.column("index").to_pylist() == list(range(frames, frames + row["length"]))
        assert set(data.column("episode_index").to_pylist()) == {row["episode_index"]}
        assert {tasks["task"][one] for one in data.column("task_index").to_pylist()} == set(row["tasks"])
        video = path / info["video_path"].format(video_key=layout.CAMERA, **numbers)
        assert hashlib.sha256(video.read_bytes()).hexdigest() == row["video_sha256"]
        frames += row["length"]
    assert info["total_frames"] == frames
    assert info["splits"] == {"train": f"0:{info['total_episodes']}"}
    game = info["extensions"]["game_converter"]
    sessions = tuple(row["session"] for row in rows[: info["total_episodes"]])
    assert game["converted_session_count"] == len(set(sessions))
    return Seen(sessions, frames, info["total_tasks"], game["skipped_session_count"])


def whole_world() -> Seen:
    """What a reader finds once WORLD has been played."""
    return Seen(("session-1@1", "session-3@3"), 5, 2, 1)


def snapshot(path: Path) -> dict[str, tuple[int, int, str]]:
    """Every file of the shard but what is being staged: inode, modification time, digest."""
    found = {}
    for file in sorted(path.rglob("*")):
        name = str(file.relative_to(path))
        if file.is_file() and not name.startswith("staging/"):
            status = file.stat()
            found[name] = (status.st_ino, status.st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest())
    return found


class Crash(BaseException):
    """The process dies here: nothing of it runs any more."""


class CrashAt:
    """A probe that dies at the given point, counted from 0, and counts all others."""

    def __init__(self, point: int | None = None, error: BaseException | None = None) -> None:
        self.point, self.error, self.count = point, error or Crash(), 0

    def __call__(self, point: str, path: Path) -> None:
        self.count += 1
        if self.count - 1 == self.point:
            raise self.error
