"""`augmentation.json`: what a bundle for a remote video model holds, and of what it was made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from padreel.errors import DatasetError
from padreel.exports.augment.jobs import Job, plan_jobs
from padreel.training.record_file import RecordFile

FORMAT_VERSION: Final = 1
RECORD: Final = Path("augmentation.json")
JOBS: Final = Path("transfer_jobs.jsonl")
INPUT_CHECKSUMS: Final = Path("transfer_input_checksums.sha256")
REQUESTS: Final = Path("reason_requests.jsonl")
RETURNED: Final = Path("returned")


@dataclass(frozen=True, slots=True)
class BundledEpisode:
    """An episode of a bundle: its mp4 there with its sha256, and whence it is. `source_sha256` by kind of file."""

    index: int
    shard: str
    commit: int
    session: str
    rig: str
    task: str
    frames: int
    video: str
    sha256: str
    source_sha256: dict[str, str]


@dataclass(frozen=True, slots=True)
class BundleRecord:
    """All of it. `config_hash` is of the settings and of what the episodes are; jobs follow from the settings."""

    version: str  # padreel's
    run: str
    config_hash: str
    settings: Any
    source: str
    source_run: str
    fps: int
    width: int
    height: int
    episodes: tuple[BundledEpisode, ...]

    def jobs(self) -> list[Job]:
        """What is asked for, in order."""
        told = self.settings
        numbers = (one.index for one in self.episodes)
        return plan_jobs(numbers, told["variants_per_episode"], told["base_seed"], told["prompt_profiles"])


_FILE: Final = RecordFile(BundleRecord, FORMAT_VERSION, "record of a bundle", "make the bundle anew", BundleRecord.jobs)


def encode_record(record: BundleRecord) -> bytes:
    """The file's content."""
    return _FILE.encode(record)


def find_record(bundle: Path) -> BundleRecord | None:
    """The record of a bundle, None where there is none.

    Raises FormatVersionError where another version wrote it, CorruptShardError where it is none, OSError.
    """
    return _FILE.read(bundle / RECORD)


def read_record(bundle: Path) -> BundleRecord:
    """The same; raises DatasetError where there is none."""
    record = find_record(bundle)
    if record is None:
        raise DatasetError(f"{bundle}: found no {RECORD}, expected a bundle that `padreel augment bundle` has made")
    return record
