"""What a check found: values, the table for people, the JSON for programs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

FORMAT_VERSION: Final = 1
SHOWN: Final = 5  # problems of one check that are spelled out


class Verdict(StrEnum):
    """PASS: as it should be. WARN: usable, but look at it. FAIL: it must not be trained on as it is."""

    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"


EXIT_CODES: Final[Mapping[Verdict, int]] = {Verdict.PASS: 0, Verdict.WARN: 3, Verdict.FAIL: 4}
_ORDER: Final = (Verdict.PASS, Verdict.WARN, Verdict.FAIL)


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check; `check` is its stable name."""

    check: str
    verdict: Verdict
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """All findings about one folder. `kind` is session, shard, merged or dataset; `figures` are JSON-able."""

    path: str
    kind: str
    findings: tuple[Finding, ...]
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        return worst(one.verdict for one in self.findings)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of them, PASS of none."""
    return max(verdicts, key=_ORDER.index, default=Verdict.PASS)


def judged(check: str, problems: Sequence[str], good: str, bad: Verdict = Verdict.FAIL) -> Finding:
    """PASS, which says `good`, where there are no problems; else `bad`, which names the first of them."""
    if not problems:
        return Finding(check, Verdict.PASS, good)
    more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    return Finding(check, bad, "; ".join(problems[:SHOWN]) + more)


def as_json(reports: Sequence[Report]) -> dict[str, Any]:
    """The stable JSON form: names stay, and new ones may come."""
    return {
        "format_version": FORMAT_VERSION,
        "verdict": worst(one.verdict for one in reports).value,
        "reports": [
            {
                "path": report.path,
                "kind": report.kind,
                "verdict": report.verdict.value,
                "findings": [
                    {"check": one.check, "verdict": one.verdict.value, "detail": one.detail} for one in report.findings
                ],
                "figures": dict(report.figures),
            }
            for report in reports
        ],
    }


def table(reports: Sequence[Report]) -> str:
    """The findings for people: a block per folder, the verdict of all on the last line."""
    lines: list[str] = []
    for report in reports:
        lines.append(f"{report.verdict.value:<5} {report.path} ({report.kind})")
        width = max((len(one.check) for one in report.findings), default=0)
        lines += [f"      {one.verdict.value:<5} {one.check:<{width}}  {one.detail}" for one in report.findings]
        lines += [f"      {name}: {_shown(value)}" for name, value in report.figures.items()]
    lines.append(f"{worst(one.verdict for one in reports).value}")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none"
    return str(value)
