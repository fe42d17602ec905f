"""Where everything in an episode bundle lies, and what its parts are called. Pure.

<prefix>_<job>/
    recordings/episode_0001.json
    lerobot/dataset_info.json
    lerobot/episodes.jsonl
    lerobot/meta/episode_index.json
    lerobot/videos/episode_0001.mp4          with several rigs videos/<rig>/episode_0001.mp4
    checksums.json
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final
from urllib.parse import quote

FORMAT_VERSION: Final = 1
RECORDINGS: Final = PurePosixPath("recordings")
LEROBOT: Final = PurePosixPath("lerobot")
DATASET_INFO: Final = LEROBOT / "dataset_info.json"
EPISODES: Final = LEROBOT / "episodes.jsonl"
INDEX: Final = LEROBOT / "meta" / "episode_index.json"
CHECKSUMS: Final = PurePosixPath("checksums.json")
NO_RIG: Final = "%none"  # of a rig without a name; no quoted name has a percent sign before these letters


def episode_id(index: int) -> str:
    """What the episode of that index, from 0, is called: they are numbered from 1."""
    return f"episode_{index + 1:04d}"


def recording_path(index: int) -> PurePosixPath:
    """Where an episode's recording lies, relative to the bundle."""
    return RECORDINGS / f"{episode_id(index)}.json"


def video_path(index: int, rig: str | None) -> PurePosixPath:
    """Where an episode's mp4 lies, relative to the bundle; `rig` where there are several."""
    folder = LEROBOT / "videos" if rig is None else LEROBOT / "videos" / rig_folder(rig)
    return folder / f"{episode_id(index)}.mp4"


def rig_folder(rig: str) -> str:
    """A rig's name as that of a folder: what a folder's name cannot hold is quoted as in a URL; no two become one."""
    if not rig:
        return NO_RIG
    return rig.replace(".", "%2E") if set(rig) == {"."} else quote(rig, safe=" ")
