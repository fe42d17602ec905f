"""`make bench`: measures padreel, and what it stands beside, on this machine in one run against a real broker.

python -m tests.benchmarks                  all rows, into results.json
python -m tests.benchmarks --rows 1,3       some of them; --results FILE puts them beside the others in a file
python -m tests.benchmarks --short          rows 1, 3 and 4 in brief; exit code 1 where a ratio has regressed
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from deploy.local.broker import LocalBrokerError
from tests.benchmarks import report, rows_batch, rows_commit, rows_live, rows_memory, rows_start, rows_throughput
from tests.benchmarks.measure import BenchmarkError, Row
from tests.benchmarks.world import World, open_world

# By the rows that each gives.
GROUPS: dict[tuple[str, ...], Callable[[World], list[Row]]] = {
    ("1", "9"): rows_throughput.throughput,
    ("2",): rows_live.rigs_per_core,
    ("3",): rows_commit.growth,
    ("4",): rows_memory.session_length,
    ("5",): rows_memory.open_sessions,
    ("6",): rows_live.latency,
    ("7",): rows_start.start,
    ("8",): rows_start.reading_again,
    ("10",): rows_batch.converting,
    ("11",): rows_batch.sampling,
}
_SHORT = ("1", "3", "4")

console = Console(stderr=True, highlight=False, soft_wrap=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="rows 1, 3 and 4 in brief; fails where one regressed")
    parser.add_argument("--rows", help="numbers of the rows to measure, with commas between them")
    parser.add_argument("--results", type=Path, help="write the figures there (default, with all rows: results.json)")
    parser.add_argument("--folder", type=Path, help="measure on this folder's disk (default: the system's temporary)")
    options = parser.parse_args()
    wanted = set(options.rows.split(",")) if options.rows else set(_SHORT) if options.short else None
    if wanted is not None and (unknown := wanted - {one for numbers in GROUPS for one in numbers}):
        parser.error(f"--rows: no row {', '.join(sorted(unknown))}")
    try:
        with tempfile.TemporaryDirectory(prefix="padreel-bench-", dir=options.folder) as folder:
            rows = _measure(Path(folder), wanted, short=options.short)
    except (BenchmarkError, LocalBrokerError) as error:
        console.print(f"[bold red]The benchmark failed:[/] {error}", markup=True)
        return 2
    report.print_table(rows, Console(width=120, soft_wrap=True))
    results = options.results or (report.RESULTS if wanted is None else None)
    if results is not None:
        report.write_results(rows, results)
    regressed = [text for row in rows for text in row.regressed()] if options.short else []
    for text in regressed:
        console.print(f"[bold red]regressed:[/] {text}")
    return 1 if regressed else 0


def _measure(folder: Path, wanted: set[str] | None, *, short: bool) -> list[Row]:
    rows: list[Row] = []
    with open_world(folder, short=short) as world:
        for numbers, measure in GROUPS.items():
            if wanted is None or wanted.intersection(numbers):
                begin = time.monotonic()
                console.print(f"row {' and '.join(numbers)} ...")
                rows += measure(world)
                console.print(f"row {' and '.join(numbers)}: {time.monotonic() - begin:.0f} s")
    return sorted(rows, key=lambda row: int(row.number))


if __name__ == "__main__":
    sys.exit(main())
