"""The quality of committed episodes, from their rows; weights and limits are in `quality_config.json`."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from padreel.core.quality import EpisodeFigures, Quality, QualityConfig, quality_of
from padreel.dataset import layout
from padreel.training.episode import CommittedEpisode
from padreel.training.source import SourceShard
from padreel.training.write_rows import parse_rows

_COLUMNS: Final = [layout.TIME_NS, layout.PAD_AGE, layout.OBSERVATION, layout.KEYS]


def scored(source: SourceShard, episode: CommittedEpisode, config: QualityConfig) -> CommittedEpisode:
    """The episode with its score. Raises CorruptShardError, OSError."""
    where = f"{source.path}: data file of commit {episode.n}"
    table = parse_rows(source.read(episode.n, episode.file("data")), where, episode.length, _COLUMNS)
    forced = int(episode.columns["forced"])
    return replace(episode, quality=table_quality(table, source.info["fps"], forced, config).score)


def table_quality(table: pa.Table, fps: int, forced: int, config: QualityConfig) -> Quality:
    """The quality of an episode's rows."""
    there = {name: table.column(name) for name in _COLUMNS if name in table.column_names}
    states = [there[name] for name in (layout.OBSERVATION, layout.KEYS) if name in there]
    return quality_of(
        EpisodeFigures(
            rows=table.num_rows,
            fps=fps,
            forced=forced,
            time_ns=there[layout.TIME_NS].to_numpy() if layout.TIME_NS in there else None,
            pad_age=there[layout.PAD_AGE].to_numpy() if layout.PAD_AGE in there else None,
            state=np.concatenate([_matrix(one) for one in states], axis=1) if states else None,
        ),
        config,
    )


def _matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    values = column.combine_chunks()
    flat = values.flatten() if pa.types.is_fixed_size_list(values.type) else values
    found: NDArray[np.float32] = flat.to_numpy(zero_copy_only=False).reshape(len(values), -1).astype(np.float32)
    return found
