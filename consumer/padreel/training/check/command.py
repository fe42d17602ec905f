"""What `padreel check` does, from its settings to its exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import structlog

from padreel.errors import DatasetError
from padreel.training.check.check import check, folders
from padreel.training.check.repair import repair
from padreel.training.check.report import EXIT_CODES, as_json, table, worst
from padreel.training.settings import CheckSettings

_log = structlog.get_logger("padreel.check")


def run_check(path: Path, settings: CheckSettings, say: Callable[[str], None]) -> int:
    """Check, after mending where that is asked for, and print; the exit code.

    Raises InputError, DatasetError where something cannot be mended or read.
    """
    try:
        if settings.repair:
            _repair_all(path, settings)
        reports = check(path, deep=settings.deep)
    except OSError as error:
        raise DatasetError(f"{error.filename or path}: {error.strerror or error}") from error
    text = json.dumps(as_json(reports), ensure_ascii=False, indent=2) if settings.json_output else table(reports)
    say(text)
    return EXIT_CODES[worst(one.verdict for one in reports)]


def _repair_all(path: Path, settings: CheckSettings) -> None:
    shards = [one for one, kind in folders(path) if kind == "shard"]
    if not shards:
        raise DatasetError(f"{path}: --repair: found no shard, expected a folder with a commit log in it")
    run, told = uuid4().hex, settings.model_dump(mode="json")
    for shard in shards:
        _log.info("repairing", run=run, shard=str(shard), settings=told)
        for left in repair(shard, run, told):
            _log.warning("not restored", run=run, detail=left)
