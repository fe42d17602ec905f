"""An episode's rows: the columns of the data file, and the file as LeRobot's own writer makes it.

LeRobot's writer goes through the `datasets` library, which leaves its description of the columns in the parquet
file's schema. That library takes seconds to import, so the same schema is made here from info.json's `features`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from padreel.core.gate import EpisodeQuality
from padreel.core.keys import encode_keys
from padreel.core.pad import decode_each, encode_observation
from padreel.core.quality import EpisodeFigures
from padreel.dataset import layout
from padreel.dataset.layout import DatasetSpec
from padreel.model import EpisodeDraft

NO_EVENT_AGE = -1.0  # of rows before the session's first EVENT
NEUTRAL = b""  # the EVENT of those rows: a pad at rest

# What is encoded at a time is in memory at a time: for 27,000 rows 6 MB instead of 26.
_GROUP_ROWS = 4_096

Columns = dict[str, NDArray[Any]]  # name -> (rows,) or (rows, slots)


def data_schema(spec: DatasetSpec) -> pa.Schema:
    """The data file's schema: every feature but the camera, in order; with what `datasets` wants to find there."""
    return data_schema_of(layout.features(spec))


def data_schema_of(features: Mapping[str, Any]) -> pa.Schema:
    """The same from info.json's `features`."""
    fields: list[pa.Field] = []
    described: dict[str, dict[str, Any]] = {}
    for name, feature in features.items():
        if feature["dtype"] == "video":
            continue
        value = {"dtype": feature["dtype"], "_type": "Value"}
        kind = pa.type_for_alias(feature["dtype"])
        (size,) = feature["shape"]
        if size == 1:  # LeRobot makes a plain column of a vector with one slot
            fields.append(pa.field(name, kind))
            described[name] = value
        else:
            fields.append(pa.field(name, pa.list_(kind, size)))
            described[name] = {"feature": value, "length": size, "_type": "List"}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": described}})})


def episode_columns(
    spec: DatasetSpec, draft: EpisodeDraft, *, episode_index: int, first_row_index: int, task_index: int
) -> Columns:
    """The episode's rows, column by column, in the order of the features.

    action (rows, slots), observation.state (rows, 27) and observation.keys (rows, keys), float32; the latter only where
    the profile binds keys; capture.time_ns (rows,) int64, since the session's first frame; capture.pad_age (rows,)
    float32, seconds since the paired EVENT, -1 before the first.
    """
    times = np.asarray(draft.time_ns, np.int64)
    pairing = np.asarray(draft.pairing, np.int64)
    rows = len(times)
    # Pads are sent more often than frames: only the EVENTs that a row is paired with are read, each once.
    paired, event = np.unique(pairing, return_inverse=True)
    events = _events(draft.events, paired)
    axes, buttons, pressed = decode_each(events, len(paired), button_base=spec.encoder.button_base)
    # First the rows and then the columns: what was decoded is a quarter of what it becomes.
    axes, buttons, pressed = axes[event], buttons[event], tuple(pressed[number] for number in event)
    position = np.arange(rows, dtype=np.int64)
    columns: Columns = {layout.ACTION: spec.encoder.encode(axes, buttons, pressed)}
    if spec.columns == "full":
        columns[layout.OBSERVATION] = encode_observation(axes, buttons)
        if spec.key_names:
            columns[layout.KEYS] = encode_keys(pressed, spec.encoder.scancodes)
        columns[layout.TIME_NS] = times - draft.session_ns
        columns[layout.PAD_AGE] = pad_age(draft)
    columns["timestamp"] = (position / spec.schema.fps).astype(np.float32)
    columns["frame_index"] = position
    columns["episode_index"] = np.full(rows, episode_index, np.int64)
    columns["index"] = first_row_index + position
    columns["task_index"] = np.full(rows, task_index, np.int64)
    return columns


def _events(events: Iterable[bytes], paired: NDArray[np.int64]) -> Iterator[bytes]:
    """The EVENTs with these numbers, which ascend; -1 is that of a pad at rest."""
    wanted = set(paired.tolist())
    return (event for number, event in enumerate(chain([NEUTRAL], events), -1) if number in wanted)


def pad_age(draft: EpisodeDraft) -> NDArray[np.float32]:
    """Seconds from the paired EVENT to each row, (rows,) float32; -1 before the first EVENT."""
    pairing = np.asarray(draft.pairing, np.int64)
    # One more than there are events, so that -1 has something to take.
    event_ns = np.append(np.asarray(draft.event_ns, np.int64), 0)
    age = (np.asarray(draft.time_ns, np.int64) - event_ns[pairing]) / 1e9
    return np.where(pairing < 0, NO_EVENT_AGE, age).astype(np.float32)


def judged(spec: DatasetSpec, columns: Columns, forced: int) -> EpisodeQuality | None:
    """The quality of an episode's rows, `forced` of which were paired by force; None where there is no gate."""
    if spec.gate is None:
        return None
    states = [columns[name] for name in (layout.OBSERVATION, layout.KEYS) if name in columns]
    return spec.gate.judge(
        EpisodeFigures(
            rows=len(columns["index"]),
            fps=spec.schema.fps,
            forced=forced,
            time_ns=columns.get(layout.TIME_NS),
            pad_age=columns.get(layout.PAD_AGE),
            state=np.concatenate(states, axis=1) if len(states) > 1 else next(iter(states), None),
        )
    )


def data_table(spec: DatasetSpec, columns: Mapping[str, NDArray[Any]]) -> pa.Table:
    """The rows as a table of `data_schema`. Raises ValueError for columns that are missing, unknown or out of order."""
    schema = data_schema(spec)
    if list(columns) != schema.names:
        raise ValueError(f"data columns {list(columns)}, expected {schema.names}")
    return pa.Table.from_arrays([_array(columns[field.name], field.type) for field in schema], schema=schema)


def data_file(spec: DatasetSpec, columns: Mapping[str, NDArray[Any]]) -> bytes:
    """The data parquet file."""
    sink = io.BytesIO()
    table = data_table(spec, columns)
    pq.write_table(table, sink, compression="snappy", use_dictionary=True, row_group_size=_GROUP_ROWS)
    return sink.getvalue()


def _array(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    if pa.types.is_fixed_size_list(kind):
        flat = pa.FixedSizeListArray.from_arrays(flat, kind.list_size)
    return flat.cast(kind)
