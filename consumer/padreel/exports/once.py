"""An output is made once: the same command again finds it there, another one does not touch it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from padreel.errors import DatasetError
from padreel.training.build import Build, is_taken
from padreel.training.source import digest_of
from padreel.version import __version__

Outcome = Literal["created", "unchanged"]


class Made(Protocol):
    """What an output says of itself."""

    @property
    def run(self) -> str: ...

    @property
    def config_hash(self) -> str: ...


M = TypeVar("M", bound=Made)


def refuse_strange(output: Path, there: object | None) -> None:
    """Raises DatasetError where the output has the name already and nothing says what it is."""
    if there is None and is_taken(output):
        raise DatasetError(f"--output: {output}: found something else there, expected nothing; name another folder")


def make_once(
    build: Build, output: Path, there: M | None, config_hash: str, what: str, write: Callable[[], M]
) -> tuple[Outcome, M]:
    """Have `write` fill the build's folder and publish it, unless it is `there`. `config_hash` is of all it depends on.

    Raises DatasetError where `there` is `what` depends on other things, and what `write` raises.
    """
    if there is not None and there.config_hash == config_hash:
        build.clear()  # a run that died at its last step has left something
        return "unchanged", there
    if there is not None:
        raise DatasetError(
            f"--output: {output}: holds {what} of other episodes or with other settings (run {there.run}); "
            "name another folder"
        )
    build.begin(digest_of({"version": __version__, "config": config_hash}))
    try:
        made = write()
    except DatasetError:  # the same command would meet it again
        build.clear()
        raise
    build.publish_new()
    return "created", made
