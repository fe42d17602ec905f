"""Publishing: the tree follows the log, and only the last claimer moves it.

Invariants
- info.json <= tasks, episodes, data, video: it is replaced last, and none of them goes back, save to what is before an
  erased episode while that one is taken out (see `erased`).
- Only the last claimer replaces episodes, tasks, stats and info: they come by rename out of its own publish folder
  `staging/pub-<uuid>/`, which the next claimer empties and removes before it reads the log. Who finds it gone is
  fenced and never creates it again.
- Final bytes under N have commit N's hashes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from padreel.dataset import files, layout
from padreel.dataset.commit_log import CommittedFile, Entry
from padreel.dataset.layout import FILE_KINDS, INFO, STAGING, FileKind, final_path
from padreel.errors import CorruptShardError, FencedError, FilesystemError, ForeignFileError

_PREFIX = "pub-"
_FENCE_ROUNDS = 1000
_CHUNK = re.compile(r"chunk-(\d+)")
_FILE = re.compile(r"file-(\d+)\.parquet")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file that lies complete and durable in the publish folder."""

    source: Path
    final: Path
    sha256: str


class PublishFolder:
    """A writer's own publish folder."""

    def __init__(self, shard: Path) -> None:
        """Make it. Raises OSError."""
        self._staging = shard / STAGING
        files.make_folders([self._staging], shard)
        self.path = self._staging / f"{_PREFIX}{uuid4().hex}"
        with files.announced("mkdir", self.path):
            self.path.mkdir()

    def fence(self) -> None:
        """Take every other writer's publish folder away; when this returns, their half-done publishing fails.

        Raises FilesystemError if one cannot be emptied, OSError.
        """
        others = self._others()
        for _ in range(_FENCE_ROUNDS):
            if not others:
                return
            for other in others:
                _empty_and_remove(other, "fence ")
            others = self._others()
        raise FilesystemError(f"{others[0]} does not go away; stop the process that keeps writing there")

    def _others(self) -> list[Path]:
        return [one for one in self._staging.glob(f"{_PREFIX}*") if one != self.path]

    def prepare(self, final: Path, content: bytes) -> Prepared:
        """Write what shall replace `final`. Raises FencedError, OSError."""
        source = self.path / f"{uuid4().hex}.{final.name}.tmp"  # a temp file must not end in .parquet
        try:
            files.write_durable(source, content)
        except OSError as error:
            if error.errno in files.GONE and not files.exists(self.path):
                raise self._fenced() from error
            raise
        return Prepared(source, final, hashlib.sha256(content).hexdigest())

    def put(self, prepared: Prepared) -> None:
        """Replace the final file. Raises FencedError, OSError."""
        try:
            files.rename(prepared.source, prepared.final, "replace")
        except OSError as error:
            if error.errno not in files.GONE or files.exists(prepared.source):
                raise
            # The reply of a rename that succeeded can be lost.
            if not files.exists(self.path) or files.sha256_of(prepared.final) != prepared.sha256:
                raise self._fenced() from error

    def take_away(self, final: Path) -> None:
        """Remove a file of the tree; one that is gone already is fine. Raises FencedError, OSError.

        It goes through the folder, so that a writer that was fenced takes nothing away from the next owner.
        """
        into = self.path / f"{uuid4().hex}.{final.name}.gone"
        try:
            files.rename(final, into)
        except OSError as error:
            if error.errno not in files.GONE:
                raise
            self.check()
        files.unlink(into)

    def clear(self) -> None:
        """Remove what was prepared and not used. Raises FencedError, OSError."""
        try:
            for name in os.listdir(self.path):
                files.unlink(self.path / name)
        except OSError as error:
            if error.errno not in files.GONE:
                raise
            raise self._fenced() from error

    def check(self) -> None:
        """Raises FencedError if the folder is gone."""
        if not files.exists(self.path):
            raise self._fenced()

    def remove(self) -> None:
        """Give the folder up; one that was taken away is fine. Raises OSError."""
        while files.exists(self.path):
            _empty_and_remove(self.path)

    def _fenced(self) -> FencedError:
        return FencedError(f"{self.path} is gone: another writer has taken the shard")


def _empty_and_remove(folder: Path, why: str = "") -> None:
    try:
        for name in os.listdir(folder):
            files.unlink(folder / name, f"{why}unlink")
        files.remove_folder(folder, f"{why}rmdir")
    except OSError as error:
        # A writer that is still alive may have written between the two; the caller looks again.
        if error.errno not in files.GONE | {errno.ENOTEMPTY, errno.EEXIST}:
            raise


def check_unclaimed(shard: Path, n: int, folder: PublishFolder) -> None:
    """No file lies where commit N's will. Raises ForeignFileError, FencedError."""
    for kind in FILE_KINDS:
        final = shard / final_path(kind, n)
        if files.exists(final):
            folder.check()
            raise ForeignFileError(
                f"{final}: found a file that no commit names, expected none; it was written by another tool. Move it "
                "away and run LeRobot's writing tools on a copy of the shard"
            )


def check_foreign(shard: Path, latest: Entry | None, folder: PublishFolder) -> None:
    """No data or episodes file lies beyond the latest episode's: LeRobot reads whatever is there.

    Raises ForeignFileError, FencedError if it is the next owner's, OSError.
    """
    data, episodes = (-1, -1), (-1, -1)
    if latest is not None:
        data = layout.chunk_and_file(latest.n)
        episodes = layout.chunk_and_file((latest.totals.episodes - 1) // layout.EPISODES_PER_FILE)
    for top, newest in ((shard / "data", data), (shard / "meta" / "episodes", episodes)):
        chunks = sorted(_numbers(top, _CHUNK))
        if not chunks:
            continue
        chunk, name = chunks[-1]
        for file, found in _numbers(top / name, _FILE):
            if (chunk, file) > newest:
                folder.check()
                raise ForeignFileError(
                    f"{top / name / found}: found a file that no commit names, expected (chunk, file) {newest} to "
                    "be the last; it was written by another tool: move it away, and run such tools on a copy"
                )


def _numbers(folder: Path, pattern: re.Pattern[str]) -> list[tuple[int, str]]:
    names = os.listdir(folder) if folder.is_dir() else []
    return [(int(match[1]), name) for name in names if (match := pattern.fullmatch(name))]


def place(shard: Path, entry: Entry, *, verify: bool, is_own: bool = False) -> None:
    """Give an episode's staged files their final names, durably; those that have them already are checked.

    Without `verify` the check is of sizes alone and nothing is fsynced: for commits whose publishing was completed.
    What this writer has staged itself, `is_own`, is not read again.

    Raises ForeignFileError, CorruptShardError, OSError.
    """
    if entry.episode is None:
        return
    for file in entry.episode.files:
        _place_one(shard, entry.n, file, verify, is_own)
    if verify:
        for kind in FILE_KINDS:
            files.fsync_folder((shard / final_path(kind, entry.n)).parent)


def _place_one(shard: Path, n: int, file: CommittedFile, verify: bool, is_own: bool) -> None:
    kind: FileKind = next(kind for kind in FILE_KINDS if kind == file.kind)
    source, final = shard / STAGING / file.name, shard / final_path(kind, n)
    if files.exists(source):
        if files.exists(final) and files.sha256_of(final) != file.sha256:
            raise ForeignFileError(
                f"{final}: found a file with another sha256 than {file.sha256} of commit {n}, which waits in "
                f"{source}; it was written by another tool: move it away"
            )
        if not is_own:
            _check(source, n, file, verify)
        try:
            files.rename(source, final)
            return
        except OSError as error:
            # The new owner of the shard may have been faster, or the reply of our own rename is lost.
            if error.errno not in files.GONE or files.exists(source):
                raise
    if not files.exists(final):
        raise CorruptShardError(
            f"{final}: missing, and {source} too, though commit {n} names it; restore it from a copy"
        )
    _check(final, n, file, verify)


def _check(path: Path, n: int, file: CommittedFile, verify: bool) -> None:
    size = files.size_of(path)
    if size is not None and size != file.size:
        raise CorruptShardError(
            f"{path}: found {size} bytes, expected {file.size} by commit {n}; restore it from a copy"
        )
    if verify and (found := files.sha256_of(path)) not in (None, file.sha256):
        raise CorruptShardError(f"{path}: found sha256 {found}, expected {file.sha256} by commit {n}; restore it")


def put_all(shard: Path, folder: PublishFolder, projection: Sequence[Prepared]) -> None:
    """Replace the metadata files in the order given, each durable before info.json, which must be the last.

    Raises FencedError, OSError.
    """
    if not projection:
        return
    *before, info = projection
    if info.final != shard / INFO:
        raise ValueError(f"the last file to publish is {info.final}, expected {INFO}")
    for one in before:
        folder.put(one)
    for parent in sorted({one.final.parent for one in before}):
        files.fsync_folder(parent)
    folder.put(info)
    files.fsync_folder(info.final.parent)
