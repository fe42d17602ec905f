"""What `padreel hdf5 validate` finds in an export that is damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from padreel.errors import DatasetError, FormatVersionError
from padreel.exports.hdf5.file import open_hdf5
from padreel.exports.hdf5.merge import merge_hdf5
from padreel.exports.hdf5.validate import validate
from padreel.training.check.report import Verdict
from tests.export_world import make_sessions, run
from tests.training_world import nothing


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_sessions(tmp_path_factory.mktemp("made"))
    run(made / "merged", made / "out", "hdf5")
    return made / "out"


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def _array(name: str, change: Callable[[Any], Any]) -> Callable[[Any], None]:
    def spoil(group: Any) -> None:
        values = change(group[name][...])
        del group[name]
        group.create_dataset(name, data=values)

    return spoil


def _at(row: int, value: Any) -> Callable[[Any], Any]:
    def change(values: Any) -> Any:
        values[row] = value
        return values

    return change


def _attribute(name: str, value: Any) -> Callable[[Any], None]:
    def spoil(group: Any) -> None:
        group.attrs[name] = value

    return spoil


def _without(group: Any) -> None:
    del group["actions"]


SPOILT: dict[str, tuple[Callable[[Any], None], str]] = {
    "shorter": (_array("actions", lambda values: values[:-1]), r"expected \(1[4-8],"),
    "slots": (_array("actions", lambda values: values[:, :2]), "actions: found shape"),
    "not finite": (_array("state", _at(3, np.nan)), "state: row 3 is not finite"),
    "infinite": (_array("pad_age", _at(0, np.inf)), "pad_age: row 0 is not finite"),
    "steps back": (_array("timestamps", _at(4, 0.0)), "timestamps: row 4 is not after the one before"),
    "other rate": (_array("timestamps", lambda values: values * 2), "timestamps: expected row / 30"),
    "clock": (_array("time_ns", _at(5, 0)), "time_ns: steps back"),
    "index": (_array("frame_index", _at(2, 7)), "frame_index: expected 0, 1, 2"),
    "type": (_array("actions", lambda values: values.astype(np.float64)), "found float64, expected float32"),
    "empty": (_array("actions", lambda values: values[:0]), "no rows"),
    "missing": (_without, "missing: actions"),
    "unknown": (lambda group: group.create_group("x"), "unknown: x"),
    "task": (_attribute("task", ""), "task: empty"),
    "task type": (_attribute("task", 3), "attribute task: found 3, expected str"),
    "outside": (_attribute("video", "../video.mp4"), "expected a path below"),
    "absolute": (_attribute("video", "/etc/passwd"), "expected a path below"),
    "fps": (_attribute("fps", 60), "fps: found 60, expected 30"),
    "length": (_attribute("to_timestamp", 9.0), "frames, expected 1"),
    "negative": (_attribute("from_timestamp", -1.0), "from_timestamp, to_timestamp: found -1.0"),
    "nowhere": (_attribute("from_timestamp", float("nan")), "from_timestamp, to_timestamp: found nan"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_wrong_with_an_episode_is_named(copy: Path, name: str) -> None:
    spoil, said = SPOILT[name]
    with h5py.File(copy / "episodes.hdf5", "r+") as file:
        spoil(file["episodes"]["2"])
    with open_hdf5(copy) as opened, pytest.raises(DatasetError, match=said):
        list(opened.episodes())
    report = validate(copy).report
    assert report.verdict is Verdict.FAIL
    wrong = {one.check: one.detail for one in report.findings if one.verdict is Verdict.FAIL}
    assert wrong.keys() >= {"episodes", "checksums"}
    assert "2" in wrong["episodes"]
    with pytest.raises(DatasetError, match=said):
        merge_hdf5([copy], copy.parent / "merged", nothing)
    assert not (copy.parent / "merged").exists()


def _cut_short(copy: Path) -> None:
    video = copy / "videos/episode_000001.mp4"
    video.write_bytes(video.read_bytes()[:2000])


def _other_length(copy: Path) -> None:
    shutil.copy(copy / "videos/episode_000000.mp4", copy / "videos/episode_000001.mp4")


def _gone(copy: Path) -> None:
    (copy / "videos/episode_000001.mp4").unlink()


@pytest.mark.parametrize(
    ("spoil", "said"), [(_cut_short, "cannot be read"), (_other_length, "pictures, expected"), (_gone, "missing")]
)
def test_what_is_wrong_with_a_video_is_named(copy: Path, spoil: Callable[[Path], None], said: str) -> None:
    spoil(copy)
    wrong = {one.check: one.detail for one in validate(copy).report.findings if one.verdict is Verdict.FAIL}
    assert wrong.keys() == {"videos", "manifest", "checksums"}
    assert "episode_000001.mp4" in wrong["videos"]
    assert said in wrong["videos"]
    with pytest.raises(DatasetError, match=said):
        merge_hdf5([copy], copy.parent / "merged", nothing)


def _newer(file: Any) -> None:
    file.attrs["format_version"] = 2


def _no_rate(file: Any) -> None:
    del file.attrs["fps"]


def _hole(file: Any) -> None:
    del file["episodes"]["1"]


def _none(file: Any) -> None:
    del file["episodes"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(_newer, "format_version 2 is unknown"), (_no_rate, "fps"), (_hole, "/episodes"), (_none, "/episodes")],
)
def test_a_file_of_another_layout_is_refused(copy: Path, spoil: Callable[[Any], None], said: str) -> None:
    with h5py.File(copy / "episodes.hdf5", "r+") as file:
        spoil(file)
    kind = FormatVersionError if spoil is _newer else DatasetError
    with pytest.raises(kind, match=said), open_hdf5(copy):
        pass
    assert validate(copy).report.findings[0].verdict is Verdict.FAIL


def test_what_is_no_hdf5_file_is_refused(copy: Path, tmp_path: Path) -> None:
    (copy / "episodes.hdf5").write_bytes(b"no HDF5 file" * 100)
    with pytest.raises(DatasetError, match="cannot be read as HDF5"), open_hdf5(copy):
        pass
    with pytest.raises(DatasetError, match="missing, expected an HDF5 file"), open_hdf5(tmp_path):
        pass
