"""The commands that look after episodes in quarantine: quarantine list, quarantine release.

What a command needs is imported when it runs.
"""

from __future__ import annotations

from pathlib import Path

import click

from padreel.click_settings import begin, settings_options
from padreel.training.settings import QuarantineListSettings, ReleaseSettings


@click.group()
def quarantine() -> None:
    """Episodes that the quality gate held back when they were committed: they are kept, but not merged."""


@quarantine.command("list")
@click.argument("roots", metavar="ROOT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@settings_options(QuarantineListSettings)
def list_(roots: tuple[Path, ...], **values: object) -> None:
    """Show what is in quarantine in the shards at and below the ROOTs. Nothing is written."""
    settings = begin(QuarantineListSettings, values)
    from padreel.training.quarantine import run_list

    run_list(roots, settings, click.echo)


@quarantine.command()
@click.argument("roots", metavar="ROOT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@settings_options(ReleaseSettings)
def release(roots: tuple[Path, ...], **values: object) -> None:
    """Let episodes out of quarantine, so that merge takes them. A consumer that has their shard takes it again."""
    settings = begin(ReleaseSettings, values)
    from padreel.training.quarantine import run_release

    run_release(roots, settings, click.echo)
