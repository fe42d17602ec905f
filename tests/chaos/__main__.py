"""The proof: every session is in the dataset once, whatever dies meanwhile.

    python -m tests.chaos [--rounds N] [--seed S] [--minutes M] [--mutant NAME]...

Round n has the seed S + n, and is checked by itself: a seed that fails is printed and plays the same schedule again.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from aiokafka.errors import KafkaError

from deploy.local.broker import Broker, LocalBrokerError
from padreel.errors import PadreelError
from tests.chaos import disk, rigs
from tests.chaos.calm import references
from tests.chaos.members import Tally
from tests.chaos.mutants import MUTANTS
from tests.chaos.reader import Reader, kinds
from tests.chaos.round import World, play
from tests.chaos.schedule import plan

PATIENCE_SECONDS = 300.0
MUTANT_PATIENCE_SECONDS = 120.0  # what a mutant hangs in need not be waited for any longer


@dataclass(slots=True)
class Run:
    """How many rounds are to be played from which seed, and what came of them."""

    world: World
    seed: int
    rounds: int
    ends: float  # when no round is begun any more, by the steady clock
    played: int = 0
    failed: list[int] = field(default_factory=list)

    async def all_rounds(self) -> bool:
        """Play them; whether all were right."""
        for seed in range(self.seed, self.seed + self.rounds):
            if time.monotonic() > self.ends:
                print(f"{self.seed + self.rounds - seed} rounds are left out: the time is over")
                break
            await self._round(self.world, seed)
        return not self.failed

    async def mutant(self, name: str) -> bool:
        """Play rounds until one is wrong; whether one was."""
        world = replace(self.world, mutant=name, patience=MUTANT_PATIENCE_SECONDS)
        for number, seed in enumerate(range(self.seed, self.seed + self.rounds), 1):
            if wrong := await self._round(world, seed):
                print(f"mutant {name}: caught in round {number} of at most {self.rounds}: {wrong[0]}", flush=True)
                shutil.rmtree(world.folder / f"{name}-{seed}")
                self.failed.clear()
                return True
        print(f"mutant {name}: NOT caught in {self.rounds} rounds", flush=True)
        return False

    def _with(self, world: World) -> str:
        return f" MUTANT={world.mutant}" if world.mutant else ""

    async def _round(self, world: World, seed: int) -> list[str]:
        started = time.monotonic()
        before = Counter(world.tally.counts)
        faults = MUTANTS[world.mutant].faults if world.mutant else ()
        name = f"{world.mutant or 'round'}-{seed}"
        self.played += 1
        try:
            wrong = await play(world, plan(seed, faults), name)
        except (AssertionError, TimeoutError, OSError, KafkaError, PadreelError) as error:
            wrong = [f"{type(error).__name__}: {error}"]
        did = ", ".join(f"{count} {what}" for what, count in sorted((world.tally.counts - before).items()))
        seconds = time.monotonic() - started
        waited = world.tally.waited[-1] if world.tally.waited else 0.0
        verdict = "FAILED" if wrong else "right"
        print(f"{name}: {verdict} in {seconds:.1f} s, {waited:.1f} of them for the last commit: {did}", flush=True)
        for said in wrong:
            print(f"    {said}", flush=True)
        if wrong:
            self.failed.append(seed)
            print(f"    again: make chaos ROUNDS=1 SEED={seed}{self._with(world)}", flush=True)
        else:
            shutil.rmtree(world.folder / name)
        return wrong


def main() -> int:
    """The command; exit code 1 if a round failed, or no round failed with a mutant."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10, help="how many to play (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of the first round (default: a fresh one)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no round after so many")
    parser.add_argument(
        "--mutant",
        action="append",
        choices=[*MUTANTS, "all"],
        default=[],
        help="play rounds with a rule switched off, until one fails as it should",
    )
    options = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what a restarted broker makes it say
    for number in (signal.SIGINT, signal.SIGTERM):  # one is ignored in the background, one would leave all behind
        signal.signal(number, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="padreel-chaos-"))
    try:
        is_right = asyncio.run(_run(folder, options))
    except LocalBrokerError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        is_right = True  # as far as it went
    if is_right:
        shutil.rmtree(folder)
    else:
        print(f"what is left of it: {folder}")
    return not is_right


async def _run(folder: Path, options: argparse.Namespace) -> bool:
    started = time.monotonic()
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4))
    print(f"chaos: {options.rounds} rounds from SEED={seed}", flush=True)
    readers = [Reader(kind, folder / f"cache-{kind}") for kind in kinds()]
    tally = Tally()
    try:
        with Broker(log_dir=folder / "kafka") as broker:
            records = rigs.all_records(rigs.record_all(folder / "sessions"))
            expected = await references(broker, folder, records)
            for reader in readers:
                await asyncio.to_thread(reader.await_ready)
            by = " and ".join(reader.kind for reader in readers)
            print(f"readers: {by}; a full disk: {_how_full(folder)}", flush=True)
            world = World(broker, folder, records, expected, readers, tally, PATIENCE_SECONDS)
            run = Run(world, seed, options.rounds, started + 60 * options.minutes)
            if options.mutant:
                names = list(MUTANTS) if "all" in options.mutant else options.mutant
                return all([await run.mutant(name) for name in names])
            await run.all_rounds()
    finally:
        for reader in readers:
            reader.close()
    _report(tally, run, time.monotonic() - started)
    return not run.failed


def _how_full(folder: Path) -> str:
    if disk.can_mount(folder / "trial"):
        return "a filesystem of each round's own is filled"
    return "no filesystem can be mounted here, so only by errors injected at crash points"


def _report(tally: Tally, run: Run, seconds: float) -> None:
    print(f"{run.played - len(run.failed)} of {run.played} rounds right, in {seconds:.0f} s")
    for what, count in sorted(tally.counts.items()):
        print(f"  {count:>8} {what}")
    slowest = max(tally.waited, default=0.0)
    print(f"  {slowest:>8.1f} seconds at most from a round's last record to its last commit")
    if run.failed:
        print(f"failed seeds: {' '.join(map(str, run.failed))}")


if __name__ == "__main__":
    sys.exit(main())
