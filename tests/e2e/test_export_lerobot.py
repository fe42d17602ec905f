"""What is exported as v2.1, after LeRobot's own converter to v3.0: rows and pixels are the source's.

Beside it that LeRobot's decoders show of an mp4 with hidden pictures what they are asked for.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.export_world import SESSIONS, TRIMMED, make_sessions, make_trimmed, run
from tests.training_world import as_bytes, check_against_sources
from tests.video_source import Picture, Source, encode, moving_pictures

pytestmark = pytest.mark.lerobot

CONVERTERS = ("lerobot.datasets.v30.convert_dataset_v21_to_v30", "lerobot.scripts.convert_dataset_v21_to_v30")


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of a package above it
        return False


def convert(export: Path, folder: Path) -> Path:
    """LeRobot's converter as its users run it, on a copy: it works in place."""
    done, root = try_to_convert(export, folder)
    assert done.returncode == 0, done.stderr
    return root


def try_to_convert(export: Path, folder: Path) -> tuple[subprocess.CompletedProcess[str], Path]:
    name = next(one for one in CONVERTERS if _is_there(one))
    root = Path(shutil.copytree(export, folder / "tests" / "converted"))
    # The older one looks for the repo's id below its root, the newer one takes the root as it is.
    given = folder if name == CONVERTERS[0] else root
    command = [sys.executable, "-m", name, "--repo-id=tests/converted", f"--root={given}", "--push-to-hub=false"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600), root


def test_converted_by_lerobot(lerobot: ModuleType, tmp_path: Path) -> None:
    """Sessions with parameter sets of their own, in two chunks."""
    made = make_sessions(tmp_path / "made")
    run(made / "root", tmp_path / "out", "v2.1", chunks_size=2)
    root = convert(tmp_path / "out", tmp_path / "converted")
    order = [*sorted(SESSIONS[:3], key=lambda one: len(one.source.units)), SESSIONS[3]]
    check_against_sources(lerobot, root, [(one, 0, len(one.source.units)) for one in order])


def test_trimmed_episodes_converted_by_lerobot(lerobot: ModuleType, tmp_path: Path) -> None:
    source = encode(moving_pictures(40), gop=12)
    make_trimmed(tmp_path / "root" / "partition-00003", source)
    record = run(tmp_path / "root", tmp_path / "out", "v2.1", lead="dropped").record
    root = convert(tmp_path / "out", tmp_path / "converted")
    dataset = lerobot.LeRobotDataset("tests/converted", root=root, video_backend="pyav")
    assert len(dataset) == record.total_frames
    row = 0
    for number, one in enumerate(record.episodes):
        first, _ = TRIMMED[one.source_index]
        for i in range(one.frames):
            item = dataset[row + i]
            assert int(item["episode_index"]) == number
            assert np.array_equal(as_bytes(item["observation.images.main"]), source.pictures[first + one.first_row + i])
        row += one.frames


def test_hidden_pictures_are_refused_by_lerobot_s_converter(lerobot: ModuleType, tmp_path: Path) -> None:
    """It would have to show them: it says so, and changes nothing."""
    make_trimmed(tmp_path / "root" / "partition-00003", encode(moving_pictures(40), gop=12))
    run(tmp_path / "root", tmp_path / "out", "v2.1")
    done, root = try_to_convert(tmp_path / "out", tmp_path / "converted")
    assert done.returncode != 0
    assert "Invalid argument" in done.stderr  # the muxer's word for DTS that go back
    assert '"v2.1"' in (root / "meta/info.json").read_text()


@pytest.mark.parametrize("backend", ["pyav", "torchcodec"])
def test_lerobot_shows_no_hidden_picture(lerobot: ModuleType, tmp_path: Path, backend: str) -> None:
    if importlib.util.find_spec(backend.replace("pyav", "av")) is None:
        pytest.skip(f"{backend} is not installed")
    from lerobot.datasets.video_utils import decode_video_frames

    source = encode(moving_pictures(40), gop=12)
    make_trimmed(tmp_path / "root" / "partition-00003", source)
    run(tmp_path / "root", tmp_path / "out", "v2.1")
    for number, (first, rows) in enumerate(TRIMMED):
        path = tmp_path / f"out/videos/chunk-000/observation.images.main/episode_{number:06d}.mp4"
        times = [i / 30 for i in range(rows)]
        asked = [times, *([one] for one in times)]
        for some in asked:
            found = decode_video_frames(path, some, 1e-4, backend)
            shown = [as_bytes(one) for one in found]
            assert _same(shown, source, first, [round(one * 30) for one in some]), (number, some)


def _same(shown: Sequence[Picture], source: Source, first: int, rows: Sequence[int]) -> bool:
    expected = [source.pictures[first + row] for row in rows]
    return len(shown) == len(rows) and all(map(np.array_equal, shown, expected))
