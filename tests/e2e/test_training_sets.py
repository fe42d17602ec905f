"""Merged datasets judged by lerobot: pixels and actions against the sources, and its tools on a copy of them."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from padreel.errors import DatasetError
from padreel.options import load
from padreel.training.merge.merge import Merged, merge
from padreel.training.settings import MergeSettings
from tests.dataset_reading import CAMERA, read_episodes
from tests.fakes import FakeBroker
from tests.packing_world import WORLDS, pack
from tests.training_world import Played, as_bytes, check_against_sources, consume, plain_action, publish
from tests.video_source import encode, moving_pictures

pytestmark = pytest.mark.lerobot

SOURCES = [encode(moving_pictures(16 + seed, seed=seed), gop=6, b_frames=seed % 4) for seed in range(6)]
SESSIONS = {
    f"session-{i}": Played(f"session-{i}@{i}", f"rig-{i % 3}", source, task="Win the match" if i == 2 else "")
    for i, source in enumerate(SOURCES)
}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "compact": {"compact": True},
    "filtered": {"where": "length >= 17 and rig != rig-2"},
    "updated": {},
    "updated and compact": {"compact": True},
}


def played(broker: FakeBroker, partition: int, numbers: list[int]) -> None:
    publish(broker, partition, [SESSIONS[f"session-{i}"] for i in numbers])


def make(folder: Path, kind: str) -> Path:
    """A merged dataset of rigs that played at the same time."""
    broker = FakeBroker(2)
    output = folder / "merged"
    settings = load(MergeSettings, {"output": output, "update": kind.startswith("updated"), **KINDS[kind]})
    played(broker, 0, [0, 1, 2])
    root = consume(broker, folder / "root")
    if kind.startswith("updated"):
        merge([root], settings, lambda step, done, total: None)
    played(broker, 1, [3, 4])
    played(broker, 0, [5])
    consume(broker, root)
    merge([root], settings, lambda step, done, total: None)
    return output


def expected(merged: Path) -> list[tuple[Played, int, int]]:
    """Every session is one episode, whole; the order is the dataset's own."""
    found = [SESSIONS[one.session] for one in read_episodes(merged)]
    return [(one, 0, len(one.source.units)) for one in found]


@pytest.mark.parametrize("kind", KINDS)
def test_lerobot_reads_every_picture_and_action(lerobot: ModuleType, tmp_path: Path, kind: str) -> None:
    merged = make(tmp_path, kind)
    sessions = {one.key.partition("@")[0] for one, _, _ in expected(merged)}
    assert sessions == ({"session-1", "session-3", "session-4"} if kind == "filtered" else set(SESSIONS))
    check_against_sources(lerobot, merged, expected(merged))


@pytest.mark.parametrize("name", WORLDS)
def test_lerobot_reads_what_was_packed(lerobot: ModuleType, tmp_path: Path, name: str) -> None:
    packed, rows = pack(WORLDS[name], tmp_path)
    check_against_sources(lerobot, packed, rows)


@pytest.fixture(scope="module", params=["plain", "compact"])
def merged(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    return make(tmp_path_factory.mktemp("merged"), request.param)


def opened(lerobot: ModuleType, merged: Path, folder: Path, name: str = "copy") -> Any:
    copy = shutil.copytree(merged, folder / name)
    return lerobot.LeRobotDataset(f"tests/{name}", root=copy, video_backend="pyav")


def check_frames(dataset: Any, sessions: list[Played], decoded: bool) -> None:
    """Rows and actions of these sessions, in order; the pictures too where they were not encoded again."""
    row = 0
    for session in sessions:
        for i in range(len(session.source.units)):
            item = dataset[row + i]
            assert item["action"].tolist() == plain_action(session, i)
            found = as_bytes(item[CAMERA]).astype(np.int16)
            difference = np.abs(found - session.source.pictures[i].astype(np.int16))
            assert difference.max() == 0 if decoded else difference.mean() < 40, (session.key, i, difference.mean())
        row += len(session.source.units)
    assert len(dataset) == row


def test_lerobot_s_delete(lerobot: ModuleType, merged: Path, tmp_path: Path) -> None:
    tools = importlib.import_module("lerobot.datasets.dataset_tools")
    order = [session for session, _, _ in expected(merged)]
    made = tools.delete_episodes(opened(lerobot, merged, tmp_path), [1, 4], tmp_path / "less", "tests/less")
    left = [session for i, session in enumerate(order) if i not in (1, 4)]
    again = lerobot.LeRobotDataset("tests/less", root=made.root, video_backend="pyav")
    check_frames(again, left, decoded=False)


def test_lerobot_s_split(lerobot: ModuleType, merged: Path, tmp_path: Path) -> None:
    tools = importlib.import_module("lerobot.datasets.dataset_tools")
    order = [session for session, _, _ in expected(merged)]
    parts = {"a": [0, 2, 5], "b": [1, 3, 4]}
    made = tools.split_dataset(opened(lerobot, merged, tmp_path), parts, tmp_path / "parts")
    for name, episodes in parts.items():
        again = lerobot.LeRobotDataset(made[name].repo_id, root=made[name].root, video_backend="pyav")
        check_frames(again, [order[i] for i in episodes], decoded=False)


def test_lerobot_s_merge(lerobot: ModuleType, merged: Path, tmp_path: Path) -> None:
    tools = importlib.import_module("lerobot.datasets.dataset_tools")
    order = [session for session, _, _ in expected(merged)]
    two = [opened(lerobot, merged, tmp_path, name) for name in ("one", "two")]
    made = tools.merge_datasets(two, "tests/both", tmp_path / "both")
    again = lerobot.LeRobotDataset("tests/both", root=made.root, video_backend="pyav")
    check_frames(again, order * 2, decoded=True)


def test_lerobot_s_append(lerobot: ModuleType, merged: Path, tmp_path: Path) -> None:
    """An episode of LeRobot's own behind ours, which it encodes; ours stay as they were."""
    dataset = opened(lerobot, merged, tmp_path)
    if hasattr(lerobot.LeRobotDataset, "resume"):  # from 0.5 on
        dataset = lerobot.LeRobotDataset.resume("tests/copy", root=dataset.root)
    order = [session for session, _, _ in expected(merged)]
    new = SESSIONS["session-0"]
    own = {"timestamp", "frame_index", "episode_index", "index", "task_index"}
    for i in range(6):
        frame: dict[str, Any] = {
            name: np.zeros(feature["shape"], feature["dtype"])
            for name, feature in dataset.meta.features.items()
            if name not in own and feature["dtype"] != "video"
        }
        frame[CAMERA] = new.source.pictures[i]
        frame["task"] = "append"
        dataset.add_frame(frame)
    dataset.save_episode()
    dataset.finalize()
    again = lerobot.LeRobotDataset("tests/copy", root=dataset.root, video_backend="pyav")
    rows = sum(len(one.source.units) for one in order)
    assert len(again) == rows + 6
    assert again[rows]["task"] == "append"
    row = 0
    for session in order:
        for i in (0, len(session.source.units) - 1):
            assert np.array_equal(as_bytes(again[row + i][CAMERA]), session.source.pictures[i])
        row += len(session.source.units)


def test_what_lerobot_cannot_load_fails_the_run_where_that_is_asked(lerobot: ModuleType, tmp_path: Path) -> None:
    broker = FakeBroker(1)
    played(broker, 0, [0, 1])
    root = consume(broker, tmp_path / "root")

    def run(name: str, **more: Any) -> Merged:
        return merge([root], load(MergeSettings, {"output": tmp_path / name, **more}), lambda step, done, total: None)

    assert run("good", mode="production").manifest.runs[0].settings["require_lerobot"] is True
    info = root / "partition-00000" / "meta" / "info.json"
    info.write_text(info.read_text().replace('"v3.0"', '"v2.0"'))
    with pytest.raises(DatasetError, match="lerobot cannot load it"):
        run("bad", require_lerobot=True)
    assert not (tmp_path / "bad").exists()
    assert run("bad", mode="service", require_lerobot=False).manifest.runs[0].settings["require_lerobot"] is False


def test_datasets_loads_the_rows_by_the_card(lerobot: ModuleType, merged: Path, tmp_path: Path) -> None:
    datasets = importlib.import_module("datasets")
    rows = datasets.load_dataset(str(merged), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["index"][:] == list(range(sum(len(one.units) for one in SOURCES)))
