"""What an erase in a shard means for a dataset that was merged of it before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from padreel.dataset.commit_log import CommitLog, Entry
from padreel.errors import CorruptShardError, DatasetError
from padreel.training.manifest import Manifest, ManifestShard
from padreel.training.source import SourceShard


def erasures_of(shard: Path) -> list[Entry]:
    """The commits that erased sessions of a shard, the latest first. Raises CorruptShardError, OSError."""
    log = CommitLog(shard)
    entry = log.last()
    found: list[Entry] = []
    while entry is not None and entry.latest_erasure is not None:
        n = entry.latest_erasure
        entry = log.read(n)
        if entry is None or entry.erasure is None:
            raise CorruptShardError(f"{shard}: commit {n}: expected one that erases; restore it from a copy")
        found.append(entry)
        entry = log.read(n - 1)  # a claim at least, which says what was before
    return found


def check_not_erased(output: Path, before: Manifest | None, shards: Sequence[Path]) -> None:
    """Raises DatasetError where a merged dataset holds episodes that were erased of one of the shards; OSError."""
    for shard in shards if before is not None else ():
        first = CommitLog(shard).read(0)
        gone = {n for entry in erasures_of(shard) if entry.erasure for n in entry.erasure.episodes}
        if first is None or not gone or before is None:
            continue
        held = [one for one in before.episodes if one.shard == first.uuid and one.commit in gone]
        if held:
            sessions = ", ".join(dict.fromkeys(one.session for one in held))
            raise DatasetError(
                f"--output: {output}: holds {len(held)} episodes of {sessions}, erased in {shard} since; "
                "delete it and merge anew"
            )


def seen_episodes(source: SourceShard, before: ManifestShard | None) -> int:
    """How many of a shard's episodes, by their numbers now, a merge has seen. Raises CorruptShardError, OSError."""
    if before is None:
        return 0
    gone = 0
    for entry in erasures_of(source.path) if source.last.latest_erasure is not None else ():
        if entry.erasure is not None and entry.n >= before.commits:
            gone += sum(n < before.commits for n in entry.erasure.episodes)
    return before.committed_episodes - gone
