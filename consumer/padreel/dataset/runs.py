"""`runs/`: what a command that wrote a shard, and ended, did it with, and every file as it left it.

    runs/<run>.json      the command, its version and settings, and how far the shard's log had come
    runs/<run>.sha256    the files of the dataset, for `sha256sum --check` in the shard's folder

A consumer does not end by itself and leaves none: its commits name the writer, and the sha256 of each file; `info.json`
has its settings. Until sessions are erased episodes never change, so a list stays true of them; those of `meta/` are
replaced with the next.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from padreel.dataset import files, layout
from padreel.dataset.commit_log import CommitLog, Entry
from padreel.version import __version__

FORMAT_VERSION: Final = 1
RUNS: Final = Path("runs")


def record_run(shard: Path, run: str, command: str, settings: Mapping[str, Any], claim: int, **found: object) -> None:
    """Write both files, the list first: what the first one describes is there.

    `settings` and `found`, what else there is to say of the run, must be JSON-able; `claim` is the commit with which it
    took the shard. Raises DatasetError where the log cannot be read, OSError.
    """
    log = CommitLog(shard)
    last = log.last()
    assert last is not None  # a run that wrote something has claimed it
    listed = "".join(f"{digest}  {name}\n" for name, digest in sorted(_digests(shard, log, last)))
    told = {
        "format_version": FORMAT_VERSION,
        "run": run,
        "command": command,
        "version": __version__,
        "settings": dict(settings),
        "claim": claim,
        "commits": last.n + 1,
        "episodes": last.totals.episodes,
        "frames": last.totals.rows,
        **found,
    }
    files.make_folders([shard / RUNS], shard)
    _put(shard / RUNS / f"{run}.sha256", listed.encode())
    _put(shard / RUNS / f"{run}.json", json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n")
    files.fsync_folder(shard / RUNS)


def _digests(shard: Path, log: CommitLog, last: Entry) -> Iterator[tuple[str, str]]:
    """Name and sha256 of every file: those of episodes as their commits say, the others as they are."""
    for entry in log.episodes_back(last):
        assert entry.episode is not None
        digests = {file.kind: file.sha256 for file in entry.episode.files}
        yield from ((str(layout.final_path(kind, entry.n)), digests[kind]) for kind in layout.FILE_KINDS)
    described = (path for path in sorted((shard / "meta").rglob("*")) if not path.is_dir())
    for path in (shard / layout.CARD, *described):
        content = files.read(path)
        if content is not None:  # else it was replaced, or is not there
            yield str(path.relative_to(shard)), hashlib.sha256(content).hexdigest()


def _put(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    files.unlink(temporary)
    files.write_durable(temporary, content)
    files.rename(temporary, path)
