"""The `padreel-shim` command: session folders and synthetic rigs to Kafka."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from padreel_schemas.recording import RecordingError
from padreel_shim.follow_cli import follow
from padreel_shim.options import SpeedType, Target, broker_options, option, run_until_signal, session_options
from padreel_shim.producer import PublishError, RigProducer
from padreel_shim.prune_cli import prune_command
from padreel_shim.publish import Published, PublishOptions, publish_session
from padreel_shim.simulate_cli import sample, simulate
from padreel_shim.state import StateError
from padreel_shim.topics import TopicsError, create_topics


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Publish gamepad and video of a recording rig to Kafka."""


@cli.command()
@click.argument("session_dirs", metavar="SESSION_DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@broker_options
@option("--speed", default="1.0", show_default=True, type=SpeedType(), help="Times real time, or max.")
@session_options
@option("--again", is_flag=True, help="Publish finished sessions once more, each as a new run.")
def publish(
    session_dirs: Sequence[Path],
    target: Target,
    speed: float,
    rig_id: str,
    task: str,
    game_id: str,
    state_dir: Path,
    again: bool,
) -> None:
    """Publish recorded sessions as a live rig would, one after the other.

    A SESSION_DIR holds capture.mp4, sync.csv and actions.bin. Stopped and started again, it goes on where it was.
    """
    options = PublishOptions(speed, rig_id, task, game_id, target.frames_topic, target.pads_topic, again)

    async def run() -> int:
        async with target.producer() as producer:
            return await _publish_all(session_dirs, producer, state_dir, options)

    try:
        failed = run_until_signal(run(), "stopped; the same command goes on from here")
    except PublishError as error:
        raise click.ClickException(str(error)) from error
    if failed:
        raise click.ClickException(f"{failed} of {len(session_dirs)} sessions could not be published")


async def _publish_all(folders: Sequence[Path], producer: RigProducer, state_dir: Path, options: PublishOptions) -> int:
    """Publish the folders in turn; return how many could not be. Their errors are told, and the next one is tried."""
    failed = 0
    for folder in folders:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
            bar = progress.add_task(folder.name, total=None)

            def show(published: int, total: int, progress: Progress = progress, bar: Any = bar) -> None:
                progress.update(bar, completed=published, total=total)

            try:
                done = await publish_session(folder, producer, state_dir, options, on_frames=show)
            except (RecordingError, StateError) as error:
                failed += 1
                click.echo(f"Error: {error}", err=True)
                continue
        _tell(done)
    return failed


def _tell(done: Published) -> None:
    for warning in done.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if done.finished_before:
        click.echo(f"{done.key}: published before, nothing sent (--again publishes it as a new run)")
        return
    resumed = f", resumed after {done.resumed_at}" if done.resumed_at else ""
    click.echo(f"{done.key}: {done.frames} frames, {done.events} EVENTs; {done.records} records sent{resumed}")


@cli.command()
@broker_options
@option("--partitions", default=4, show_default=True, type=click.IntRange(1), help="Partitions of each topic.")
@option("--replication-factor", default=1, show_default=True, type=click.IntRange(1), help="Copies of each partition.")
def topics(target: Target, partitions: int, replication_factor: int) -> None:
    """Create both topics with as many partitions each; topics that exist are checked."""
    work = create_topics(
        target.bootstrap_servers,
        target.frames_topic,
        target.pads_topic,
        partitions=partitions,
        replication_factor=replication_factor,
        security=target.security,
    )
    try:
        found = run_until_signal(work, "stopped")
    except TopicsError as error:
        raise click.ClickException(str(error)) from error
    for topic in found:
        what = "created" if topic.created else "exists"
        limit = "" if topic.max_message_bytes is None else f", messages up to {topic.max_message_bytes} bytes"
        click.echo(f"{topic.name}: {what}, {topic.partitions} partitions{limit}")
        if topic.partitions != partitions:
            click.echo(f"Warning: {topic.name} keeps {topic.partitions} partitions, not {partitions}", err=True)


cli.add_command(follow)
cli.add_command(prune_command)
cli.add_command(simulate)
cli.add_command(sample)


def main() -> None:
    """Entry point of `padreel-shim`."""
    cli(prog_name="padreel-shim")
