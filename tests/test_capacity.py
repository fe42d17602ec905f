"""`padreel plan`: what a fleet needs."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from padreel.__main__ import cli
from padreel.core.capacity import Fleet, capacity_of
from padreel.training.plan_command import size


def fleet(rigs: int = 200, hours: float = 10.0, bitrate: float = 4.8e6) -> Fleet:
    return Fleet(rigs, hours, bitrate, fps=30, retention_days=7, replicas=3, buffer_bytes=4 * 2**20)


def test_two_hundred_rigs_as_the_operator_s_guide_has_them() -> None:
    found = capacity_of(fleet())
    assert (found.consumers, found.partitions) == (1, 8)
    # 2.2 GB for an hour of a rig.
    assert found.disk_bytes_per_day == pytest.approx(200 * 10 * 2.16e9 * 1.01)
    assert found.kafka_bytes == pytest.approx(found.disk_bytes_per_day * 7 * 3)
    assert found.retention_bytes * 8 == pytest.approx(found.disk_bytes_per_day * 7 * 2)
    assert found.retention_ms == 7 * 24 * 3600 * 1000
    assert found.cores_per_consumer == pytest.approx(0.66)
    assert found.memory_bytes_per_consumer == 200_000_000 + 16 * 4 * 2**20 + 200 * 5_590_000


@given(rigs=st.integers(1, 5000), hours=st.floats(0.1, 24), bitrate=st.floats(1e4, 1e9), more=st.integers(1, 500))
def test_more_rigs_never_need_less(rigs: int, hours: float, bitrate: float, more: int) -> None:
    few, many = capacity_of(fleet(rigs, hours, bitrate)), capacity_of(fleet(rigs + more, hours, bitrate))
    assert many.consumers >= few.consumers
    assert many.partitions >= many.consumers
    assert many.disk_bytes_per_day > few.disk_bytes_per_day
    assert many.kafka_bytes > few.kafka_bytes
    assert rigs <= few.consumers * 200


def test_no_rig_needs_no_plan() -> None:
    with pytest.raises(ValueError, match="one at least"):
        capacity_of(fleet(0))


def test_sizes_have_units() -> None:
    assert [size(n) for n in (5, 999.4, 1_000, 2.2e9, 7.5e18)] == ["5 B", "999 B", "1 kB", "2.2 GB", "7.5e+03 PB"]


def test_the_command() -> None:
    flags = ["plan", "--rigs", "450", "--hours-per-day", "8", "--bitrate", "6"]
    table = CliRunner().invoke(cli, flags)
    assert table.exit_code == 0, table.output
    assert table.output.splitlines()[:2] == [
        "consumers                      3",
        "partitions of both topics      24",
    ]
    content = json.loads(CliRunner().invoke(cli, [*flags, "--json"]).stdout)
    assert content["disk_bytes_per_day"] == pytest.approx(450 * 8 * 3600 * 6e6 / 8 * 1.01)
    assert CliRunner().invoke(cli, ["plan", "--rigs", "0"]).exit_code == 2
