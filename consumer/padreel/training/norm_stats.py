"""`padreel stats`: the figures of all actions and states of a dataset, in one JSON file in the form that readers know.

Beside the file lies `<name>.manifest.json`, which says of what and how it was made. The dataset is only read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from padreel.core.normalization import BUTTON_FLOOR, STICK_FLOOR, Figures, differences, figures
from padreel.errors import DatasetError
from padreel.training.build import update_is_interrupted
from padreel.training.one_file import save_file
from padreel.training.settings import StatsSettings
from padreel.training.source import digest_of
from padreel.training.tree import Place, Tree, TreeError, read_table, read_tree

EPISODE: Final = "episode_index"


@dataclass(frozen=True, slots=True)
class SavedStats:
    """What was saved, or was there already; `figures` by the name that the file has them under."""

    outcome: Literal["created", "unchanged"]
    run: str
    episodes: int
    frames: int
    figures: Mapping[str, Figures]


def save_stats(source: Path, settings: StatsSettings) -> SavedStats:
    """Compute and save the figures of the shard or merged dataset `source`.

    Raises DatasetError where it cannot be read, lacks a column, or something else has the name of the file; OSError.
    """
    target = settings.save_path
    tree = _opened(source)
    actions, states = _columns(tree, settings.action_key), _columns(tree, settings.state_key)
    found = _figures(settings, actions, states)
    content = json.dumps({name: one.named() for name, one in found.items()}, indent=4, allow_nan=False).encode() + b"\n"
    saved = save_file(target, content, _told(source, tree, settings, found), "--save-path")
    return SavedStats(saved.outcome, saved.run, len(tree.places), sum(len(one) for one in actions), found)


def _opened(source: Path) -> Tree:
    if update_is_interrupted(source):
        raise DatasetError(f"{source}: an update was interrupted: run `padreel merge --update` again first")
    try:
        tree = read_tree(source)
    except TreeError as error:
        raise DatasetError(f"{error}; expected a shard or a merged dataset") from error
    if not tree.places:
        raise DatasetError(f"{source}: has no episode")
    return tree


def _columns(tree: Tree, key: str) -> list[NDArray[Any]]:
    """One column of every episode, in their order, each (rows, slots). Raises DatasetError."""
    vectors = [name for name, one in tree.info["features"].items() if _is_vector(one)]
    if key not in vectors:
        raise DatasetError(f"{tree.root}: found no column {key!r} of numbers, expected one of {', '.join(vectors)}")
    found: list[NDArray[Any]] = []
    for name, places in _by_file(tree):
        path = tree.root / name
        try:
            table = read_table(path, [EPISODE, key])
        except TreeError as error:
            raise DatasetError(str(error)) from error
        episodes, values = table[EPISODE].to_numpy(), _numbers(table[key], path, key)
        for place in places:
            rows = values[episodes == place.index]
            if len(rows) != place.length:
                raise DatasetError(
                    f"{path}: episode {place.index}: {len(rows)} rows, expected {place.length}; see `padreel check`"
                )
            found.append(rows)
    return found


def _is_vector(feature: Mapping[str, Any]) -> bool:
    return str(feature["dtype"]).startswith("float") and len(feature["shape"]) == 1


def _by_file(tree: Tree) -> Iterator[tuple[str, list[Place]]]:
    batch: list[Place] = []
    for place in tree.places:
        if batch and batch[0].data != place.data:
            yield batch[0].data, batch
            batch = []
        batch.append(place)
    if batch:
        yield batch[0].data, batch


def _numbers(column: pa.ChunkedArray, path: Path, key: str) -> NDArray[Any]:
    """A column as (rows, slots). Raises DatasetError where there is a null, or no finite number."""
    flat = column.combine_chunks()
    if pa.types.is_fixed_size_list(flat.type):
        flat = flat.flatten()
    values = flat.to_numpy(zero_copy_only=False)
    if flat.null_count or not np.all(np.isfinite(values)):
        raise DatasetError(f"{path}: {key}: found a null, an infinity or no number, expected finite numbers")
    table: NDArray[Any] = values.reshape(len(column), -1)
    return table


def _figures(settings: StatsSettings, actions: list[NDArray[Any]], states: list[NDArray[Any]]) -> dict[str, Figures]:
    name, kind = settings.data_name, settings.data_type
    tables = {
        f"{name}_{kind}": actions,
        f"{name}_delta_{kind}": differences(actions),
        f"{name}_state_{kind}": states,
    }
    found = {}
    for label, episodes in tables.items():
        try:
            found[label] = figures(np.concatenate(episodes), is_filtered=settings.filter)
        except ValueError as error:
            hint = "; leave out --filter" if settings.filter else ""
            raise DatasetError(f"{label}: {error}{hint}") from error
    return found


def _told(source: Path, tree: Tree, settings: StatsSettings, found: Mapping[str, Figures]) -> dict[str, Any]:
    """What the manifest says of the figures."""
    recorded = settings.model_dump(mode="json", exclude={"save_path", "log_format", "json_output"})
    return {
        "command": "stats",
        "settings": recorded,
        "config_hash": digest_of(recorded),
        "source": str(source),
        "episodes": [{"index": one.index, "frames": one.length} for one in tree.places],
        "floors": {"button": BUTTON_FLOOR, "stick": STICK_FLOOR},
        "figures": {
            name: {"rows": one.rows, "kept": one.kept, "floored_slots": list(one.floored)}
            for name, one in found.items()
        },
        "names": {key: tree.info["features"][key]["names"] for key in (settings.action_key, settings.state_key)},
    }
