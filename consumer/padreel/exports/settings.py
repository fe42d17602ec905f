"""Settings of the commands that write what neighbouring systems read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

from padreel.settings import Settings, setting

# What only one format heeds: in the others it changes nothing, and is not recorded.
_OF_FORMAT: Final = {"v2.1": {"chunks_size", "lead"}, "hdf5": set[str](), "bundle": {"bundle_prefix", "bundle_job"}}
_ONLY: Final = set().union(*_OF_FORMAT.values())
_NAME: Final = r"^[A-Za-z0-9-][A-Za-z0-9._-]{0,63}$"  # of a part of a folder's name


class ExportSettings(Settings):
    """Settings of `padreel export`."""

    format: Literal["v2.1", "hdf5", "bundle"] = setting("What to write.")
    output: Path = setting("Folder that becomes the export.", metavar="DIR")
    chunks_size: int = setting("v2.1: episodes in one chunk folder.", 1000, metavar="N", ge=1)
    lead: Literal["hidden", "dropped"] = setting(
        "v2.1: of an episode that begins between two keyframes the pictures that decoding begins with are hidden by "
        "the mp4's edit list; or its rows before the first keyframe are dropped, as LeRobot's converter needs it.",
        "hidden",
    )
    bundle_prefix: str = setting(
        "bundle: what the bundle's folder is called, before the job.", "padreel", pattern=_NAME, metavar="NAME"
    )
    bundle_job: str | None = setting(
        "bundle: the job in its name; unset, a digest of the episodes.", None, pattern=_NAME, metavar="NAME"
    )
    json_output: bool = setting("Print JSON instead of a line.", False, flag="--json", env="PADREEL_JSON")

    def recorded(self) -> dict[str, Any]:
        """What decides what the export holds, JSON-able."""
        others = {"log_format", "output", "json_output"}
        others |= _ONLY - _OF_FORMAT[self.format]
        return {name: value for name, value in self.model_dump(mode="json").items() if name not in others}


class Hdf5ValidateSettings(Settings):
    """Settings of `padreel hdf5 validate`."""

    output: Path | None = setting(
        "Folder that manifest and report are written to; that of the HDF5 file when unset.", None, metavar="DIR"
    )
    json_output: bool = setting("Print JSON instead of a table.", False, flag="--json", env="PADREEL_JSON")


class Hdf5MergeSettings(Settings):
    """Settings of `padreel hdf5 merge`."""

    output: Path = setting("Folder that becomes the merged export.", metavar="DIR")
    json_output: bool = setting("Print JSON instead of a line.", False, flag="--json", env="PADREEL_JSON")
