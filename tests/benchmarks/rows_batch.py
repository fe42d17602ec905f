"""Rows 10 and 11: converting recorded sessions, and reading samples for training."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks import measure
from tests.benchmarks.capture import FPS, Clip, clip
from tests.benchmarks.load import EVENTS_PER_SECOND, FRAME_NS, Rig
from tests.benchmarks.measure import Row, Spread, Target
from tests.benchmarks.world import DEMO, World

_SESSIONS = 20
_LEROBOT_SECONDS = 10
_GOPS = (15, 30, 250)
_SAMPLES = 30


def session_folder(folder: Path, source: Clip, number: int) -> None:
    """A session as a recorder leaves it, with the clip as its video."""
    folder.mkdir(parents=True)
    (folder / "capture.mp4").symlink_to(source.path)
    rig = Rig(number, source, 0)
    frames = len(source.units)
    rows = (f"{n},{rig.start_ns + n * FRAME_NS},{n * FRAME_NS}" for n in range(frames))
    (folder / "sync.csv").write_text("\n".join(["frame_index,monotonic_ns,pts", *rows]) + "\n")
    events = [rig.event(n) for n in range(frames * EVENTS_PER_SECOND // FPS)]
    (folder / "actions.bin").write_bytes(b"".join(struct.pack("<I", len(one)) + one for one in events))


def _convert(world: World, sessions: Path, source: Clip, output: Path) -> float:
    """Seconds of `padreel convert`, start and all."""
    command = [
        *(sys.executable, "-m", "padreel", "convert", "--session-root", str(sessions), "--output-root", str(output)),
        *("--game-definition", str(DEMO / "game-definition.yaml")),
        *("--action-mapping", str(DEMO / "action-mapping.yaml")),
        *("--repo-id", "benchmark/game", "--task", "Run"),
    ]
    begin = time.monotonic()
    done = subprocess.run(command, env=measure.environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise measure.BenchmarkError(f"convert ended with exit code {done.returncode}: {done.stderr[-3000:]}")
    return time.monotonic() - begin


def converting(world: World) -> list[Row]:
    """Row 10: a folder of sessions, against lerobot's batch writer on ten seconds of one, scaled."""
    source = world.clip
    root, lerobot_root = world.output(), world.output()
    try:
        for number in range(_SESSIONS):
            session_folder(root / "sessions" / f"session-{number:02}", source, number)
        taken = []
        for turn in range(3):
            taken.append(_convert(world, root / "sessions", source, root / f"out-{turn}"))
            shutil.rmtree(root / f"out-{turn}")
        arguments = ["batch", str(source.path), str(lerobot_root), str(_LEROBOT_SECONDS * FPS)]
        notes = measure.run("tests.benchmarks.lerobot_writing", *arguments, folder=world.folder)
    finally:
        shutil.rmtree(root, ignore_errors=True)
        shutil.rmtree(lerobot_root, ignore_errors=True)
    frames = _SESSIONS * len(source.units)
    scaled = notes["seconds"] / notes["frames"] * frames
    figures = (
        Spread("padreel convert", "s", tuple(taken)),
        Spread("frames/s", "frames/s", tuple(frames / one for one in taken)),
        Spread("lerobot batch, scaled", "s", (scaled,)),
        Spread("times lerobot batch", "x", tuple(scaled / one for one in taken)),
    )
    note = (
        f"{_SESSIONS} sessions of {len(source.units) // FPS} s, process start included; lerobot on "
        f"{_LEROBOT_SECONDS} s of one, scaled to all"
    )
    return [
        Row("10", "padreel convert of 20 sessions", figures, (Target("times lerobot batch", 500, "at least"),), note)
    ]


def sampling(world: World) -> list[Row]:
    """Row 11: random samples a second through lerobot, by the rig's GOP, and from lerobot's own file."""
    repetitions, seconds = 3, 20
    figures = []
    root = world.output()
    try:
        for gop in _GOPS:
            source = clip(seconds, gop=gop)
            session_folder(root / f"sessions-{gop}" / "session", source, 0)
            _convert(world, root / f"sessions-{gop}", source, root / f"ours-{gop}")
            figures.append(_rates(world, f"ours, GOP {gop}", root / f"ours-{gop}", repetitions))
        own = root / "lerobot"
        arguments = ["batch", str(clip(seconds, gop=30).path), str(own), str(_LEROBOT_SECONDS * FPS)]
        measure.run("tests.benchmarks.lerobot_writing", *arguments, folder=world.folder)
        figures.append(_rates(world, "lerobot's own, GOP 2", own, repetitions))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    note = f"{_SAMPLES} samples at a time of 720p, decoded by PyAV on the CPU"
    return [Row("11", "random samples/s read through lerobot", tuple(figures), (), note)]


def _rates(world: World, name: str, dataset: Path, repetitions: int) -> Spread:
    arguments = ["read", str(dataset), str(repetitions), str(_SAMPLES)]
    notes = measure.run("tests.benchmarks.lerobot_writing", *arguments, folder=world.folder)
    return Spread(name, "samples/s", tuple(notes["rates"]))
