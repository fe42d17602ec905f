"""The commands that write what neighbouring systems read: export.

What a command needs is imported when it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from padreel.click_settings import load_settings, settings_options
from padreel.exports.settings import ExportSettings


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@settings_options(ExportSettings)
def export(path: Path, **values: object) -> None:
    """Write a merged dataset, or the shards below a folder, in the form that another system reads."""
    settings = load_settings(ExportSettings, values)
    from padreel.exports.export_command import run_export
    from padreel.logs import configure_logging

    configure_logging(settings.log_format)
    run_export(path, settings, click.echo)


COMMANDS: Final = (export,)
