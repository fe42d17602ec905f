"""Every setting of `padreel`: flag, environment variable, default and help, in one place.

The commands' options and the documentation's table are generated from the fields here, by `padreel.options`. A setting
is read from its flag, else from its environment variable, else it has its default; it is validated once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    field_validator,
    model_validator,
)

from padreel.core.pipeline import Limits
from padreel.core.rules import Rules
from padreel.model import Schema
from padreel_schemas.security import HELP as SECURITY_HELP
from padreel_schemas.security import PLAINTEXT, SECRETS, Mechanism, Protocol, Security, checked_security, variable

_NS = 1_000_000_000
_UTC_OFFSET = re.compile(r"(Z|[+-]\d\d:?\d\d)$")


class Size(NamedTuple):
    """Picture size in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def _parse_size(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"([1-9]\d{0,4})[xX]([1-9]\d{0,4})", value.strip())
    if match is None:
        raise ValueError("expected WIDTHxHEIGHT in pixels, such as 1280x720")
    return Size(int(match[1]), int(match[2]))


def parse_time(value: object, expected: str = "expected") -> object:
    """A time as milliseconds of the epoch; values that are no text stay. Raises ValueError."""
    if not isinstance(value, str):
        return value
    if re.fullmatch(r"\d{1,15}", value):
        return int(value)
    expected = f"{expected} milliseconds of the epoch, or an ISO 8601 time with its UTC offset"
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(expected) from None
    if not _UTC_OFFSET.search(value):
        raise ValueError(f"{expected}: the UTC offset is missing, as in 2026-01-31T18:00:00+00:00")
    return int(time.astimezone(UTC).timestamp() * 1000)


def _parse_start(value: object) -> object:
    """'earliest', 'latest', or a time as milliseconds of the epoch."""
    return value if value in ("earliest", "latest") else parse_time(value, "expected 'earliest', 'latest',")


def dead_letters_topic() -> Any:
    """The setting of that name, for every command that has it."""
    return setting(
        "Topic that takes what cannot be used, with the reason; made if it is not there.",
        "padreel.dead-letters",
        env="KAFKA_DEAD_LETTERS_TOPIC",
        min_length=1,
    )


def _episodes_topic() -> Any:
    return setting(
        "Topic that is told what became of each episode, once it is committed; made if it is not there.",
        "padreel.episodes",
        env="KAFKA_EPISODES_TOPIC",
        min_length=1,
    )


def _parse_secret(value: object) -> object:
    """Spaces at the ends of a password are part of it, unlike those of other settings."""
    return SecretStr(value) if isinstance(value, str) else value


SizeSetting = Annotated[Size, BeforeValidator(_parse_size)]
StartSetting = Annotated[Literal["earliest", "latest"] | Annotated[int, Field(ge=0)], BeforeValidator(_parse_start)]
SecretSetting = Annotated[SecretStr, BeforeValidator(_parse_secret)]
Columns = Literal["full", "minimal"]


def setting(
    description: str, default: Any = ..., *, env: str = "", metavar: str = "", flag: str = "", **limits: Any
) -> Any:
    """A field that is one setting; without `flag` and `env` these are made of its name."""
    extra: dict[str, Any] = {"env": env, "metavar": metavar, "flag": flag}
    return Field(default, description=description, json_schema_extra=extra, **limits)


def _security_setting(name: str, default: Any = None, *, metavar: str = "") -> Any:
    return setting(SECURITY_HELP[name], default, env=variable(name), metavar=metavar)


class Settings(BaseModel):
    """What the settings of all commands have in common."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, str_strip_whitespace=True, hide_input_in_errors=True
    )

    log_format: Literal["auto", "json", "console"] = setting(
        "Log lines as JSON or for people; 'auto' is for people on a terminal, else JSON.", "auto"
    )
    _origins: Mapping[str, str] = PrivateAttr(default_factory=dict)

    def set_origins(self, origins: Mapping[str, str]) -> None:
        """Say of settings that were given where they are from, by name: a flag, a variable of the environment."""
        self._origins = dict(origins)

    def origin(self, name: str) -> str:
        """Where a setting is from: 'default', its flag or variable, 'argument' where a program gave it."""
        return self._origins.get(name, "argument") if name in self.model_fields_set else "default"


class GameSettings(Settings):
    """The two files that say what an action is."""

    game_definition: Path = setting("YAML file that defines the game's actions.", metavar="FILE")
    action_mapping: Path = setting("YAML file that maps the gamepad to those actions.", metavar="FILE")


class OutputSettings(Settings):
    """What is written, and where."""

    output_root: Path = setting("Folder the dataset is written to.", metavar="DIR")
    repo_id: str = setting("The dataset's LeRobot repo id.", metavar="OWNER/NAME", min_length=1)
    task: str = setting("Task of sessions that bring none of their own.", min_length=1)
    max_pre_action_seconds: float | None = setting(
        "How much idle time to keep before a session's first action; all of it when unset.",
        None,
        metavar="SECONDS",
        ge=0,
        le=1_000_000,
    )
    max_episode_seconds: float = setting(
        "Split a session at the first keyframe (IDR) so long after its episode began.",
        900.0,
        metavar="SECONDS",
        gt=0,
        le=1000,
    )
    columns: Columns = setting(
        "'minimal' writes the pictures and the action only; 'full' also the raw pad, exact times and the pad's age.",
        "full",
    )
    idle_deadzone: float = setting(
        "A stick or trigger nearer to zero than this is no action.", 0.1, metavar="0..1", gt=0, le=1
    )
    button_base: int = setting(
        "1 reads recordings or mappings whose button ids are one too high.", 0, metavar="0|1", ge=0, le=1
    )

    min_quality_score: float | None = setting(
        "Quarantine an episode whose quality is below: it is kept, but not merged. 0.5 to 0.95; 0.55 when unset.",
        None,
        env="MIN_QUALITY_SCORE",
        metavar="0.5..0.95",
    )

    @field_validator("min_quality_score")
    @classmethod
    def _check_threshold(cls, value: float | None) -> float | None:
        if value is not None:
            from padreel.quality_config import quality_gate  # needs numpy, and `--help` must answer at once

            quality_gate(value)
        return value

    def rules(self, schema: Schema, game_id: str) -> Rules:
        """The pipeline's rules for sessions of this schema and game."""
        window = self.max_pre_action_seconds
        return Rules(
            schema=schema,
            game_id=game_id,
            max_pre_action_ns=None if window is None else round(window * _NS),
            max_episode_ns=round(self.max_episode_seconds * _NS),
            session_timeout_ns=round(getattr(self, "session_timeout_seconds", 120.0) * _NS),
            media_timeout_ns=round(getattr(self, "media_timeout_seconds", 3600.0) * _NS),
        )

    def recorded(self) -> dict[str, object]:
        """What info.json keeps of the settings, JSON-able: those that decide what rows there are."""
        names = ("task", "max_pre_action_seconds", "max_episode_seconds", "columns", "idle_deadzone", "button_base")
        return {"strict": False, **{name: getattr(self, name) for name in names}}


class DatasetSettings(OutputSettings, GameSettings):
    """What `consume` and `convert` have in common."""


class BrokerSettings(Settings):
    """How to connect to Kafka."""

    bootstrap_servers: str = setting(
        "Kafka brokers to connect to first.",
        env="KAFKA_BOOTSTRAP_SERVERS",
        metavar="HOST:PORT[,...]",
        pattern=r"^[^\s,:]+:\d+(,[^\s,:]+:\d+)*$",
    )
    security_protocol: Protocol = _security_setting("security_protocol", "PLAINTEXT")
    sasl_mechanism: Mechanism | None = _security_setting("sasl_mechanism")
    sasl_username: str | None = _security_setting("sasl_username", metavar="NAME")
    sasl_password: SecretSetting | None = _security_setting("sasl_password")
    sasl_password_file: Path | None = _security_setting("sasl_password_file", metavar="FILE")
    ssl_ca_file: Path | None = _security_setting("ssl_ca_file", metavar="FILE")
    ssl_cert_file: Path | None = _security_setting("ssl_cert_file", metavar="FILE")
    ssl_key_file: Path | None = _security_setting("ssl_key_file", metavar="FILE")
    ssl_key_password: SecretSetting | None = _security_setting("ssl_key_password")
    ssl_key_password_file: Path | None = _security_setting("ssl_key_password_file", metavar="FILE")
    ssl_check_hostname: bool = _security_setting("ssl_check_hostname", True, metavar="true|false")
    _security: Security = PrivateAttr(default=PLAINTEXT)

    @model_validator(mode="after")
    def _check_security(self) -> Self:
        given = {name: getattr(self, name) for name in SECURITY_HELP}
        secrets = {name: given[name].get_secret_value() for name in SECRETS if given[name] is not None}
        self._security = checked_security(**{**given, **secrets})
        return self

    @property
    def security(self) -> Security:
        """The settings about it, checked, their files read."""
        return self._security

    @property
    def connection(self) -> dict[str, Any]:
        """What every client of Kafka is given. Holds the password."""
        return {"bootstrap_servers": self.bootstrap_servers, **self._security.client_options()}


class ConsumerSettings(BrokerSettings, DatasetSettings):
    """Settings of `padreel consume`."""

    group_id: str = setting(
        "Kafka consumer group. One output root belongs to one group.", "padreel", env="KAFKA_GROUP_ID", min_length=1
    )
    group_timeout_seconds: float = setting(
        "A consumer that the broker has not heard for so long loses its partitions to the others of the group.",
        10.0,
        env="KAFKA_GROUP_TIMEOUT_SECONDS",
        metavar="SECONDS",
        ge=1,
        le=1800,
    )
    frames_topic: str = setting("Topic of the video frames.", "padreel.frames", env="KAFKA_FRAMES_TOPIC", min_length=1)
    pads_topic: str = setting(
        "Topic of the gamepad snapshots.", "padreel.gamepad", env="KAFKA_PADS_TOPIC", min_length=1
    )
    dead_letters_topic: str = dead_letters_topic()
    episodes_topic: str = _episodes_topic()
    fps: int = setting("Frame rate of the dataset; sessions of another are rejected.", ge=1, le=1000)
    size: SizeSetting = setting("Picture size of the dataset; sessions of another are rejected.", metavar="WxH")
    codec: Literal["h264", "hevc", "av1"] = setting("Codec of the dataset; sessions of another are rejected.", "h264")
    session_timeout_seconds: float = setting(
        "A session without a frame for so long is cut there.", 120.0, metavar="SECONDS", gt=0, le=86_400
    )
    media_root: Path | None = setting(
        "Folder of the recordings that sessions by reference name; nothing outside it is opened.", None, metavar="DIR"
    )
    media_timeout_seconds: float = setting(
        "How long to wait for it after the session's END, or silence.", 3600.0, metavar="SECONDS", gt=0, le=604_800
    )
    start: StartSetting = setting(
        "Where to begin on a partition that has no commit yet.", "earliest", metavar="earliest|latest|TIME"
    )
    rigs: Path | None = setting(
        "Rig ids, one per line, that metrics name; 'RIG deny' drops that rig's records. Read again when it changes.",
        None,
        metavar="FILE",
    )
    until: Literal["end"] | None = setting(
        "'end' stops when everything that was published before start-up is committed (backfill).", None
    )
    metrics_port: int | None = setting(
        "Serve /metrics, /livez and /readyz on this port; 0 takes any free one. Off when unset.",
        None,
        metavar="PORT",
        ge=0,
        le=65_535,
    )
    metrics_host: str = setting(
        "Address to serve them on; 0.0.0.0 for every interface.", "127.0.0.1", metavar="ADDRESS", min_length=1
    )
    buffer_records: int = setting(
        "Undecided frames, and undecided pad records, to hold per partition before reading waits.",
        100_000,
        metavar="N",
        ge=1_000,
    )
    buffer_bytes: int = setting(
        "Bytes of pad records, and of video waiting for the disk, to hold per partition before reading waits.",
        4 * 2**20,
        metavar="BYTES",
        ge=2**20,
    )

    @property
    def schema_of_root(self) -> Schema:
        """The schema that every session must have."""
        return Schema(codec=self.codec, width=self.size.width, height=self.size.height, fps=self.fps)

    @property
    def limits(self) -> Limits:
        """What one partition may hold undecided."""
        return Limits(frames=self.buffer_records, pads=self.buffer_records, pad_bytes=self.buffer_bytes)

    def recorded(self) -> dict[str, object]:
        return {**super().recorded(), "session_timeout_seconds": self.session_timeout_seconds}


class ConversionSettings(OutputSettings):
    """What a conversion needs beside a game and an action mapping."""

    session_root: Path = setting("Folder whose immediate child folders are recorded sessions.", metavar="DIR")
    strict: bool = setting("Fail at the first invalid session instead of skipping it.", False)

    def recorded(self) -> dict[str, object]:
        return {**super().recorded(), "strict": self.strict}


class ConvertSettings(ConversionSettings, DatasetSettings):
    """Settings of `padreel convert`."""

    watch: bool = setting(
        "Keep going until Ctrl-C, converting each session once its recorder has closed it; started again it goes on.",
        False,
    )
    settle_seconds: float = setting(
        "With --watch: take a session when none of its files has changed for so long.",
        2.0,
        metavar="SECONDS",
        gt=0,
        le=3600,
    )


class SkipSettings(BrokerSettings):
    """Settings of `padreel skip`."""

    output_root: Path = setting("Folder that the shards are in.", metavar="DIR")
    partition: int = setting("Partition of the shard.", metavar="N", ge=0)
    frames_to: int | None = setting(
        "Give up the frame records before this offset; when unset those that the broker has deleted.",
        None,
        metavar="OFFSET",
        ge=0,
    )
    pads_to: int | None = setting("The same for the gamepad records.", None, metavar="OFFSET", ge=0)


class DeadLettersSettings(BrokerSettings):
    """Settings of `padreel dead-letters list`."""

    dead_letters_topic: str = dead_letters_topic()
    session: str | None = setting("Key of one session, <session>@<run>; all when unset.", None, metavar="KEY")
    every: bool = setting("Also those that were published again already.", False)
    json_lines: bool = setting("One JSON object per line instead of a table.", False)


class ReplaySettings(DeadLettersSettings):
    """Settings of `padreel dead-letters replay`."""

    output_root: Path = setting(
        "Folder that the shards are in: what is in one of their episodes is not published again.", metavar="DIR"
    )
