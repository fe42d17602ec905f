"""Shards as merging reads them: found below roots, described, their committed episodes one by one.

Nothing is written, and a consumer may be writing meanwhile: commits and an episode's files change by an erase alone,
during which the log gives no episodes, and only the latest episode's may still have their staged names.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from padreel.dataset import files, layout
from padreel.dataset.commit_log import CommitLog, CommittedFile, Entry
from padreel.dataset.entries import was_quarantined
from padreel.dataset.layout import FILE_KINDS
from padreel.dataset.projection import EPISODE_COLUMNS
from padreel.dataset.quarantine import releases
from padreel.errors import CorruptShardError, DatasetError, FormatVersionError
from padreel.training.episode import CommittedEpisode
from padreel.training.manifest import MANIFEST

_COLUMNS: Final = EPISODE_COLUMNS.keys() - {f"{kind}_sha256" for kind in FILE_KINDS}


@dataclass(frozen=True, slots=True)
class SourceShard:
    """A shard as it was when it was opened. `id` is its first commit's uuid: it stays when the folder is moved."""

    path: Path
    id: str
    last: Entry
    info: dict[str, Any]

    @property
    def extension(self) -> dict[str, Any]:
        """What info.json says of game, mapping and settings."""
        found: dict[str, Any] = self.info["extensions"]["game_converter"]
        return found

    @property
    def config_hash(self) -> str:
        """A digest of everything that decided what its rows are."""
        names = ("game_id", "class_ids", "profile_name", "settings", "action_layout")
        return digest_of({name: self.extension.get(name) for name in names} | {"features": self.info["features"]})

    def episodes(self, first: int = 0) -> Iterator[CommittedEpisode]:
        """The committed episodes from the index `first` on, the latest first. Raises DatasetError, OSError."""
        log = CommitLog(self.path)
        released = set(releases(log, self.last))
        for entry in log.episodes_back(self.last, first):
            yield _episode(self, entry, released)

    def readmitted(self, seen: int) -> list[CommittedEpisode]:
        """The episodes among the first `seen` commits that were released by a later one, in the order of their commits.

        Raises DatasetError, OSError.
        """
        log = CommitLog(self.path)
        released = sorted(n for n in releases(log, self.last, seen) if n < seen)
        found = [entry for n in released if (entry := log.read(n)) is not None]
        return [_episode(self, entry, released) for entry in found if entry.episode is not None]

    def stats(self, n: int) -> dict[str, dict[str, Any]]:
        """The statistics of commit N's episode, which `episodes` has checked. Raises OSError."""
        content = json.loads((self.path / layout.commit_path(n)).read_bytes())
        found: dict[str, dict[str, Any]] = content["episode"]["stats"]
        return found

    def locate(self, n: int, file: CommittedFile) -> Path:
        """Where a committed file lies now, of the size that its commit says.

        Raises CorruptShardError where it is gone or torn, OSError.
        """
        kind = next(kind for kind in FILE_KINDS if kind == file.kind)
        final, staged = self.path / layout.final_path(kind, n), self.path / layout.STAGING / file.name
        for path in (final, staged, final):  # it may get its final name meanwhile
            size = files.size_of(path)
            if size is not None and size != file.size:
                raise CorruptShardError(
                    f"{path}: found {size} bytes, expected {file.size} by commit {n}; restore it from a copy"
                )
            if size is not None:
                return path
        raise CorruptShardError(f"{final}: missing, though commit {n} names it; restore it from a copy")

    def read(self, n: int, file: CommittedFile) -> bytes:
        """The content of a committed file, checked against its sha256. Raises CorruptShardError, OSError."""
        for path in (self.locate(n, file), self.locate(n, file)):
            content = files.read(path)
            if content is None:  # it got its final name meanwhile
                continue
            if (found := hashlib.sha256(content).hexdigest()) != file.sha256:
                raise CorruptShardError(
                    f"{path}: found sha256 {found}, expected {file.sha256} by commit {n}; restore it"
                )
            return content
        raise CorruptShardError(f"{self.path}: the {file.kind} file of commit {n} is gone; restore it from a copy")


def digest_of(value: Any) -> str:
    """The hex digest of a JSON value, however its objects are ordered."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def find_shards(roots: Sequence[Path]) -> list[Path]:
    """The shards at and below the roots, in the roots' order, then by name; each once.

    Merged datasets are none. Raises DatasetError where a root is no folder or has no shard.
    """
    found: dict[Path, Path] = {}
    for root in roots:
        if not root.is_dir():
            raise DatasetError(f"{root}: is no folder; expected an output root or a shard")
        below = list(_walk(root))
        if not below:
            raise DatasetError(
                f"{root}: found no shard in it; expected a folder with {layout.COMMITS}/ somewhere below"
            )
        for path in below:
            found.setdefault(path.resolve(), path)
    return list(found.values())


def _walk(root: Path) -> Iterator[Path]:
    for folder, names, _ in os.walk(root):
        path = Path(folder)
        if (path / layout.COMMITS).is_dir():
            names.clear()
            yield path
        elif (path / MANIFEST).exists():
            names.clear()
        else:
            names[:] = sorted(name for name in names if not name.startswith("."))


def open_sources(paths: Sequence[Path]) -> list[SourceShard]:
    """Read the last commit and the description of each; those without a published episode are left out.

    Raises DatasetError where one cannot be read, where two do not have one schema, or are the same shard; OSError.
    """
    opened = [one for path in paths if (one := _open(path)) is not None]
    by_id: dict[str, SourceShard] = {}
    for one in opened:
        other = by_id.setdefault(one.id, one)
        if other is not one:
            raise DatasetError(f"{other.path} and {one.path} are copies of one shard; leave one of them out")
        _check_schema(opened[0], one)
    return opened


def _open(path: Path) -> SourceShard | None:
    log = CommitLog(path)
    first, last = log.read(0), log.last()
    if first is None or last is None or not last.totals.episodes:
        return None
    content = files.read(path / layout.INFO)
    if content is None:  # its first episode is being published right now
        return None
    try:
        info = json.loads(content)
        shard = SourceShard(path, first.uuid, last, info)
        _ = shard.config_hash, info["fps"], info["robot_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptShardError(
            f"{path / layout.INFO}: cannot be used ({error!r}); `padreel check --repair` makes it anew from the log"
        ) from error
    return shard


def _check_schema(a: SourceShard, b: SourceShard) -> None:
    def described(shard: SourceShard) -> dict[str, Any]:
        names = ("game_id", "class_ids", "action_layout")
        features = {f"features.{name}": feature for name, feature in shard.info["features"].items()}
        own = {name: shard.extension[name] for name in names}
        return {"fps": shard.info["fps"], "columns": list(shard.info["features"]), **features, **own}

    one, other = described(a), described(b)
    for name in one.keys() | other.keys():
        if one.get(name) != other.get(name):
            raise DatasetError(
                f"{a.path} and {b.path} have different schemas: {name}: {json.dumps(one.get(name))} and "
                f"{json.dumps(other.get(name))}; merge them into one dataset each"
            )


def _episode(shard: SourceShard, entry: Entry, released: Collection[int]) -> CommittedEpisode:
    episode = entry.episode
    assert episode is not None
    if wrong := sorted(episode.columns.keys() ^ _COLUMNS):
        raise FormatVersionError(
            f"{shard.path / layout.commit_path(entry.n)}: episode.columns: missing or unknown: {', '.join(wrong)}; "
            "another version of padreel wrote it: merge with that one"
        )
    times = episode.stats.get(layout.TIME_NS)
    return CommittedEpisode(
        shard=shard.id,
        n=entry.n,
        index=episode.index,
        length=episode.length,
        task=episode.task,
        from_timestamp=episode.from_timestamp,
        to_timestamp=episode.to_timestamp,
        columns=episode.columns,
        files=episode.files,
        published_ms=_published_ms(shard, entry),
        last_ns=None if times is None else int(times["max"][0]),
        quarantined=was_quarantined(entry) and entry.n not in released,
    )


def _published_ms(shard: SourceShard, entry: Entry) -> int:
    """When the last frame that was read was published; where the source has no such times, when it was committed."""
    record = entry.state.last_frame if entry.state is not None else None
    if record is not None and record.timestamp > 0:
        return record.timestamp
    return (shard.path / layout.commit_path(entry.n)).stat().st_mtime_ns // 1_000_000
