"""What the commands of `padreel-shim` have in common: options, and how they end on a signal."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from padreel_schemas.security import (
    HELP,
    MECHANISMS,
    PROTOCOLS,
    SECRETS,
    Security,
    SecurityError,
    checked_security,
    flag,
    variable,
)
from padreel_shim.producer import FRAMES_TOPIC, PADS_TOPIC, RigProducer
from padreel_shim.state import default_state_dir

Result = TypeVar("Result")
Command = TypeVar("Command", bound=Callable[..., Any])


def run_until_signal(work: Coroutine[Any, Any, Result], stopped: str) -> Result:
    """Run `work`; SIGINT or SIGTERM cancels it; once it has ended the process says `stopped` and exits.

    The exit code says by which signal, as a shell's does.
    """
    received: list[int] = []

    async def run() -> Result:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work)

        def stop(signum: int) -> None:
            received.append(signum)
            task.cancel()

        for signum in (signal.SIGINT, signal.SIGTERM):
            if sys.platform == "win32":  # its loops take no signal handlers
                signal.signal(signum, lambda number, _: loop.call_soon_threadsafe(stop, number))
            else:
                loop.add_signal_handler(signum, stop, signum)
        return await task

    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        if not received:
            raise
        click.echo(stopped, err=True)
        raise SystemExit(128 + received[0]) from None


class SpeedType(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.4
    """How fast to play: a factor of real time, or `max`, which becomes infinity."""

    name = "FACTOR|max"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            speed = float("inf") if value == "max" else float(value)
        except ValueError:
            speed = 0.0
        if not speed > 0:
            self.fail(f"{value!r} is no speed; expected a number above 0, or max", param, ctx)
        return speed


def option(name: str, *, env: str = "", **settings: Any) -> Callable[[Command], Command]:
    """An option that is also an environment variable: `env`, by default PADREEL_<NAME>."""
    variable = env or "PADREEL_" + name.removeprefix("--").replace("-", "_").upper()
    return click.option(name, envvar=variable, show_envvar=True, **settings)


def state_dir_option(command: Command) -> Command:
    """Add where it is kept how far sessions are published."""
    return option(
        "--state-dir",
        type=click.Path(path_type=Path, file_okay=False),
        default=default_state_dir,
        show_default="~/.local/state/padreel-shim",
        help="Where it is kept how far each session is published.",
    )(command)


def session_options(command: Command) -> Command:
    """Add what is said of the sessions that a rig publishes, and where it is kept how far they are."""
    for add in (
        state_dir_option,
        option("--game-id", default="", help="The game's id; empty: the consumer does not check it."),
        option("--task", default="", help="What the player was asked to do; empty: the consumer's default."),
        option("--rig-id", default="", help="Name of this rig, kept with every episode."),
    ):
        command = add(command)
    return command


@dataclass(frozen=True, slots=True)
class Target:
    """The topics that a command is about, and how to connect to their brokers."""

    bootstrap_servers: str
    frames_topic: str
    pads_topic: str
    security: Security

    def producer(self) -> RigProducer:
        """A producer for these topics."""
        return RigProducer(self.bootstrap_servers, self.frames_topic, self.pads_topic, security=self.security)


_SECURITY_TYPES: dict[str, dict[str, Any]] = {
    "security_protocol": {"type": click.Choice(PROTOCOLS), "default": PROTOCOLS[0], "show_default": True},
    "sasl_mechanism": {"type": click.Choice(MECHANISMS)},
    "sasl_username": {"metavar": "NAME"},
    "ssl_check_hostname": {"type": click.BOOL, "metavar": "true|false", "default": True, "show_default": "true"},
}
_A_FILE: dict[str, Any] = {"type": click.Path(path_type=Path), "metavar": "FILE"}


def connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how to connect to the brokers; their variables are those of `padreel consume`.

    The command gets them as two arguments, `bootstrap_servers` and `security`.
    """

    @functools.wraps(command)
    def with_security(*arguments: Any, **values: Any) -> object:
        given = {name: values.pop(name) for name in HELP if name not in SECRETS}
        secrets: dict[str, Any] = {name: os.environ.get(variable(name)) or None for name in SECRETS}
        try:
            security = checked_security(**given, **secrets)
        except SecurityError as error:
            raise click.UsageError(str(error)) from error
        return command(*arguments, security=security, **values)

    for add in (
        *(
            option(flag(name), env=variable(name), help=HELP[name], **_SECURITY_TYPES.get(name, _A_FILE))
            for name in reversed(HELP)
            if name not in SECRETS
        ),
        option(
            "--bootstrap-servers",
            env="KAFKA_BOOTSTRAP_SERVERS",
            required=True,
            help="Kafka brokers, host:port[,host:port...].",
        ),
    ):
        with_security = add(with_security)
    return with_security


def broker_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where the topics are, and how to connect to their brokers.

    The command gets them as one argument, `target`.
    """

    @functools.wraps(command)
    def with_target(
        *arguments: Any, bootstrap_servers: str, security: Security, frames_topic: str, pads_topic: str, **values: Any
    ) -> object:
        target = Target(bootstrap_servers, frames_topic, pads_topic, security)
        return command(*arguments, target=target, **values)

    decorated: Callable[..., Any] = with_target
    for add in (
        option(
            "--pads-topic",
            env="KAFKA_PADS_TOPIC",
            default=PADS_TOPIC,
            show_default=True,
            help="Topic of the gamepad states.",
        ),
        option(
            "--frames-topic",
            env="KAFKA_FRAMES_TOPIC",
            default=FRAMES_TOPIC,
            show_default=True,
            help="Topic of the video frames.",
        ),
        connection_options,
    ):
        decorated = add(decorated)
    return decorated
