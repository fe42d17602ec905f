"""The settings as a person meets them: flags, environment variables, the documentation's table, messages."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from padreel.errors import SettingsError
from padreel.settings import Settings
from padreel_schemas.security import SECRETS


@dataclass(frozen=True, slots=True)
class Option:
    """One setting as a person meets it.

    A secret has no `flag`: it is in the environment alone. `default` is None where there is none or the setting is
    required.
    """

    name: str
    flag: str | None
    env: str
    help: str
    metavar: str | None
    choices: tuple[str, ...]
    default: str | None
    required: bool
    is_switch: bool


def options_of(settings: type[Settings]) -> list[Option]:
    """The options of a command, those that must be given first."""
    found = [_option(name, field) for name, field in settings.model_fields.items()]
    return sorted(found, key=lambda option: not option.required)


def _option(name: str, field: FieldInfo) -> Option:
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    required = field.is_required()
    default = None if required or field.default is None or field.default is False else str(field.default)
    return Option(
        name=name,
        flag=None if name in SECRETS else str(extra["flag"]) or "--" + name.replace("_", "-"),
        env=str(extra["env"]) or f"PADREEL_{name.upper()}",
        help=field.description or "",
        metavar=str(extra["metavar"]) or None,
        choices=() if extra["metavar"] else _choices(field.annotation),
        default="true" if field.default is True else default,
        required=required,
        is_switch=field.default is False,
    )


def _choices(annotation: object) -> tuple[str, ...]:
    if get_origin(annotation) is Literal:
        return tuple(str(value) for value in get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(choice for part in get_args(annotation) for choice in _choices(part))
    return ()


def configuration_table(settings: type[Settings]) -> str:
    """The settings as a Markdown table, for the documentation."""
    lines = ["| flag | environment | default | meaning |", "|---|---|---|---|"]
    for option in options_of(settings):
        values = option.metavar or "|".join(option.choices)
        flag = f"`{option.flag} {values}".rstrip().replace("|", "\\|") + "`" if option.flag else ""
        default = "required" if option.required else f"`{option.default}`" if option.default is not None else ""
        lines.append(f"| {flag} | `{option.env}` | {default} | {option.help} |")
    return "\n".join(lines) + "\n"


S = TypeVar("S", bound=Settings)


def load(settings: type[S], values: Mapping[str, object], origins: Mapping[str, str] | None = None) -> S:
    """Validate `values` by field name; a value of None counts as not given. `origins` say where those given are from.

    Raises SettingsError that names flag and environment variable of everything that is wrong.
    """
    try:
        loaded = settings.model_validate({name: value for name, value in values.items() if value is not None})
        loaded.set_origins(origins or {})
        return loaded
    except ValidationError as error:
        options = {option.name: option for option in options_of(settings)}
        problems: dict[str, str] = {}
        for problem in error.errors(include_url=False):
            message = problem["msg"].removeprefix("Value error, ")
            if not problem["loc"]:  # of several settings together, which it names itself
                problems[""] = message
                continue
            name = str(problem["loc"][0])
            option = options.get(name)
            where = (f"{option.flag} ({option.env})" if option.flag else option.env) if option else name
            is_shown = problem["type"] != "missing" and name not in SECRETS
            found = f": found {problem['input']!r}" if is_shown else ""
            problems.setdefault(name, f"{where}{found}: {message}")
        raise SettingsError("\n".join(problems.values())) from None
