"""The `padreel` command. Exit codes: 0 done, 1 stopped by an error that is named, 2 wrong usage or settings.

What a command needs is imported when it runs: `--help` must answer at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from padreel.augment_cli import augment
from padreel.click_settings import begin, settings_options
from padreel.errors import PadreelError, SettingsError
from padreel.exports_cli import COMMANDS as EXPORT_COMMANDS
from padreel.quarantine_cli import quarantine
from padreel.settings import (
    ConsumerSettings,
    ConvertSettings,
    DeadLettersSettings,
    ReplaySettings,
    SkipSettings,
)
from padreel.training_cli import COMMANDS

# Read when pyarrow is imported: its own allocator keeps tens of megabytes after the first episode.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


class _Commands(click.Group):
    """Turns padreel's own errors into messages and exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            raise click.UsageError(str(error)) from error
        except PadreelError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="padreel")
def cli() -> None:
    """Turn live gamepad and video streams into LeRobot datasets."""


@cli.command()
@settings_options(ConsumerSettings)
def consume(**values: object) -> None:
    """Consume the rigs' topics and append episodes to one dataset per partition."""
    settings = begin(ConsumerSettings, values)
    from padreel.app import run_consumer
    from padreel.lean import leave_pandas_out

    leave_pandas_out()
    run_consumer(settings)


@cli.command()
@settings_options(ConvertSettings)
def convert(**values: object) -> None:
    """Convert a folder of recorded sessions into one dataset, without a broker."""
    settings = begin(ConvertSettings, values)
    from padreel.convert import convert as convert_folder
    from padreel.lean import collect_seldom, leave_pandas_out
    from padreel.logs import log_episode

    leave_pandas_out()
    collect_seldom()
    if settings.watch:
        from padreel.watch import until_signal, watch

        watched = watch(settings, log_episode, until_signal())
        counts = len(watched.converted), len(watched.skipped), watched.episodes, watched.frames
        where = f"{settings.output_root}"
    else:
        result = convert_folder(settings, log_episode)
        counts = len(result.converted_sessions), len(result.skipped_sessions), result.episodes, result.frames
        where = f"{settings.output_root}, run {result.run}"
    click.echo("{} sessions converted, {} skipped: {} episodes, {} frames in {}".format(*counts, where))


@cli.command()
@settings_options(SkipSettings)
def skip(**values: object) -> None:
    """Record that Kafka lost what a shard still needed, so that its consumer goes on behind the hole."""
    settings = begin(SkipSettings, values)
    import asyncio

    from padreel.skip import skip

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
    settings = begin(DeadLettersSettings, values)
    import asyncio

    from padreel.letters_text import show
    from padreel.replay import list_letters

    listed, others = asyncio.run(list_letters(settings))
    show(listed, others, json_lines=settings.json_lines)


@dead_letters.command()
@settings_options(ReplaySettings)
def replay(**values: object) -> None:
    """Publish sessions again after a fix: what of them is in no episode, under a new run."""
    settings = begin(ReplaySettings, values)
    import asyncio

    from padreel.letters_text import say
    from padreel.replay import replay

    outcomes = asyncio.run(replay(settings, lambda outcome: say(outcome, json_lines=settings.json_lines)))
    published = sum(not outcome.why_not for outcome in outcomes)
    click.echo(f"{published} of {len(outcomes)} sessions published again", err=settings.json_lines)


for _command in (*COMMANDS, *EXPORT_COMMANDS, augment, quarantine):
    cli.add_command(_command)


def main() -> None:
    """Entry point of the `padreel` script."""
    cli(prog_name="padreel")


if __name__ == "__main__":
    main()
