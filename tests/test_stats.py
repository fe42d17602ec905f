"""Statistics are exact: of rows, of sampled keyframes, and of episodes put together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from padreel.dataset.stats import (
    QUANTILES,
    Stats,
    aggregate_stats,
    column_stats,
    histogram_of,
    picture_stats,
    sample_keyframes,
)
from padreel.errors import CorruptShardError, UndecodableError
from padreel.model import Schema
from tests.video_source import Source, encode, moving_pictures, write_span

SCHEMA = Schema("h264", 96, 64, 30)
FIGURES = {"min", "max", "mean", "std", "count", *QUANTILES}

finite = st.floats(-1e6, 1e6, width=32)
tables = st.integers(1, 4).flatmap(
    lambda slots: st.lists(
        st.integers(1, 30).flatmap(lambda rows: arrays.arrays(np.float32, (rows, slots), elements=finite)),
        min_size=1,
        max_size=6,
    )
)


def check_close(found: object, expected: object) -> None:
    # Beside the relative error, what float64 leaves of a difference of values up to 1e6.
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-12, atol=1e-5)


@given(tables)
def test_episodes_put_together_equal_all_rows(episodes: list[NDArray[np.float32]]) -> None:
    total: dict[str, Stats] | None = None
    for episode in episodes:
        total = aggregate_stats(total, {"action": column_stats(episode)})
    assert total is not None
    found = total["action"]
    rows = np.concatenate(episodes).astype(np.float64)
    assert found.keys() == FIGURES
    assert found["count"] == [len(rows)]
    assert found["min"] == rows.min(axis=0).tolist()
    assert found["max"] == rows.max(axis=0).tolist()
    check_close(found["mean"], rows.mean(axis=0))
    check_close(found["std"], rows.std(axis=0))


@given(tables)
def test_quantiles_of_a_dataset_are_the_weighted_mean_of_its_episodes(episodes: list[NDArray[np.float32]]) -> None:
    total: dict[str, Stats] | None = None
    for episode in episodes:
        total = aggregate_stats(total, {"action": column_stats(episode)})
    assert total is not None
    weights = [len(episode) for episode in episodes]
    for name, q in QUANTILES.items():
        each = [np.quantile(episode.astype(np.float64), q, axis=0) for episode in episodes]
        check_close(total["action"][name], np.average(each, axis=0, weights=weights))


def test_a_long_recording_of_a_small_change_keeps_its_deviation() -> None:
    """float32 sums, or the mean of squares less the square of the mean, lose it."""
    values = np.full(200_000, 1e9)
    values[::2] += 1
    stats = column_stats(values)
    assert stats["std"] == [0.5]
    assert stats["mean"] == [1e9 + 0.5]
    halves = [{"x": column_stats(values[:77_777])}, {"x": column_stats(values[77_777:])}]
    merged = aggregate_stats(aggregate_stats(None, halves[0]), halves[1])["x"]
    assert merged["std"] == pytest.approx([0.5], rel=1e-9)


def test_shapes_and_kinds() -> None:
    scalar = column_stats(np.arange(5, dtype=np.int64))
    assert scalar["min"] == [0]
    assert isinstance(scalar["min"][0], int)
    assert isinstance(scalar["mean"][0], float)
    assert scalar["q50"] == [2.0]
    vector = column_stats(np.zeros((5, 3), np.float32))
    assert all(len(vector[name]) == 3 for name in FIGURES - {"count"})
    merged = aggregate_stats({"index": scalar}, {"index": column_stats(np.array([7, 9]))})["index"]
    assert merged["max"] == [9]
    assert isinstance(merged["max"][0], int)
    assert merged["count"] == [7]
    with pytest.raises(ValueError, match="no rows"):
        column_stats(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="expected"):
        aggregate_stats({"a": scalar}, {"b": scalar})


def test_aggregating_changes_neither_side() -> None:
    first = {"x": column_stats(np.arange(4.0))}
    second = {"x": column_stats(np.arange(7.0))}
    total = aggregate_stats(None, first)
    aggregate_stats(total, second)
    assert total == first == {"x": column_stats(np.arange(4.0))}


def test_the_sample_is_of_keyframes_among_the_rows() -> None:
    assert sample_keyframes([0, 12, 24, 36], 12, 24) == [12, 24]
    assert sample_keyframes([0, 12, 24], 13, 5) == [12]  # none of its own: the one that decoding starts from
    assert sample_keyframes([0], 0, 1) == [0]
    many = sample_keyframes(range(0, 1000, 10), 0, 1000)
    assert len(many) == 16
    assert (many[0], many[-1]) == (0, 990)
    assert np.ptp(np.diff(many)) <= 10


@pytest.mark.parametrize(("gop", "b_frames"), [(12, 3), (1, 0), (5, 2), (40, 16)])
def test_picture_figures_are_those_of_the_decoded_pictures(gop: int, b_frames: int, tmp_path: Path) -> None:
    """Also where GOPs are shorter than the 16 frames by which DTS runs ahead."""
    source = encode(moving_pictures(60), gop=gop, b_frames=b_frames)
    write_span(tmp_path / "span.mp4", source)
    positions = sample_keyframes([unit.index for unit in source.units if unit.idr], 0, 60)
    found = picture_stats(tmp_path / "span.mp4", SCHEMA, positions)
    pixels = np.stack([source.pictures[i] for i in positions]).reshape(-1, 3) / 255.0
    assert found["count"] == [len(positions)]
    for name, expected in {
        "min": pixels.min(axis=0),
        "max": pixels.max(axis=0),
        "mean": pixels.mean(axis=0),
        "std": pixels.std(axis=0),
        **{name: np.quantile(pixels, q, axis=0) for name, q in QUANTILES.items()},
    }.items():
        assert np.shape(found[name]) == (3, 1, 1)
        np.testing.assert_allclose(np.reshape(found[name], 3), expected, rtol=1e-9, atol=1e-12, err_msg=name)


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))), st.integers(1, 50))
def test_pixels_are_counted_channel_by_channel(picture: NDArray[np.uint8], band: int) -> None:
    """Of pictures with an odd number of pixels too, and wherever bands end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("padreel.dataset.stats._BAND", band)
        found = histogram_of(picture)
    assert found.tolist() == [
        np.bincount(picture[..., channel].ravel(), minlength=256).tolist() for channel in range(3)
    ]


@pytest.mark.parametrize("decoders", [2, 3, 9])
def test_several_decoders_find_what_one_does(decoders: int, tmp_path: Path) -> None:
    source = encode(moving_pictures(40), gop=8)
    positions = [0, 8, 16, 24, 32]
    write_span(tmp_path / "span.mp4", damaged(source, 16))
    found = picture_stats(tmp_path / "span.mp4", SCHEMA, positions, decoders=decoders)
    assert found == picture_stats(tmp_path / "span.mp4", SCHEMA, positions)
    assert found["count"] == [4]
    with pytest.raises(CorruptShardError, match="position 9"):
        picture_stats(tmp_path / "span.mp4", SCHEMA, [0, 9], decoders=decoders)
    write_span(tmp_path / "none.mp4", damaged(source, *positions))
    with pytest.raises(UndecodableError, match="none of 5 keyframes can be decoded, display position 0: Invalid data"):
        picture_stats(tmp_path / "none.mp4", SCHEMA, positions, decoders=decoders)


def test_a_position_that_is_no_keyframe(tmp_path: Path) -> None:
    write_span(tmp_path / "span.mp4", encode(moving_pictures(20)))
    with pytest.raises(CorruptShardError, match="position 3"):
        picture_stats(tmp_path / "span.mp4", SCHEMA, [3])
    with pytest.raises(CorruptShardError, match="no packet at display position 99"):
        picture_stats(tmp_path / "span.mp4", SCHEMA, [99])


def damaged(source: Source, *positions: int) -> Source:
    """The source with nothing left of the slices of these pictures but their first bytes."""
    unit = (2).to_bytes(4, "big") + b"\x65\x88"
    return replace(source, units=[replace(one, data=unit) if one.index in positions else one for one in source.units])


def test_damaged_keyframes_are_left_out(tmp_path: Path) -> None:
    source = encode(moving_pictures(24), gop=8)
    write_span(tmp_path / "whole.mp4", source)
    write_span(tmp_path / "span.mp4", damaged(source, 0, 16))
    found = picture_stats(tmp_path / "span.mp4", SCHEMA, [0, 8, 16])
    assert found == picture_stats(tmp_path / "whole.mp4", SCHEMA, [8])
    assert found["count"] == [1]
    write_span(tmp_path / "none.mp4", damaged(source, 0, 8, 16))
    with pytest.raises(UndecodableError, match="none of 3 keyframes can be decoded, display position 0: Invalid data"):
        picture_stats(tmp_path / "none.mp4", SCHEMA, [0, 8, 16])


@pytest.mark.parametrize(
    ("width", "height", "words"),
    [
        (64, 48, "the picture at display position 0 is 64x48, expected 96x64 as in the stream block"),
        (1024, 1024, "none of 1 keyframes can be decoded"),  # refused before it is allocated
    ],
)
def test_pictures_of_another_size_than_the_rig_says(tmp_path: Path, width: int, height: int, words: str) -> None:
    source = encode(moving_pictures(1, width, height))
    write_span(tmp_path / "span.mp4", replace(source, stream=replace(source.stream, width=96, height=64)))
    with pytest.raises(UndecodableError, match=words):
        picture_stats(tmp_path / "span.mp4", SCHEMA, [0])


def test_a_size_in_band_is_no_other(tmp_path: Path) -> None:
    """The parameter sets of the extradata are right, those in the access unit say something else."""
    source, large = encode(moving_pictures(1)), encode(moving_pictures(1, 1024, 1024))
    avcc = large.stream.extradata
    size = int.from_bytes(avcc[6:8], "big")
    sps, pps = avcc[8 : 8 + size], avcc[11 + size : 11 + size + int.from_bytes(avcc[9 + size : 11 + size], "big")]
    unit = b"".join(len(nal).to_bytes(4, "big") + nal for nal in (sps, pps)) + large.units[0].data
    write_span(tmp_path / "span.mp4", replace(source, units=[replace(source.units[0], data=unit)]))
    with pytest.raises(UndecodableError, match="none of 1 keyframes can be decoded"):
        picture_stats(tmp_path / "span.mp4", SCHEMA, [0])
