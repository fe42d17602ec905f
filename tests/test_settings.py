from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from padreel.errors import SettingsError
from padreel.model import Schema
from padreel.options import configuration_table, load, options_of
from padreel.settings import ConsumerSettings, ConvertSettings, Size

GIVEN: dict[str, object] = {
    "bootstrap_servers": "127.0.0.1:9092",
    "game_definition": "game.yaml",
    "action_mapping": "mapping.yaml",
    "output_root": "out",
    "repo_id": "me/melee",
    "task": "play",
    "fps": "60",
    "size": "1280x720",
}


def test_strings_become_values() -> None:
    settings = load(ConsumerSettings, GIVEN)
    assert settings.fps == 60
    assert settings.size == Size(1280, 720)
    assert settings.output_root == Path("out")
    assert settings.schema_of_root == Schema("h264", 1280, 720, 60)
    assert (settings.group_id, settings.start, settings.until) == ("padreel", "earliest", None)
    assert (settings.metrics_port, settings.metrics_host) == (None, "127.0.0.1")
    assert settings.max_pre_action_seconds is None


def test_none_is_not_given() -> None:
    assert load(ConsumerSettings, {**GIVEN, "columns": None}).columns == "full"


def test_settings_are_frozen() -> None:
    settings = load(ConsumerSettings, GIVEN)
    with pytest.raises(ValidationError):
        setattr(settings, "fps", 30)  # noqa: B010 - the type checker knows that it is read-only


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("earliest", "earliest"),
        ("latest", "latest"),
        ("1790000000123", 1790000000123),
        ("2026-01-31T18:00:00+00:00", 1769882400000),
        ("2026-01-31T18:00:00Z", 1769882400000),
        ("2026-01-31T20:00:00.5+02:00", 1769882400500),
    ],
)
def test_start(text: str, start: object) -> None:
    assert load(ConsumerSettings, {**GIVEN, "start": text}).start == start


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("size", "1280", "--size (PADREEL_SIZE): found '1280': expected WIDTHxHEIGHT"),
        ("size", "0x720", "--size (PADREEL_SIZE): found '0x720'"),
        ("fps", "29.97", "--fps (PADREEL_FPS): found '29.97'"),
        ("fps", "0", "--fps (PADREEL_FPS): found '0'"),
        ("codec", "vp9", "--codec (PADREEL_CODEC): found 'vp9'"),
        ("start", "yesterday", "--start (PADREEL_START): found 'yesterday': expected 'earliest'"),
        ("start", "2026-01-31T18:00:00", "the UTC offset is missing"),
        ("max_episode_seconds", "1001", "--max-episode-seconds (PADREEL_MAX_EPISODE_SECONDS): found '1001'"),
        ("max_pre_action_seconds", "nan", "--max-pre-action-seconds (PADREEL_MAX_PRE_ACTION_SECONDS): found 'nan'"),
        ("max_pre_action_seconds", "-1", "--max-pre-action-seconds"),
        ("bootstrap_servers", "broker", "--bootstrap-servers (KAFKA_BOOTSTRAP_SERVERS): found 'broker'"),
        ("metrics_port", "65536", "--metrics-port (PADREEL_METRICS_PORT): found '65536'"),
        ("repo_id", " ", "--repo-id (PADREEL_REPO_ID)"),
    ],
)
def test_what_cannot_be_used_is_named_by_flag_and_environment(name: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(ConsumerSettings, {**GIVEN, name: value})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_everything_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load(ConsumerSettings, {})
    missing = {line.split(" ")[0] for line in str(caught.value).splitlines()}
    assert missing == {"--" + name.replace("_", "-") for name in GIVEN}


def test_the_brokers_settings_have_kafkas_prefix() -> None:
    environment = {option.env for option in options_of(ConsumerSettings)}
    kafka = {name for name in environment if name.startswith("KAFKA_")}
    assert kafka == {
        *("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_GROUP_ID", "KAFKA_FRAMES_TOPIC", "KAFKA_PADS_TOPIC"),
        *("KAFKA_GROUP_TIMEOUT_SECONDS", "KAFKA_DEAD_LETTERS_TOPIC", "KAFKA_EPISODES_TOPIC"),
        *("KAFKA_SECURITY_PROTOCOL", "KAFKA_SASL_MECHANISM", "KAFKA_SASL_USERNAME"),
        *("KAFKA_SASL_PASSWORD", "KAFKA_SASL_PASSWORD_FILE"),
        *("KAFKA_SSL_CA_FILE", "KAFKA_SSL_CERT_FILE", "KAFKA_SSL_KEY_FILE", "KAFKA_SSL_CHECK_HOSTNAME"),
        *("KAFKA_SSL_KEY_PASSWORD", "KAFKA_SSL_KEY_PASSWORD_FILE"),
    }
    assert all(name.startswith("PADREEL_") for name in environment - kafka - {"MIN_QUALITY_SCORE"})
    assert len(environment) == len(ConsumerSettings.model_fields)


def test_rules_are_in_nanoseconds() -> None:
    settings = load(ConsumerSettings, {**GIVEN, "max_pre_action_seconds": "0.5", "session_timeout_seconds": "2"})
    rules = settings.rules(settings.schema_of_root, "melee")
    assert rules.max_pre_action_ns == 500_000_000
    assert rules.max_episode_ns == 900_000_000_000
    assert rules.session_timeout_ns == 2_000_000_000
    assert rules.game_id == "melee"


def test_what_info_json_keeps() -> None:
    kept = load(ConsumerSettings, GIVEN).recorded()
    assert kept["task"] == "play"
    assert kept["strict"] is False
    assert kept["max_pre_action_seconds"] is None
    given = {name: GIVEN[name] for name in ("game_definition", "action_mapping", "output_root", "repo_id", "task")}
    assert load(ConvertSettings, {**given, "session_root": "s", "strict": True}).recorded()["strict"] is True


def test_the_table_has_a_row_for_every_setting() -> None:
    rows = configuration_table(ConsumerSettings).splitlines()[2:]
    assert len(rows) == len(ConsumerSettings.model_fields)
    assert "| `--fps` | `PADREEL_FPS` | required |" in "\n".join(rows)
    assert "| `--until end` | `PADREEL_UNTIL` |  |" in "\n".join(rows)
    assert "|  | `KAFKA_SASL_PASSWORD` |  |" in "\n".join(rows)
    assert "| `--idle-deadzone 0..1` | `PADREEL_IDLE_DEADZONE` | `0.1` |" in "\n".join(rows)
