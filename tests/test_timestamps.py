from __future__ import annotations

from padreel.kafka.timestamps import Timestamps
from padreel.model import Record


def batch(first: int, *times_ms: int) -> list[Record]:
    return [Record(first + n, time_ms, None, b"") for n, time_ms in enumerate(times_ms)]


def test_nothing_is_known_before_anything_was_read() -> None:
    assert Timestamps().at(0) is None


def test_the_timestamp_at_an_offset_is_that_of_the_batch_before() -> None:
    timestamps = Timestamps()
    timestamps.add(batch(10, 1_000, 1_033, 1_066))
    timestamps.add(batch(13, 5_000, 5_033))
    timestamps.add(batch(15, 9_000))
    assert timestamps.at(10) == 1_000
    assert timestamps.at(12) == 1_000
    assert timestamps.at(14) == 5_000
    assert timestamps.at(99) == 9_000


def test_before_the_first_record_it_is_that_one_s() -> None:
    """A hole of control records lies between where reading began and the first record."""
    timestamps = Timestamps()
    timestamps.add(batch(10, 1_000))
    assert timestamps.at(7) == 1_000


def test_what_lies_before_is_forgotten_and_a_second_takes_one_place() -> None:
    timestamps = Timestamps()
    for n in range(1_000):
        timestamps.add(batch(n, n * 10))
    assert len(timestamps._offsets) == 10
    timestamps.at(950)
    assert list(timestamps._offsets) == [900]


def test_a_clock_that_steps_back_is_no_younger() -> None:
    timestamps = Timestamps()
    timestamps.add(batch(0, 60_000))
    timestamps.add(batch(1, 20_000))
    assert timestamps.at(1) == 20_000
