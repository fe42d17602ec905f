"""Commands that are forked are processes as any other."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from pathlib import Path

import pytest

from tests.commands import start
from tests.conftest import CHECKOUT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def test_output_and_exit_code(tmp_path: Path) -> None:
    with closing(start("padreel.__main__", "--help", environment={})) as command:
        out, err = command.communicate()
    assert (command.poll(), err) == (0, "")
    assert "consume" in out
    with closing(start("padreel.__main__", "consume", "--nothing", environment={})) as command:
        out, err = command.communicate()
    assert (command.wait(), out) == (2, "")
    assert "--nothing" in err


def test_environment_and_folder_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "game.yaml").write_text("nothing: of use\n")
    flags = ("--session-root", ".", "--action-mapping", "game.yaml", "--output-root", "out", "--repo-id", "a/b")
    environment = {"PADREEL_GAME_DEFINITION": "game.yaml", "PADREEL_TASK": "Win"}
    with closing(start("padreel.__main__", "convert", *flags, environment=environment, folder=tmp_path)) as command:
        _, err = command.communicate()
    assert command.returncode == 2, err
    assert "game.yaml" in err, err
    assert "PADREEL_TASK" not in os.environ


def test_it_can_be_killed(tmp_path: Path) -> None:
    """One that watches an empty folder goes on for ever."""
    inputs = CHECKOUT / "deploy" / "demo"
    flags = ["--watch", "--repo-id", "a/b", "--task", "Win", "--session-root", str(tmp_path)]
    flags += ["--game-definition", str(inputs / "game-definition.yaml"), "--output-root", str(tmp_path / "out")]
    flags += ["--action-mapping", str(inputs / "action-mapping.yaml")]
    with closing(start("padreel.__main__", "convert", *flags, environment={})) as command:
        with pytest.raises(TimeoutError, match=str(command.pid)):
            command.wait(0.5)
        command.send_signal(signal.SIGKILL)
        assert command.wait() == command.poll() == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(command.pid, 0)
