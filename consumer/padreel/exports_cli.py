"""The commands that write, and check, what neighbouring systems read: export, hdf5, bundle.

What a command needs is imported when it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from padreel.click_settings import begin, settings_options
from padreel.exports.settings import ExportSettings, Hdf5MergeSettings, Hdf5ValidateSettings


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@settings_options(ExportSettings)
def export(path: Path, **values: object) -> None:
    """Write a merged dataset, or the shards below a folder, in the form that another system reads."""
    settings = begin(ExportSettings, values)
    from padreel.exports.export_command import run_export

    run_export(path, settings, click.echo)


@click.group()
def hdf5() -> None:
    """Look after HDF5 exports."""


@hdf5.command()
@click.argument("path", type=click.Path(path_type=Path))
@settings_options(Hdf5ValidateSettings)
def validate(path: Path, **values: object) -> None:
    """Check an HDF5 export with its videos, and write its manifest and a report.

    Exit code 0 is PASS, 3 WARN, 4 FAIL.
    """
    settings = begin(Hdf5ValidateSettings, values)
    from padreel.exports.hdf5.command import run_validate

    raise SystemExit(run_validate(path, settings, click.echo))


@hdf5.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@settings_options(Hdf5MergeSettings)
def merge(paths: tuple[Path, ...], **values: object) -> None:
    """Merge HDF5 exports into one. Videos are hard-linked."""
    settings = begin(Hdf5MergeSettings, values)
    from padreel.exports.hdf5.command import run_hdf5_merge

    run_hdf5_merge(paths, settings, click.echo)


@click.group()
def bundle() -> None:
    """Episode bundles, as `padreel export --format bundle` and others write them."""


@bundle.command("validate")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def validate_bundle(path: Path, as_json: bool) -> None:
    """Check a bundle, or a folder of them; name each missing file and the rule that wants it.

    Exit code 0 is PASS, 4 FAIL.
    """
    from padreel.exports.bundle.command import run_validate

    raise SystemExit(run_validate(path, click.echo, as_json=as_json))


COMMANDS: Final = (export, hdf5, bundle)
