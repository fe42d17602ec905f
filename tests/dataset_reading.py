"""Reads a dataset with pyarrow and PyAV alone, episode by episode, so that two ways to make one can be compared."""

from __future__ import annotations

import hashlib
import json
import struct
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import pyarrow.parquet as pq

CAMERA = "observation.images.main"
# Where an episode stands in its dataset, and what a session is called there, is no property of the episode.
_PLACES = {"index", "episode_index", "task_index"}


@dataclass(frozen=True, slots=True)
class ReadEpisode:
    """One episode, without its numbers. `packets` are (pts, dts, duration, is_keyframe, sha256) in file order."""

    session: str
    end_reason: str
    from_timestamp: float
    to_timestamp: float
    rows: dict[str, list[Any]]
    packets: list[tuple[int, int, int, bool, str]]
    events: list[bytes]
    video: Path = field(compare=False)
    key: str = field(compare=False)  # with the run

    def __len__(self) -> int:
        return len(self.rows["frame_index"])


def read_info(root: Path) -> dict[str, Any]:
    """meta/info.json."""
    content: dict[str, Any] = json.loads((root / "meta" / "info.json").read_text())
    return content


def read_episodes(root: Path) -> list[ReadEpisode]:
    """The episodes of one dataset, in order; sessions by name, without their run."""
    info = read_info(root)
    found = []
    for path in sorted((root / "meta" / "episodes").glob("*/*.parquet")):
        found += [_episode(root, info, meta) for meta in _table(path).to_pylist()]
    return found


def by_session(roots: list[Path]) -> dict[str, list[ReadEpisode]]:
    """The episodes of several shards by session name."""
    episodes: dict[str, list[ReadEpisode]] = {}
    for root in roots:
        for episode in read_episodes(root):
            episodes.setdefault(episode.session, []).append(episode)
    return episodes


def shards(output_root: Path) -> list[Path]:
    """The shards of a root that hold an episode."""
    return [path.parent.parent for path in sorted(output_root.glob("partition-*/meta/info.json"))]


def video_path(root: Path, info: dict[str, Any], meta: dict[str, Any]) -> Path:
    """The mp4 of an episode."""
    name = info["video_path"].format(
        video_key=CAMERA,
        chunk_index=meta[f"videos/{CAMERA}/chunk_index"],
        file_index=meta[f"videos/{CAMERA}/file_index"],
    )
    return root / str(name)


def read_packets(path: Path) -> list[tuple[int, int, int, bool, str]]:
    """Every packet of an mp4 in decode order."""
    with closing(av.open(str(path))) as container:
        return [
            (
                int(p.pts or 0),
                int(p.dts or 0),
                int(p.duration or 0),
                p.is_keyframe,
                hashlib.sha256(bytes(p)).hexdigest(),
            )
            for p in container.demux(video=0)
            if p.size
        ]


def _table(path: Path) -> Any:
    """A parquet file, opened once: `read_table(path)` opens it twice, and meanwhile another may have its name."""
    return pq.ParquetFile(path).read()


def _episode(root: Path, info: dict[str, Any], meta: dict[str, Any]) -> ReadEpisode:
    place = {"chunk_index": meta["data/chunk_index"], "file_index": meta["data/file_index"]}
    table = _table(root / info["data_path"].format(**place))
    begin = table["episode_index"].to_pylist().index(meta["episode_index"])  # rows may be packed
    table = table.slice(begin, meta["length"])
    if "gamepad/chunk_index" in meta:
        place = {"chunk_index": meta["gamepad/chunk_index"], "file_index": meta["gamepad/file_index"]}
    video = video_path(root, info, meta)
    rows = {name: table[name].to_pylist() for name in table.column_names if name not in _PLACES}
    return ReadEpisode(
        session=meta["session"].rpartition("@")[0],
        end_reason=meta["end_reason"],
        from_timestamp=meta[f"videos/{CAMERA}/from_timestamp"],
        to_timestamp=meta[f"videos/{CAMERA}/to_timestamp"],
        rows=rows,
        packets=read_packets(video),
        events=_events(root / info["extensions"]["game_converter"]["gamepad_path"].format(**place)),
        video=video,
        key=meta["session"],
    )


def _events(path: Path) -> list[bytes]:
    content, at, found = path.read_bytes(), 0, []
    while at < len(content):
        (length,) = struct.unpack_from("<I", content, at)
        found.append(content[at + 4 : at + 4 + length])
        at += 4 + length
    return found
