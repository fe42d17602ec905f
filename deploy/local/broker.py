"""A single Apache Kafka node on loopback, for tests and the demo; standard library only.

    with Broker(log_dir=Path("kafka")) as broker:
        broker.bootstrap_servers        # "127.0.0.1:41235"

The jars come through Maven (`pom.xml` beside this file) once, into a cache outside the checkout: PADREEL_CACHE in
the environment, by default ~/.cache/padreel. `stop()` and `start()` again keep data and ports.

    python deploy/local/broker.py run --log-dir kafka --port 9092      # until Ctrl-C or SIGTERM
"""

import argparse
import base64
import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType

if not __package__:  # run by its path: the checkout is not where Python looks for modules
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from deploy.local.properties import CLIENTS, CONTROLLER, HOST, SCRAM, Listener, ports_of, server_properties

POM = Path(__file__).with_name("pom.xml")
JAVA_MINIMUM = 17
INSTALL_COMMAND = (
    "    sudo apt-get install -y default-jdk-headless maven      (Debian, Ubuntu)\n"
    "    brew install openjdk maven                              (macOS)"
)
# A limit to give up at, not to expect: a node is up in some seconds, on a very busy machine in many minutes.
START_SECONDS = 900.0
STOP_SECONDS = 30.0
MAVEN_ATTEMPTS = 3

# Outlives nothing but its parent: when the parent's end of the pipe closes, however it died, the broker is stopped.
_WATCHDOG = """
import os, signal, sys, time
sys.stdin.buffer.read()
group = int(sys.argv[1])
try:
    os.killpg(group, signal.SIGTERM)
    time.sleep(15)
    os.killpg(group, signal.SIGKILL)
except ProcessLookupError:
    sys.exit(0)
"""


class LocalBrokerError(RuntimeError):
    """The local broker cannot be fetched, started or stopped; the message says what to do."""


class ToolsMissingError(LocalBrokerError):
    """Java or Maven is not installed (or Java is too old); the message holds the install command."""


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of everything downloaded: PADREEL_CACHE, by default ~/.cache/padreel."""
    configured = environ.get("PADREEL_CACHE")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "padreel"


def jars_folder(cache: Path) -> Path:
    """Where this `pom.xml`'s jars live: another pom, another folder, so that an old cache is never mistaken for it."""
    return cache / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"


def check_tools(cache: Path) -> tuple[str, str | None]:
    """Paths of java and, if the jars are still to be fetched, of mvn.

    Raises ToolsMissingError naming all that is missing.
    """
    java = _find_java()
    version = _java_version(java) if java else None
    maven = shutil.which("mvn")
    fetched = jars_folder(cache).is_dir()
    missing = []
    if java is None or version is None:
        missing.append(f"Java {JAVA_MINIMUM} or later (no working `java` in JAVA_HOME or on PATH)")
    elif version < JAVA_MINIMUM:
        missing.append(f"Java {JAVA_MINIMUM} or later ({java} is Java {version})")
    if maven is None and not fetched:
        missing.append("Maven 3 (no `mvn` on PATH), which fetches Apache Kafka")
    if missing or java is None:
        raise ToolsMissingError("a local Apache Kafka needs " + " and ".join(missing) + ":\n" + INSTALL_COMMAND)
    return java, None if fetched else maven


def fetch(cache: Path | None = None) -> Path:
    """Fetches the jars unless the cache has them; returns their folder.

    Raises ToolsMissingError, or LocalBrokerError with Maven's output when it fails.
    """
    cache = cache_folder() if cache is None else cache
    _, maven = check_tools(cache)
    return _fetch(cache, maven)


def _fetch(cache: Path, maven: str | None) -> Path:
    jars = jars_folder(cache)
    if maven is None:
        return jars
    cache.mkdir(parents=True, exist_ok=True)
    # Complete or absent: two processes may fetch at once, and either may be killed.
    with tempfile.TemporaryDirectory(prefix="kafka-", dir=cache) as work:
        target = Path(work) / "jars"
        command = [maven, "--batch-mode", "--quiet", "--file", str(POM), "dependency:copy-dependencies"]
        command += [f"-DoutputDirectory={target}", "-DincludeScope=runtime"]
        # One refused connection of a hundred fails the whole run; what has arrived by then is in Maven's repository.
        attempts = 0
        while True:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            attempts += 1
            if done.returncode == 0 or attempts == MAVEN_ATTEMPTS:
                break
        if done.returncode != 0:
            output = (done.stdout + done.stderr).strip()[-4000:]
            raise LocalBrokerError(f"Maven could not fetch Apache Kafka (exit code {done.returncode}):\n{output}")
        if not any(target.glob("kafka_*.jar")):
            raise LocalBrokerError(f"Maven fetched no kafka_*.jar for {POM}; does the file still name Apache Kafka?")
        try:
            target.rename(jars)
        except OSError:
            if not jars.is_dir():
                raise
    return jars


class Broker:
    """One Kafka node, broker and controller in one process, listening on loopback only.

    `log_dir` holds `server.properties`, `data/` and the node's own output, `broker.log`. On a folder used before,
    data and ports are those of the last time unless `port` says otherwise. Topics are not created automatically; every
    replication factor is 1; records may be 64 MiB. The node has a process group of its own and is stopped when
    this process ends, however it ends.

    `listeners` are ports beside the one of `bootstrap_servers`, which never asks who a client is. `users`, passwords
    by name, may come by those with SASL; of a folder used before, by SCRAM only those of its first time.
    """

    def __init__(
        self,
        log_dir: Path,
        *,
        port: int | None = None,
        cache: Path | None = None,
        heap: str = "512m",
        listeners: Sequence[Listener] = (),
        users: Mapping[str, str] | None = None,
    ) -> None:
        self.log_dir = log_dir.absolute()
        self._cache = cache_folder() if cache is None else cache
        self._heap = heap
        self._properties = self.log_dir / "server.properties"
        self._output = self.log_dir / "broker.log"
        self._listeners = tuple(listeners)
        self._users = dict(users or {})
        self._ports = self._choose_ports({CLIENTS: port, CONTROLLER: None} | {one.name: one.port for one in listeners})
        self.port = self._ports[CLIENTS]
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """`host:port` for clients."""
        return self.address(CLIENTS)

    def address(self, listener: str) -> str:
        """`host:port` where a listener listens."""
        return f"{HOST}:{self._ports[listener]}"

    @property
    def pid(self) -> int:
        """The node's process id. Raises LocalBrokerError when it is not running."""
        if self._process is None or self._process.poll() is not None:
            raise LocalBrokerError(f"the broker on {self.bootstrap_servers} is not running")
        return self._process.pid

    def start(self) -> None:
        """Fetches and formats what is missing, starts the node and waits until it serves clients.

        Raises ToolsMissingError, or LocalBrokerError with its last output when it dies or takes 15 minutes.
        """
        if self._process is not None:
            raise LocalBrokerError(f"the broker on {self.bootstrap_servers} was started already")
        java, maven = check_tools(self._cache)
        jars = _fetch(self._cache, maven)
        self.log_dir.mkdir(parents=True, exist_ok=True)
        settings = server_properties(self.log_dir / "data", self._ports, self._listeners, self._users)
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), encoding="utf-8")
        command = [java, f"-Xmx{self._heap}", "-XX:+UseSerialGC", "-Djava.awt.headless=true"]
        # The second compiler costs more at a start than it wins in a test.
        command += ["-XX:-UsePerfData", "-XX:TieredStopAtLevel=1"]
        command += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"]
        command += ["-cp", f"{jars}/*"]
        if not (self.log_dir / "data" / "meta.properties").exists():
            self._format(command)
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [*command, "kafka.Kafka", str(self._properties)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._watchdog = subprocess.Popen(
                [sys.executable, "-I", "-c", _WATCHDOG, str(self._process.pid)],
                stdin=subprocess.PIPE,
                start_new_session=True,
            )
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops the node, cleanly if it can within 30 seconds; does nothing when it is not running."""
        watchdog, self._watchdog = self._watchdog, None
        process, self._process = self._process, None
        try:
            if process is not None:
                _end(process)
        finally:
            if watchdog is not None:
                watchdog.kill()
                watchdog.wait()
                if watchdog.stdin is not None:
                    watchdog.stdin.close()

    def __enter__(self) -> "Broker":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _choose_ports(self, wanted: Mapping[str, int | None]) -> dict[str, int]:
        """Every listener's port: the wanted one, else the one used before, else a free one."""
        used: dict[str, int] = {}
        if self._properties.exists():
            used = ports_of(self._properties.read_text("utf-8"))
            if not used:
                raise LocalBrokerError(f"{self._properties}: no `listeners` as padreel writes them; use another folder")
        known = {name: port or used.get(name) for name, port in wanted.items()}
        ports = {name: port for name, port in known.items() if port is not None}
        for name in known.keys() - ports.keys():
            ports[name] = _free_port(ports.values())
        return ports

    def _format(self, java: list[str]) -> None:
        # A leading dash would be read as an option.
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        command = [*java, "kafka.tools.StorageTool", "format", "--standalone", "--cluster-id", cluster_id]
        command += ["--config", str(self._properties)]
        for name, password in self._users.items():
            for mechanism in SCRAM:
                command += ["--add-scram", f"{mechanism}=[name={name},password={password}]"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            output = (done.stdout + done.stderr).strip()[-4000:]
            raise LocalBrokerError(f"{self.log_dir}: Kafka could not format its storage:\n{output}")

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while not _serves(self.port):
            code = self._process.poll()
            if code is not None:
                raise LocalBrokerError(
                    f"Kafka ended at its start (exit code {code}); {self._output} ends:\n{self._tail()}"
                )
            if time.monotonic() > deadline:
                raise LocalBrokerError(
                    f"Kafka does not serve {self.bootstrap_servers} after {START_SECONDS:.0f} s; "
                    f"{self._output} ends:\n{self._tail()}"
                )
            time.sleep(0.1)

    def _tail(self) -> str:
        return self._output.read_text("utf-8", errors="replace")[-4000:]


def _find_java() -> str | None:
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin" / "java").is_file():
        return str(Path(home) / "bin" / "java")
    return shutil.which("java")


def _java_version(java: str) -> int | None:
    """Java's major version; None if it does not run (macOS has a `java` that only asks to install one)."""
    done = subprocess.run([java, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr + done.stdout)
    return int(found[1]) if done.returncode == 0 and found else None


def _free_port(besides: Collection[int]) -> int:
    while True:
        with socket.create_server((HOST, 0)) as server:
            port = int(server.getsockname()[1])
        if port not in besides:
            return port


def _serves(port: int) -> bool:
    """Whether a Metadata request (version 0, all topics) is answered with at least one live broker.

    A node that listens but is still fenced answers with none.
    """
    request = struct.pack(">hhihi", 3, 0, 1, -1, 0)  # api key, version, correlation id, no client id, no topics named
    try:
        with socket.create_connection((HOST, port), timeout=5) as connection, connection.makefile("rb") as stream:
            connection.sendall(struct.pack(">i", len(request)) + request)
            header = stream.read(12)  # size, correlation id, number of brokers
    except OSError:
        return False
    return len(header) == 12 and struct.unpack(">iii", header)[2] > 0


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event set by SIGINT or SIGTERM, so that the command ends by its usual way out."""
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, action in previous.items():
            signal.signal(number, action)


def main(arguments: list[str] | None = None) -> int:
    """The command: `fetch` or `run`; exit code 1 with the reason on standard error when it cannot."""
    parser = argparse.ArgumentParser(description="A single Apache Kafka node on loopback.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="fetch the jars through Maven and print their folder")
    run = commands.add_parser("run", help="run a node until Ctrl-C or SIGTERM")
    run.add_argument("--log-dir", type=Path, required=True, help="folder of the node's data and output")
    run.add_argument("--port", type=int, help="clients' port (default: the last one used there, else a free one)")
    options = parser.parse_args(arguments)
    try:
        if options.command == "fetch":
            print(fetch())
            return 0
        with _stop_signals() as stopped, Broker(options.log_dir, port=options.port) as broker:
            print(broker.bootstrap_servers, flush=True)
            while not stopped.wait(0.5):
                _ = broker.pid  # raises when the node died by itself
    except LocalBrokerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
