from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from padreel.__main__ import cli, consume
from padreel.errors import BrokerError
from padreel.options import options_of
from padreel.settings import ConsumerSettings

REQUIRED = {
    "--bootstrap-servers": "127.0.0.1:9092",
    "--game-definition": "game.yaml",
    "--action-mapping": "mapping.yaml",
    "--output-root": "out",
    "--repo-id": "me/melee",
    "--task": "play",
    "--fps": "30",
    "--size": "640x480",
}
ARGUMENTS = [word for pair in REQUIRED.items() for word in pair]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[ConsumerSettings]:
    """The settings that a consumer would have been started with."""
    import padreel.app

    found: list[ConsumerSettings] = []
    monkeypatch.setattr(padreel.app, "run_consumer", found.append)
    monkeypatch.setattr("padreel.logs.configure_logging", lambda log_format: None)
    for option in options_of(ConsumerSettings):
        monkeypatch.delenv(option.env, raising=False)
    return found


@pytest.mark.parametrize("arguments", [["--help"], ["consume", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys, padreel.__main__ as command\n"
        f"sys.argv = ['padreel', *{arguments!r}]\n"
        "try:\n    command.main()\n"
        "except SystemExit as done:\n    assert done.code == 0, done.code\n"
        "print('MODULES', *sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    text, _, modules = done.stdout.rpartition("MODULES ")
    assert "Usage: padreel" in text
    heavy = {"torch", "pyarrow", "aiokafka", "av", "numpy", "lerobot", "aiohttp", "prometheus_client", "google", "yaml"}
    assert heavy & set(modules.split()) == set()


def test_every_setting_is_an_option_with_its_environment_variable() -> None:
    with click.Context(consume) as context:
        text = consume.get_help(context)
    for option in options_of(ConsumerSettings):
        assert option.flag is None or option.flag in text
        assert option.env in text.replace("\n", "").replace(" ", "")


def test_flags_win_over_the_environment(taken: list[ConsumerSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADREEL_FPS", "60")
    monkeypatch.setenv("KAFKA_GROUP_ID", "studio")
    monkeypatch.setenv("PADREEL_COLUMNS", "minimal")
    result = CliRunner().invoke(cli, ["consume", *ARGUMENTS])
    assert result.exit_code == 0, result.output
    (settings,) = taken
    assert (settings.fps, settings.group_id, settings.columns) == (30, "studio", "minimal")


def test_the_environment_alone_is_enough(taken: list[ConsumerSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    names = {option.flag: option.env for option in options_of(ConsumerSettings) if option.flag}
    for flag, value in REQUIRED.items():
        monkeypatch.setenv(names[flag], value)
    assert CliRunner().invoke(cli, ["consume"]).exit_code == 0
    assert taken[0].output_root == Path("out")


@pytest.mark.parametrize("arguments", [["--fps", "x"], ["--columns", "some"], ["--unknown"], ["--until", "now"]])
def test_wrong_usage_ends_with_2(taken: list[ConsumerSettings], arguments: list[str]) -> None:
    result = CliRunner().invoke(cli, ["consume", *ARGUMENTS, *arguments])
    assert result.exit_code == 2
    assert arguments[0] in result.output
    assert not taken


def test_an_error_of_padreel_is_one_line_and_ends_with_1(
    taken: list[ConsumerSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    import padreel.app

    def fail(settings: ConsumerSettings) -> None:
        raise BrokerError("no broker answers")

    monkeypatch.setattr(padreel.app, "run_consumer", fail)
    result = CliRunner().invoke(cli, ["consume", *ARGUMENTS])
    assert result.exit_code == 1
    assert result.output == "Error: no broker answers\n"


def test_a_bug_is_not_hidden(taken: list[ConsumerSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    import padreel.app

    def fail(settings: ConsumerSettings) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(padreel.app, "run_consumer", fail)
    result = CliRunner().invoke(cli, ["consume", *ARGUMENTS])
    assert result.exit_code != 0
    assert isinstance(result.exception, ZeroDivisionError)
