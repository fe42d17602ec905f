"""`export_manifest.json`: what a merged dataset was made of, and how. It is what an update goes on from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from padreel.dataset import codec
from padreel.training.record_file import RecordFile

FORMAT_VERSION: Final = 2
MANIFEST: Final = Path("export_manifest.json")
SCHEMA_VERSION: Final = "padreel.v1"


@dataclass(frozen=True, slots=True)
class Run:
    """One command that wrote the dataset: the episodes from `first_episode` on are its."""

    id: str
    command: str
    version: str  # padreel's
    arguments: tuple[str, ...]
    settings: Any
    first_episode: int
    episodes: int


@dataclass(frozen=True, slots=True)
class ManifestShard:
    """A shard as it was when it was last read. `committed_episodes` of it were seen, `episodes` entered."""

    id: str
    path: str
    partition: int
    cluster_id: str
    frames_topic: str
    pads_topic: str
    group: str
    commits: int
    committed_episodes: int
    config_hash: str
    profile_name: str
    settings: Any
    episodes: int
    frames: int
    mean_quality: float | None
    rejected: dict[str, int]  # episodes by why they did not enter
    skipped_sessions: Any  # those that info.json lists
    quality_gate: Any = field(default=None, metadata=codec.LATER)  # its latest threshold, with range and origin


@dataclass(frozen=True, slots=True)
class ManifestEpisode:
    """One episode: where it is from, and its digests in its shard (`sha256` by kind of file)."""

    index: int
    shard: str
    commit: int
    shard_episode: int
    session: str
    rig: str
    task: str
    frames: int
    seconds: float
    frames_first_offset: int
    frames_last_offset: int
    pads_first_offset: int
    pads_last_offset: int
    end_reason: str
    forced: int
    late: int
    video: str
    sha256: dict[str, str]
    config_hash: str
    quality: float | None
    run: str
    quarantined: bool = field(default=False, metadata=codec.LATER)  # it entered because it was asked for


@dataclass(frozen=True, slots=True)
class Manifest:
    """All of it. `config_hash` is of `settings`, which decide what enters and how it is packed."""

    command: str
    version: str  # padreel's, of the last run
    schema_version: str  # of the messages
    log_format_version: int
    run: str  # the last one
    config_hash: str
    settings: Any
    total_episodes: int
    total_frames: int
    total_seconds: float
    data_files: int
    videos: int
    sessions: int
    rigs: int
    tasks: tuple[str, ...]
    runs: tuple[Run, ...]
    shards: tuple[ManifestShard, ...]
    episodes: tuple[ManifestEpisode, ...]

    def session_owners(self) -> dict[str, str]:
        """The shard that each session came from."""
        return {one.session: one.shard for one in self.episodes}


_FILE: Final = RecordFile(Manifest, FORMAT_VERSION, "manifest of a merged dataset", "merge it anew")


def encode_manifest(manifest: Manifest) -> bytes:
    """The file's content."""
    return _FILE.encode(manifest)


def read_manifest(dataset: Path) -> Manifest | None:
    """The manifest of a dataset, None where it has none.

    Raises FormatVersionError where a newer padreel wrote it, CorruptShardError where it is none, OSError.
    """
    return _FILE.read(dataset / MANIFEST)
