"""What `padreel bundle validate` prints, and its exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from padreel.errors import DatasetError
from padreel.exports.bundle.rules import RULES, BundleReport, find_bundles, validate
from padreel.training.check.report import EXIT_CODES, Verdict


def run_validate(path: Path, say: Callable[[str], None], *, as_json: bool) -> int:
    """Validate the bundle, or those in a folder, and print; 0 where all is there, 4 where something is wrong.

    Raises InputError where there is no bundle, DatasetError.
    """
    try:
        reports = [validate(one) for one in find_bundles(path)]
    except OSError as error:
        raise DatasetError(f"{error.filename or path}: {error.strerror or error}") from error
    verdict = Verdict.FAIL if any(report.problems for report in reports) else Verdict.PASS
    say(_as_json(reports, verdict) if as_json else "\n".join(_lines(report) for report in reports))
    return EXIT_CODES[verdict]


def _lines(report: BundleReport) -> str:
    verdict = Verdict.FAIL if report.problems else Verdict.PASS
    head = f"{verdict.value:<5} {report.path} ({report.kind}, {report.episodes} recordings)"
    return "\n".join([head, *(f"      {problem}" for problem in report.problems)])


def _as_json(reports: list[BundleReport], verdict: Verdict) -> str:
    content = {
        "format_version": 1,
        "verdict": verdict.value,
        "rules": dict(RULES),
        "bundles": [
            {
                "path": str(report.path),
                "kind": report.kind,
                "episodes": report.episodes,
                "problems": [{"rule": one.rule, "file": one.file, "said": one.said} for one in report.problems],
            }
            for report in reports
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False)
