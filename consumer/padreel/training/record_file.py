"""Records of what a command made: a frozen dataclass as a JSON file, with the number of its format in front."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from padreel.dataset import codec, files
from padreel.errors import CorruptShardError, FormatVersionError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RecordFile(Generic[T]):
    """How records of a `kind` are written and read. Messages say `what` they are, and what to do without one.

    `check` is called with a record that was read, and raises ValueError, KeyError or TypeError where it is none.
    """

    kind: type[T]
    version: int
    what: str
    remedy: str
    check: Callable[[T], object] = lambda _: None

    def encode(self, record: T) -> bytes:
        """The file's content."""
        body = {"format_version": self.version, **codec.encode(record)}
        return json.dumps(body, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"

    def read(self, path: Path) -> T | None:
        """The record of a file, None where there is none.

        Raises FormatVersionError where a newer padreel wrote it, CorruptShardError where it is none, OSError.
        """
        content = files.read(path) if path.parent.is_dir() else None
        if content is None:
            return None
        try:
            body: dict[str, Any] = json.loads(content)
            version = body.pop("format_version")
            if type(version) is not int or version < 1:
                raise ValueError(f"format_version: found {version!r}, expected 1 to {self.version}")
            if version > self.version:
                raise FormatVersionError(
                    f"{path}: format_version {version} is newer than {self.version}, the newest this padreel knows; "
                    "run the version that wrote it, or a later one"
                )
            record: T = codec.decode(self.kind, body)
            self.check(record)
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise CorruptShardError(f"{path}: no {self.what} ({error}); {self.remedy}") from error
        return record
