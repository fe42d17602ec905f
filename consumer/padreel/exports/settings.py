"""Settings of the commands that write what neighbouring systems read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from padreel.settings import Settings, setting


class ExportSettings(Settings):
    """Settings of `padreel export`."""

    format: Literal["v2.1"] = setting("What to write.")
    output: Path = setting("Folder that becomes the export.", metavar="DIR")
    chunks_size: int = setting("v2.1: episodes in one chunk folder.", 1000, metavar="N", ge=1)
    lead: Literal["dropped", "hidden"] = setting(
        "v2.1: of an episode that begins between two keyframes the rows before the first one are dropped, or kept with "
        "the pictures hidden that decoding begins with, which not every reader can.",
        "dropped",
    )
    json_output: bool = setting("Print JSON instead of a line.", False, flag="--json", env="PADREEL_JSON")

    def recorded(self) -> dict[str, Any]:
        """What decides what the export holds, JSON-able."""
        others = {"log_format", "output", "json_output"}
        return {name: value for name, value in self.model_dump(mode="json").items() if name not in others}
