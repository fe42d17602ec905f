"""Keeps the README's generated tables true: `python -m deploy.readme` writes them, a test compares them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from padreel.metrics import Metrics
from padreel.options import configuration_table
from padreel.settings import ConsumerSettings

CHECKOUT = Path(__file__).resolve().parents[1]
README = CHECKOUT / "README.md"
RESULTS = CHECKOUT / "tests" / "benchmarks" / "results.json"
# The generated part ends where the next paragraph begins.
_BLOCK = "<!-- {name} -->\n"
_TABLE = re.compile(r"\n?(?:\|[^\n]*\n)*")


def tables() -> dict[str, str]:
    """The generated tables by the name of their marker."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    return {
        "configuration: consume": configuration_table(ConsumerSettings),
        "metrics": Metrics().table(),
        "benchmark": benchmark_table(results["rows"]),
    }


def benchmark_table(rows: list[dict[str, Any]]) -> str:
    """The figures that have something to reach, and all of a row that has none; median and range of a run."""
    lines = ["| # | what | figure | median | range | to reach | |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        wanted = row["to_reach"]
        for at, name in enumerate(list(wanted) or list(row["figures"])):
            figure = row["figures"][name]
            unit = figure["unit"] if figure["unit"] == "x" else f" {figure['unit']}"
            cells = [*((row["number"], row["what"]) if at == 0 else ("", "")), name, _digits(figure["median"]) + unit]
            repeated = len(figure["values"]) > 1
            cells.append(f"{_digits(figure['min'])} to {_digits(figure['max'])}" if repeated else "")
            cells += [wanted[name]["target"] if wanted else "", _verdict(wanted[name]["reached"]) if wanted else ""]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _digits(value: float) -> str:
    """Three: more are noise."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _verdict(is_reached: bool) -> str:
    return "reached" if is_reached else "**missed**"


def filled_in(text: str) -> str:
    """`text` with every generated table as it should be. Raises ValueError for a marker that is not there."""
    for name, table in tables().items():
        marker = _BLOCK.format(name=name)
        before, found, after = text.partition(marker)
        if not found:
            raise ValueError(f"{README.name}: the marker {marker.strip()} is missing")
        rest = _TABLE.sub("", after, count=1).lstrip("\n")
        text = f"{before}{marker}\n{table}\n{rest}"
    return text


if __name__ == "__main__":
    README.write_text(filled_in(README.read_text(encoding="utf-8")), encoding="utf-8")
