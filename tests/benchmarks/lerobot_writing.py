"""LeRobot's own writer, by itself in a process: what padreel's figures stand beside.

python -m tests.benchmarks.lerobot_writing NOTES batch|streaming|append|import|read ARGUMENTS...
"""

from __future__ import annotations

import importlib
import json
import random
import sys
import time
import warnings
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np

CAMERA = "observation.images.main"
FPS = 30
_SLOTS = 13  # of an action


def _dataset_class() -> Any:
    warnings.filterwarnings("ignore", module="torchvision")
    return importlib.import_module("lerobot.datasets.lerobot_dataset").LeRobotDataset


def _create(root: Path, height: int, width: int, *, streaming: bool) -> Any:
    features = {
        CAMERA: {"dtype": "video", "shape": (height, width, 3), "names": ["height", "width", "channels"]},
        "action": {"dtype": "float32", "shape": (_SLOTS,), "names": [f"slot{n}" for n in range(_SLOTS)]},
    }
    return _dataset_class().create(
        "benchmark/lerobot", FPS, features, root=root, use_videos=True, vcodec="h264", streaming_encoding=streaming
    )


def write_clip(clip: Path, root: Path, frames: int, *, streaming: bool) -> dict[str, Any]:
    """Decode a clip, add_frame, save_episode: what the batch converter does. Importing is not counted."""
    with av.open(str(clip)) as container:
        video = container.streams.video[0]
        dataset = _create(root, video.height, video.width, streaming=streaming)
        begin, begin_cpu = time.monotonic(), time.process_time()
        for picture in islice(container.decode(video), frames):
            rgb = picture.to_ndarray(format="rgb24")
            dataset.add_frame({CAMERA: rgb, "action": np.zeros(_SLOTS, np.float32), "task": "Run"})
        dataset.save_episode()
        dataset.finalize()
    return {"seconds": time.monotonic() - begin, "cpu_seconds": time.process_time() - begin_cpu, "frames": frames}


def append_episodes(root: Path, at: list[int], around: int, rows: int) -> dict[str, Any]:
    """Seconds of save_episode, the mean of `around` episodes up to each of `at`."""
    dataset = _create(root, 96, 160, streaming=False)
    picture = np.random.default_rng(0).integers(0, 255, (96, 160, 3), dtype=np.uint8)
    seconds: list[float] = []
    for number in range(max(at)):
        for row in range(rows):
            dataset.add_frame(
                {CAMERA: np.roll(picture, row + number, 1), "action": np.zeros(_SLOTS, np.float32), "task": "Run"}
            )
        begin = time.monotonic()
        dataset.save_episode()
        seconds.append(time.monotonic() - begin)
    dataset.finalize()
    return {str(one): float(np.mean(seconds[max(0, one - around) : one])) for one in at}


def read_samples(root: Path, repetitions: int, samples: int) -> dict[str, Any]:
    """Random samples a second, through PyAV: it is what every installation has."""
    dataset = _dataset_class()("benchmark/read", root=root, video_backend="pyav")
    chosen = random.Random(5)
    dataset[0]
    rates = []
    for _ in range(repetitions):
        begin = time.monotonic()
        for _ in range(samples):
            dataset[chosen.randrange(len(dataset))]
        rates.append(samples / (time.monotonic() - begin))
    return {"rates": rates}


def main() -> None:
    notes, what, *arguments = sys.argv[1:]
    found: dict[str, Any]
    if what == "import":
        begin = time.monotonic()
        importlib.import_module("lerobot.datasets.lerobot_dataset")
        found = {"seconds": time.monotonic() - begin}
    elif what in ("batch", "streaming"):
        clip, root, frames = arguments
        found = write_clip(Path(clip), Path(root), int(frames), streaming=what == "streaming")
    elif what == "append":
        root, around, rows, *at = arguments
        found = append_episodes(Path(root), [int(one) for one in at], int(around), int(rows))
    else:
        root, repetitions, samples = arguments
        found = read_samples(Path(root), int(repetitions), int(samples))
    Path(notes).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
