"""Whether lerobot loads a dataset. It is asked in a process of its own: it is large, slow to import, and keeps a cache.

Run as a module it is that process: it prints one JSON object, or ends with an error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from padreel.errors import DatasetError


def load_with_lerobot(root: Path) -> str:
    """Have lerobot open a dataset and read its first and its last row, pictures too; lerobot's version.

    Raises DatasetError that says why it cannot.
    """
    with tempfile.TemporaryDirectory(prefix="padreel-lerobot-") as cache:
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "HF_HOME": cache,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(root)], env=environment, capture_output=True, text=True, check=False
        )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"]
        raise DatasetError(f"{root}: lerobot cannot load it: {said[-1]}")
    return str(json.loads(done.stdout.splitlines()[-1])["version"])


def main(root: Path) -> None:
    """Load it, or raise whatever lerobot does."""
    try:
        from importlib.metadata import version

        from lerobot.datasets.lerobot_dataset import LeRobotDataset
    except ImportError as error:
        raise SystemExit(
            f"lerobot is needed to see whether it does: pip install 'padreel[lerobot]' ({error})"
        ) from error
    dataset = LeRobotDataset("local/check", root=root, video_backend="pyav")
    info = json.loads((root / "meta" / "info.json").read_bytes())
    if len(dataset) != info["total_frames"]:
        raise SystemExit(f"it finds {len(dataset)} rows, expected {info['total_frames']}")
    for row in (0, len(dataset) - 1):
        _ = dataset[row]
    sys.stdout.write(json.dumps({"version": version("lerobot"), "rows": len(dataset)}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
