"""Opens every shard below a root again and again, while others write: by lerobot, and by our own strict reader.

Each is a process of its own, because importing lerobot takes its time. It is told the roots on standard input, one a
line, an empty one for none; each time it answers with what it saw of the root before, as one line of JSON.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.dataset_reading import read_episodes, read_info, shards

LEROBOT, STRICT = "lerobot", "strict"
_PAUSE_SECONDS = 0.05
Open = Callable[[Path], int]


@dataclass(slots=True)
class Seen:
    """Of one root: how often a shard was opened, how many episodes the largest had, and what went wrong."""

    opens: int = 0
    episodes: dict[str, int] = field(default_factory=dict)  # by shard
    failures: list[str] = field(default_factory=list)

    def look(self, shard: Path, opened: Open) -> None:
        """Open a shard once."""
        try:
            episodes = opened(shard)
        except Exception:  # noqa: BLE001 - whatever it is, it is what must not happen
            self.failures.append(f"{shard.name} does not open:\n{traceback.format_exc()}")
            return
        before = self.episodes.get(shard.name, 0)
        if episodes < before:
            self.failures.append(f"{shard.name} has gone back from {before} episodes to {episodes}")
        self.opens += 1
        self.episodes[shard.name] = episodes


def by_lerobot() -> Open:
    """Open as a training would: the metadata, all rows, the first picture and the last."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    def opened(shard: Path) -> int:
        dataset = LeRobotDataset("test/chaos", root=shard, video_backend="pyav")
        total = dataset.meta.total_frames
        assert len(dataset) >= total, f"{len(dataset)} rows, {total} by info.json"
        assert dataset[0]["episode_index"] == 0
        assert dataset[total - 1]["episode_index"] == dataset.meta.total_episodes - 1
        return int(dataset.meta.total_episodes)

    return opened


def strictly(shard: Path) -> int:
    """Read every row and every packet that the metadata name."""
    info = read_info(shard)
    episodes = read_episodes(shard)[: info["total_episodes"]]
    assert len(episodes) == info["total_episodes"], f"{len(episodes)} episodes, {info['total_episodes']} by info.json"
    rows = sum(len(one) for one in episodes)
    assert rows == info["total_frames"], f"{rows} rows, {info['total_frames']} by info.json"
    for one in episodes:
        assert len(one.packets) >= len(one), f"{one.video}: {len(one.packets)} packets for {len(one)} rows"
    return int(info["total_episodes"])


def _empty_cache() -> None:
    """What datasets has kept of a root that is gone."""
    home = os.environ.get("HF_HOME")
    if home is not None:
        shutil.rmtree(Path(home) / "datasets", ignore_errors=True)


def main() -> None:
    """Say when everything is imported, then read."""
    opened = by_lerobot() if sys.argv[1] == LEROBOT else strictly
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    print("ready", file=out, flush=True)
    root, seen = "", Seen()
    while True:
        if select.select([sys.stdin], [], [], 0 if root else None)[0]:
            line = sys.stdin.readline()
            if not line:
                return
            print(json.dumps(asdict(seen)), file=out, flush=True)
            root, seen = line.strip(), Seen()
            _empty_cache()
        started = time.monotonic()
        for shard in shards(Path(root)) if root else ():
            seen.look(shard, opened)
        # As long as it took, so that the consumers have their turn too.
        time.sleep(max(_PAUSE_SECONDS, time.monotonic() - started))


def kinds() -> list[str]:
    """The readers that there can be here."""
    return [LEROBOT, STRICT] if importlib.util.find_spec("lerobot") is not None else [STRICT]


class Reader:
    """The other end of it. An `async with` is not needed: it answers between two looks."""

    def __init__(self, kind: str, cache: Path) -> None:
        """Start it; `cache` is for what its libraries keep."""
        self.kind = kind
        self._asking = threading.Lock()  # it takes one line at a time
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "HF_HOME": str(cache),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        }
        self._log = (cache.parent / f"reader-{kind}.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            text=True,
        )

    def await_ready(self) -> None:
        """Wait until it has imported what it needs."""
        self._answer()

    def watch(self, root: Path | None) -> Seen:
        """Look at another root from now on; what was seen of the one before."""
        with self._asking:
            assert self._process.stdin is not None
            self._process.stdin.write(f"{root or ''}\n")
            self._process.stdin.flush()
            return Seen(**json.loads(self._answer()))

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self._process.kill()
        self._process.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = str(self._process.stdout.readline())
        assert line, f"the reader has died: {Path(self._log.name).read_text()[-2000:]}"
        return line


if __name__ == "__main__":
    main()
