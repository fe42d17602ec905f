"""How the benchmark judges what it measured. That it measures is seen by running it: `make bench`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.readme import benchmark_table
from tests.benchmarks import report
from tests.benchmarks.__main__ import GROUPS
from tests.benchmarks.measure import Row, Spread, Target, interleaved, percentile, ratios

ROW = Row(
    "1",
    "frames",
    (Spread("of the drain", "x", (0.5, 0.75, 0.25)), Spread("frames/s", "frames/s", (12_345.0,))),
    (Target("of the drain", 0.6, "at least", regressed=0.4), Target("frames/s", 12_000, "at least")),
)


def test_a_target_is_missed_by_the_median_alone() -> None:
    assert [target.figure for target in ROW.missed()] == ["of the drain"]


@pytest.mark.parametrize(
    ("values", "sense", "expected"),
    [
        ((0.5, 0.3, 0.45), "at least", []),
        ((0.5, 0.3, 0.35), "at least", ["row 1, ratio: 0.35, at least 0.4"]),
        ((0.5, 0.3, 0.35), "at most", []),
        ((0.5, 0.3, 0.45), "at most", ["row 1, ratio: 0.45, at most 0.4"]),
    ],
)
def test_only_what_is_beyond_the_noise_has_regressed(
    values: tuple[float, ...], sense: str, expected: list[str]
) -> None:
    target = Target("ratio", 0.45, sense, regressed=0.4)  # type: ignore[arg-type]
    assert Row("1", "frames", (Spread("ratio", "x", values),), (target,)).regressed() == expected


def test_ratios_are_of_what_was_measured_one_after_the_other() -> None:
    assert ratios("r", [1.0, 9.0], [2.0, 3.0]).values == (0.5, 3.0)


def test_parts_take_turns_and_each_second_round_goes_back() -> None:
    called: list[str] = []

    def part(name: str) -> str:
        called.append(name)
        return f"{name}{len(called)}"

    found = interleaved(3, lambda: part("a"), lambda: part("b"))
    assert "".join(called) == "abbaab"
    assert found == [["a1", "a4", "a5"], ["b2", "b3", "b6"]]


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 100)])
def test_percentiles(share: float, expected: float) -> None:
    assert percentile(range(100, 0, -1), share) == expected


def test_the_readme_shows_what_has_something_to_reach() -> None:
    other = Row("11", "samples", (Spread("GOP 15", "samples/s", (3.0, 4.0)),))
    rows = json.loads(json.dumps(report.results([ROW, other])))["rows"]
    assert benchmark_table(rows).splitlines()[2:] == [
        "| 1 | frames | of the drain | 0.5x | 0.25 to 0.75 | at least 0.6 | **missed** |",
        "|  |  | frames/s | 12,345 frames/s |  | at least 12000 | reached |",
        "| 11 | samples | GOP 15 | 3.5 samples/s | 3 to 4 |  |  |",
    ]


def test_a_row_that_is_measured_again_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    other = Row("10", "converting", (Spread("rate", "x", (3.0,)),))
    report.write_results([ROW, other], path)
    report.write_results([Row("1", "frames", (Spread("rate", "x", (7.0,)),))], path)
    rows = json.loads(path.read_text())["rows"]
    assert [(row["number"], list(row["figures"])) for row in rows] == [("1", ["rate"]), ("10", ["rate"])]
    assert rows[0]["figures"]["rate"]["median"] == 7.0


def test_every_row_is_measured() -> None:
    assert sorted(int(number) for numbers in GROUPS for number in numbers) == list(range(1, 12))
