"""`padreel check`: what a folder is, and everything that can be said of it without changing it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

from padreel.dataset import files, layout
from padreel.errors import DatasetError, InputError
from padreel.training.build import update_is_interrupted
from padreel.training.check.dataset import check_dataset
from padreel.training.check.renderings import check_renderings
from padreel.training.check.report import Finding, Report, Verdict, judged
from padreel.training.check.session import check_session
from padreel.training.check.shard import check_shard
from padreel.training.checksums import CHECKSUMS, read_checksums
from padreel.training.manifest import MANIFEST
from padreel_schemas.capture import VIDEOS
from padreel_schemas.recording import PADS, SYNC

FolderKind = Literal["session", "shard", "merged", "dataset"]
_SESSION_FILES: Final = (*VIDEOS, SYNC, PADS)


def check(path: Path, *, deep: bool = False) -> list[Report]:
    """One report per session, shard or dataset at or directly below `path`.

    Raises InputError where nothing of the kind is there, OSError.
    """
    found = folders(path)
    if not found:
        raise InputError(
            f"{path}: found no session folder, shard or dataset; expected one of them, or a folder whose folders are"
        )
    return [_with_renderings(one, _checked(one, kind, deep)) for one, kind in found]


def folders(path: Path) -> list[tuple[Path, FolderKind]]:
    """What there is to check, sorted by name: the folder itself, else its immediate child folders."""
    if not path.is_dir():
        raise InputError(f"{path}: is no folder; expected a session folder, a shard, a dataset or a folder of them")
    own = kind_of(path)
    if own is not None:
        return [(path, own)]
    below = sorted(one for one in path.iterdir() if one.is_dir() and not one.name.startswith("."))
    return [(one, kind) for one in below if (kind := kind_of(one)) is not None]


def kind_of(path: Path) -> FolderKind | None:
    """What a folder is, by the names in it."""
    if (path / layout.COMMITS).is_dir():
        return "shard"
    if (path / MANIFEST).exists():
        return "merged"
    if (path / layout.INFO).exists() or (path / "meta").is_dir():
        return "dataset"
    return "session" if any((path / name).exists() for name in _SESSION_FILES) else None


def _with_renderings(path: Path, report: Report) -> Report:
    found = None if report.kind == "session" else check_renderings(path)
    return report if found is None else replace(report, findings=(*report.findings, found))


def _checked(path: Path, kind: FolderKind, deep: bool) -> Report:
    match kind:
        case "session":
            return check_session(path, deep=deep)
        case "shard":
            return check_shard(path, deep=deep)
    findings: list[Finding] = []
    figures: dict[str, Any] = {}
    if kind == "merged":
        findings.append(_listed(path))
    else:
        detail = "no commit log and no list: whether files are as they were written cannot be told"
        findings.append(Finding("checksums", Verdict.WARN, detail))
    check_dataset(path, findings, figures, deep=deep)
    return Report(str(path), kind, tuple(findings), figures)


def _listed(path: Path) -> Finding:
    """A merged dataset's files against their list."""
    if update_is_interrupted(path):
        return Finding("checksums", Verdict.WARN, "an update was interrupted: run `padreel merge --update` again")
    try:
        listed = read_checksums(path / CHECKSUMS)
    except (DatasetError, OSError) as error:
        return Finding("checksums", Verdict.FAIL, str(error))
    problems = []
    for name, digest in listed.items():
        found = files.sha256_of(path / name)
        if found != digest:
            said = "missing" if found is None else f"found sha256 {found}, expected {digest}"
            problems.append(f"{path / name}: {said}")
    read = ("data/*/*.parquet", "meta/episodes/*/*.parquet")
    strange = sorted(str(one.relative_to(path)) for pattern in read for one in path.glob(pattern))
    problems += [f"{path / name}: is not in the list" for name in strange if name not in listed]
    return judged("checksums", problems, f"{len(listed)} files have the sha256 of {CHECKSUMS}")
