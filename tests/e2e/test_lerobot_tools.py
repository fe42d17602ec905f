"""What others do with a dataset of ours, on a copy of it: LeRobot's own tools, lerobot-doctor and robovet."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from deploy.local.broker import cache_folder
from padreel import convert_sessions, load_action_mapping_profile, load_game_definition
from padreel.options import load
from padreel.training.relabel.relabel import relabel
from padreel.training.settings import RelabelSettings
from tests.conftest import TopicNames
from tests.e2e.processes import Rig, consumer
from tests.e2e.streams import demo_flags, messages, publish, streams
from tests.e2e.test_training_sets import make
from tests.session_folders import write_folder
from tests.training_world import OTHER_MAPPING

DEMO = Path(__file__).resolve().parents[2] / "deploy" / "demo"
LENGTHS = (20, 30, 25)  # rows of the three episodes
DOCTORS = {"lerobot-doctor": ["lerobot-doctor==0.2.0"], "robovet": ["robovet==0.2.2", "av==15.1.0"]}


class Row(NamedTuple):
    action: NDArray[np.float32]
    picture: NDArray[np.float32]


def converted(folder: Path) -> Path:
    for number, length in enumerate(LENGTHS):
        write_folder(folder / "sessions" / f"session-{number}", length)
    root = folder / "dataset"
    convert_sessions(
        session_root=folder / "sessions",
        game_definition=load_game_definition(DEMO / "game-definition.yaml"),
        action_mapping=load_action_mapping_profile(DEMO / "action-mapping.yaml"),
        output_root=root,
        repo_id="tests/tools",
        task="play",
    )
    return root


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converted(tmp_path_factory.mktemp("tools"))


# ---- LeRobot's tools ----------------------------------------------------------------------------------------


def opened(lerobot: ModuleType, root: Path) -> Any:
    return lerobot.LeRobotDataset("tests/tools", root=root, video_backend="pyav")


def rows(lerobot: ModuleType, root: Path) -> list[Row]:
    read = opened(lerobot, root)
    items = (read[index] for index in range(len(read)))
    return [Row(np.asarray(item["action"]), np.asarray(item["observation.images.main"])) for item in items]


def check_same(found: Sequence[Row], expected: Sequence[Row]) -> None:
    assert len(found) == len(expected)
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        np.testing.assert_array_equal(one.action, other.action, err_msg=str(index))
        np.testing.assert_array_equal(one.picture, other.picture, err_msg=str(index))


@pytest.fixture
def tools(lerobot: ModuleType) -> Any:
    return importlib.import_module("lerobot.datasets.dataset_tools")


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    return shutil.copytree(dataset, tmp_path / "copy")


def test_lerobot_deletes_an_episode(lerobot: ModuleType, tools: Any, copy: Path, tmp_path: Path) -> None:
    source = rows(lerobot, copy)
    tools.delete_episodes(opened(lerobot, copy), [1], output_dir=tmp_path / "rest", repo_id="tests/rest")
    check_same(rows(lerobot, tmp_path / "rest"), source[:20] + source[50:])


def test_lerobot_splits(lerobot: ModuleType, tools: Any, copy: Path, tmp_path: Path) -> None:
    source = rows(lerobot, copy)
    tools.split_dataset(opened(lerobot, copy), {"first": [0], "others": [1, 2]}, output_dir=tmp_path / "split")
    check_same(rows(lerobot, tmp_path / "split" / "first"), source[:20])
    check_same(rows(lerobot, tmp_path / "split" / "others"), source[20:])


def test_lerobot_merges(lerobot: ModuleType, tools: Any, copy: Path, tmp_path: Path) -> None:
    other = converted(tmp_path / "other")
    source = rows(lerobot, copy) + rows(lerobot, other)
    both = [opened(lerobot, copy), opened(lerobot, other)]
    tools.merge_datasets(both, output_repo_id="tests/merged", output_dir=tmp_path / "merged")
    check_same(rows(lerobot, tmp_path / "merged"), source)


def test_lerobot_appends(lerobot: ModuleType, copy: Path) -> None:
    source = rows(lerobot, copy)
    if hasattr(lerobot.LeRobotDataset, "resume"):  # from 0.5 on
        appended = lerobot.LeRobotDataset.resume("tests/tools", root=copy)
    else:
        appended = opened(lerobot, copy)
    for _ in range(12):
        frame: dict[str, Any] = {"task": "play", "observation.images.main": np.zeros((48, 64, 3), np.uint8)}
        for name in ("action", "observation.state", "capture.time_ns", "capture.pad_age"):
            feature = appended.features[name]
            frame[name] = np.full(feature["shape"], 0.5, feature["dtype"])
        appended.add_frame(frame)
    appended.save_episode()
    appended.finalize()
    found = rows(lerobot, copy)
    check_same(found[: len(source)], source)
    assert [row.action.tolist() for row in found[len(source) :]] == [[0.5] * len(source[0].action)] * 12


# ---- doctors ------------------------------------------------------------------------------------------------


def installed(name: str) -> Path:
    """The program, in a virtual environment of its own that is kept with the other downloads."""
    wanted = DOCTORS[name]
    folder = cache_folder(os.environ) / "doctors" / "-".join([f"py{sys.version_info[1]}", *wanted])
    program = folder / "bin" / name
    if not (folder / "complete").exists():
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", *wanted], check=True)
        (folder / "complete").touch()
    return program


def run(name: str, *arguments: str | Path) -> tuple[int, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run([installed(name), *arguments], env=clean, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def check_accepted(dataset: Path) -> None:
    code, said = run("robovet", "doctor", dataset)
    assert code == 0, said
    assert "0 fail · 0 warn" in said
    assert "VIDEO-400" not in said, "it has not looked at the video"

    code, said = run("lerobot-doctor", "check", dataset, "--json")
    assert code == 0, said
    severity = {check["name"]: check["severity"] for check in json.loads(said)["checks"]}
    # What it warns of elsewhere is what was played: short episodes, and buttons that are rarely pressed.
    for name in (
        *("Metadata & Format Compliance", "Temporal Consistency", "Video Integrity"),
        *("Feature Consistency", "Portability"),
    ):
        assert severity[name] == "PASS", said
    assert "FAIL" not in severity.values(), said


@pytest.mark.network
def test_the_doctors_accept_what_was_converted(dataset: Path) -> None:
    check_accepted(dataset)


@pytest.mark.network
def test_the_doctors_accept_a_live_shard(broker: str, topics: TopicNames, tmp_path: Path) -> None:
    rig = Rig(broker, topics.frames, topics.pads)
    rig.create_topics()
    made = [streams(f"session-{number}") for number in range(3)]
    with consumer(demo_flags(rig, tmp_path, "doctors")) as running:
        publish(broker, [one for whole in made[:2] for one in messages(topics, whole)])
        publish(broker, messages(topics, made[2], until=45))
        running.await_episodes(2)
        check_accepted(tmp_path / "partition-00000")
        publish(broker, messages(topics, made[2], since=45))
        running.await_episodes(3)
        check_accepted(tmp_path / "partition-00000")


@pytest.mark.network
@pytest.mark.parametrize("relabelled", [False, True], ids=["merged", "relabelled"])
@pytest.mark.parametrize("kind", ["plain", "filtered", "updated and compact"])
def test_the_doctors_accept_training_sets(tmp_path: Path, kind: str, relabelled: bool) -> None:
    made = make(tmp_path, kind)
    if relabelled:
        (tmp_path / "other.yaml").write_text(OTHER_MAPPING)
        given = {"output": tmp_path / "relabelled", "action_mapping": tmp_path / "other.yaml"}
        relabel(made, load(RelabelSettings, given), lambda step, done, total: None)
        made = tmp_path / "relabelled"
    check_accepted(made)


@pytest.mark.network
def test_the_doctors_find_what_is_wrong(dataset: Path, tmp_path: Path) -> None:
    """Else that they accept something would say nothing."""
    broken = shutil.copytree(dataset, tmp_path / "broken")
    path = broken / "meta" / "info.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, "total_episodes": info["total_episodes"] + 1}))
    assert run("robovet", "doctor", broken)[0] == 1
    assert json.loads(run("lerobot-doctor", "check", broken, "--json")[1])["overall_severity"] == "FAIL"
