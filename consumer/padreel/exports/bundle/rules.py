"""`padreel bundle validate`: what an episode bundle has to hold, rule by rule, whoever wrote it. Nothing is changed.

A bundle is one of three kinds. *recordings* has recordings alone. *index* has a `lerobot/` folder with
`meta/episode_index.json`; what that names has to be there. *legacy* has `lerobot/` with a parquet file for each episode
instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from padreel.errors import InputError
from padreel.exports.bundle import names

Kind = Literal["recordings", "index", "legacy"]

RULES: Final[Mapping[str, str]] = {
    "recordings": "a bundle has recordings/episode_*.json, one at least",
    "recording": "a recording is a JSON object with episode_id, task_name, frame_count and as many frames",
    "version": "a format_version that is a number is one that this padreel knows",
    "dataset-info": "a lerobot/ folder has dataset_info.json, a JSON object",
    "index": "a lerobot/ folder has meta/episode_index.json, or episode_*.parquet in the older form",
    "episodes": "a lerobot/ folder with an index has episodes.jsonl, with a line for each episode of the index",
    "indexed": "what the index names as recording, file or video is there",
    "counts": "total_episodes and total_frames are those of the episodes",
    "legacy": "without an index there are as many lerobot/**/episode_*.parquet as recordings",
    "checksums": "what dataset_info.json or the folder has as checksums.json lists every file with its sha256",
}
_PARTS: Final = ("recording", "file", "video")


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that is not as a rule wants it; `file` is relative to the bundle."""

    rule: str
    file: str
    said: str

    def __str__(self) -> str:
        return f"{self.file}: {self.said}; wanted by {self.rule!r}: {RULES[self.rule]}"


@dataclass(frozen=True, slots=True)
class BundleReport:
    """What was found of one bundle."""

    path: Path
    kind: Kind
    episodes: int
    problems: tuple[Problem, ...]


def find_bundles(path: Path) -> list[Path]:
    """The bundle that a folder is, else those directly in it, by name. Raises InputError where there is none."""
    if not path.is_dir():
        raise InputError(f"{path}: is no folder, expected an episode bundle, or a folder of them")
    if _is_bundle(path):
        return [path]
    found = sorted(one for one in path.iterdir() if _is_bundle(one))
    if not found:
        raise InputError(
            f"{path}: found neither {names.RECORDINGS}/ nor {names.LEROBOT}/, there or in a folder of it; expected an "
            "episode bundle"
        )
    return found


def validate(path: Path) -> BundleReport:
    """Check one bundle by every rule that its kind has. Raises OSError."""
    bundle = _Bundle(path)
    problems = tuple(bundle.problems())
    return BundleReport(path, bundle.kind, len(bundle.recordings), problems)


def _is_bundle(path: Path) -> bool:
    return (path / names.RECORDINGS).is_dir() or (path / names.LEROBOT).is_dir()


class _Bundle:
    """A bundle that is being looked at."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.recordings = sorted(
            PurePosixPath(one.relative_to(path).as_posix()) for one in (path / names.RECORDINGS).glob("episode_*.json")
        )
        self._parquets = {one.stem for one in (path / names.LEROBOT).rglob("episode_*.parquet")}
        self.kind: Kind = self._kind()
        self._info: Any = None

    def _kind(self) -> Kind:
        if not (self._path / names.LEROBOT).is_dir():
            return "recordings"
        if self._parquets and not (self._path / names.INDEX).exists():
            return "legacy"
        return "index"

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong, rule by rule."""
        if not self.recordings:
            yield Problem("recordings", str(names.recording_path(0)), "missing")
        for name in self.recordings:
            yield from self._recording(name)
        if self.kind != "recordings":
            yield from self._dataset_info()
        if self.kind == "index":
            yield from self._index()
        if self.kind == "legacy" and len(self._parquets) != len(self.recordings):
            for name in self.recordings:
                if name.stem not in self._parquets:
                    yield Problem("legacy", str(names.LEROBOT / f"{name.stem}.parquet"), "missing")
        yield from self._checksums()

    def _recording(self, name: PurePosixPath) -> Iterator[Problem]:
        content = _parsed(self._path / name)
        if isinstance(content, str):
            yield Problem("recording", str(name), content)
            return
        if not isinstance(content, dict):
            yield Problem("recording", str(name), f"found {type(content).__name__}, expected an object")
            return
        yield from _version(name, content)
        wanted: Mapping[str, type] = {"episode_id": str, "task_name": str, "frames": list, "frame_count": int}
        for key, kind in wanted.items():
            if not isinstance(content.get(key), kind):
                yield Problem(
                    "recording", str(name), f"{key}: found {_short(content.get(key))}, expected {kind.__name__}"
                )
                return
        if len(content["frames"]) != content["frame_count"]:
            said = f"{len(content['frames'])} frames, frame_count says {content['frame_count']}"
            yield Problem("recording", str(name), said)

    def _dataset_info(self) -> Iterator[Problem]:
        self._info = _parsed(self._path / names.DATASET_INFO)
        if isinstance(self._info, str):
            yield Problem("dataset-info", str(names.DATASET_INFO), self._info)
        elif not isinstance(self._info, dict):
            yield Problem("dataset-info", str(names.DATASET_INFO), f"found {type(self._info).__name__}")
        else:
            yield from _version(names.DATASET_INFO, self._info)

    def _index(self) -> Iterator[Problem]:
        index = _parsed(self._path / names.INDEX)
        if isinstance(index, str):
            yield Problem("index", str(names.INDEX), index)
            return
        if isinstance(index, dict):
            yield from _version(names.INDEX, index)
        entries = index.get("episodes") if isinstance(index, dict) else index
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            yield Problem("index", str(names.INDEX), f"episodes: found {_short(entries)}, expected a list of objects")
            return
        for number, entry in enumerate(entries):
            yield from self._indexed(number, entry)
        yield from self._episodes([one.get("episode_id") for one in entries])
        for name, told in ((names.INDEX, index), (names.DATASET_INFO, self._info)):
            yield from _counts(name, told, entries)

    def _indexed(self, number: int, entry: Mapping[str, Any]) -> Iterator[Problem]:
        for part in _PARTS:
            told = entry.get(part)
            if told is None:
                continue
            base = PurePosixPath() if part == "recording" else names.LEROBOT
            name = base / str(told)
            if not isinstance(told, str) or not _is_inside(name):
                said = f"episode {number}: {part}: found {_short(told)}, expected a path inside the bundle"
                yield Problem("indexed", str(names.INDEX), said)
            elif not (self._path / name).is_file():
                yield Problem("indexed", str(name), "missing")

    def _episodes(self, ids: list[Any]) -> Iterator[Problem]:
        path = self._path / names.EPISODES
        try:
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            found = [line["episode_id"] for line in lines]
        except FileNotFoundError:
            yield Problem("episodes", str(names.EPISODES), "missing")
            return
        except (ValueError, TypeError, KeyError) as error:
            yield Problem("episodes", str(names.EPISODES), f"found no list of objects with episode_id ({error!r})")
            return
        if found != ids:
            said = f"{len(found)} episodes, the index has {len(ids)}, or others, or in another order"
            yield Problem("episodes", str(names.EPISODES), said)

    def _checksums(self) -> Iterator[Problem]:
        promised = self._info.get("checksums") if isinstance(self._info, dict) else None
        if promised is None and not (self._path / names.CHECKSUMS).exists():
            return
        content = _parsed(self._path / names.CHECKSUMS)
        files = content.get("files") if isinstance(content, dict) else None
        if not isinstance(files, dict):
            said = content if isinstance(content, str) else f"files: found {_short(files)}, expected an object"
            yield Problem("checksums", str(names.CHECKSUMS), said)
            return
        yield from _version(names.CHECKSUMS, content)
        for name, digest in sorted(files.items()):
            found = _sha256(self._path / name) if _is_inside(PurePosixPath(name)) else None
            if found is None:
                yield Problem("checksums", name, "missing")
            elif found != digest:
                yield Problem("checksums", name, f"found sha256 {found}, expected {_short(digest)}")
        there = {one.relative_to(self._path).as_posix() for one in self._path.rglob("*") if one.is_file()}
        for name in sorted(there - files.keys() - {str(names.CHECKSUMS)}):
            yield Problem("checksums", name, "is not in the list")


def _is_inside(name: PurePosixPath) -> bool:
    return not name.is_absolute() and ".." not in name.parts


def _version(name: PurePosixPath, content: Mapping[str, Any]) -> Iterator[Problem]:
    """A version that is text is another writer's; dataset_info.json has ours as text, since its readers want that."""
    version = content.get("format_version")
    if type(version) is int and version != names.FORMAT_VERSION:
        yield Problem("version", str(name), f"format_version {version}, expected {names.FORMAT_VERSION}")


def _counts(name: PurePosixPath, told: Any, entries: list[dict[str, Any]]) -> Iterator[Problem]:
    if not isinstance(told, dict):
        return
    frames: list[Any] = [one.get("num_frames") for one in entries]
    if type(told.get("total_episodes")) is int and told["total_episodes"] != len(entries):
        yield Problem("counts", str(name), f"total_episodes {told['total_episodes']}, the index has {len(entries)}")
    if type(told.get("total_frames")) is int and all(type(one) is int for one in frames):
        total = sum(frames)
        if told["total_frames"] != total:
            yield Problem("counts", str(name), f"total_frames {told['total_frames']}, the index has {total}")


def _parsed(path: Path) -> Any:
    """A file's JSON; a text that says why there is none."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return "missing"
    except ValueError as error:
        return f"no JSON ({error})"
    return "found a text, expected an object" if isinstance(content, str) else content


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, IsADirectoryError):
        return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
