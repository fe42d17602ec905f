"""A small filesystem of a round's own that can be filled, where this process may mount one."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SIZE = "48m"
_BALLAST = "ballast"


def can_mount(folder: Path) -> bool:
    """Whether a filesystem can be mounted here."""
    with mounted(folder) as is_mounted:
        return is_mounted


@contextmanager
def mounted(folder: Path) -> Iterator[bool]:
    """A filesystem at `folder`, which is made; False where it can only be a plain folder."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "padreel-chaos", str(folder)]
    try:
        is_mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        is_mounted = False
    try:
        yield is_mounted
    finally:
        if is_mounted:
            # Lazily: a process that is just being killed may have a file open there.
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Leave no room on the filesystem at `folder`."""
    with (folder / _BALLAST).open("wb", buffering=0) as file:
        for size in (2**20, 2**12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))


def free(folder: Path) -> None:
    """Give the room back."""
    (folder / _BALLAST).unlink(missing_ok=True)
