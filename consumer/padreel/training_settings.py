"""Settings of the commands that use recordings afterwards."""

from __future__ import annotations

from padreel.settings import Settings, setting


class CheckSettings(Settings):
    """Settings of `padreel check`."""

    deep: bool = setting("Decode every picture too.", False)
    repair: bool = setting("Make LeRobot's files of a shard anew from its commit log, then check.", False)
    json_output: bool = setting("Print JSON instead of a table.", False, flag="--json", env="PADREEL_JSON")
