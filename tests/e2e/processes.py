"""padreel's two commands as real processes against a real broker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.commands import Command, start

WAIT_SECONDS = 900.0  # to end what hangs, not to judge what is slow


@dataclass(frozen=True, slots=True)
class Rig:
    """Where the rigs of a test publish."""

    broker: str
    frames: str
    pads: str

    @property
    def flags(self) -> list[str]:
        return ["--bootstrap-servers", self.broker, "--frames-topic", self.frames, "--pads-topic", self.pads]

    def create_topics(self, partitions: int = 1) -> None:
        shim("topics", *self.flags, "--partitions", str(partitions))


def _environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PADREEL_", "KAFKA_"))}
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **(more or {})}


def run_shim(*arguments: str, environment: Mapping[str, str] | None = None, code: int = 0) -> tuple[str, str]:
    """Run `padreel-shim` to its end, which must have this exit code; what it printed, to stdout and stderr."""
    with closing(start("padreel_shim.cli", *arguments, environment=_environment(environment))) as command:
        out, err = command.communicate()
    assert command.returncode == code, out + err
    return out, err


def shim(*arguments: str) -> str:
    """Run `padreel-shim` to its end; what it printed."""
    return run_shim(*arguments)[0]


def padreel(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of `padreel` to its end."""
    with closing(start("padreel.__main__", *arguments, environment=_environment())) as command:
        out, err = command.communicate()
    return subprocess.CompletedProcess(arguments, command.wait(), out, err)


def consumer_flags(rig: Rig, inputs: Path, output: Path, *more: str) -> list[str]:
    """Flags of a consumer of the real recordings' schema."""
    return [
        *rig.flags,
        *("--group-id", f"group-{rig.frames}", "--repo-id", "test/melee", "--task", "Win the match"),
        *("--game-definition", str(inputs / "melee-game-definition.yaml")),
        *("--action-mapping", str(inputs / "melee-action-mapping.yaml")),
        *("--output-root", str(output), "--fps", "30", "--size", "480x270", "--log-format", "json"),
        *more,
    ]


class Consumer:
    """A running `padreel consume`; its log lines are what a test waits for."""

    def __init__(self, process: Command) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []

    def lines_until_end(self) -> Iterator[dict[str, Any]]:
        for text in self.process.stderr:
            line = json.loads(text) if text.startswith("{") else {"event": text.rstrip()}
            self.lines.append(line)
            yield line

    def await_line(self, **fields: object) -> None:
        """Read log lines until one has these fields."""
        for line in self.lines_until_end():
            if fields.items() <= line.items():
                return
        raise AssertionError(f"ended without a line {fields}: {self.lines[-5:]}")

    def await_episodes(self, count: int) -> None:
        """Read log lines until `count` episodes were committed since the start."""

        def seen() -> int:
            return sum(line["event"] == "episode" for line in self.lines)

        while seen() < count:
            try:
                self.await_line(event="episode")
            except AssertionError as error:
                raise AssertionError(f"{seen()} of {count} episodes") from error

    def finish(self) -> int:
        """Read to the end; the exit code."""
        for _ in self.lines_until_end():
            pass
        return self.process.wait()


def wait_for(is_so: Callable[[], bool], what: str) -> None:
    """Look again and again until it is so; AssertionError that says `what` never was."""
    end = time.monotonic() + WAIT_SECONDS
    while not is_so():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.2)


@contextmanager
def consumer(
    flags: list[str], environment: Mapping[str, str] | None = None, *, module: str = "padreel.__main__"
) -> Iterator[Consumer]:
    """Start a consumer; it is killed at the end if it still runs. Another `module` may be its command."""
    with closing(start(module, "consume", *flags, environment=_environment(environment))) as process:
        yield Consumer(process)
