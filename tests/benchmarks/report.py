"""What a run found: the table for people, `results.json` for everything else, and the table in the README."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.measure import CHECKOUT, Row, Spread

RESULTS = Path(__file__).with_name("results.json")
_PACKAGES = ("aiokafka", "av", "lerobot", "numpy", "protobuf", "pyarrow", "torch")


def print_table(rows: Sequence[Row], console: Console) -> None:
    """All figures, and whether they reach what they have to."""
    table = Table(title="padreel's benchmark", title_justify="left", pad_edge=False)
    table.add_column("#", justify="right")
    table.add_column("figure", no_wrap=True)
    for name in ("median", "min", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("to reach", no_wrap=True)
    for row in rows:
        table.add_section()
        table.add_row(row.number, f"[bold]{row.what}[/]")
        for figure in row.figures:
            table.add_row("", f"  {figure.name}", *_cells(figure), _verdict(row, figure))
    console.print(table)
    for row in rows:
        console.print(f"{row.number:>2}  {row.note}", style="dim")


def _cells(figure: Spread) -> list[str]:
    median = f"{number(figure.median)} {figure.unit}"
    if len(figure.values) == 1:
        return [median, "", ""]
    return [median, number(min(figure.values)), number(max(figure.values))]


def number(value: float) -> str:
    """Three digits are more than the machine's noise leaves."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _verdict(row: Row, figure: Spread) -> str:
    for target in row.targets:
        if target.figure == figure.name:
            colour, word = ("green", "reached") if target.holds(figure.median) else ("red", "missed")
            return f"{target} [{colour}]{word}[/]"
    return ""


def results(rows: Sequence[Row]) -> dict[str, Any]:
    """All figures with what they were measured on; each row says when, and of which commit."""
    measured = datetime.now(UTC).isoformat(timespec="seconds")
    commit = _git("rev-parse", "--short", "HEAD") + ("-dirty" if _git("status", "--porcelain", "-uno") else "")
    return {
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": platform.platform(),
            "load": [round(one, 1) for one in os.getloadavg()],
        },
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "rows": [
            {
                "number": row.number,
                "what": row.what,
                "measured": measured,
                "commit": commit,
                "note": row.note,
                "figures": {figure.name: figure.as_json() for figure in row.figures},
                "to_reach": {
                    target.figure: {"target": str(target), "reached": target not in row.missed()}
                    for target in row.targets
                },
            }
            for row in rows
        ],
    }


def write_results(rows: Sequence[Row], path: Path) -> None:
    """Write the rows' figures; the other rows of a file that is there stay in it."""
    found = results(rows)
    if path.exists():
        found["rows"] += json.loads(path.read_text(encoding="utf-8"))["rows"]
    by_number = {row["number"]: row for row in reversed(found["rows"])}
    found["rows"] = [by_number[number] for number in sorted(by_number, key=int)]
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(CHECKOUT), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
