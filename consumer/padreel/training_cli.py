"""The commands that use recordings afterwards: check, merge, relabel, show, stats, erase, plan.

What a command needs is imported when it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from padreel.click_settings import begin, load_settings, settings_options
from padreel.training.settings import (
    CheckSettings,
    EraseSettings,
    MergeSettings,
    PlanSettings,
    RelabelSettings,
    ShowSettings,
    StatsSettings,
)


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@settings_options(CheckSettings)
def check(path: Path, **values: object) -> None:
    """Check a session folder, a shard or a merged dataset, or a folder of them.

    Exit code 0 is PASS, 3 WARN, 4 FAIL.
    """
    settings = begin(CheckSettings, values)
    from padreel.training.check.command import run_check

    raise SystemExit(run_check(path, settings, click.echo))


@click.command()
@click.argument("roots", metavar="ROOT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@settings_options(MergeSettings)
def merge(roots: tuple[Path, ...], **values: object) -> None:
    """Merge all shards at and below the ROOTs into one LeRobot dataset. Videos are hard-linked, never re-encoded."""
    settings = begin(MergeSettings, values)
    from padreel.training.merge.command import run_merge

    run_merge(roots, settings, click.echo)


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@settings_options(RelabelSettings)
def relabel(path: Path, **values: object) -> None:
    """Make a merged dataset, or the shards below a folder, anew under another action mapping."""
    settings = begin(RelabelSettings, values)
    from padreel.training.relabel.command import run_relabel

    run_relabel(path, settings, click.echo)


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@settings_options(ShowSettings)
def show(path: Path, **values: object) -> None:
    """Render episodes for people: the frames with the pad drawn over them, and the actions over time.

    PATH is a shard, a merged or relabelled dataset, or a folder of them.
    """
    settings = begin(ShowSettings, values)
    from padreel.training.show.command import run_show

    run_show(path, settings, click.echo)


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@settings_options(StatsSettings)
def stats(path: Path, **values: object) -> None:
    """Save the figures that normalise actions and states of a shard or a merged dataset, in one JSON file."""
    settings = load_settings(StatsSettings, values)
    from padreel.training.stats_command import run_stats

    run_stats(path, settings, click.echo)


@click.command()
@click.argument("roots", metavar="ROOT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@settings_options(EraseSettings)
def erase(roots: tuple[Path, ...], **values: object) -> None:
    """Take sessions out of all shards at and below the ROOTs, for good. Shows what it would do, unless --yes is given.

    Videos, rows, raw gamepad states and dead letters go; that they were erased stays in the logs.
    """
    settings = begin(EraseSettings, values)
    from padreel.training.erase.command import run_erase

    run_erase(roots, settings, click.echo)


@click.command()
@settings_options(PlanSettings)
def plan(**values: object) -> None:
    """Say what a fleet needs: partitions, consumers, disk, Kafka; and what augmenting its recordings would cost."""
    settings = load_settings(PlanSettings, values)
    from padreel.training.plan_command import run_plan

    run_plan(settings, click.echo)


COMMANDS: Final = (check, merge, relabel, show, stats, erase, plan)
