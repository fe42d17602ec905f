"""Lists of files with their sha256, in the form that `sha256sum --check` reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from padreel.dataset import files
from padreel.errors import CorruptShardError, DatasetError

CHECKSUMS: Final = Path("checksums.sha256")
_LINE: Final = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def checksums_text(digests: Mapping[str, str]) -> str:
    """The list: a line per file, its name relative to the folder of the list, sorted."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def read_checksums(path: Path) -> dict[str, str]:
    """Digest by name. Raises DatasetError that names the line, OSError."""
    found: dict[str, str] = {}
    text = path.read_text(encoding="utf-8")
    if not text.endswith("\n"):
        raise DatasetError(f"{path}: line {text.count(chr(10)) + 1} is cut short, expected whole lines")
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise DatasetError(f"{path}: line {number}: found {line[:60]!r}, expected a sha256, two spaces and a name")
        found[match[2]] = match[1]
    return found


def check_listed(dataset: Path, listed: Mapping[str, str], tops: tuple[str, ...]) -> None:
    """Compare the files whose names begin with one of `tops`. Raises CorruptShardError that names one, OSError."""
    for name, digest in listed.items():
        if name.startswith(tops) and (found := files.sha256_of(dataset / name)) != digest:
            said = "missing" if found is None else f"found sha256 {found}"
            raise CorruptShardError(f"{dataset / name}: {said}, expected {digest}; restore it, or merge anew")
