"""One round: a plan is played against one broker, and what is left is checked."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.local.broker import Broker
from tests.chaos import check, disk, mutants, players
from tests.chaos.check import Expected
from tests.chaos.members import COMMAND, ChaosError, Fleet, Tally
from tests.chaos.players import Records, Rigs, Topics
from tests.chaos.reader import Reader
from tests.chaos.rigs import MAX_EPISODE_SECONDS
from tests.chaos.schedule import GROUP_TIMEOUT_SECONDS, PARTITIONS, Event, FillDisk, Plan, RestartBroker
from tests.e2e import processes
from tests.e2e.processes import Rig
from tests.e2e.streams import demo_flags

_LOOK_SECONDS = 0.1
_SETTLE_LOOKS = 100


@dataclass(frozen=True, slots=True)
class World:
    """What all rounds share. `patience` is how many seconds anything may take: to end what hangs, not to judge what is
    slow."""

    broker: Broker
    folder: Path
    records: Records
    expected: Expected
    readers: Sequence[Reader]
    tally: Tally
    patience: float
    mutant: str = ""

    @property
    def command(self) -> str:
        """Of the consumers."""
        return mutants.__name__ if self.mutant else COMMAND


def flags(broker: Broker, topics: Topics, root: Path, name: str, *more: str) -> list[str]:
    """Of a consumer of the round of this name."""
    rig = Rig(broker.bootstrap_servers, topics.frames, topics.pads)
    settings = ("--max-episode-seconds", str(MAX_EPISODE_SECONDS), *more)
    settings += ("--group-timeout-seconds", str(GROUP_TIMEOUT_SECONDS), "--session-timeout-seconds", "3600")
    return demo_flags(rig, root, name, *settings)


async def play(world: World, plan: Plan, name: str) -> list[str]:
    """Play a round; what was wrong at its end. Raises ChaosError where something hangs or dies."""
    topics, folder = Topics(name), world.folder / name
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps(asdict(plan), indent=1, default=str))
    root, is_right = folder / "root", False
    with disk.mounted(root) as is_mounted:
        await players.create(world.broker.bootstrap_servers, topics)
        for reader in world.readers:
            reader.watch(root)
        try:
            wrong = await _play(world, plan, topics, root, is_mounted)
            wrong += await asyncio.to_thread(_seen, world)
            is_right = not wrong
        finally:
            disk.free(root)
            if not is_right:
                await asyncio.to_thread(_seen, world)
                shutil.copytree(root, folder / "left")
    await players.delete(world.broker.bootstrap_servers, topics)
    return wrong


def _seen(world: World) -> list[str]:
    """Let the readers leave the root alone; what they have seen that must not be."""
    wrong = []
    for reader in world.readers:
        seen = reader.watch(None)
        world.tally.add(f"opens ({reader.kind})", seen.opens)
        wrong += [f"{reader.kind} reader: {said}" for said in seen.failures]
    return wrong


async def _play(world: World, plan: Plan, topics: Topics, root: Path, is_mounted: bool) -> list[str]:
    """The round itself; what is wrong at its end, but for what was read meanwhile."""
    group, logs = topics.group, root.parent
    consumer = flags(world.broker, topics, root, group)
    environment = {mutants.VARIABLE: world.mutant} if world.mutant else {}
    with Fleet(consumer, plan, world.tally, logs, command=world.command, environment=environment) as fleet:
        try:
            await _live(world, plan, topics, fleet, root, is_mounted)
        except* Exception as several:
            raise _first(several) from several
        await _until(fleet.end, "consumers that do not end", world.patience)
    # Before anybody opens the shards again, which writes their metadata anew.
    wrong = check.gone_back(root)
    await _finish(world, [*consumer, "--until", "end"], logs, environment)
    broker = world.broker.bootstrap_servers
    letters = await players.read_letters(broker, topics.letters)
    ends = await players.end_offsets(broker, topics.frames)
    found, unreadable = await asyncio.to_thread(check.read_sessions, root)
    world.tally.add("frames", sum(len(one) for episodes in found.values() for one in episodes))
    wrong += unreadable or check.check_sessions(found, plan.sessions, world.expected)
    wrong += check.check_letters(letters, check.expected_letters(plan.sessions, plan.loose))
    wrong += await asyncio.to_thread(check.check_tree, root, ends)
    return wrong + check.staged(root)


async def _live(world: World, plan: Plan, topics: Topics, fleet: Fleet, root: Path, is_mounted: bool) -> None:
    """Everything that the plan says, until every session is closed in a log."""
    async with Rigs(world.broker.bootstrap_servers, topics, world.records) as rigs, asyncio.TaskGroup() as group:
        watching = group.create_task(_watch(fleet))
        await _settled(fleet)
        acting = [group.create_task(_at(world, fleet, event, root, is_mounted)) for event in plan.events]
        await asyncio.wait_for(rigs.play(plan), world.patience)
        await asyncio.wait(acting)
        started = time.monotonic()
        await _until(lambda: check.unfinished(root, plan.sessions), "sessions that no log ends", world.patience)
        world.tally.waited.append(time.monotonic() - started)
        watching.cancel()


async def _finish(world: World, consumer: list[str], logs: Path, environment: dict[str, str]) -> None:
    """One consumer alone finishes what is there."""
    with processes.consumer(consumer, environment, module=world.command) as running:
        code = await asyncio.wait_for(asyncio.to_thread(running.finish), world.patience)
    (logs / "consumer-last.log").write_text("".join(f"{line}\n" for line in running.lines))
    if code:
        raise ChaosError(f"a consumer by itself cannot finish, it ended with code {code}: {running.lines[-5:]}")


async def _until(missing: Callable[[], Sequence[str]], what: str, patience: float) -> None:
    """Wait until nothing is missing. Raises ChaosError that says what is."""
    end = time.monotonic() + patience
    while left := missing():
        if time.monotonic() > end:
            raise ChaosError(f"after {patience:.0f} seconds there are {what}: {', '.join(left)}")
        await asyncio.sleep(_LOOK_SECONDS)


def _first(group: BaseExceptionGroup[Exception]) -> ChaosError:
    one: BaseException = group
    while isinstance(one, BaseExceptionGroup):
        one = one.exceptions[0]
    return one if isinstance(one, ChaosError) else ChaosError(f"{type(one).__name__}: {one}")


async def _settled(fleet: Fleet) -> None:
    """Wait until every partition is read, or cannot be because the first consumers have met their faults.

    So that on a slow machine too something happens while the rigs play.
    """
    for _ in range(_SETTLE_LOOKS):
        if fleet.opened >= PARTITIONS:
            return
        await asyncio.sleep(_LOOK_SECONDS)


async def _watch(fleet: Fleet) -> None:
    while True:
        fleet.watch()
        await asyncio.sleep(_LOOK_SECONDS)


async def _at(world: World, fleet: Fleet, event: Event, root: Path, is_mounted: bool) -> None:
    await asyncio.sleep(event.at)
    match event:
        case RestartBroker(seconds=seconds):
            world.tally.add("broker restarts")
            await asyncio.to_thread(_restart, world.broker, seconds)
        case FillDisk(seconds=seconds):
            if is_mounted:
                world.tally.add("full disks")
                await asyncio.to_thread(disk.fill, root)
                await asyncio.sleep(seconds)
                disk.free(root)
        case _:
            fleet.act(event)


def _restart(broker: Broker, seconds: float) -> None:
    broker.stop()
    time.sleep(seconds)
    broker.start()
