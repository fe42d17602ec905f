"""Settings of `padreel augment`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import field_validator

from padreel.settings import Settings, setting
from padreel.training.settings import NamesSetting

_MAX_VARIANTS = 1000  # as `jobs` has it; settings load fast
_MAX_SEED = 2**53  # what every reader of JSON keeps exactly


class AugmentBundleSettings(Settings):
    """Settings of `padreel augment bundle`."""

    output: Path = setting("Folder that becomes the bundle for the remote model.", metavar="DIR")
    variants_per_episode: int = setting("Variants asked for of each episode.", metavar="K", ge=1, le=_MAX_VARIANTS)
    base_seed: int = setting("What the seeds of all variants are counted from.", metavar="S", ge=0, le=_MAX_SEED)
    prompt_profiles: NamesSetting = setting(
        "What is to be varied, in words of one's own; variants take them in turn.",
        ("lighting", "texture", "sensor"),
        metavar="NAME[,...]",
    )
    json_output: bool = setting("Print JSON instead of a line.", False, flag="--json", env="PADREEL_JSON")

    @field_validator("prompt_profiles")
    @classmethod
    def _check_profiles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("expected one name at least")
        return value

    def recorded(self) -> dict[str, Any]:
        """What decides what the bundle holds, JSON-able."""
        return self.model_dump(mode="json", exclude={"log_format", "output", "json_output"})


class AugmentRequestsSettings(Settings):
    """Settings of `padreel augment requests`."""

    augmented_sample_ratio: float = setting("Share of the variants that is asked about.", metavar="0..1", ge=0, le=1)
    seed: int = setting("What decides which of them.", metavar="S", ge=0, le=_MAX_SEED)
    output: Path | None = setting("File of requests; unset, reason_requests.jsonl in the bundle.", None, metavar="FILE")
    json_output: bool = setting("Print JSON instead of a line.", False, flag="--json", env="PADREEL_JSON")

    def recorded(self) -> dict[str, Any]:
        """What decides the requests, JSON-able."""
        return self.model_dump(mode="json", include={"augmented_sample_ratio", "seed"})


class AugmentImportSettings(Settings):
    """Settings of `padreel augment import`."""

    bundle: Path = setting("The bundle that the model was given.", metavar="DIR")
    returned: Path | None = setting(
        "Folder with what it gave back; unset, `returned` in the bundle.", None, metavar="DIR"
    )
    output: Path = setting("Folder that becomes the dataset.", metavar="DIR")
    with_originals: bool = setting("Put the original episodes into it too, before the variants.", False)
    allow_missing: bool = setting("Take what has come back, instead of refusing while a file is missing.", False)
    json_output: bool = setting("Print JSON instead of a line.", False, flag="--json", env="PADREEL_JSON")

    def recorded(self) -> dict[str, Any]:
        """What decides what the dataset holds beside bundle and files, JSON-able."""
        return self.model_dump(mode="json", include={"with_originals", "allow_missing"})
