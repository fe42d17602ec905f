"""The few file operations that everything durable here is made of.

Each is `announced`, just before and just after it happened, under a name of `points.OPERATIONS`, so that a test can
stop the world there, from inside or from another process (see `points`). In production `probe` does nothing.
Any of them may raise OSError; none of them retries.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from padreel.dataset import points

# What a fenced writer meets where its publish folder was; ESTALE is how NFS puts it.
GONE = frozenset({errno.ENOENT, errno.ESTALE})


def _silent(point: str, path: Path) -> None:
    return None


probe: points.Probe = points.from_environment(os.environ) or _silent


class announced:  # noqa: N801 - it is used as a function
    """Tell `probe` before and, unless it raised, after what is done in the block."""

    # No generator: each unit of video is announced, and a generator costs three times as much.

    __slots__ = ("_operation", "_path")

    def __init__(self, operation: str, path: Path) -> None:
        self._operation, self._path = operation, path

    def __enter__(self) -> None:
        probe(f"before {self._operation}", self._path)

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is None:
            probe(f"after {self._operation}", self._path)


def write_durable(path: Path, content: bytes) -> None:
    """Create `path` (never an existing one), write `content` and fsync the file. The folder is not fsynced."""
    write_chunks_durable(path, [content])


def write_chunks_durable(path: Path, chunks: Iterable[bytes]) -> None:
    """The same with content that comes piece by piece."""
    with announced("write", path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            for chunk in chunks:
                left = memoryview(chunk)
                while left:
                    left = left[os.write(descriptor, left) :]
            with announced("fsync", path):
                os.fsync(descriptor)
        except OSError:
            # A full disk must not be left fuller by every attempt.
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        finally:
            os.close(descriptor)


def start_writing_back(path: Path, since: int) -> int:
    """Have the system begin to write what a file has from byte `since` on, without waiting; where the file ends now.

    An fsync that comes later finds little to do. Where the system has no such call, nothing is done.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        if hasattr(os, "posix_fadvise"):
            # Linux begins to write the dirty pages of the range, and drops the clean ones: a new range has none.
            os.posix_fadvise(descriptor, since, size - since, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    return size


def link_once(source: Path, target: Path, operation: str = "link") -> None:
    """Give `source` the name `target` too; FileExistsError if that name is taken."""
    with announced(operation, target):
        os.link(source, target)


def rename(source: Path, target: Path, operation: str = "rename") -> None:
    """Move `source` to `target`, atomically, in place of what is there."""
    with announced(operation, target):
        os.replace(source, target)


def unlink(path: Path, operation: str = "unlink") -> None:
    """Remove a file; one that is gone already is fine."""
    with announced(operation, path):
        path.unlink(missing_ok=True)


def remove_folder(path: Path, operation: str = "rmdir") -> None:
    """Remove an empty folder; OSError (ENOENT, ENOTEMPTY) as the system says."""
    with announced(operation, path):
        path.rmdir()


def make_folder(path: Path) -> None:
    """Create a folder and the missing ones above it, the new entries durable; one that exists is fine."""
    if path.is_dir():
        return
    make_folder(path.parent)
    make_folders([path], path.parent)


def make_folders(paths: Iterable[Path], top: Path) -> None:
    """Create folders below `top`, which is there, and the missing ones between, each entry durable.

    The entries of those that exist are made durable too: whoever made them may have died before it could.
    """
    wanted = {one for path in paths for one in (path, *path.parents) if top in one.parents}
    for path in sorted(wanted):
        if not path.is_dir():
            with announced("mkdir", path):
                path.mkdir(exist_ok=True)
    for parent in sorted({path.parent for path in wanted}):
        fsync_folder(parent)


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    with announced("fsync", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def exists(path: Path) -> bool:
    """Whether the name is there; OSError other than ENOENT and ESTALE as the system says."""
    try:
        path.lstat()
    except OSError as error:
        if error.errno in GONE:
            return False
        raise
    return True


def read(path: Path) -> bytes | None:
    """The file's content, or None where there is no such file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def size_of(path: Path) -> int | None:
    """The file's size in bytes, or None where there is no such file."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def sha256_of(path: Path) -> str | None:
    """The hex digest of the file's content, or None where there is no such file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
