"""Whether a shard's files are what its commit log says, and nothing else.

A shard may be written meanwhile, so the log is read first: what is in it then has to be in the tree, except the
latest episode, which may be about to be published.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from padreel.dataset import files, layout, projection
from padreel.dataset.commit_log import CommitLog, CommittedFile, Entry
from padreel.dataset.layout import FILE_KINDS
from padreel.errors import DatasetError
from padreel.training.check.dataset import check_dataset
from padreel.training.check.report import Finding, Report, Verdict, judged
from padreel.training.known import known_spec
from padreel.training.tree import TreeError, episode_files, read_table

_REPAIR = "`padreel check --repair` makes it anew from the log"


def check_shard(path: Path, *, deep: bool = False) -> Report:
    """Check one shard. What cannot be read is a finding; OSError as the system says."""
    findings: list[Finding] = []
    figures: dict[str, Any] = {}
    log = CommitLog(path)
    try:
        last = log.last()
        entries = list(reversed(list(log.episodes_back(last)))) if last is not None else []
    except DatasetError as error:
        findings.append(Finding("log", Verdict.FAIL, str(error)))
        return Report(str(path), "shard", tuple(findings), figures)
    if last is None or not entries:
        findings.append(Finding("log", Verdict.WARN, f"{path}: no episode yet: LeRobot cannot load it"))
        return Report(str(path), "shard", tuple(findings), figures)
    findings.append(Finding("log", Verdict.PASS, f"{last.n + 1} commits, {len(entries)} episodes"))
    figures |= _log_figures(last)
    findings.append(_checksums(path, entries))
    findings.append(_strangers(path, entries))
    findings.append(_staged(path, entries))
    check_dataset(path, findings, figures, deep=deep)
    findings.append(judged("projection", _projection(path, entries), f"as the log says; else {_REPAIR}"))
    return Report(str(path), "shard", tuple(findings), figures)


def _log_figures(last: Entry) -> dict[str, Any]:
    totals = last.totals
    return {
        "committed_episodes": totals.episodes,
        "committed_frames": totals.rows,
        "forced_frames": totals.forced,
        "late_events": totals.late,
        "skipped_sessions": totals.skipped_count,
        "quarantined_episodes": totals.quarantined_count,
        **{f"frame_records_{fate.value}": count for fate, count in totals.accounted.items()},
    }


def _checksums(path: Path, entries: Sequence[Entry]) -> Finding:
    problems = []
    for entry in entries:
        assert entry.episode is not None
        problems += [_wrong(path, entry.n, file) for file in entry.episode.files]
    found = [problem for problem in problems if problem]
    return judged("checksums", found, f"{len(problems)} files have the sha256 of their commits")


def _wrong(path: Path, n: int, file: CommittedFile) -> str:
    kind = next(kind for kind in FILE_KINDS if kind == file.kind)
    final, staged = layout.final_path(kind, n), layout.STAGING / file.name
    for name in (final, staged, final):  # it may be renamed meanwhile
        found = files.sha256_of(path / name)
        if found == file.sha256:
            return ""
        if found is not None:
            size = files.size_of(path / name)
            said = f"found sha256 {found} of {size} bytes, expected {file.sha256} of {file.size}"
            return f"{path / name}: {said}, by commit {n}: restore it from a copy"
    return f"{path / final}: missing, though commit {n} names it: restore it from a copy"


def _strangers(path: Path, entries: Sequence[Entry]) -> Finding:
    """Files that no commit names. LeRobot reads whatever lies under data/ and meta/episodes/."""
    named = {layout.final_path(kind, entry.n) for entry in entries for kind in FILE_KINDS}
    named |= {layout.episodes_path(i) for i in range((len(entries) - 1) // layout.EPISODES_PER_FILE + 1)}
    tops = ("data", "videos", "gamepad", "meta/episodes")
    there = {one.relative_to(path) for top in tops for one in (path / top).rglob("*") if not one.is_dir()}
    newest = entries[-1].n  # what was committed since the log was read is no stranger
    strange = sorted(name for name in there - named if not _is_newer(path, name, newest))
    return judged(
        "strangers",
        [f"{path / name}: no commit names it: move it away" for name in strange],
        "every file is a commit's",
    )


def _is_newer(path: Path, name: Path, newest: int) -> bool:
    last = CommitLog(path).last()
    return last is not None and any(
        name == layout.final_path(kind, n) for n in range(newest + 1, last.n + 1) for kind in FILE_KINDS
    )


def _staged(path: Path, entries: Sequence[Entry]) -> Finding:
    """Committed files under their staged names: their publishing was interrupted, or is going on."""
    waiting = []
    for entry in entries[-2:]:  # nobody commits the next one before
        assert entry.episode is not None
        waiting += [file.name for file in entry.episode.files if files.exists(path / layout.STAGING / file.name)]
    problems = [f"{name} of the latest episode is committed but not published" for name in waiting]
    return judged("published", problems, "every committed episode", Verdict.WARN)


def _projection(path: Path, entries: Sequence[Entry]) -> list[str]:
    """Where LeRobot's files say something else than the log."""
    try:
        spec, _ = known_spec(path)
        schema = projection.episodes_schema(spec)
        info = json.loads((path / layout.INFO).read_bytes())
        rows = [row for name in episode_files(path) for row in read_table(name).to_pylist()]
    except (DatasetError, TreeError, ValueError, OSError) as error:
        return [f"{error}; {_REPAIR}"]
    problems = []
    if info.get("features") != layout.features(spec):
        problems.append(f"info.json: features are not those of the root; {_REPAIR}")
    published = entries[: info.get("total_episodes", 0)]
    if len(published) < len(entries) - 1:
        problems.append(f"info.json has {len(published)} episodes, the log {len(entries)}; {_REPAIR}")
    expected_rows = [projection.episode_row(entry) for entry in published]
    for expected, found in zip(expected_rows, rows, strict=False):
        wrong = [name for name in schema.names if found.get(name) != expected.get(name)]
        if wrong:
            problems.append(f"episode {expected['episode_index']}: {wrong[0]} is not the log's; {_REPAIR}")
    if len(rows) < len(published):
        problems.append(f"{len(rows)} episodes have metadata, the log has {len(published)}; {_REPAIR}")
    if published:
        problems += _totals(path, info, entries[len(published) - 1 :])
    return problems


def _totals(path: Path, info: dict[str, Any], published: Sequence[Entry]) -> list[str]:
    """`published` begins with the last episode that info.json counts; stats.json is replaced before it."""
    problems = []
    totals = published[0].totals
    if info.get("total_frames") != totals.rows:
        problems.append(f"info.json: total_frames is {info.get('total_frames')}, the log's {totals.rows}; {_REPAIR}")
    try:
        found = json.loads((path / layout.STATS).read_bytes())
    except (OSError, ValueError):
        return problems  # said already
    if all(json.loads(projection.stats_file(one.totals)) != found for one in published):
        problems.append(f"stats.json is not the log's; {_REPAIR}")
    return problems
