"""An episode's rows under another action mapping, from its raw EVENTs. Pure but for parsing them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from padreel.core.action import ActionEncoder
from padreel.core.keys import encode_keys
from padreel.core.pad import decode_states, encode_observation, snapshot_of
from padreel.dataset import layout
from padreel.dataset.layout import DatasetSpec
from padreel.dataset.rows import Columns, data_table
from padreel.errors import CorruptShardError
from padreel.training.relabel.pairing import recover_pairing


@dataclass(frozen=True, slots=True)
class Relabelled:
    """The rows as they are now, and those columns that were made anew."""

    table: pa.Table
    columns: Columns


def split_events(content: bytes, where: str) -> list[bytes]:
    """The payloads of a gamepad file. Raises CorruptShardError where its lengths do not add up."""
    found: list[bytes] = []
    at = 0
    while at < len(content):
        size = struct.unpack_from("<I", content, at)[0] if len(content) - at >= 4 else len(content)
        payload = content[at + 4 : at + 4 + size]
        if len(payload) != size:
            raise CorruptShardError(f"{where}: EVENT {len(found)} at byte {at} is cut short")
        found.append(payload)
        at += 4 + size
    return found


def relabel_rows(table: pa.Table, events: list[bytes], before_base: int, spec: DatasetSpec, where: str) -> Relabelled:
    """Make action, pad and keys of an episode anew; its other columns stay.

    `before_base` is the button base that the rows were made with. Raises CorruptShardError where rows and EVENTs do not
    belong together.
    """
    pairing = _pairing(table, events, before_base, where)
    encoder: ActionEncoder = spec.encoder
    # Pairing -1 takes the last state, which is the neutral one.
    axes, buttons, keys = decode_states((*events, b""), button_base=encoder.button_base)
    made: Columns = {
        layout.ACTION: encoder.encode(axes, buttons, keys)[pairing],
        layout.OBSERVATION: encode_observation(axes, buttons)[pairing],
    }
    if spec.key_names:
        made[layout.KEYS] = encode_keys(keys, encoder.scancodes)[pairing]
    columns: Columns = {}
    for name, feature in layout.features(spec).items():
        if feature["dtype"] != "video":
            columns[name] = made[name] if name in made else table.column(name).to_numpy()
    return Relabelled(data_table(spec, columns), made)


def _pairing(table: pa.Table, events: list[bytes], base: int, where: str) -> np.ndarray:
    try:
        event_ns = np.asarray([snapshot_of(event).monotonic_ns for event in events], np.int64)
        axes, buttons, _ = decode_states(events, button_base=base)
    except ValueError as error:
        raise CorruptShardError(f"{where}: {error}") from error
    shown = table.column(layout.OBSERVATION).combine_chunks()
    row_state = shown.flatten().to_numpy(zero_copy_only=False).reshape(table.num_rows, -1).astype(np.float32)
    pairing = recover_pairing(
        table.column(layout.TIME_NS).to_numpy(),
        table.column(layout.PAD_AGE).to_numpy().astype(np.float32),
        event_ns,
        row_state,
        encode_observation(axes, buttons),
    )
    if pairing is None:
        raise CorruptShardError(
            f"{where}: its EVENTs do not give the pad that its rows show; it is not of this episode, or was recorded "
            f"with another button base than {base}"
        )
    return pairing
