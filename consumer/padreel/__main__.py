"""The `padreel` command. Exit codes: 0 done, 1 stopped by an error that is named, 2 wrong usage or settings.

What a command needs is imported when it runs: `--help` must answer at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from padreel.errors import PadreelError, SettingsError
from padreel.options import Option, load, options_of
from padreel.settings import (
    ConsumerSettings,
    ConvertSettings,
    DeadLettersSettings,
    ReplaySettings,
    Settings,
    SkipSettings,
)

# Read when pyarrow is imported: its own allocator keeps tens of megabytes after the first episode.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound=Settings)


class _Commands(click.Group):
    """Turns padreel's own errors into messages and exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            raise click.UsageError(str(error)) from error
        except PadreelError as error:
            raise click.ClickException(str(error)) from error


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


def _load(settings: type[S], values: Mapping[str, object]) -> S:
    return load(settings, {**values, **secrets_of(settings)})


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


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="padreel")
def cli() -> None:
    """Turn live gamepad and video streams into LeRobot datasets."""


@cli.command()
@settings_options(ConsumerSettings)
def consume(**values: object) -> None:
    """Consume the rigs' topics and append episodes to one dataset per partition."""
    settings = _load(ConsumerSettings, values)
    from padreel.app import run_consumer
    from padreel.logs import configure_logging

    configure_logging(settings.log_format)
    run_consumer(settings)


@cli.command()
@settings_options(ConvertSettings)
def convert(**values: object) -> None:
    """Convert a folder of recorded sessions into one dataset, without a broker."""
    settings = _load(ConvertSettings, values)
    from padreel.convert import convert as convert_folder
    from padreel.logs import configure_logging, log_episode

    configure_logging(settings.log_format)
    if settings.watch:
        from padreel.watch import until_signal, watch

        watched = watch(settings, log_episode, until_signal())
        counts = len(watched.converted), len(watched.skipped), watched.episodes, watched.frames
    else:
        result = convert_folder(settings, log_episode)
        counts = len(result.converted_sessions), len(result.skipped_sessions), result.episodes, result.frames
    click.echo("{} sessions converted, {} skipped: {} episodes, {} frames in {}".format(*counts, settings.output_root))


@cli.command()
@settings_options(SkipSettings)
def skip(**values: object) -> None:
    """Record that Kafka lost what a shard still needed, so that its consumer goes on behind the hole."""
    settings = _load(SkipSettings, values)
    import asyncio

    from padreel.logs import configure_logging
    from padreel.skip import skip

    configure_logging(settings.log_format)
    for lost in asyncio.run(skip(settings)):
        click.echo(
            f"partition {settings.partition}, {lost.topic.value}: offsets {lost.first_offset} to "
            f"{lost.next_offset - 1} are given up; the shard's log says so"
        )


@cli.command()
@click.argument("root", metavar="ROOT", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
def status(root: Path, as_json: bool) -> None:
    """Show the open sessions of all shards below ROOT, and the episodes of the last hour.

    It reads the shards' logs alone: no broker is asked, and it may run beside the consumers.
    """
    import time

    from padreel.status import read_status
    from padreel.status_text import show

    show(read_status(root, time.time()), as_json=as_json)


@cli.group("dead-letters")
def dead_letters() -> None:
    """What could not become part of an episode."""


@dead_letters.command("list")
@settings_options(DeadLettersSettings)
def list_(**values: object) -> None:
    """Show the dead letters, oldest first."""
    settings = _load(DeadLettersSettings, values)
    import asyncio

    from padreel.letters_text import show
    from padreel.logs import configure_logging
    from padreel.replay import list_letters

    configure_logging(settings.log_format)
    listed, others = asyncio.run(list_letters(settings))
    show(listed, others, json_lines=settings.json_lines)


@dead_letters.command()
@settings_options(ReplaySettings)
def replay(**values: object) -> None:
    """Publish sessions again after a fix: what of them is in no episode, under a new run."""
    settings = _load(ReplaySettings, values)
    import asyncio

    from padreel.letters_text import say
    from padreel.logs import configure_logging
    from padreel.replay import replay

    configure_logging(settings.log_format)
    outcomes = asyncio.run(replay(settings, lambda outcome: say(outcome, json_lines=settings.json_lines)))
    published = sum(not outcome.why_not for outcome in outcomes)
    click.echo(f"{published} of {len(outcomes)} sessions published again", err=settings.json_lines)


def main() -> None:
    """Entry point of the `padreel` script."""
    cli(prog_name="padreel")


if __name__ == "__main__":
    main()
