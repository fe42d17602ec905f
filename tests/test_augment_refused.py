"""What `padreel augment` refuses, by name, and what is left when it dies on the way."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from padreel.dataset import files
from padreel.errors import InputError
from padreel.exports.augment.returned import read_returned
from padreel.model import Schema
from padreel.options import load
from padreel.training.build import build_folder
from padreel.training.check.check import check
from padreel.training.check.report import Verdict
from padreel.training.merge.merge import merge
from padreel.training.settings import MergeSettings
from tests.augment_world import bundle, contents, played, silent, take_back, vary
from tests.commands import start
from tests.dataset_reading import read_episodes
from tests.shard_world import snapshot
from tests.video_source import Clip, Picture, decode, moving_pictures, write_clip

FIRST = "episode_000000_variant_000.mp4"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`root`, `merged`, and `bundle` with what came back."""
    folder = tmp_path_factory.mktemp("made")
    played(folder / "root")
    merge([folder / "root"], load(MergeSettings, {"output": folder / "merged"}), silent)
    vary(folder / "bundle", bundle(folder / "merged", folder / "bundle", variants=1))
    return folder


def pictures_of(path: Path) -> list[Picture]:
    return decode(str(path))


def shorter(path: Path) -> None:
    write_clip(str(path), pictures_of(path)[:-1], Clip())


def longer(path: Path) -> None:
    write_clip(str(path), [*pictures_of(path), pictures_of(path)[0]], Clip())


def smaller(path: Path) -> None:
    write_clip(str(path), [np.ascontiguousarray(one[:32]) for one in pictures_of(path)], Clip())


def slower(path: Path) -> None:
    write_clip(str(path), pictures_of(path), Clip(fps=25))


def uneven(path: Path) -> None:
    deltas = tuple(34 if i == 5 else 33 if i % 3 else 43 for i in range(12))
    write_clip(str(path), pictures_of(path), Clip(deltas=deltas))


def ntsc(path: Path) -> None:
    """29.97 frames a second: of the first frames it cannot be told from 30, of the last it can."""
    pictures, shape = pictures_of(path), pictures_of(path)[0].shape
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30000, 1001))
        stream.height, stream.width, stream.pix_fmt = shape[0], shape[1], "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def old_codec(path: Path) -> None:
    pictures, shape = pictures_of(path), pictures_of(path)[0].shape
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.height, stream.width, stream.pix_fmt = shape[0], shape[1], "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def strange(path: Path) -> None:
    shutil.copy(path, path.with_name("episode_000007_variant_000.mp4"))


def gone(path: Path) -> None:
    shutil.rmtree(path.parent)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (shorter, rf"{FIRST}: 12 frames, expected 13 as its original has"),
        (longer, rf"{FIRST}: 14 frames, expected 13 as its original has"),
        (smaller, rf"{FIRST}: 96x32, expected 96x64 as its original is"),
        (slower, rf"{FIRST}: 25 frames per second, frame \d+ at .* s; expected 30"),
        (ntsc, rf"{FIRST}: 29.97 frames per second, frame \d+ at .* s; expected 30"),
        (uneven, rf"{FIRST}: .* frames per second, frame \d+ at .* s; expected 30"),
        (old_codec, rf"{FIRST}: codec is mpeg4, expected h264, hevc or av1"),
        (torn, rf"{FIRST}: "),
        (empty, rf"{FIRST}: cannot be read"),
        (strange, r"episode_000007_variant_000\.mp4: no job of the bundle asks for that"),
        (gone, r"returned: is no folder, expected one with the mp4s"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    made: Path, tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    copy = Path(shutil.copytree(made / "bundle", tmp_path / "bundle"))
    spoil(copy / "returned" / FIRST)
    before = snapshot(made), snapshot(copy)
    with pytest.raises(InputError, match=said):
        take_back(made / "merged", copy, tmp_path / "out")
    assert (snapshot(made), snapshot(copy)) == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_all_that_does_not_fit_is_named_at_once(made: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(made / "bundle", tmp_path / "bundle"))
    shorter(copy / "returned" / FIRST)
    smaller(copy / "returned" / "episode_000002_variant_000.mp4")
    with pytest.raises(InputError) as refused:
        take_back(made / "merged", copy, tmp_path / "out")
    lines = str(refused.value).splitlines()
    assert len(lines) == 2
    assert re.search("000000.*12 frames", lines[0])
    assert re.search("000002.*96x32", lines[1])
    for one in (copy / "returned").iterdir():
        one.unlink()
    with pytest.raises(InputError, match="none of 3 files is there"):
        take_back(made / "merged", copy, tmp_path / "out", allow_missing=True)


def test_two_codecs_are_not_one_dataset(made: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(made / "bundle", tmp_path / "bundle"))
    path = copy / "returned" / "episode_000001_variant_000.mp4"
    write_clip(str(path), pictures_of(path), Clip(encoder="libx265"))
    with pytest.raises(InputError, match=rf"000001_variant_000\.mp4: codec hevc, expected h264 as .*{FIRST}"):
        take_back(made / "merged", copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@given(frames=st.integers(1, 20), fps=st.sampled_from([24, 25, 30, 50, 60]), b_frames=st.integers(0, 3))
def test_what_an_encoder_makes_at_the_rate_fits_and_at_another_does_not(frames: int, fps: int, b_frames: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.mp4"
        write_clip(str(path), moving_pictures(frames, 32, 32), Clip(fps=fps, gop=8, b_frames=b_frames))
        schema = Schema("", 32, 32, fps)
        found = read_returned(path, frames, schema)
        assert sorted(found.positions) == list(range(frames))
        assert found.keys == list(range(0, frames, 8))
        if frames > 1:
            with pytest.raises(InputError, match=f"{fps} frames per second, .* expected {fps + 1}"):
                read_returned(path, frames, replace(schema, fps=fps + 1))


# ---- real processes that die -----------------------------------------------------------------------------------


def command(arguments: list[str], crash: str = "") -> tuple[int, str]:
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PATH": os.environ["PATH"]}
    if crash:
        environment["PADREEL_CRASH_POINT"] = crash
    with closing(start("padreel.__main__", "augment", *arguments, environment=environment)) as process:
        out, err = process.communicate(300)
    return process.wait(), out + err


def cases(points: Counter[str]) -> list[tuple[str, int, str]]:
    """Each kind of step: killed in the middle and at the last one; some without room on the disk."""
    return [
        (point, n, action)
        for point, count in sorted(points.items())
        if point.startswith("before")
        for n, action in ((1, "ENOSPC"), ((count + 1) // 2, "kill"), (count, "kill"))
        if action == "kill" or point in ("before write", "before link")
    ]


def survives(folder: Path, arguments: list[str], expected: dict[str, bytes], case: tuple[str, int, str]) -> None:
    """Killed there, there is no output or the whole one; the same command goes on."""
    point, n, action = case
    code, said = command(arguments, f"{point}:{n}:{action}")
    assert code == (-signal.SIGKILL if action == "kill" else 1), (case, said)
    if action != "kill":
        assert "No space left on device" in said.splitlines()[-1]
    if (folder / "out").exists():
        assert contents(folder / "out") == expected
    code, said = command(arguments)
    assert code == 0, (case, said)
    assert contents(folder / "out") == expected
    assert not build_folder(folder / "out").exists()
    assert [path.name for path in folder.iterdir()] == ["out"], case


@pytest.mark.parametrize("source", ["merged", "root"])
def test_a_bundle_killed_or_out_of_room_anywhere(
    made: Path, tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    points: Counter[str] = Counter()
    (tmp_path / "whole").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(files, "probe", lambda point, path: points.update([point]))
        bundle(made / source, tmp_path / "whole" / "out")
    expected, before = contents(tmp_path / "whole" / "out"), snapshot(made)
    for i, case in enumerate(cases(points)):
        folder = tmp_path / str(i)
        folder.mkdir()
        flags = ["--output", str(folder / "out"), "--variants-per-episode", "2", "--base-seed", "1000"]
        survives(folder, ["bundle", str(made / source), *flags], expected, case)
    assert snapshot(made) == before


@pytest.mark.parametrize("source", ["merged", "root"])
def test_an_import_killed_or_out_of_room_anywhere(
    made: Path, tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    points: Counter[str] = Counter()
    (tmp_path / "whole").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(files, "probe", lambda point, path: points.update([point]))
        take_back(made / source, made / "bundle", tmp_path / "whole" / "out", with_originals=True)
    expected, before = contents(tmp_path / "whole" / "out"), snapshot(made)
    whole = read_episodes(tmp_path / "whole" / "out")
    for i, case in enumerate(cases(points)):
        folder = tmp_path / str(i)
        folder.mkdir()
        flags = ["--bundle", str(made / "bundle"), "--output", str(folder / "out"), "--with-originals"]
        survives(folder, ["import", str(made / source), *flags], expected, case)
        assert read_episodes(folder / "out") == whole
        assert check(folder / "out")[0].verdict is Verdict.PASS
    assert snapshot(made) == before
