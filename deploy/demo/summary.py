"""What the demo says of a dataset at its end."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
from rich.table import Table

_VIDEO = "videos/observation.images.main"


def table(shard: Path) -> Table:
    """The episodes with frames, seconds, end reason and the longest pad age."""
    made = Table(title="Episodes")
    for name in ("episode", "session", "frames", "seconds", "ended by", "longest pad age"):
        made.add_column(name, justify="left" if name in ("session", "ended by") else "right")
    for path in sorted((shard / "meta" / "episodes").glob("*/*.parquet")):
        for row in pq.read_table(path).to_pylist():
            seconds = row[f"{_VIDEO}/to_timestamp"] - row[f"{_VIDEO}/from_timestamp"]
            made.add_row(
                str(row["episode_index"]),
                row["session"].partition("@")[0],
                str(row["length"]),
                f"{seconds:.2f}",
                row["end_reason"],
                f"{row['stats/capture.pad_age/max'][0]:.3f} s",
            )
    return made


def three_lines(repo_id: str, root: str) -> list[str]:
    """How to load the dataset in Python."""
    return [
        "from lerobot.datasets.lerobot_dataset import LeRobotDataset",
        f'dataset = LeRobotDataset("{repo_id}", root="{root}")',
        'print(dataset[0]["action"], dataset[0]["observation.images.main"].shape)',
    ]
