"""The commands that look after episodes in quarantine: quarantine list, quarantine release.

What a command needs is imported when it runs.
"""

from __future__ import annotations

from pathlib import Path

import click

from padreel.click_settings import load_settings, settings_options
from padreel.training.settings import QuarantineListSettings, ReleaseSettings


@click.group()
def quarantine() -> None:
    """Episodes that the quality gate held back when they were committed: they are kept, but not merged."""


@quarantine.command("list")
@click.argument("roots", metavar="ROOT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@settings_options(QuarantineListSettings)
def list_(roots: tuple[Path, ...], **values: object) -> None:
    """Show what is in quarantine in the shards at and below the ROOTs. Nothing is written."""
    settings = load_settings(QuarantineListSettings, values)
    from padreel.logs import configure_logging
    from padreel.training.quarantine import run_list

    configure_logging(settings.log_format)
    run_list(roots, settings, click.echo)


@quarantine.command()
@click.argument("roots", metavar="ROOT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@settings_options(ReleaseSettings)
def release(roots: tuple[Path, ...], **values: object) -> None:
    """Let episodes out of quarantine, so that merge takes them. A consumer that has their shard takes it again."""
    settings = load_settings(ReleaseSettings, values)
    from padreel.logs import configure_logging
    from padreel.training.quarantine import run_release

    configure_logging(settings.log_format)
    run_release(roots, settings, click.echo)
