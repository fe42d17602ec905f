"""Looking through the files of sessions by reference, off the event loop; what was found is posted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

import structlog

from padreel.core.reference import MediaScan, Wanted
from padreel.dataset.media import MediaFiles, MediaNotReadyError
from padreel.errors import MediaError
from padreel.partition import Partition

_log = structlog.get_logger("padreel.scanner")


@dataclass(frozen=True, slots=True)
class Scanned:
    """A file was looked through for `partition`'s session `key`; `scan` is None where it cannot be used."""

    partition: Partition
    generation: int
    key: str
    scan: MediaScan | None
    detail: str = ""
    is_final: bool = False


class Scanner:
    """Looks for files, each in a thread; how many at once is for `MediaFiles` to say."""

    def __init__(self, files: MediaFiles, threads: Executor, post: Callable[[Scanned], None]) -> None:
        self._files = files
        self._threads = threads
        self._post = post
        self._running: set[tuple[Partition, str]] = set()

    def stop(self) -> None:
        """Let what is going on end soon, without a result."""
        self._files.stop()

    def look(self, partition: Partition, wanted: Wanted, group: asyncio.TaskGroup) -> None:
        """Begin to look for a file, unless that is still going on."""
        if (partition, wanted.key) not in self._running:
            self._running.add((partition, wanted.key))
            group.create_task(self._look(partition, wanted), name=f"media of {wanted.key}")

    async def _look(self, partition: Partition, wanted: Wanted) -> None:
        generation = partition.generation
        scan, detail, is_final = None, "", False
        try:
            loop = asyncio.get_running_loop()
            scan = await loop.run_in_executor(self._threads, self._files.scan, wanted.uri, wanted.rows)
        except MediaError as error:
            detail, is_final = str(error), True
        except MediaNotReadyError as error:
            detail = str(error)
        finally:
            self._running.discard((partition, wanted.key))
        if scan is None:
            _log.info("recording cannot be used", session=wanted.key, detail=detail, waiting=not is_final)
        self._post(Scanned(partition, generation, wanted.key, scan, detail, is_final))
