"""The proof: every session is in the dataset once, whatever dies meanwhile.

    python -m tests.chaos [--rounds N] [--seed S] [--minutes M] [--mutant NAME]

Round n has the seed S + n, and is checked by itself: a seed that fails is printed and plays the same schedule again.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from deploy.local.broker import Broker, LocalBrokerError
from tests.chaos import disk, rigs
from tests.chaos.calm import references
from tests.chaos.members import ChaosError, Tally
from tests.chaos.reader import Reader
from tests.chaos.round import World, play
from tests.chaos.schedule import plan

PATIENCE_SECONDS = 300.0


def main() -> int:
    """The command; exit code 1 if a round failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10, help="how many to play (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of the first round (default: a fresh one)")
    parser.add_argument("--minutes", type=float, help="begin no round after so many")
    parser.add_argument("--keep", type=Path, help="folder for what a failed round leaves (default: a new one)")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4))
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what a restarted broker makes it say
    folder = Path(tempfile.mkdtemp(prefix="padreel-chaos-"))
    try:
        is_right = asyncio.run(_run(folder, seed, options.rounds, options.minutes))
    except LocalBrokerError as error:
        print(error, file=sys.stderr)
        return 1
    if is_right:
        shutil.rmtree(folder)
    else:
        print(f"what it left is in {folder}")
    return not is_right


async def _run(folder: Path, seed: int, rounds: int, minutes: float | None) -> bool:
    started = time.monotonic()
    print(f"chaos: {rounds} rounds from SEED={seed}", flush=True)
    reader = Reader(folder / "cache")
    tally = Tally()
    failed: list[int] = []
    played = 0
    try:
        with Broker(log_dir=folder / "kafka") as broker:
            records = rigs.all_records(rigs.record_all(folder / "sessions"))
            expected = await references(broker, folder, records)
            await asyncio.to_thread(reader.await_ready)
            print(f"every shard is read by: {reader.kind}; a full disk: {_how_full(folder)}", flush=True)
            world = World(broker, folder, records, expected, reader, tally, PATIENCE_SECONDS)
            for number in range(seed, seed + rounds):
                if minutes is not None and time.monotonic() - started > 60 * minutes:
                    print(f"{seed + rounds - number} rounds are left out: {minutes:g} minutes are over")
                    break
                played += 1
                if not await _round(world, number):
                    failed.append(number)
    finally:
        reader.close()
    _report(tally.counts, played, failed, time.monotonic() - started)
    return not failed


async def _round(world: World, seed: int) -> bool:
    started = time.monotonic()
    before = Counter(world.tally.counts)
    try:
        wrong = await play(world, plan(seed), f"round-{seed}")
    except (ChaosError, TimeoutError) as error:
        wrong = [f"{type(error).__name__}: {error}"]
    did = ", ".join(f"{count} {what}" for what, count in sorted((world.tally.counts - before).items()))
    print(f"round {seed}: {'FAILED' if wrong else 'right'} in {time.monotonic() - started:.1f} s: {did}", flush=True)
    for said in wrong:
        print(f"    {said}", flush=True)
    if wrong:
        print(f"    again: make chaos ROUNDS=1 SEED={seed}", flush=True)
    return not wrong


def _how_full(folder: Path) -> str:
    if disk.can_mount(folder / "trial"):
        return "a filesystem of each round's own is filled"
    return "no filesystem can be mounted here, so only by errors injected at crash points"


def _report(counts: Counter[str], played: int, failed: list[int], seconds: float) -> None:
    print(f"{played - len(failed)} of {played} rounds right, in {seconds:.0f} s")
    for what, count in sorted(counts.items()):
        print(f"  {count:>8} {what}")
    if failed:
        print(f"failed seeds: {' '.join(map(str, failed))}")


if __name__ == "__main__":
    sys.exit(main())
