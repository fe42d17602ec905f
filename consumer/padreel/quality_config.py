"""`quality_config.json`: by what episodes are judged, and the threshold of the gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from padreel.core.gate import Gate, gate_of
from padreel.core.quality import QualityConfig, parse_quality_config
from padreel.errors import SettingsError

CONFIG: Final = Path(__file__).with_name("quality_config.json")


def load_quality_config(path: Path = CONFIG) -> QualityConfig:
    """Read the configuration. Raises SettingsError that names the file and the field."""
    try:
        return parse_quality_config(json.loads(path.read_bytes()), str(path))
    except (OSError, ValueError, AttributeError) as error:
        raise SettingsError(str(error)) from error


def quality_gate(asked: float | None, origin: str = "") -> Gate:
    """The gate with the threshold that is asked for, None for the configured one.

    Raises ValueError where it is outside of the range, SettingsError where the configuration cannot be read.
    """
    return gate_of(load_quality_config(), asked, origin)
