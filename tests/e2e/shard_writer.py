"""Writers of a shard as processes of their own that can be killed, stopped and continued at any named point.

Starting Python takes seconds where forking takes milliseconds: `Writers` starts one process that has imported
everything, and that forks a writer whenever it is asked to. Run as a module it is that process, or with `play FOLDER
SOURCE` one writer that takes its crash point from the environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from padreel.dataset import files, points
from padreel.errors import FencedError
from tests.video_source import Source
from tests.video_world import STEPS, play, play_on

FENCED = 3  # the exit code of a writer that has lost the shard


class Writers:
    """The process that forks writers; one call at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def _ask(self, **request: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def start(self, path: Path, point: str = "", *, steps: int = STEPS, goes_on: bool = False) -> int:
        """Start a writer that plays the world up to `steps`; its pid.

        `point` is as in PADREEL_CRASH_POINT. One that `goes_on` opens the shard again after a fence or an error.
        """
        return int(self._ask(do="start", path=str(path), point=point, steps=steps, goes_on=goes_on))

    def end(self, pid: int) -> int | None:
        """Wait until it has ended or stands: its exit code, -9 if it was killed, None if it stands."""
        return cast("int | None", self._ask(do="wait", pid=pid))

    def resume(self, pid: int) -> None:
        """Let one that stands go on."""
        os.kill(pid, signal.SIGCONT)

    def run(self, path: Path, point: str = "", *, steps: int = STEPS, goes_on: bool = False) -> int | None:
        return self.end(self.start(path, point, steps=steps, goes_on=goes_on))

    def count(self, path: Path) -> dict[str, int]:
        """Play the world at `path`; how often each point was reached."""
        return cast(dict[str, int], self._ask(do="count", path=str(path)))


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PADREEL_")}
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@contextmanager
def writers(source: Source, folder: Path) -> Iterator[Writers]:
    """Start the process; at the end it and every writer that is left are killed."""
    pickled = pickle_source(source, folder)
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, "serve", str(pickled)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=_environment(),
        start_new_session=True,
    )
    try:
        yield Writers(process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # those that stand too
        process.communicate()


def pickle_source(source: Source, folder: Path) -> Path:
    """The video in a file, for another process."""
    path = folder / "source.pickle"
    path.write_bytes(pickle.dumps(source))
    return path


def play_alone(path: Path, pickled: Path, point: str) -> int:
    """One writer in a new process, with that crash point in its environment; its exit code."""
    command = [sys.executable, "-m", __name__, "play", str(pickled), str(path)]
    return subprocess.run(command, env={**_environment(), points.VARIABLE: point}, check=False).returncode


# ---- in the other process


def _write(path: Path, source: Source, steps: int, goes_on: bool) -> int:
    try:
        (play_on if goes_on else play)(path, source, steps)
    except FencedError:
        return FENCED
    except Exception:  # noqa: BLE001 - a forked process must not go on in its parent's code
        traceback.print_exc()
        return 1
    return 0


def _fork(request: dict[str, Any], source: Source) -> int:
    pid = os.fork()
    if pid == 0:
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
            os.dup2(2, 1)
        if request["point"]:
            files.probe = points.parse(request["point"])
        code = _write(Path(request["path"]), source, request["steps"], request["goes_on"])
        os._exit(code)
    return pid


def _wait(pid: int) -> int | None:
    _, status = os.waitpid(pid, os.WUNTRACED)
    return None if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)


def _count(path: Path, source: Source) -> dict[str, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        counts: Counter[str] = Counter()
        files.probe = lambda point, path: counts.update([point])
        code = _write(path, source, STEPS, False)
        with os.fdopen(writing, "w") as answer:
            json.dump(counts, answer)
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as answer:
        counted: dict[str, int] = json.load(answer)
    assert _wait(pid) == 0
    return counted


def serve(source: Source) -> None:
    """Answer requests, a line of JSON each, until there are no more."""
    for line in sys.stdin:
        request = json.loads(line)
        match request["do"]:
            case "start":
                answer: object = _fork(request, source)
            case "wait":
                answer = _wait(request["pid"])
            case _:
                answer = _count(Path(request["path"]), source)
        print(json.dumps(answer), flush=True)


def main(what: str, pickled: str, *more: str) -> int:
    source = cast(Source, pickle.loads(Path(pickled).read_bytes()))
    if what == "play":
        return _write(Path(more[0]), source, STEPS, False)
    with contextlib.suppress(KeyboardInterrupt):
        serve(source)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
