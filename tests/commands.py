"""padreel's two commands as processes of their own that start in milliseconds.

Starting Python and importing everything takes a second, on a busy machine a minute. So one process imports it once, and
forks whenever a command is to be run. What is forked is a process like any other, with its own id, environment, folder
and output; it differs from one that was started in nothing but who imported its modules.

Run as a module it is the process that forks: requests come over a socket, a JSON text each, with three descriptors.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

# A command's module and what else it imports when it runs.
COMMANDS = {
    "padreel_shim.cli": [
        *("padreel_shim.follow_cli", "padreel_shim.producer", "padreel_shim.publish"),
        *("padreel_shim.simulate_cli", "padreel_shim.topics"),
    ],
    "padreel.__main__": [
        *("padreel.app", "padreel.replay", "padreel.skip"),
        *("padreel.training.check.command", "padreel.training.merge.command"),
        *("padreel.training.relabel.command", "padreel.training.show.command", "padreel.training.show.write"),
        *("padreel.exports.export_command", "padreel.exports.v21", "padreel.exports.hdf5.command"),
        "padreel.exports.augment.command",
        "padreel.training.erase.command",
    ],
}
_REQUEST_BYTES = 2**20
_NUMBER = struct.Struct("=q")


class Command:
    """A command that runs. What `subprocess.Popen` is for a process of one's own, as far as tests need it."""

    def __init__(self, out: int, err: int, status: int) -> None:
        """Of the descriptors from which its output and what became of it can be read."""
        self.stdout = os.fdopen(out, encoding="utf-8", errors="replace")
        self.stderr = os.fdopen(err, encoding="utf-8", errors="replace")
        self._status = os.fdopen(status, "rb", buffering=0)
        self.pid = self._told()
        self.returncode: int | None = None

    def _told(self) -> int:
        told = self._status.read(_NUMBER.size)
        assert told, "the process that forks has died"
        return int(_NUMBER.unpack(told)[0])

    def poll(self) -> int | None:
        """Its exit code, minus the signal that ended it, or None while it runs."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises TimeoutError after so many seconds."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
            self.returncode = self._told()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Read what it prints until its end. Raises TimeoutError after so many seconds of silence."""
        found = {self.stdout: bytearray(), self.stderr: bytearray()}
        while waiting := [one for one in found if not one.closed]:
            ready = select.select(waiting, [], [], timeout)[0]
            if not ready:
                raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
            for one in ready:
                data = os.read(one.fileno(), 2**16)
                found[one] += data
                if not data:
                    one.close()
        self.wait(timeout)
        out, err = (text.decode(errors="replace") for text in found.values())
        return out, err

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has just ended, which is still to be told
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """End it if it still runs, and let go of its output."""
        self.kill()
        self.wait()
        for one in (self.stdout, self.stderr, self._status):
            one.close()


def start(module: str, *arguments: str, environment: Mapping[str, str], folder: Path | None = None) -> Command:
    """Start a command of `COMMANDS`, or of another module with a `main`.

    `environment` is all of it, `folder` its working directory.
    """
    request = {
        "module": module,
        "arguments": arguments,
        "environment": dict(environment),
        "folder": str(folder or Path.cwd()),
    }
    pipes = [os.pipe() for _ in range(3)]
    socket.send_fds(_forking(), [json.dumps(request).encode()], [writing for _, writing in pipes])
    for _, writing in pipes:
        os.close(writing)
    return Command(*(reading for reading, _ in pipes))


@functools.cache
def _forking() -> socket.socket:
    """The socket of the process that forks; it ends when the socket closes."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with there:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(there.fileno())],
            pass_fds=[there.fileno()],
            stdin=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            start_new_session=True,
        )
    for size in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        here.setsockopt(socket.SOL_SOCKET, size, _REQUEST_BYTES)
    atexit.register(process.wait)
    atexit.register(here.close)
    return here


# ---- in the other process


def _run(request: dict[str, object], out: int, err: int) -> NoReturn:
    """Be that command."""
    code: object = 70
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.close(out)
        os.close(err)
        environment, arguments = request["environment"], request["arguments"]
        assert isinstance(environment, dict)
        assert isinstance(arguments, list)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(str(request["folder"]))
        sys.argv = [str(request["module"]), *map(str, arguments)]
        from padreel.dataset import files, points

        # The one thing that is read from the environment when a module is imported.
        files.probe = points.from_environment(os.environ) or files.probe
        importlib.import_module(sys.argv[0]).main()
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - what is forked must not go on in its parent's code
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _keep(request: dict[str, object], out: int, err: int, status: int) -> NoReturn:
    """Fork the command and tell its id and, when it has ended, its exit code."""
    pid = os.fork()
    if pid == 0:
        os.close(status)
        _run(request, out, err)
    os.close(out)
    os.close(err)
    os.write(status, _NUMBER.pack(pid))
    _, how = os.waitpid(pid, 0)
    os.write(status, _NUMBER.pack(os.waitstatus_to_exitcode(how)))
    os._exit(0)


def main(descriptor: int) -> None:
    """Fork as requested, until the socket closes."""
    for module, more in COMMANDS.items():
        for name in (module, *more):
            importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    with socket.socket(fileno=descriptor) as requests:
        while True:
            data, descriptors, _, _ = socket.recv_fds(requests, _REQUEST_BYTES, 3)
            if not data:
                return
            request = json.loads(data)
            importlib.import_module(request["module"])  # here, once, if it is none of those above
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                requests.close()
                _keep(request, *descriptors)
            for one in descriptors:
                os.close(one)


if __name__ == "__main__":
    main(int(sys.argv[1]))
