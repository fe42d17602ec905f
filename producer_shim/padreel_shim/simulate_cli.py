"""The commands `padreel-shim simulate` and `padreel-shim sample`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from padreel_shim.options import SpeedType, Target, broker_options, option, run_until_signal
from padreel_shim.producer import PublishError
from padreel_shim.sample import write_session_folder
from padreel_shim.simulate import Played, play_all, rigs_like
from padreel_shim.synthetic import SyntheticRig


class SizeType(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.4
    """A picture size such as 1280x720."""

    name = "WxH"

    def convert(
        self, value: str | tuple[int, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        width, _, height = value.lower().partition("x")
        if not (width.isdecimal() and height.isdecimal()):
            self.fail(f"{value!r} is no size; expected one such as 1280x720", param, ctx)
        return int(width), int(height)


class RateType(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.4
    """A frame rate: a number, or a fraction such as 30000/1001."""

    name = "RATE"

    def convert(self, value: str | Fraction, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        try:
            rate = Fraction(value)
        except (ValueError, ZeroDivisionError):
            self.fail(f"{value!r} is no frame rate; expected one such as 30 or 30000/1001", param, ctx)
        return rate


def _rig_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say what the rigs are like."""
    options: Sequence[Any] = (
        click.option("--rigs", default=1, show_default=True, type=click.IntRange(1), help="How many rigs."),
        click.option("--seconds", default=15.0, show_default=True, help="Length of each session."),
        click.option("--fps", default="30", show_default=True, type=RateType(), help="Frames per second."),
        click.option("--size", default="1280x720", show_default=True, type=SizeType(), help="Size of the pictures."),
        click.option("--seed", default=0, show_default=True, help="The same seed gives the same sessions."),
        click.option("--gop", default=60, show_default=True, help="Frames from one IDR to the next."),
    )
    for add in reversed(options):
        command = add(command)
    return command


def _rigs(
    count: int, seed: int, seconds: float, fps: Fraction, size: tuple[int, int], gop: int, task: str, game_id: str
) -> dict[str, SyntheticRig]:
    try:
        template = SyntheticRig(str(seed), seconds, *size, fps=fps, gop=gop, task=task, game_id=game_id)
        return rigs_like(template, count)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


@click.command()
@_rig_options
@option("--speed", default="1.0", show_default=True, type=SpeedType(), help="Times real time, or max.")
@broker_options
@option("--task", default="", help="What the players are asked to do; empty: the consumer's default.")
@option("--game-id", default="", help="The game's id; empty: the consumer does not check it.")
def simulate(
    rigs: int,
    seconds: float,
    fps: Fraction,
    size: tuple[int, int],
    seed: int,
    gop: int,
    speed: float,
    target: Target,
    task: str,
    game_id: str,
) -> None:
    """Play synthetic rigs: numbered pictures, H.264 with B-frames, a scripted pad."""
    sessions = _rigs(rigs, seed, seconds, fps, size, gop, task, game_id)

    async def run() -> Sequence[Played]:
        async with target.producer() as producer:
            return await play_all(sessions, producer, speed=speed)

    try:
        result = run_until_signal(run(), "stopped; no session was ended, so consumers wait for more of them")
    except PublishError as error:
        raise click.ClickException(str(error)) from error
    for played in result:
        late = f", at most {played.behind_s:.2f} s behind its clock" if played.behind_s > 0.1 else ""
        click.echo(f"{played.key}: {played.records} records published{late}")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@_rig_options
def sample(folder: Path, rigs: int, seconds: float, fps: Fraction, size: tuple[int, int], seed: int, gop: int) -> None:
    """Write synthetic sessions into FOLDER, each a folder as a recorder leaves it."""
    for name, rig in _rigs(rigs, seed, seconds, fps, size, gop, "", "").items():
        try:
            write_session_folder(folder / name, rig)
        except FileExistsError as error:
            raise click.ClickException(f"{folder / name}: exists already, expected a name that is free") from error
        click.echo(f"{folder / name}: {rig.frame_count} frames")
