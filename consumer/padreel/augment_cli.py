"""The commands `padreel augment bundle | requests | import`. What they need is imported when they run."""

from __future__ import annotations

from pathlib import Path

import click

from padreel.click_settings import begin, settings_options
from padreel.exports.augment.settings import AugmentBundleSettings, AugmentImportSettings, AugmentRequestsSettings


@click.group()
def augment() -> None:
    """Have a remote video model vary recordings, and take what it gives back as new episodes."""


@augment.command()
@click.argument("path", type=click.Path(path_type=Path))
@settings_options(AugmentBundleSettings)
def bundle(path: Path, **values: object) -> None:
    """Write an mp4 of each episode of PATH, a merged dataset or shards, and the jobs for the model."""
    settings = begin(AugmentBundleSettings, values)
    from padreel.exports.augment.command import run_bundle

    run_bundle(path, settings, click.echo)


@augment.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@settings_options(AugmentRequestsSettings)
def requests(bundle: Path, **values: object) -> None:
    """Write which videos of a BUNDLE a model is to look at: all originals and a share of the variants."""
    settings = begin(AugmentRequestsSettings, values)
    from padreel.exports.augment.command import run_requests

    run_requests(bundle, settings, click.echo)


@augment.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@settings_options(AugmentImportSettings)
def import_(path: Path, **values: object) -> None:
    """Make a dataset of the mp4s that came back and the actions of PATH, which the bundle was made of."""
    settings = begin(AugmentImportSettings, values)
    from padreel.exports.augment.command import run_import

    run_import(path, settings, click.echo)
