"""The folder beside an output in which it is made, and how what was made gets there, whatever dies meanwhile.

    <parent>/.<name>.padreel-build/
        plan.json     what is being made; a run with the same plan goes on where the last one stopped
        tree/         the files, each complete under its name
        ready         of an update: tree/ is complete, and is being moved into the output

A new dataset is renamed into its place whole. The files of an update are moved one by one, what info.json counts
first and info.json after it, as a live shard is published: the dataset loads at any moment, and once `ready` is there,
whoever comes next completes the move. One process at a time has the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

from padreel.dataset import files, layout
from padreel.errors import DatasetError
from padreel.training.checksums import CHECKSUMS, checksums_text
from padreel.training.manifest import MANIFEST

_READY: Final = "ready"
_LAST: Final = (layout.TASKS, layout.STATS, layout.INFO, CHECKSUMS, MANIFEST)


def build_folder(output: Path) -> Path:
    """Where an output is made."""
    return output.parent / f".{output.name}.padreel-build"


def update_is_interrupted(output: Path) -> bool:
    """Whether an update of the output is being moved into it, or was when its process died."""
    return (build_folder(output) / _READY).exists()


def is_taken(output: Path) -> bool:
    """Whether something stands where the output is to be; an empty folder does not. Raises OSError."""
    return files.exists(output) and (not output.is_dir() or any(output.iterdir()))


class Build:
    """The build folder of one output, locked."""

    def __init__(self, output: Path) -> None:
        """For `open_build` alone."""
        self.output = output
        self.path = build_folder(output)
        self.tree = self.path / "tree"
        self.run = ""
        self.digests: dict[str, str] = {}  # sha256 of every file that the finished dataset will have, by name
        self._plan, self._ready = self.path / "plan.json", self.path / _READY

    def begin(self, fingerprint: str) -> None:
        """Begin to make what has this fingerprint, or go on; what another plan left behind is thrown away.

        Afterwards `run` is the id of the run that began it. Raises OSError.
        """
        content = files.read(self._plan)
        with contextlib.suppress(ValueError, TypeError, KeyError):  # cut short: begun by nobody
            told = json.loads(content or b"null")
            if told["fingerprint"] == fingerprint:
                self.run = told["run"]
        if not self.run:
            self.clear()
            self.run = uuid4().hex
            put_file(self._plan, json.dumps({"fingerprint": fingerprint, "run": self.run}).encode())
        files.make_folders([self.tree], self.path)

    def has(self, name: Path) -> bool:
        """Whether a file is complete already."""
        return files.exists(self.tree / name)

    def make_parents(self, names: set[Path]) -> None:
        """Make the folders that files of these names lie in."""
        files.make_folders({(self.tree / name).parent for name in names} - {self.tree}, self.tree)

    def put(self, name: Path, content: bytes) -> None:
        """Write a small file, at once under its name, and note its digest. Raises OSError."""
        put_file(self.tree / name, content)
        self.digests[str(name)] = hashlib.sha256(content).hexdigest()

    def put_aside(self, name: Path, content: bytes) -> None:
        """Write a small file that the dataset's own list shall not have. Raises OSError."""
        put_file(self.tree / name, content)

    def note(self, name: Path) -> None:
        """Note the digest of a file that was written. Raises OSError."""
        found = files.sha256_of(self.tree / name)
        assert found is not None
        self.digests[str(name)] = found

    def put_checksums(self) -> None:
        """Write the list of all digests: the last file of a tree. Raises OSError."""
        put_file(self.tree / CHECKSUMS, checksums_text(self.digests).encode())

    def publish_new(self) -> None:
        """Give the tree the output's name. Raises DatasetError where that is taken, OSError."""
        _sync_folders(self.tree)
        if is_taken(self.output):
            raise DatasetError(
                f"{self.output}: something was put there meanwhile; expected nothing, or an empty folder"
            )
        files.rename(self.tree, self.output)
        files.fsync_folder(self.output.parent)
        self.clear()

    def publish_update(self) -> None:
        """Move the tree's files into the output. Raises OSError; the next `finish_update` goes on."""
        _sync_folders(self.tree)
        if not files.exists(self._ready):
            files.write_durable(self._ready, b"")
            files.fsync_folder(self.path)
        self.finish_update()

    def finish_update(self) -> bool:
        """Complete an update that was ready; whether there was one. Raises OSError."""
        if not files.exists(self._ready):
            return False
        there = {one.relative_to(self.tree) for one in self.tree.rglob("*") if not one.is_dir()}
        before = sorted(there - set(_LAST), key=lambda name: (name.parts[0] == "meta", name))
        files.make_folders({(self.output / name).parent for name in there} - {self.output}, self.output)
        for name in (*before, *(name for name in _LAST if name in there)):
            if name in _LAST or name.parts[0] == "meta":
                _sync_folders(self.output)  # what it counts must not be less durable than it
            files.rename(self.tree / name, self.output / name, "replace")
        _sync_folders(self.output)
        self.clear()
        return True

    def clear(self) -> None:
        """Throw away what is in the folder. Raises OSError."""
        files.unlink(self._plan)
        if files.exists(self.tree):
            _remove(self.tree)
        files.unlink(self._ready)
        files.unlink(_temporary(self._plan))


@contextlib.contextmanager
def open_build(output: Path) -> Iterator[Build]:
    """Lock the output's build folder, made if need be; it is removed if nothing is in it in the end.

    Raises DatasetError where another process has it, OSError.
    """
    build = Build(output)
    files.make_folder(output.parent)
    files.make_folders([build.path], output.parent)
    descriptor = os.open(build.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DatasetError(f"{output}: another process is making it ({build.path} is locked)") from error
        try:
            yield build
        finally:
            if not any(build.path.iterdir()):
                files.remove_folder(build.path)
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp")  # always the same, so that none stays behind


def put_file(path: Path, content: bytes) -> None:
    """Write a small file durably, at once under its name, which it takes from what has it. Raises OSError."""
    files.unlink(_temporary(path))
    files.write_durable(_temporary(path), content)
    files.rename(_temporary(path), path)


def _sync_folders(top: Path) -> None:
    for folder, _, _ in os.walk(top):
        files.fsync_folder(Path(folder))


def _remove(folder: Path) -> None:
    for one in sorted(folder.iterdir()):
        if one.is_dir() and not one.is_symlink():
            _remove(one)
        else:
            files.unlink(one)
    files.remove_folder(folder)
