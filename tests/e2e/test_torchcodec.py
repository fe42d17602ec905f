"""HEVC with B-frames in torchcodec: where it is wrong, it is so on the recorder's own file."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from tests.video_source import Clip, encode_clip, moving_pictures, write_span

pytestmark = pytest.mark.lerobot

FRAMES = 120
# In a process of its own, because a process loads one FFmpeg only. Prints the FFmpeg and, per file, how many pictures
# are another one than asked for.
SCRIPT = """
import json, random, sys
import numpy as np
from torchcodec._core import get_ffmpeg_library_versions
from torchcodec.decoders import VideoDecoder

wrong = []
for path in sys.argv[1:]:
    truth = [frame.numpy() for frame in VideoDecoder(path, seek_mode="exact")]
    decoder = VideoDecoder(path, seek_mode="approximate")  # as LeRobot opens it
    order = list(range(len(truth)))
    random.Random(1).shuffle(order)
    wrong.append(sum(not np.array_equal(decoder.get_frame_at(i).data.numpy(), truth[i]) for i in order))
print(json.dumps([get_ffmpeg_library_versions()["ffmpeg_version"], *wrong]))
"""


def of_system(tmp_path: Path) -> str:
    return ""


def of_pyav(tmp_path: Path) -> str:
    """A folder with PyAV's FFmpeg under the names that torchcodec looks for."""
    libraries = Path(av.__file__).parent.parent / "av.libs"
    if not libraries.is_dir():
        pytest.skip("PyAV has no FFmpeg of its own here")
    for path in libraries.iterdir():
        if (name := re.fullmatch(r"(lib(?:av|sw)\w+)-\w+\.so\.(\d+)\..*", path.name)) is not None:
            (tmp_path / f"{name[1]}.so.{name[2]}").symlink_to(path)
    return f"{tmp_path}:{libraries}"


def wrong_pictures(files: list[Path], libraries: str) -> tuple[str, list[int]]:
    """The FFmpeg's version, and how many of each file's pictures torchcodec shows wrong in random order."""
    if importlib.util.find_spec("torchcodec") is None:
        pytest.skip("torchcodec is not installed")
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries} if libraries else dict(os.environ)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, files)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        why = next((line for line in done.stderr.splitlines() if "Could not load" in line), done.stderr[-300:])
        pytest.skip(f"torchcodec {importlib.metadata.version('torchcodec')} loads no FFmpeg: {why}")
    version, *wrong = json.loads(done.stdout)
    return version, wrong


CLIPS = {
    "h264": Clip(),
    "hevc without b-frames": Clip("libx265", b_frames=0),
    "hevc": Clip("libx265"),
    "hevc with open gops": Clip("libx265", open_gop=True),
    "av1": Clip("libsvtav1"),
}


@pytest.mark.parametrize("libraries", [of_system, of_pyav])
def test_what_torchcodec_shows(tmp_path: Path, libraries: Callable[[Path], str]) -> None:
    files = []
    for number, clip in enumerate(CLIPS.values()):
        source = encode_clip(moving_pictures(FRAMES), clip)
        files += [tmp_path / f"{number}-source.mp4", tmp_path / f"{number}-span.mp4"]
        files[-2].write_bytes(source.mp4)
        write_span(files[-1], source)
    (tmp_path / "libraries").mkdir()
    version, wrong = wrong_pictures(files, libraries(tmp_path / "libraries"))
    for name, theirs, ours in zip(CLIPS, wrong[::2], wrong[1::2], strict=True):
        assert ours <= theirs, f"{name}: worse than the recorder's file"
        if name not in ("hevc", "hevc with open gops"):
            assert theirs == 0, name
        elif version.startswith("7.1"):
            assert theirs > 0, f"{name}: FFmpeg {version} is right now, say so in the README"
        elif version.startswith("5.1"):
            assert ours == 0, name
