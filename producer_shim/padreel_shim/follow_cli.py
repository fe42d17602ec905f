"""The command `padreel-shim follow`."""

from __future__ import annotations

from pathlib import Path

import click

from padreel_shim.follower import follow_root
from padreel_shim.options import Target, broker_options, option, run_until_signal, session_options
from padreel_shim.producer import PublishError
from padreel_shim.publish import Published
from padreel_shim.state import StateError
from padreel_shim.watch import FollowOptions, Surroundings, VideoMode


@click.command()
@click.argument("root", type=click.Path(path_type=Path, file_okay=False, exists=True))
@broker_options
@option(
    "--video",
    type=click.Choice(["inline", "reference"]),
    default="inline",
    show_default=True,
    help="Pictures in Kafka, or in the file that the recorder writes, which the consumer then opens.",
)
@option(
    "--media-root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder that the consumer's --media-root is, seen from here; by default ROOT.",
)
@option(
    "--closed-after-seconds",
    type=click.FloatRange(0, min_open=True),
    default=5.0,
    show_default=True,
    help="A whole recording that has not changed for so long is closed.",
)
@option(
    "--poll-seconds",
    type=click.FloatRange(0, min_open=True),
    default=0.2,
    show_default=True,
    help="How often to look for what was appended.",
)
@session_options
def follow(
    root: Path,
    target: Target,
    video: VideoMode,
    media_root: Path | None,
    closed_after_seconds: float,
    poll_seconds: float,
    rig_id: str,
    task: str,
    game_id: str,
    state_dir: Path,
) -> None:
    """Publish the sessions that a recorder writes below ROOT, while it writes them.

    Runs until it is stopped; stopped and started again, it goes on where it was.
    """
    options = FollowOptions(
        video=video,
        media_root=(media_root or root) if video == "reference" else None,
        poll_seconds=poll_seconds,
        closed_after_seconds=closed_after_seconds,
        rig_id=rig_id,
        task=task,
        game_id=game_id,
        frames_topic=target.frames_topic,
        pads_topic=target.pads_topic,
    )

    async def run() -> None:
        async with target.producer() as producer:
            await follow_root(root, Surroundings(producer, state_dir, options, _tell), _published)

    try:
        run_until_signal(run(), "stopped; the same command goes on from here")
    except (PublishError, StateError) as error:
        raise click.ClickException(str(error)) from error


def _tell(text: str) -> None:
    click.echo(f"Warning: {text}", err=True)


def _published(done: Published) -> None:
    for warning in done.warnings:
        _tell(warning)
    resumed = f", resumed after {done.resumed_at}" if done.resumed_at else ""
    click.echo(f"{done.key}: {done.frames} frames, {done.events} EVENTs; {done.records} records sent{resumed}")
