"""A file that one process at a time holds. The lock goes with the process, however that ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_HOLDER_BYTES = 256
# Windows locks bytes and lets nobody else read them, so the one that is locked lies behind the holder's name.
_LOCKED_BYTE = 1 << 20


def take(path: Path, holder: str = "") -> int:
    """Open `path`, lock it, write `holder` into it and return its descriptor; closing that lets go.

    Raises BlockingIOError, whose text is what the other process wrote, where one holds it; any other OSError where
    the file cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        if not _lock(descriptor):
            raise BlockingIOError(os.read(descriptor, _HOLDER_BYTES).decode(errors="replace").strip())
        os.ftruncate(descriptor, 0)
        os.write(descriptor, holder.encode())
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> bool:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
