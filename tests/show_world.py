"""Shards and merged sets for the tests of showing, and what is shown of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from padreel.options import load
from padreel.training.merge.merge import merge
from padreel.training.settings import MergeSettings, ShowSettings
from padreel.training.show.show import Shown, show
from tests.fakes import FakeBroker
from tests.training_world import GAME, MAPPING, OTHER_MAPPING, Played, consume, nothing, publish
from tests.video_source import Picture, encode, moving_pictures

SESSIONS = [
    Played(f"session-{i}@{i}", f"rig-{i}", encode(moving_pictures(9 + i, seed=i), gop=6, b_frames=i)) for i in range(3)
]
LATER = Played("session-3@3", "rig-3", encode(moving_pictures(8, seed=3), gop=6))


def make(folder: Path) -> Path:
    """`root`, `merged`, `packed` and the YAML files in it; without renderings."""
    broker = FakeBroker(2)
    publish(broker, 0, SESSIONS[:2])
    publish(broker, 1, SESSIONS[2:])
    consume(broker, folder / "root")
    merge([folder / "root"], load(MergeSettings, {"output": folder / "merged"}), nothing)
    merge([folder / "root"], load(MergeSettings, {"output": folder / "packed", "compact": True}), nothing)
    for name, text in (("game", GAME), ("mapping", MAPPING), ("other", OTHER_MAPPING)):
        (folder / f"{name}.yaml").write_text(text)
    return folder


def run(path: Path, **more: Any) -> list[Shown]:
    """Show all, unless one is asked for."""
    if "episode" not in more:
        more["all_episodes"] = True
    return show(path, load(ShowSettings, more), nothing)[1]


def played(shown: Shown) -> Played:
    return next(one for one in SESSIONS if one.key == shown.rendering.session)


def pictures_in(path: Path) -> list[Picture]:
    found: list[Picture] = []
    with av.open(str(path)) as container:
        found.extend(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0))
    return found


def nearest(shown: Picture, pictures: Sequence[Picture]) -> int:
    """Which of the pictures, each 96x64, is shown: by its middle, which nothing is drawn over."""
    small = np.asarray(Image.fromarray(shown).resize((96, 64), Image.Resampling.BOX), int)[8:40]
    return int(np.argmin([np.abs(small - picture[8:40]).mean() for picture in pictures]))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
