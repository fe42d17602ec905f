"""`padreel plan --pilot-*`: what an augmentation costs, by a pilot run."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from padreel.__main__ import cli
from padreel.core.pilot import Pilot, augmentation_of

SECONDS = st.floats(0.1, 1e7)
COUNT = st.integers(1, 1000)


@given(out=SECONDS, wall=SECONDS, gpus=COUNT, asked=SECONDS, variants=COUNT, target=COUNT)
def test_the_pilot_s_own_work_costs_what_the_pilot_did(
    out: float, wall: float, gpus: int, asked: float, variants: int, target: int
) -> None:
    pilot = Pilot(out, wall, gpus)
    same = augmentation_of(pilot, out, 1, gpus)
    assert same.wall_hours * 3600 == pytest.approx(wall)
    found = augmentation_of(pilot, asked, variants, target)
    assert found.output_seconds == pytest.approx(asked * variants)
    assert found.gpu_hours == pytest.approx(same.gpu_hours * asked * variants / out)
    assert found.wall_hours * target == pytest.approx(found.gpu_hours)
    assert found.gpus_to_keep_up * 24 == pytest.approx(found.gpu_hours)


@pytest.mark.parametrize("wrong", [(0, 1, 1, 1, 1, 1), (1, 0, 1, 1, 1, 1), (1, 1, 1, -1, 1, 1), (1, 1, 1, 1, 1, 0)])
def test_what_is_not_above_zero_is_an_error(wrong: tuple[float, float, int, float, int, int]) -> None:
    with pytest.raises(ValueError, match="expected more than 0"):
        augmentation_of(Pilot(*wrong[:3]), *wrong[3:])


PILOT = ["plan", "--pilot-output-seconds", "60", "--pilot-wall-seconds", "1800", "--pilot-num-gpus", "2"]


def test_the_command_for_recordings_of_some_length() -> None:
    flags = [*PILOT, "--target-num-gpus", "8", "--augment-seconds", "7200", "--variants-per-episode", "3"]
    table = CliRunner().invoke(cli, flags)
    assert table.exit_code == 0, table.output
    # A GPU makes a second in a minute; six hours are asked for.
    assert "GPU hours                  360\n" in table.output
    assert "hours on 8 GPUs            45\n" in table.output
    content = json.loads(CliRunner().invoke(cli, [*flags, "--json"]).stdout)
    assert content == {"augmentation": content["augmentation"]}
    assert content["augmentation"]["wall_hours"] == pytest.approx(45)


def test_the_command_for_a_day_of_a_fleet() -> None:
    fleet = ["--rigs", "10", "--hours-per-day", "2", "--bitrate", "4.8"]
    content = json.loads(CliRunner().invoke(cli, [*PILOT, *fleet, "--json"]).stdout)
    assert content["augmentation"]["input_seconds"] == 10 * 2 * 3600
    assert content["augmentation"]["gpus_to_keep_up"] == pytest.approx(20 * 60 / 24)
    alone = json.loads(CliRunner().invoke(cli, ["plan", *fleet, "--json"]).stdout)
    assert alone == {name: value for name, value in content.items() if name != "augmentation"}


@pytest.mark.parametrize(
    ("flags", "missing"),
    [
        (PILOT, "--rigs, --hours-per-day, --bitrate: missing"),
        (["plan", "--pilot-wall-seconds", "5", "--augment-seconds", "5"], "--pilot-output-seconds: missing"),
        (["plan", "--rigs", "3"], "--hours-per-day, --bitrate: missing"),
        (["plan"], "--rigs, --hours-per-day, --bitrate: missing"),
        ([*PILOT, "--augment-seconds", "5", "--rigs", "3"], "--hours-per-day, --bitrate: missing"),
    ],
)
def test_half_a_plan_names_what_is_missing(flags: list[str], missing: str) -> None:
    result = CliRunner().invoke(cli, flags)
    assert result.exit_code == 2
    assert missing in result.output
