"""Play synthetic rigs: several sessions at once, paced by their own clocks."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from padreel_schemas.key import session_key
from padreel_schemas.recording import PublishedRecord
from padreel_shim.producer import Publisher
from padreel_shim.synthetic import SyntheticRig


@dataclass(frozen=True, slots=True)
class Played:
    """What became of one rig: how many records, and by how many seconds the latest one missed its time."""

    key: str
    records: int
    behind_s: float


def rigs_like(rig: SyntheticRig, count: int) -> dict[str, SyntheticRig]:
    """Return `count` rigs with `rig`'s options by session name, `sim-<seed>-<index>`, each with a seed of its own."""
    return {
        f"sim-{rig.seed}-{index}": replace(rig, seed=f"{rig.seed}-{index}", rig_id=f"sim-{index}")
        for index in range(count)
    }


async def play(rig: SyntheticRig, key: bytes, publisher: Publisher, *, speed: float) -> Played:
    """Publish one session at `speed` times real time, or as fast as the publisher takes it where that is infinite.

    Pictures are encoded in a thread while the session plays.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    records: Iterator[PublishedRecord] = rig.records()
    count, behind_s = 0, 0.0
    while (record := await asyncio.to_thread(next, records, None)) is not None:
        if math.isfinite(speed):
            wait_s = started + (record.time_ns - rig.start_ns) / 1e9 / speed - loop.time()
            behind_s = max(behind_s, -wait_s)
            if wait_s > 0:
                await asyncio.sleep(wait_s)
        await publisher.send(record.topic, key, record.value)
        count += 1
    return Played(key.decode(), count, behind_s)


async def play_all(rigs: Mapping[str, SyntheticRig], publisher: Publisher, *, speed: float) -> Sequence[Played]:
    """Play all rigs at once, each session under a new random run; returns when all records are acknowledged.

    Raises PublishError.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(play(rig, session_key(name, f"{secrets.randbits(64):x}"), publisher, speed=speed))
                for name, rig in rigs.items()
            ]
    except ExceptionGroup as errors:  # they share a publisher: the first failure is everybody's
        raise errors.exceptions[0] from errors
    await publisher.drain()
    return [task.result() for task in tasks]
