"""From settings, a game and an action mapping to what a dataset is to hold."""

from __future__ import annotations

import structlog

from padreel.core.action import ActionEncoder, ActionMappingProfile, GameDefinition
from padreel.core.gate import Gate
from padreel.dataset.layout import DatasetSpec
from padreel.model import Schema
from padreel.profiles import load_action_mapping_profile, load_game_definition
from padreel.quality_config import quality_gate
from padreel.settings import DatasetSettings, OutputSettings

_log = structlog.get_logger("padreel.dataset")


def gate_from(settings: OutputSettings) -> Gate:
    """The quality gate. Raises SettingsError where its configuration cannot be read."""
    return quality_gate(settings.min_quality_score, settings.origin("min_quality_score"))


def log_gate(settings: OutputSettings) -> None:
    """Say once, at the start, what the gate will do."""
    described = gate_from(settings).described()
    _log.info("quality gate: an episode below the threshold is kept, but not merged", **described)


def dataset_spec(settings: DatasetSettings, schema: Schema) -> DatasetSpec:
    """What the dataset is to hold, from the settings and the two YAML files. Raises ProfileError."""
    game = load_game_definition(settings.game_definition)
    profile = load_action_mapping_profile(settings.action_mapping, button_base=settings.button_base)
    return spec_of(settings, schema, game, profile, str(settings.action_mapping))


def spec_of(
    settings: OutputSettings,
    schema: Schema,
    game: GameDefinition,
    profile: ActionMappingProfile,
    source: str = "action mapping",
) -> DatasetSpec:
    """What the dataset is to hold; `source` names the profile in messages. Raises ProfileError."""
    encoder = ActionEncoder(game, profile, source)
    if not profile.complete:
        _log.warning("the action mapping says that it is not complete", file=source)
    return DatasetSpec(
        repo_id=settings.repo_id,
        schema=schema,
        columns=settings.columns,
        encoder=encoder,
        default_task=settings.task,
        settings={**settings.recorded(), "complete": profile.complete},
        game_id=game.game_id,
        class_ids=profile.class_ids,
        profile_name=profile.profile_name,
        gate=gate_from(settings),
    )
