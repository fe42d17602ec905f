"""A result that is one file in another system's form, and the manifest beside it that says what it was made of.

`<name>.manifest.json` is written first, so a file that is there has one. Of two equal results it alone differs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from uuid import uuid4

from padreel.dataset import files
from padreel.errors import DatasetError, FormatVersionError
from padreel.training.build import put_file
from padreel.version import __version__

FORMAT_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class SavedFile:
    """What became of it, and the run that made it."""

    outcome: Literal["created", "unchanged"]
    run: str


def manifest_path(target: Path) -> Path:
    """Where it says what the file was made of."""
    return target.with_name(f"{target.name}.manifest.json")


def save_file(target: Path, content: bytes, told: Mapping[str, Any], flag: str) -> SavedFile:
    """Write `content` and its manifest, which has what is `told`, a `config_hash` among it; or find both there.

    Raises DatasetError, naming `flag`, where something else has the name; FormatVersionError where a newer padreel
    made it; OSError.
    """
    if files.exists(target):
        return SavedFile("unchanged", _run_that_made(target, content, told["config_hash"], flag))
    run = uuid4().hex
    manifest = {
        "format_version": FORMAT_VERSION,
        "version": __version__,
        "run": run,
        **told,
        "sha256": {target.name: hashlib.sha256(content).hexdigest()},
    }
    files.make_folder(target.parent)
    put_file(
        manifest_path(target), json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    )
    put_file(target, content)
    files.fsync_folder(target.parent)
    return SavedFile("created", run)


def _run_that_made(target: Path, content: bytes, config_hash: str, flag: str) -> str:
    """The run that saved the very same. Raises DatasetError where something else is there."""
    path = manifest_path(target)
    with contextlib.suppress(ValueError, KeyError, TypeError, IsADirectoryError):
        told = json.loads(files.read(path) or b"null")
        if type(told["format_version"]) is int and told["format_version"] > FORMAT_VERSION:
            raise FormatVersionError(
                f"{path}: format_version {told['format_version']} is newer than {FORMAT_VERSION}, the newest this "
                "padreel knows; run the version that wrote it, or a later one"
            )
        if files.read(target) == content and told["config_hash"] == config_hash:
            return str(told["run"])
    raise DatasetError(
        f"{flag}: {target}: found something else there, or made of other episodes or with other settings, expected "
        "nothing; name another file"
    )
