"""`vis/`: renderings of a dataset's episodes, and the list that says of which ones they are and how they were made.

    vis/episode-000003.mp4    a rendering
    vis/show.json             of each its episode, digests and the run that made it; the runs with their settings
    vis/checksums.sha256      the same digests, for `sha256sum --check`

Renderings are made of the dataset and are no part of it: none of its own lists has them, and nothing is lost with them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from padreel.dataset import files
from padreel.errors import DatasetError
from padreel.training.checksums import CHECKSUMS, checksums_text
from padreel.training.record_file import RecordFile
from padreel.training.write_rows import TEMPORARY

VIS: Final = Path("vis")
SHOW_LIST: Final = Path("show.json")
FORMAT_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Rendering:
    """A file in `vis/`. `source` is a digest of what was drawn, `data_sha256` and `video_sha256` are of the episode's
    files in its shard (empty where the dataset does not know)."""

    name: str
    episode: int
    session: str
    data_sha256: str
    video_sha256: str
    source: str
    sha256: str
    size: int
    run: str


@dataclass(frozen=True, slots=True)
class ShowRun:
    """One command that made renderings."""

    id: str
    version: str  # padreel's
    arguments: tuple[str, ...]
    settings: Any


@dataclass(frozen=True, slots=True)
class ShowList:
    """What there is, sorted by name, and the runs that made it, oldest first."""

    runs: tuple[ShowRun, ...] = ()
    renderings: tuple[Rendering, ...] = ()

    def find(self, name: str) -> Rendering | None:
        return next((one for one in self.renderings if one.name == name), None)

    def put(self, renderings: Iterable[Rendering], runs: Iterable[ShowRun]) -> ShowList:
        """The list with renderings in the place of those of their names, and `runs`, which made them.

        Runs of which nothing is left any more go.
        """
        by_name = {one.name: one for one in (*self.renderings, *renderings)}
        by_id = {one.id: one for one in (*self.runs, *runs)}
        used = {one.run for one in by_name.values()}
        return ShowList(
            runs=tuple(one for one in by_id.values() if one.id in used),
            renderings=tuple(by_name[name] for name in sorted(by_name)),
        )


_FILE: Final = RecordFile(ShowList, FORMAT_VERSION, "list of renderings", "remove its folder and show again")


def rendering_name(episode: int, suffix: str) -> str:
    """What the rendering of an episode is called."""
    return f"episode-{episode:06d}.{suffix}"


def encode_show_list(listed: ShowList) -> bytes:
    """The content of show.json."""
    return _FILE.encode(listed)


def checksums_of(listed: ShowList) -> bytes:
    """The content of the list of digests."""
    return checksums_text({one.name: one.sha256 for one in listed.renderings}).encode()


def read_show_list(folder: Path) -> ShowList:
    """What show.json of a folder says; an empty list where there is none.

    Raises FormatVersionError where a newer padreel wrote it, CorruptShardError where it is none, OSError.
    """
    return _FILE.read(folder / SHOW_LIST) or ShowList()


def write_show_list(folder: Path, listed: ShowList) -> None:
    """Replace both lists, show.json last. Raises OSError."""
    for name, content in ((CHECKSUMS, checksums_of(listed)), (SHOW_LIST, encode_show_list(listed))):
        temporary = folder / f".{name}{TEMPORARY}"
        files.unlink(temporary)
        files.write_durable(temporary, content)
        files.rename(temporary, folder / name)
    files.fsync_folder(folder)


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Make the folder if need be, and have it alone; what a process that died has begun there is removed.

    Raises DatasetError where another process has it, OSError.
    """
    files.make_folder(folder)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DatasetError(f"{folder}: another process is writing renderings there") from error
        for begun in folder.glob(f".episode-*{TEMPORARY}"):
            files.unlink(begun)
        yield
    finally:
        os.close(descriptor)
