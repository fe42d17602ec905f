"""Power loss, as POSIX allows it: what was not fsynced may be lost, torn, or there after all, each thing on its own.

A `Recorder` watches a folder while it is written, by looking at it at every point and every fsync; `leftover` makes a
tree that a power loss at one of the recorded moments may leave. A name is durable once its folder was fsynced, a
file's content once the file was. A rename is one operation that happened or did not, and is durable with its target's
folder. What was there when the recording began is durable.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from padreel.dataset import files

Place = tuple[int, str]  # a folder's inode, and a name in it


@dataclass(frozen=True, slots=True)
class Change:
    """A name that came, went (`inode` None), or came from another place."""

    place: Place
    inode: int | None
    source: Place | None = None


@dataclass(frozen=True, slots=True)
class Synced:
    """An inode was fsynced; `content` is a file's at that moment."""

    inode: int
    content: bytes | None


@dataclass(frozen=True, slots=True)
class Said:
    """What the writer had been told by then."""

    what: object


Event = Change | Synced | Said


@dataclass(slots=True)
class Recorder:
    """All that happened to the names and files below `top`."""

    top: Path
    events: list[Event] = field(default_factory=list)
    _names: dict[Place, int] = field(default_factory=dict)
    _folders: dict[int, int] = field(default_factory=dict)  # inode -> descriptor, which keeps it from being used again
    _files: dict[int, int] = field(default_factory=dict)
    _first: dict[Place, int] = field(default_factory=dict)
    _known: set[int] = field(default_factory=set)  # files that were there at the beginning
    root: int = 0

    def look(self) -> None:
        """Write down what has changed since the last look."""
        found: dict[Place, int] = {}
        self._scan(self.top, found)
        gone = {place: inode for place, inode in self._names.items() if found.get(place) != inode}
        came = {place: inode for place, inode in found.items() if self._names.get(place) != inode}
        sources = {inode: place for place, inode in gone.items() if place not in found}
        for place, inode in came.items():
            self.events.append(Change(place, inode, sources.pop(inode, None)))
        self.events += [Change(place, None) for place in sources.values()]
        self._names = found

    def _scan(self, folder: Path, found: dict[Place, int]) -> None:
        status = folder.stat()
        if status.st_ino not in self._folders:
            self._folders[status.st_ino] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        with os.scandir(folder) as entries:
            for entry in entries:
                inode = entry.inode()
                found[status.st_ino, entry.name] = inode
                if entry.is_dir(follow_symlinks=False):
                    self._scan(Path(entry.path), found)
                elif inode not in self._files:
                    self._files[inode] = os.open(entry.path, os.O_RDONLY)

    def synced(self, descriptor: int) -> None:
        """An fsync of `descriptor` is about to succeed."""
        self.look()
        inode = os.fstat(descriptor).st_ino
        self.events.append(Synced(inode, self._content(inode) if inode in self._files else None))

    def _content(self, inode: int) -> bytes:
        descriptor = self._files[inode]
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)

    def leftover(self, target: Path, cut: int, dice: random.Random, survival: float) -> None:
        """Make at `target` what a power loss after the first `cut` events may leave.

        Everything that is not durable by then survives with the probability `survival`, each on its own.
        """
        past = self.events[:cut]
        durable_at = {one.inode: i for i, one in enumerate(past) if isinstance(one, Synced)}
        contents = {one.inode: one.content for one in past if isinstance(one, Synced)}
        names = dict(self._first)
        for i, change in enumerate(past):
            if not isinstance(change, Change):
                continue
            if i > durable_at.get(change.place[0], -1) and dice.random() >= survival:
                continue
            if change.source is not None and names.get(change.source) == change.inode:
                del names[change.source]
            if change.inode is not None:
                names[change.place] = change.inode
            else:
                names.pop(change.place, None)
        children: dict[int, list[tuple[str, int]]] = {}
        for (folder, name), inode in names.items():
            children.setdefault(folder, []).append((name, inode))
        whole = {inode: self._content(inode) for inode in self._files}

        def build(path: Path, folder: int) -> None:
            path.mkdir()
            for name, inode in children.get(folder, ()):
                if inode in self._folders:
                    build(path / name, inode)
                elif inode in self._known or contents.get(inode) == whole[inode]:
                    (path / name).write_bytes(whole[inode])
                else:
                    (path / name).write_bytes(_torn(whole[inode], dice, survival))

        build(target, self.root)


def _torn(content: bytes, dice: random.Random, survival: float) -> bytes:
    """What may be there of a file that was not fsynced: all, nothing, its beginning, or zeros from somewhere on."""
    if dice.random() < survival:
        return content
    kept = content[: dice.randrange(len(content) + 1)]
    return kept + bytes(len(content) - len(kept)) if dice.random() < 0.5 else kept


@contextmanager
def recording(top: Path) -> Iterator[Recorder]:
    """Make the folder `top`, and record what is done below it through `padreel.dataset.files`, and every fsync.

    A probe that is set meanwhile must call `look` itself. fsync does nothing: nothing is lost here by itself.
    """
    top.mkdir()
    recorder = Recorder(top)
    recorder.look()
    recorder.root = top.stat().st_ino
    recorder._first = dict(recorder._names)
    recorder._known = set(recorder._files)
    recorder.events.clear()
    fsync, probe = os.fsync, files.probe
    os.fsync = recorder.synced  # type: ignore[assignment]
    files.probe = lambda point, path: recorder.look()
    try:
        yield recorder
    finally:
        os.fsync, files.probe = fsync, probe
        for descriptor in (*recorder._folders.values(), *recorder._files.values()):
            os.close(descriptor)
