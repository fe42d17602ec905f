"""Statistics of an episode and of a dataset, as LeRobot names and shapes them.

A vector feature's figures have one number per slot, a scalar's one number, a camera's the shape (3, 1, 1) with pixel
values in [0, 1]; `count` has the shape (1,). All are computed in float64 and are exact, with two exceptions:

- A camera's figures come from a *sample*: at most `SAMPLED_KEYFRAMES` evenly spaced keyframes of the episode, all
  their pixels; `count` is the number of pictures in the sample. An episode that begins inside a GOP and has no
  keyframe of its own is represented by the keyframe that its decoding starts from. Keyframes that are damaged are
  left out.
- The quantiles of a dataset are the mean of its episodes' quantiles weighted by `count`, which is what LeRobot's own
  aggregation does; the exact ones cannot be had from the episodes' figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from padreel.dataset.remux import CODECS, TICKS_PER_FRAME, decoder_limits, open_span, system_errors
from padreel.errors import CorruptShardError, UndecodableError
from padreel.model import Schema

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
SAMPLED_KEYFRAMES = 16

_BAND = 1 << 17  # pairs of pixels that are counted at a time

Stats = dict[str, Any]  # figure -> nested lists of numbers


@dataclass(frozen=True, slots=True)
class _Counted:
    """How often each value is there in each channel of some pictures, (3, 256), and why others give no picture."""

    histogram: NDArray[np.int64]
    pictures: int
    faults: list[str]


def column_stats(values: NDArray[Any]) -> Stats:
    """The figures of one column, shape (rows,) or (rows, slots), at least one row; lists of 1 or `slots` numbers.

    Minimum and maximum of an integer column are integers.
    """
    if not len(values):
        raise ValueError("statistics of no rows")
    table = values.reshape(len(values), -1)
    # Slot by slot: in float64 a long episode's states would be its largest part in memory.
    slots = [_figures(table[:, slot]) for slot in range(table.shape[1])]
    return {
        "min": table.min(axis=0).tolist(),
        "max": table.max(axis=0).tolist(),
        "mean": [figures["mean"] for figures in slots],
        "std": [figures["std"] for figures in slots],
        "count": [len(values)],
        **{name: [figures[name] for figures in slots] for name in QUANTILES},
    }


def _figures(values: NDArray[Any]) -> dict[str, float]:
    """Mean, deviation and quantiles of one slot, shape (rows,)."""
    exact = values.astype(np.float64)
    quantiles = np.quantile(exact, list(QUANTILES.values())).tolist()
    return {"mean": float(exact.mean()), "std": float(exact.std()), **dict(zip(QUANTILES, quantiles, strict=True))}


def sample_keyframes(keyframes: Sequence[int], first_row: int, rows: int) -> list[int]:
    """Which display positions stand for the rows `first_row ... first_row + rows - 1`; at least one.

    `keyframes` are the display positions of the IDRs, ascending, the first at or before `first_row`.
    """
    inside = [index for index in keyframes if first_row <= index < first_row + rows]
    if not inside:
        return [max(index for index in keyframes if index <= first_row)]
    if len(inside) <= SAMPLED_KEYFRAMES:
        return inside
    step = (len(inside) - 1) / (SAMPLED_KEYFRAMES - 1)
    return [inside[round(i * step)] for i in range(SAMPLED_KEYFRAMES)]


def picture_stats(video: Path, schema: Schema, positions: Sequence[int], *, decoders: int = 1) -> Stats:
    """The figures of the keyframes at these display positions of a finished span; each (3, 1, 1), in [0, 1].

    `decoders` work on them side by side; each beyond the first takes a thread, and 10 MB of memory at 720p.

    Raises `UndecodableError` where none of them decodes or one has another size than `schema` says, which is the
    rig's doing; `CorruptShardError` where one is not there or no keyframe, and `OSError`.
    """
    share, *shares = [positions[first::decoders] for first in range(min(decoders, len(positions)))]
    with ThreadPoolExecutor(decoders, "decoder") as threads:
        others = [threads.submit(_count, video, schema, one) for one in shares]
        counted = [_count(video, schema, share), *(one.result() for one in others)]
    count = sum(one.pictures for one in counted)
    if not count:
        raise UndecodableError(f"none of {len(positions)} keyframes can be decoded, {counted[0].faults[0]}")
    histogram = np.sum([one.histogram for one in counted], axis=0)
    return {
        name: ([count] if name == "count" else [[[value / 255.0]] for value in values])
        for name, values in histogram_figures(histogram, count).items()
    }


def _count(video: Path, schema: Schema, positions: Sequence[int]) -> _Counted:
    """The pixels of the keyframes at these display positions. Raises what `picture_stats` does."""
    histogram = np.zeros((3, 256), np.int64)
    pictures = 0
    faults: list[str] = []
    with system_errors(), open_span(video, schema.width, schema.height, is_known=True) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"  # one picture at a time: threads would only add latency
        stream.codec_context.options = decoder_limits(schema.width, schema.height)
        for position in positions:
            packet = _keyframe(container, stream, schema, position, video)
            picture = _decode(stream.codec_context, packet)
            if isinstance(picture, str):
                faults.append(f"display position {position}: {picture}")
                continue
            if (picture.width, picture.height) != (schema.width, schema.height):
                raise UndecodableError(
                    f"the picture at display position {position} is {picture.width}x{picture.height}, expected "
                    f"{schema.width}x{schema.height} as in the stream block"
                )
            histogram += histogram_of(np.asarray(picture.to_ndarray(format="rgb24"), np.uint8))
            pictures += 1
    return _Counted(histogram, pictures, faults)


def _keyframe(container: Any, stream: Any, schema: Schema, position: int, video: Path) -> Any:
    """The packet at a display position."""
    ticks = round(1 / (stream.time_base * schema.fps * TICKS_PER_FRAME)) * TICKS_PER_FRAME
    # The index is in decode order, and an IDR's DTS is 16 frames below its PTS: seeking by PTS would overshoot.
    container.seek((position - CODECS[schema.codec].dts_lead) * ticks, stream=stream, backward=True)
    for packet in container.demux(stream):
        if packet.pts == position * ticks:
            break
    else:
        raise CorruptShardError(f"{video.name}: no packet at display position {position}")
    if not packet.is_keyframe:
        raise CorruptShardError(f"{video.name}: the packet at display position {position} is no keyframe")
    return packet


def _decode(decoder: Any, packet: Any) -> Any:
    """The one picture that the packet gives, or in words why it gives none."""
    decoder.flush_buffers()
    try:
        pictures = [*decoder.decode(packet), *decoder.decode(None)]
    except MemoryError:
        raise
    except av.FFmpegError as error:
        return error.strerror
    finally:
        decoder.flush_buffers()
    return pictures[0] if len(pictures) == 1 else f"gives {len(pictures)} pictures, expected one"


def histogram_of(picture: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each value is there in each channel of a picture of (height, width, 3); shape (3, 256)."""
    pixels = picture.reshape(-1, 3)
    histogram = np.zeros((3, 256), np.int64)
    for channel, values in enumerate(pixels[len(pixels) // 2 * 2 :].T):
        histogram[channel] += np.bincount(values, minlength=256)
    # Two pixels are three numbers of two bytes: half as many to count. numpy makes eight bytes of each.
    pairs = pixels[: len(pixels) // 2 * 2].reshape(-1, 6).view("<u2")
    for first in range(0, len(pairs), _BAND):
        for place in range(3):
            table = np.bincount(pairs[first : first + _BAND, place], minlength=1 << 16).reshape(256, 256)
            histogram[2 * place % 3] += table.sum(axis=0)
            histogram[(2 * place + 1) % 3] += table.sum(axis=1)
    return histogram


def histogram_figures(histogram: NDArray[np.int64], count: int) -> dict[str, list[float]]:
    """Exact figures, in [0, 255], of the values that a (channels, 256) histogram counts."""
    levels = np.arange(256, dtype=np.float64)
    figures: dict[str, list[float]] = {name: [] for name in ("min", "max", "mean", "std", "count", *QUANTILES)}
    for counts in histogram:
        total = int(counts.sum())
        present = np.flatnonzero(counts)
        mean = float(counts @ levels) / total
        figures["min"].append(float(present[0]))
        figures["max"].append(float(present[-1]))
        figures["mean"].append(mean)
        figures["std"].append(math.sqrt(float(counts @ (levels - mean) ** 2) / total))
        cumulative = np.cumsum(counts)
        for name, q in QUANTILES.items():
            # Linear interpolation between the two neighbours in sorted order, as numpy's default does.
            at = q * (total - 1)
            low, high = np.searchsorted(cumulative, [math.floor(at), math.ceil(at)], side="right")
            figures[name].append(float(low) + (at - math.floor(at)) * float(high - low))
    figures["count"].append(count)
    return figures


def aggregate_stats(total: Mapping[str, Stats] | None, episode: Mapping[str, Stats]) -> dict[str, Stats]:
    """The figures of a dataset after one more episode; `total` is None before the first.

    Both are per feature, and both must be of the same features. Mean and deviation follow the parallel formula, so
    that the order of episodes matters only by rounding.
    """
    if total is None:
        return {name: dict(stats) for name, stats in episode.items()}
    if total.keys() != episode.keys():
        raise ValueError(f"statistics of {sorted(episode)}, expected {sorted(total)}")
    return {name: _aggregate_feature(total[name], episode[name]) for name in total}


def _aggregate_feature(a: Stats, b: Stats) -> Stats:
    count_a, count_b = a["count"][0], b["count"][0]
    count = count_a + count_b
    share = count_b / count

    def arrays(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.asarray(a[name], np.float64), np.asarray(b[name], np.float64)

    mean_a, mean_b = arrays("mean")
    std_a, std_b = arrays("std")
    difference = mean_b - mean_a
    variance = std_a**2 * (1 - share) + std_b**2 * share + difference**2 * share * (1 - share)
    merged: Stats = {
        # Not as float64: an integer column's extremes stay integers.
        "min": np.minimum(a["min"], b["min"]).tolist(),
        "max": np.maximum(a["max"], b["max"]).tolist(),
        "mean": (mean_a + difference * share).tolist(),
        "std": np.sqrt(variance).tolist(),
        "count": [count],
    }
    for name in QUANTILES:
        q_a, q_b = arrays(name)
        merged[name] = (q_a + (q_b - q_a) * share).tolist()
    return merged
