"""What is known of a dataset whose action mapping is not at hand: from its root's file and its info.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from padreel.core.action import ActionEncoder, ActionLayoutEntry
from padreel.core.gate import gate_described
from padreel.dataset import layout
from padreel.dataset.layout import DatasetSpec
from padreel.dataset.root import RootIdentity, read_root
from padreel.errors import DatasetError
from padreel.quality_config import load_quality_config


@dataclass(frozen=True, slots=True)
class NamedSlots:
    """As much of an action encoder as a dataset's descriptive files need; it encodes nothing."""

    names: tuple[str, ...]
    layout: tuple[ActionLayoutEntry, ...]
    key_names: tuple[str, ...]

    @property
    def size(self) -> int:
        return len(self.names)


def root_of(shard: Path) -> Path:
    """The output root of a shard: itself, if `convert` wrote it, else the folder it lies in."""
    return shard if (shard / layout.ROOT_FILE).exists() else shard.parent


def identity_of(shard: Path) -> RootIdentity:
    """What the shard's root was made with. Raises DatasetError, OSError."""
    root = root_of(shard)
    try:
        return read_root(root)
    except FileNotFoundError as error:
        raise DatasetError(f"{root / layout.ROOT_FILE}: missing, expected in a shard's output root") from error


def extension_of(shard: Path) -> dict[str, Any] | None:
    """What the info.json of the shard, or of another one of its root, says under `extensions.game_converter`.

    None where none of them can be read.
    """
    root = root_of(shard)
    for folder in (shard, *sorted(root.glob("partition-*"))):
        try:
            content = json.loads((folder / layout.INFO).read_bytes())["extensions"]["game_converter"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # the next one may be whole; that none is, is for the caller to say
        if isinstance(content, dict):
            return content
    return None


def known_spec(shard: Path) -> tuple[DatasetSpec, bool]:
    """A description of the shard's dataset, and whether it is all that its writer knew.

    False: action layout, profile name and settings are in no info.json any more, and are left empty.
    Raises DatasetError, OSError.
    """
    identity, extension = identity_of(shard), extension_of(shard)
    return spec_from(identity, extension or {}, repo_id=shard.name), extension is not None


def spec_from(identity: RootIdentity, extension: Mapping[str, Any], *, repo_id: str) -> DatasetSpec:
    """The description that follows from a root's identity and an info.json's extension."""
    entries = tuple(ActionLayoutEntry(**one) for one in extension.get("action_layout", ()))
    slots = NamedSlots(identity.action_names, entries, identity.key_names)
    settings, gate = extension.get("settings", {}), extension.get("quality_gate")
    return DatasetSpec(
        repo_id=repo_id,
        schema=identity.schema,
        columns=cast(Literal["full", "minimal"], identity.columns),
        encoder=cast(ActionEncoder, slots),
        default_task=str(settings.get("task", "")),
        settings=settings,
        game_id=identity.game_id,
        class_ids=identity.class_ids,
        profile_name=str(extension.get("profile_name", "")),
        gate=gate_described(load_quality_config(), gate) if gate else None,
    )
