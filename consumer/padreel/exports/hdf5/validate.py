"""`padreel hdf5 validate`: everything that can be said of an HDF5 export without changing it, and its manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from padreel.dataset import files
from padreel.errors import DatasetError
from padreel.exports.hdf5.episode import Hdf5Episode, problems_of
from padreel.exports.hdf5.file import FILE, Hdf5File, open_hdf5
from padreel.exports.hdf5.video import MANIFEST, manifest_line, video_problems
from padreel.exports.hdf5.write import manifest_text
from padreel.training.check.report import Finding, Report, Verdict, judged
from padreel.training.checksums import CHECKSUMS, read_checksums


@dataclass(frozen=True, slots=True)
class Validated:
    """What was found, and the manifest's lines of those episodes whose videos are there."""

    report: Report
    lines: tuple[dict[str, Any], ...]


def validate(path: Path) -> Validated:
    """Read everything of an export: `path` is its folder, or the HDF5 file in it.

    What is wrong with it is in the report; raises OSError only, and DatasetError where h5py is missing.
    """
    file = path / FILE if path.is_dir() else path
    findings: list[Finding] = []
    lines: list[dict[str, Any]] = []
    figures: dict[str, Any] = {}
    try:
        with open_hdf5(file) as opened:
            findings.append(Finding("file", Verdict.PASS, f"{opened.count} episodes"))
            _episodes(opened, findings, figures, lines)
    except DatasetError as error:
        findings.append(Finding("file", Verdict.FAIL, str(error)))
    findings.append(_manifest(file.parent, lines))
    findings.append(_listed(file.parent))
    return Validated(Report(str(path), "hdf5", tuple(findings), figures), tuple(lines))


def _episodes(opened: Hdf5File, findings: list[Finding], figures: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    wrong: list[str] = []
    wrong_videos: list[str] = []
    rows = 0
    for n in range(opened.count):
        try:
            episode = opened.read(n)
        except DatasetError as error:
            wrong.append(str(error))
            continue
        problems = problems_of(episode, opened.schema)
        wrong += [f"episode {n}: {problem}" for problem in problems]
        rows += episode.rows
        if not problems:
            wrong_videos += _video(opened, n, episode, lines)
    figures |= {
        "episodes": opened.count,
        "frames": rows,
        "hours": rows / opened.schema.fps / 3600,
        "fps": opened.schema.fps,
        "size": f"{opened.schema.width}x{opened.schema.height}",
    }
    findings.append(judged("episodes", wrong, f"{rows} rows: equal lengths, finite, in order"))
    findings.append(judged("videos", wrong_videos, "a picture for every row, exactly placed"))


def _video(opened: Hdf5File, n: int, episode: Hdf5Episode, lines: list[dict[str, Any]]) -> list[str]:
    folder = opened.path.parent
    digest = files.sha256_of(folder / episode.video)
    if digest is None:
        return [f"{folder / episode.video}: missing, expected by episode {n}"]
    lines.append(manifest_line(folder, n, episode, opened.schema, digest))
    return video_problems(folder / episode.video, episode, opened.schema)


def _manifest(folder: Path, lines: list[dict[str, Any]]) -> Finding:
    content = files.read(folder / MANIFEST)
    if content is None:
        return Finding("manifest", Verdict.WARN, f"{folder / MANIFEST}: missing; validating writes it")
    if content != manifest_text(lines):
        return Finding("manifest", Verdict.FAIL, f"{folder / MANIFEST}: says something else than the files beside it")
    return Finding("manifest", Verdict.PASS, f"{len(lines)} videos")


def _listed(folder: Path) -> Finding:
    if not files.exists(folder / CHECKSUMS):
        return Finding("checksums", Verdict.WARN, f"{folder / CHECKSUMS}: missing; whether files changed is unknown")
    try:
        listed = read_checksums(folder / CHECKSUMS)
    except DatasetError as error:
        return Finding("checksums", Verdict.FAIL, str(error))
    problems = []
    for name, digest in listed.items():
        found = files.sha256_of(folder / name)
        if found != digest:
            said = "missing" if found is None else f"found sha256 {found}, expected {digest}"
            problems.append(f"{folder / name}: {said}")
    return judged("checksums", problems, f"{len(listed)} files have the sha256 of {CHECKSUMS}")
