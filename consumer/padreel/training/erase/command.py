"""What `padreel erase` does, from its settings to what it says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog

from padreel.errors import DatasetError
from padreel.training.erase.erase import (
    ShardErasure,
    check_recording,
    erase_shard,
    look,
    write_reports,
)
from padreel.training.erase.letters import InKafka, SourceRange, look_into_kafka, source_ranges
from padreel.training.erase.merged import MergedSets, find_merged
from padreel.training.erase.rows import remove_leftovers
from padreel.training.erase.scan import Wanted
from padreel.training.erase.shown import find_shown, remove_shown
from padreel.training.merge.erased import erasures_of
from padreel.training.settings import EraseSettings
from padreel.training.source import find_shards

_log = structlog.get_logger("padreel.erase")


def run_erase(roots: Sequence[Path], settings: EraseSettings, say: Callable[[str], None]) -> None:
    """Erase, or show what would be erased, and print it. Raises DatasetError, BrokerError, SettingsError."""
    try:
        found = erase(roots, settings)
    except OSError as error:
        where = error.filename2 or error.filename or ", ".join(map(str, roots))
        raise DatasetError(
            f"{where}: {error.strerror or error}; what was begun is completed by the same command, or by the shard's "
            "next consumer"
        ) from error
    say(json.dumps(found, ensure_ascii=False, indent=2) if settings.json_output else text(found))


def erase(roots: Sequence[Path], settings: EraseSettings) -> dict[str, Any]:
    """Erase, or look what would be erased: the stable JSON form of what was found and done.

    Raises DatasetError, BrokerError, SettingsError, OSError; the same again goes on where it stopped.
    """
    wanted = Wanted(frozenset(settings.session), frozenset(settings.rig))
    keys, found, unfinished = look(roots, wanted)
    for one in found:
        check_recording(one.path, one.recording, settings.recorded())
    merged = find_merged([*roots, *settings.merged], keys)  # before anything is changed: it may fail
    shown = find_shown([*roots, *settings.merged], find_shards(roots), keys)
    run, outcome = None, "planned" if found or unfinished or shown else "nothing left"
    reports: list[Path] = []
    if settings.yes:
        if found or unfinished or shown:
            run, outcome = uuid4().hex, "erased"
            _log.info("erasing", run=run, roots=[str(root) for root in roots], settings=settings.recorded())
        for shard in find_shards(roots):
            remove_leftovers(shard)
        todo = list(dict.fromkeys([*(one.path for one in found), *unfinished]))
        done = [erase_shard(path, keys, run, settings.recorded()) for path in todo] if run else []
        found = [one for one in done if one is not None]
        remove_shown(shown, find_shards(roots))
        reports = write_reports(find_shards(roots), keys)
        merged = find_merged([*roots, *settings.merged], keys)  # again: a merge may have come to its end meanwhile
    sources = [place for one in found for place in source_ranges(one.last.source, one.sessions)]
    sources += _sources_before(roots, keys, {place.session for place in sources})

    def is_wanted(key: str) -> bool:
        return key in keys or wanted.includes(key)

    in_kafka = asyncio.run(look_into_kafka(settings, is_wanted, sources, remove=settings.yes))
    if outcome == "nothing left" and in_kafka.removed:
        outcome = "erased"
    elif outcome == "nothing left" and in_kafka.letters and not settings.yes and not settings.keep_letters:
        outcome = "planned"
    return _summary(outcome, run, settings, found, merged, in_kafka, reports) | {
        "renderings": [{"path": str(one.path), "names": list(one.names)} for one in shown]
    }


def _sources_before(roots: Sequence[Path], keys: frozenset[str], known: set[str]) -> list[SourceRange]:
    """The same of what was erased before."""
    ranges: list[SourceRange] = []
    for path in find_shards(roots):
        for entry in erasures_of(path):
            assert entry.erasure is not None
            sessions = [one for one in entry.erasure.sessions if one.key in keys and one.key not in known]
            ranges += source_ranges(entry.source, sessions)
    return ranges


def _summary(
    outcome: str,
    run: str | None,
    settings: EraseSettings,
    found: Sequence[ShardErasure],
    merged: MergedSets,
    in_kafka: InKafka,
    reports: Sequence[Path],
) -> dict[str, Any]:
    letters = None
    if in_kafka.letters is not None:
        places = [asdict(one) | {"offsets": list(one.offsets)} for one in in_kafka.letters]
        letters = {"topic": settings.dead_letters_topic, "removed": in_kafka.removed, "partitions": places}
    return {
        "format_version": 1,
        "outcome": outcome,
        "run": run,
        "settings": settings.recorded(),
        "shards": [
            {
                "path": str(one.path),
                "commit": one.commit,
                "sessions": [asdict(session) for session in one.sessions],
                "other_links": one.links,
            }
            for one in found
        ],
        "merged": [asdict(one) for one in merged.sets],
        "unfinished_merges": list(merged.unfinished),
        "dead_letters": letters,
        "source_records": [asdict(one) for one in in_kafka.sources],
        "reports": [str(path) for path in reports],
    }


def text(found: dict[str, Any]) -> str:
    """The same for people."""
    is_done = found["outcome"] == "erased"
    lines: list[str] = []
    for shard in found["shards"]:
        for one in shard["sessions"]:
            verb = "erased" if is_done else "would erase"
            what = f"{len(one['episodes'])} episodes, {one['rows']} rows"
            rig = f" of rig {one['rig']}" if one["rig"] else ""
            lines.append(f"{verb} {one['key']}{rig} in {shard['path']}: {what}{', still open' * one['was_open']}")
        if shard["other_links"]:
            lines.append(f"{shard['path']}: its files had {shard['other_links']} more names: merged sets hold them")
    verb = "removed" if is_done else "would remove"
    lines += [f"{verb} {len(one['names'])} renderings in {one['path']}" for one in found["renderings"]]
    lines += [
        f"to be made anew: {one['path']} ({one['command']}) holds {len(one['episodes'])} episodes of "
        f"{', '.join(one['sessions'])}"
        for one in found["merged"]
    ]
    lines += [f"may hold some of it: {path}, left by an unfinished merge" for path in found["unfinished_merges"]]
    lines += _letters_text(found["dead_letters"])
    for one in found["source_records"]:
        if one["is_there"] is not False:
            there = "still has" if one["is_there"] else "may still have"
            lines.append(
                f"Kafka {there} records of {one['session']} until its retention: {one['topic']}, partition "
                f"{one['partition']}, offsets {one['first_offset']} to {one['last_offset']} or later"
            )
    lines += [f"report: {path}" for path in found["reports"]]
    closing = {
        "planned": "nothing was changed; --yes does it, for good",
        "erased": f"done, run {found['run']}" if found["run"] else "done",
        "nothing left": "nothing is left to erase in these shards",
    }
    return "\n".join([*lines, closing[found["outcome"]]])


def _letters_text(letters: dict[str, Any] | None) -> list[str]:
    if letters is None:
        return ["dead letters were not looked for: no --bootstrap-servers"]
    lines = []
    for one in letters["partitions"]:
        offsets = ", ".join(map(str, one["offsets"][:20])) + (", ..." if len(one["offsets"]) > 20 else "")
        state = f"removed, {one['kept']} others written again" if letters["removed"] else "there"
        lines.append(f"dead letters {state}: {letters['topic']}, partition {one['partition']}, offsets {offsets}")
    return lines
