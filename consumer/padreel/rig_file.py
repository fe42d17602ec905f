"""The file of rigs, `--rigs`: read at start-up, and again whenever it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from padreel.core.rigs import NO_RIGS, RigList, RigListError, parse_rigs
from padreel.errors import SettingsError

_LOOK_SECONDS = 2.0
_MAX_BYTES = 2**20

_log = structlog.get_logger("padreel.rigs")


@dataclass(frozen=True, slots=True)
class RigsChanged:
    """The list of rigs from here on."""

    rigs: RigList


@dataclass(frozen=True, slots=True)
class _Stamp:
    """By what a file is known to be as it was; a ConfigMap is replaced by another file."""

    inode: int
    size: int
    mtime_ns: int


class RigFile:
    """A file of rigs that may change while it is used. Blocking but for `watch`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: _Stamp | str | None = None  # of a file that cannot be read, why

    def load(self) -> RigList:
        """The list in the file. Raises SettingsError that names file and line."""
        try:
            self._seen = self._stamp()
            data = self.path.read_bytes()
        except OSError as error:
            raise SettingsError(f"--rigs (PADREEL_RIGS): {self.path}: {error.strerror or error}") from error
        if len(data) > _MAX_BYTES:
            raise SettingsError(f"--rigs (PADREEL_RIGS): {self.path}: {len(data)} bytes, at most {_MAX_BYTES}")
        try:
            return parse_rigs(data.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise SettingsError(f"--rigs (PADREEL_RIGS): {self.path}, line {line}: no UTF-8 text") from error
        except RigListError as error:
            raise SettingsError(f"--rigs (PADREEL_RIGS): {self.path}, {error}") from error

    def changed(self) -> RigList | None:
        """The list if the file is another than at the last look; None if it is not. Raises SettingsError, once each."""
        try:
            found: _Stamp | str = self._stamp()
        except OSError as error:
            found = str(error)
        if found == self._seen:
            return None
        self._seen = found
        return self.load()

    def _stamp(self) -> _Stamp:
        status = self.path.stat()
        return _Stamp(status.st_ino, status.st_size, status.st_mtime_ns)


async def watch_rigs(file: RigFile | None, post: Callable[[RigsChanged], None]) -> None:
    """Post the list whenever the file changes; where it cannot be used any more the old one stays, with a warning."""
    while file is not None:
        await asyncio.sleep(_LOOK_SECONDS)
        try:
            rigs = await asyncio.to_thread(file.changed)
        except SettingsError as error:
            _log.warning("the list of rigs stays as it was", detail=str(error))
            continue
        if rigs is not None:
            _log.info("list of rigs", rigs=len(rigs.listed), denied=sorted(rigs.denied))
            post(RigsChanged(rigs))


def load_rigs(path: Path | None) -> tuple[RigFile | None, RigList]:
    """The file to watch and what it says now; no rigs where there is none. Raises SettingsError."""
    if path is None:
        return None, NO_RIGS
    file = RigFile(path)
    return file, file.load()
