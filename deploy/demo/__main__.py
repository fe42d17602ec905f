"""`make demo`: two simulated rigs are played live through Kafka into a dataset that lerobot opens while it grows."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from uuid import uuid4

from rich.console import Console

from deploy.demo import picture, summary
from deploy.local.broker import Broker, LocalBrokerError

HERE = Path(__file__).resolve().parent
OUTPUT = HERE.parents[1] / "demo-output"
REPO_ID = "demo/padreel"
SIZE, FPS, SECONDS, SPLIT_SECONDS = "640x360", 30, 15, 4
FIRST_EPISODE_SECONDS = 600.0  # before the demo says that nothing came; on a fast machine it comes after five
STOP_SECONDS = 60.0

console = Console(highlight=False, soft_wrap=True)


class DemoError(Exception):
    """A step failed; the message says which and where to look."""


def main() -> int:
    """Run the demo; returns the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with ExitStack() as running:
            return _demo(running)
    except KeyboardInterrupt:
        console.print("\nStopped; nothing was left running.")
        return 130
    except (DemoError, LocalBrokerError) as error:
        console.print(f"[bold red]The demo failed:[/] {error}")
        return 1


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _demo(running: ExitStack) -> int:
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir(parents=True)
    console.print("[bold]1[/] Loading lerobot, the judge of what is written ...")
    warnings.filterwarnings("ignore", module="torchvision")  # it announces what LeRobot will have to change
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "")
    if servers:
        console.print(f"[bold]2[/] Using the Kafka at {servers}")
    else:
        console.print("[bold]2[/] Starting a single Kafka node on loopback ...")
        broker = Broker(log_dir=OUTPUT / "kafka")
        running.callback(broker.stop)
        broker.start()
        servers = broker.bootstrap_servers
        console.print(f"  Apache Kafka is up at {servers}")
    run = uuid4().hex[:8]
    topics = ["--frames-topic", f"demo-{run}.frames", "--pads-topic", f"demo-{run}.gamepad"]
    _run("padreel_shim", "topics", "--bootstrap-servers", servers, "--partitions", "1", *topics)

    console.print(f"[bold]3[/] Starting the consumer; its log is {_shown(OUTPUT / 'consumer.log')}")
    consumer = running.enter_context(_background("consumer", "padreel", "consume", *_consumer_flags(servers, run)))
    console.print(f"[bold]4[/] Two rigs play for {SECONDS} seconds, {SIZE} at {FPS} Hz ...")
    rigs = running.enter_context(
        _background(
            "rigs", "padreel_shim", "simulate", "--bootstrap-servers", servers, *topics,
            "--rigs", "2", "--seconds", str(SECONDS), "--size", SIZE, "--fps", str(FPS), "--gop", str(FPS),
            "--game-id", "padreel-demo",
        )
    )  # fmt: skip

    shard = OUTPUT / "dataset" / "partition-00000"
    _await_episode(shard, consumer)
    still = "while the rigs are still recording" if rigs.poll() is None else "(the rigs were faster than this machine)"
    dataset = LeRobotDataset(REPO_ID, root=shard, video_backend="pyav")
    frame = dataset[dataset.num_frames - 1]["observation.images.main"]
    console.print(
        f"[bold]5[/] lerobot opened it {still}: {dataset.num_episodes} episodes, {dataset.num_frames} frames; "
        f"the last one is a picture of {tuple(frame.shape)}"
    )
    if rigs.wait() != 0:
        raise DemoError(f"the rigs ended with exit code {rigs.returncode}; see {_shown(OUTPUT / 'rigs.log')}")
    console.print("[bold]6[/] The rigs have stopped; the consumer finishes what they published ...")
    _run("padreel", "consume", *_consumer_flags(servers, run), "--until", "end", after=consumer)

    dataset = LeRobotDataset(REPO_ID, root=shard, video_backend="pyav")
    console.print(
        f"[bold]7[/] lerobot opens it at the end: {dataset.num_episodes} episodes, {dataset.num_frames} frames\n"
    )
    console.print(summary.table(shard))
    drawn = picture.draw_episode(dataset, 0, OUTPUT / "episode.png")
    console.print(f"\nA picture of episode 0: {_shown(drawn)}\nThe dataset: {_shown(shard)}\n\nLoad it:\n")
    for line in summary.three_lines(REPO_ID, _shown(shard)):
        console.print(f"  {line}", markup=False)
    return 0


def _consumer_flags(servers: str, run: str) -> list[str]:
    return [
        "--bootstrap-servers", servers, "--group-id", f"demo-{run}",
        "--frames-topic", f"demo-{run}.frames", "--pads-topic", f"demo-{run}.gamepad",
        "--game-definition", str(HERE / "game-definition.yaml"), "--action-mapping", str(HERE / "action-mapping.yaml"),
        "--output-root", str(OUTPUT / "dataset"), "--repo-id", REPO_ID, "--task", "Run, jump and attack",
        "--fps", str(FPS), "--size", SIZE, "--max-episode-seconds", str(SPLIT_SECONDS), "--log-format", "console",
    ]  # fmt: skip


def _run(module: str, *arguments: str, after: subprocess.Popen[bytes] | None = None) -> None:
    """Run a command to its end; `after` is stopped in good order first."""
    if after is not None:
        _stop(after)
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DemoError(
            f"`{module} {arguments[0]}` ended with exit code {done.returncode}: {done.stderr.strip()[-2000:]}"
        )


@contextmanager
def _background(name: str, module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is stopped at the end; what it says goes to a log file."""
    with (OUTPUT / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=log, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _await_episode(shard: Path, consumer: subprocess.Popen[bytes]) -> None:
    """Wait until the first episode is there."""
    pause = threading.Event()
    for _ in range(int(FIRST_EPISODE_SECONDS * 10)):
        if (shard / "meta" / "info.json").exists():
            return
        if consumer.poll() is not None:
            break
        pause.wait(0.1)
    raise DemoError(f"no episode came in {FIRST_EPISODE_SECONDS:.0f} seconds; see {_shown(OUTPUT / 'consumer.log')}")


def _shown(path: Path) -> str:
    """A path as a person in the current folder would write it."""
    return os.path.relpath(path)


if __name__ == "__main__":
    sys.exit(main())
