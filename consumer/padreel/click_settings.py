"""Settings as options of click commands."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from padreel.options import Option, load, options_of
from padreel.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound=Settings)


def settings_options(settings: type[Settings]) -> Callable[[F], F]:
    """Give a command one option per field of `settings` that has a flag."""

    def decorate(command: F) -> F:
        for option in reversed(options_of(settings)):
            if option.flag is not None:
                command = _click_option(option, option.flag)(command)
        return command

    return decorate


def secrets_of(settings: type[Settings], environment: Mapping[str, str] = os.environ) -> dict[str, str | None]:
    """The settings that have no flag, by name; None where the variable is unset or empty."""
    return {option.name: environment.get(option.env) or None for option in options_of(settings) if option.flag is None}


def load_settings(settings: type[S], values: Mapping[str, object]) -> S:
    """Validate what a command was given, with the secrets out of the environment. Raises SettingsError."""
    return load(settings, {**values, **secrets_of(settings)}, _origins(settings))


def begin(settings: type[S], values: Mapping[str, object]) -> S:
    """The same; from here on the command logs as its settings say."""
    loaded = load_settings(settings, values)
    from padreel.logs import configure_logging

    configure_logging(loaded.log_format)
    return loaded


def _origins(settings: type[Settings]) -> dict[str, str]:
    """Where the options of the command that runs are from: their flags, or variables of the environment."""
    context = click.get_current_context(silent=True)
    if context is None:
        return {}
    found: dict[str, str] = {}
    for option in options_of(settings):
        source = context.get_parameter_source(option.name)
        if source is ParameterSource.COMMANDLINE and option.flag is not None:
            found[option.name] = option.flag
        elif source is ParameterSource.ENVIRONMENT:
            found[option.name] = option.env
    return found


def _click_option(option: Option, flag: str) -> Callable[[F], F]:
    named: dict[str, Any] = {"envvar": option.env, "show_envvar": True}
    text = option.help
    if option.is_switch:
        return click.option(flag, option.name, is_flag=True, default=None, help=text, **named)
    if option.required:
        text += "  [required]"
    elif option.default is not None:
        text += f"  [default: {option.default}]"
    kind = click.Choice(option.choices) if option.choices else click.STRING
    # Required ones are checked by `load`, which names everything that is missing at once.
    return click.option(flag, option.name, type=kind, metavar=option.metavar, help=text, **named)
