"""Settings of the commands that use recordings afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from padreel.errors import SettingsError
from padreel.settings import BrokerSettings, Settings, dead_letters_topic, parse_time, setting
from padreel.training.merge.selection import Filters, parse_where


def _parse_names(value: object) -> object:
    return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value


NamesSetting = Annotated[tuple[str, ...], BeforeValidator(_parse_names)]
NumbersSetting = Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_parse_names)]
PathsSetting = Annotated[tuple[Path, ...], BeforeValidator(_parse_names)]
SinceSetting = Annotated[int, BeforeValidator(parse_time)]


class CheckSettings(Settings):
    """Settings of `padreel check`."""

    deep: bool = setting("Decode every picture too.", False)
    repair: bool = setting("Make LeRobot's files of a shard anew from its commit log, then check.", False)
    json_output: bool = setting("Print JSON instead of a table.", False, flag="--json", env="PADREEL_JSON")


class LoadedSettings(Settings):
    """Settings of the commands whose result lerobot has to load."""

    require_lerobot: bool | None = setting(
        "Whether a dataset that lerobot cannot load fails the run; unset, it does in production and service mode.",
        None,
        env="REQUIRE_LEROBOT",
        metavar="true|false",
    )
    mode: Literal["development", "production", "service"] = setting(
        "What this is run for; decides the default of --require-lerobot.", "development"
    )

    @property
    def needs_lerobot(self) -> bool:
        """Whether lerobot has to load the result."""
        return self.mode != "development" if self.require_lerobot is None else self.require_lerobot

    def resolved(self) -> dict[str, Any]:
        """The settings as log and manifest have them."""
        return {**self.model_dump(mode="json"), "require_lerobot": self.needs_lerobot}


class MergeSettings(LoadedSettings):
    """Settings of `padreel merge`."""

    output: Path = setting("Folder that becomes the merged dataset.", metavar="DIR")
    compact: bool = setting("Pack small videos into larger ones, at most 1000 s each; packets stay as they are.", False)
    image_stats: Literal["keyframes", "full"] = setting(
        "Image statistics as the shards have them, from keyframes, or anew from every picture (decodes all).",
        "keyframes",
    )
    update: bool = setting("Add to the output what was committed since it was made.", False)
    session: NamesSetting = setting("Only these sessions, names or keys.", (), metavar="NAME[,...]")
    rig: NamesSetting = setting("Only sessions of these rigs.", (), metavar="NAME[,...]")
    since: SinceSetting | None = setting(
        "Only episodes whose last frame was published at this time or later.", None, metavar="TIME"
    )
    where: str = setting(
        "Only episodes whose columns fulfil this, such as 'length >= 300 and forced = 0'.", "", metavar="CONDITION"
    )
    min_progress: float | None = setting(
        "Only sessions of which at least this share of the frames was kept.", None, metavar="0..1", ge=0, le=1
    )
    min_quality: float | None = setting(
        "Only episodes whose quality is at least this.", None, metavar="0..1", ge=0, le=1
    )
    top_k: int | None = setting("Of all these, only so many, the best by quality.", None, metavar="N", ge=1)
    include_quarantined: bool = setting(
        "Also the episodes that the quality gate held back when they were committed.", False
    )
    skip_existing: bool = setting(
        "Leave out sessions that another shard has brought already, instead of ending with an error.", False
    )
    json_output: bool = setting("Print JSON instead of a table.", False, flag="--json", env="PADREEL_JSON")

    @field_validator("where")
    @classmethod
    def _check_where(cls, value: str) -> str:
        if value:
            parse_where(value)
        return value

    @model_validator(mode="after")
    def _check_update(self) -> Self:
        if self.update and self.top_k is not None:
            raise ValueError("--update with --top-k: the best of all cannot be added to; merge anew")
        return self

    @property
    def filters(self) -> Filters:
        """What is let in."""
        return Filters(
            sessions=frozenset(self.session),
            rigs=frozenset(self.rig),
            since_ms=self.since,
            where=parse_where(self.where) if self.where else (),
            min_progress=self.min_progress,
            min_quality=self.min_quality,
            top_k=self.top_k,
            include_quarantined=self.include_quarantined,
        )

    def recorded(self) -> dict[str, Any]:
        """What decides which episodes enter and how they are packed, JSON-able."""
        others = {"log_format", "output", "update", "json_output", "require_lerobot", "mode"}
        return {name: value for name, value in self.model_dump(mode="json").items() if name not in others}


class RelabelSettings(LoadedSettings):
    """Settings of `padreel relabel`."""

    action_mapping: Path = setting("YAML file that maps the gamepad to the actions, the new one.", metavar="FILE")
    output: Path = setting("Folder that becomes the relabelled dataset.", metavar="DIR")
    game_definition: Path | None = setting(
        "YAML file that defines the game's actions, if not those that the dataset has.", None, metavar="FILE"
    )
    button_base: int | None = setting(
        "1 where button ids in recordings and mapping are one too high; as it was when unset.",
        None,
        metavar="0|1",
        ge=0,
        le=1,
    )
    json_output: bool = setting("Print JSON instead of a line.", False, flag="--json", env="PADREEL_JSON")

    def recorded(self) -> dict[str, Any]:
        """What decides the rows, JSON-able: what the files hold, not what they are called. Raises SettingsError."""
        given = {"action_mapping": self.action_mapping, "game_definition": self.game_definition}
        return {"button_base": self.button_base, **{name: _digest(path) for name, path in given.items()}}


class QuarantineListSettings(Settings):
    """Settings of `padreel quarantine list`."""

    json_output: bool = setting("Print JSON instead of a table.", False, flag="--json", env="PADREEL_JSON")


class ReleaseSettings(QuarantineListSettings):
    """Settings of `padreel quarantine release`."""

    session: NamesSetting = setting(
        "Release the episodes in quarantine of these sessions, names or keys.", (), metavar="NAME[,...]"
    )
    episode: NumbersSetting = setting(
        "Release the episodes with these indices in the one shard that is named.", (), metavar="INDEX[,...]"
    )

    @model_validator(mode="after")
    def _check_what(self) -> Self:
        if not self.session and not self.episode:
            raise ValueError("found neither --session nor --episode, expected one that says what to release")
        return self


class EraseSettings(BrokerSettings):
    """Settings of `padreel erase`."""

    bootstrap_servers: str = setting(
        "Kafka brokers to connect to first; without them dead letters stay, and are not looked for.",
        "",
        env="KAFKA_BOOTSTRAP_SERVERS",
        metavar="HOST:PORT[,...]",
        pattern=r"^([^\s,:]+:\d+(,[^\s,:]+:\d+)*)?$",
    )
    session: NamesSetting = setting("Sessions to erase, names or keys.", (), metavar="NAME[,...]")
    rig: NamesSetting = setting("Rigs of which all sessions are to be erased.", (), metavar="NAME[,...]")
    yes: bool = setting("Do it. Without it nothing is changed, and what would be is shown.", False)
    close: bool = setting(
        "Also erase sessions that are still being recorded; what comes of them afterwards is dropped.", False
    )
    merged: PathsSetting = setting(
        "Folders in which to look for merged datasets, exports and renderings of what is erased, beside the ROOTs.",
        (),
        metavar="DIR[,...]",
    )
    dead_letters_topic: str = dead_letters_topic()
    keep_letters: bool = setting("Leave the dead letters of the sessions in their topic, and list them only.", False)
    json_output: bool = setting("Print JSON instead of text.", False, flag="--json", env="PADREEL_JSON")

    @model_validator(mode="after")
    def _check_wanted(self) -> Self:
        if not self.session and not self.rig:
            raise ValueError("--session or --rig: neither was given; say what is to be erased")
        return self

    def recorded(self) -> dict[str, Any]:
        """What decides what is erased, JSON-able; no address and no password."""
        names = ("session", "rig", "close", "merged", "dead_letters_topic", "keep_letters")
        return {name: value for name, value in self.model_dump(mode="json").items() if name in names}


class PlanSettings(Settings):
    """Settings of `padreel plan`."""

    rigs: int | None = setting("How many rigs play at the same time.", None, metavar="N", env="PADREEL_PLAN_RIGS", ge=1)
    hours_per_day: float | None = setting("How long each plays.", None, metavar="H", gt=0, le=24)
    bitrate: float | None = setting("Video of one rig, in Mbit/s.", None, metavar="MBIT", gt=0, le=10_000)
    fps: int = setting("Its frame rate.", 30, ge=1, le=1000)
    retention_days: float = setting("How long Kafka shall keep what was published.", 7.0, metavar="D", gt=0, le=3650)
    replicas: int = setting("Copies that Kafka keeps.", 3, metavar="N", ge=1, le=100)
    buffer_bytes: int = setting("--buffer-bytes of the consumers.", 4 * 2**20, metavar="BYTES", ge=2**20)
    pilot_output_seconds: float | None = setting(
        "Seconds of video that came out of a pilot run of `padreel augment`'s remote model.", None, metavar="S", gt=0
    )
    pilot_wall_seconds: float | None = setting("Seconds that the pilot run took.", None, metavar="S", gt=0)
    pilot_num_gpus: int = setting("GPUs that the pilot run had.", 1, metavar="N", ge=1)
    target_num_gpus: int = setting("GPUs that the whole augmentation would have.", 1, metavar="N", ge=1)
    augment_seconds: float | None = setting(
        "Seconds of recordings to augment; unset, what the fleet plays in a day.", None, metavar="S", gt=0
    )
    variants_per_episode: int = setting("Variants that are made of each of them.", 1, metavar="K", ge=1)
    json_output: bool = setting("Print JSON instead of a table.", False, flag="--json", env="PADREEL_JSON")

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        fleet = {"--rigs": self.rigs, "--hours-per-day": self.hours_per_day, "--bitrate": self.bitrate}
        pilot = {"--pilot-output-seconds": self.pilot_output_seconds, "--pilot-wall-seconds": self.pilot_wall_seconds}
        if any(pilot.values()):
            _check_whole(pilot, "of a pilot")
        if any(fleet.values()) or not any(pilot.values()) or self.augment_seconds is None:
            _check_whole(fleet, "of a fleet")
        return self


class StatsSettings(Settings):
    """Settings of `padreel stats`."""

    save_path: Path = setting("JSON file that becomes the statistics.", metavar="FILE")
    data_name: str = setting("N in the names N_joint, N_delta_joint, N_state_joint.", metavar="N", min_length=1)
    data_type: Literal["joint", "eef"] = setting("What the names end with; the figures do not depend on it.", "joint")
    action_key: str = setting("Column of the actions.", "action", metavar="COLUMN")
    state_key: str = setting("Column of the states.", "observation.state", metavar="COLUMN")
    filter: bool = setting("Mean and deviation without the rows that lie outside q01 to q99 in any slot.", False)
    json_output: bool = setting("Print JSON instead of a table.", False, flag="--json", env="PADREEL_JSON")


def _check_whole(given: Mapping[str, object], of_what: str) -> None:
    """Raises ValueError that names those of `given` that are missing."""
    missing = [flag for flag, value in given.items() if value is None]
    if missing:
        raise ValueError(f"{', '.join(missing)}: missing; the figures {of_what} are needed together")


class ShowSettings(Settings):
    """Settings of `padreel show`."""

    episode: int | None = setting("The episode to render.", None, metavar="K", env="PADREEL_SHOW_EPISODE", ge=0)
    all_episodes: bool = setting("Render all of them.", False, flag="--all", env="PADREEL_SHOW_ALL")
    output_dir: Path | None = setting(
        "Folder for the renderings; unset, it is `vis` in the dataset, from where `merge` takes them along.",
        None,
        metavar="DIR",
    )
    skip_existing: bool = setting("Leave what is there, whole and of the same rows and settings.", False)
    picture_format: Literal["mp4", "png"] = setting(
        "A video of every frame, or one sheet of some of them.", "mp4", flag="--format", env="PADREEL_SHOW_FORMAT"
    )
    pictures: int = setting("How many pictures a sheet has.", 9, metavar="N", ge=1, le=99)
    json_output: bool = setting("Print JSON instead of lines.", False, flag="--json", env="PADREEL_JSON")

    @model_validator(mode="after")
    def _check_which(self) -> Self:
        if self.episode is not None and self.all_episodes:
            raise ValueError("--episode with --all: found both, expected one of them")
        if self.episode is None and not self.all_episodes:
            raise ValueError("--episode or --all: found none of them, expected one")
        return self

    def recorded(self) -> dict[str, Any]:
        """What decides how an episode is drawn, JSON-able."""
        return {"format": self.picture_format, "pictures": self.pictures if self.picture_format == "png" else None}


def _digest(path: Path | None) -> str | None:
    try:
        return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror or error}") from error
