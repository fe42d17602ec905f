"""`padreel-shim prune`."""

from __future__ import annotations

from pathlib import Path

import click

from padreel_schemas.security import Security
from padreel_shim.coverage import collect
from padreel_shim.events import EPISODES_TOPIC, EventsError, read_events
from padreel_shim.options import connection_options, option, run_until_signal, state_dir_option
from padreel_shim.prune import PruneOptions, finish_pruning, prune


@click.command("prune")
@click.argument("root", type=click.Path(path_type=Path, exists=True, file_okay=False))
@connection_options
@option(
    "--episodes-topic",
    env="KAFKA_EPISODES_TOPIC",
    default=EPISODES_TOPIC,
    show_default=True,
    help="Topic on which consumers tell what became of episodes.",
)
@option(
    "--group-id",
    env="KAFKA_GROUP_ID",
    default="padreel",
    show_default=True,
    help="Consumer group whose shards count; what others tell does not.",
)
@click.option(
    "--move-to",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Move the folders there instead of deleting them.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--rejected", is_flag=True, help="Also sessions that were rejected, or of which the rest was.")
@state_dir_option
def prune_command(
    root: Path,
    bootstrap_servers: str,
    security: Security,
    episodes_topic: str,
    group_id: str,
    move_to: Path | None,
    dry_run: bool,
    rejected: bool,
    state_dir: Path,
) -> None:
    """Delete the sessions in ROOT of which every frame is in a shard, and say why the others are kept.

    A session goes, with all that is in its folder, when it is published to its end, its files are those that were
    published, and consumers have told that each of its frames is in an episode or was trimmed as idle.
    """
    options = PruneOptions(root.absolute(), state_dir, move_to, dry_run, rejected)
    try:
        finish_pruning(options)
        reading = read_events(bootstrap_servers, episodes_topic, security)
        cluster_id, events = run_until_signal(reading, "stopped; nothing was deleted")
        gone = kept = 0
        for one in prune(options, collect(events, group_id), cluster_id):
            gone, kept = gone + (not one.kept), kept + bool(one.kept)
            click.echo(f"{one.folder}: {_words(options, one.kept)}")
    except (EventsError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{gone} sessions {_words(options, '')}, {kept} kept")


def _words(options: PruneOptions, kept: str) -> str:
    if kept:
        return f"kept: {kept}"
    done = "moved" if options.move_to is not None else "deleted"
    return f"would be {done}" if options.dry_run else done
