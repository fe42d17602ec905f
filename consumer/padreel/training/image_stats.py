"""Statistics of a camera over every picture of an episode, decoded one after the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from padreel.dataset.remux import open_span, system_errors
from padreel.dataset.stats import Stats, histogram_figures, histogram_of
from padreel.errors import UndecodableError
from padreel.model import Schema


def all_picture_stats(video: Path, schema: Schema, first: int, length: int) -> Stats:
    """The exact figures of the pictures at display positions `first ... first + length - 1`, each (3, 1, 1), in [0, 1].

    Raises UndecodableError where one of them cannot be decoded, OSError.
    """
    histogram = np.zeros((3, 256), np.int64)
    count = 0
    with system_errors(), open_span(video, schema.width, schema.height) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for position, picture in enumerate(container.decode(stream)):
            if position < first:
                continue
            if count == length:
                break
            histogram += histogram_of(np.asarray(picture.to_ndarray(format="rgb24"), np.uint8))
            count += 1
    if count < length:
        raise UndecodableError(f"{video}: {count} pictures can be decoded from {first} on, expected {length}")
    return {
        name: ([count] if name == "count" else [[[value / 255.0]] for value in values])
        for name, values in histogram_figures(histogram, count).items()
    }
