"""What every session has to become: the good ones as `padreel convert` makes them, the bad ones as one consumer does
to whom nothing happens."""

from __future__ import annotations

import asyncio
from pathlib import Path

from deploy.local.broker import Broker
from tests.chaos import players
from tests.chaos.check import in_order
from tests.chaos.players import Records, Rigs, Topics
from tests.chaos.rigs import MAX_EPISODE_SECONDS
from tests.chaos.round import flags
from tests.chaos.schedule import PARTITIONS, RECORDINGS, Kind, SessionPlan
from tests.dataset_reading import ReadEpisode, by_session, shards
from tests.e2e import processes
from tests.e2e.streams import DEMO

References = dict[tuple[int, Kind], list[ReadEpisode]]


async def references(broker: Broker, folder: Path, records: Records) -> References:
    """The episodes of every session. The good ones are consumed too, and must be what `convert` makes of them."""
    converted = await asyncio.to_thread(_convert, folder / "sessions", folder / "converted")
    consumed = await _consume(broker, folder, records)
    for number in range(RECORDINGS):
        assert consumed[number, Kind.GOOD] == converted[number], f"recording {number}: consume and convert differ"
    for (number, kind), episodes in consumed.items():
        rows = sum(map(len, episodes))
        is_less = rows < sum(map(len, converted[number]))
        assert kind is Kind.GOOD or is_less, f"recording {number} is {kind} and has all of its {rows} rows"
    return consumed


def _convert(sessions: Path, output: Path) -> list[list[ReadEpisode]]:
    """What `convert` makes of the folders, by number."""
    done = processes.padreel(
        *("convert", "--session-root", str(sessions), "--output-root", str(output)),
        *("--game-definition", str(DEMO / "game-definition.yaml")),
        *("--action-mapping", str(DEMO / "action-mapping.yaml")),
        *("--repo-id", "test/converted", "--task", "Run", "--max-episode-seconds", str(MAX_EPISODE_SECONDS)),
    )
    assert done.returncode == 0, done.stderr
    found = by_session([output])
    return [in_order(found[f"recording-{number}"]) for number in range(RECORDINGS)]


async def _consume(broker: Broker, folder: Path, records: Records) -> References:
    """What one consumer makes of all of them."""
    topics, root = Topics("calm"), folder / "calm"
    plans = {
        pair: SessionPlan(f"{pair[1]}-{pair[0]}", *pair, partition=number % PARTITIONS, starts=0.0, lasts=0.0)
        for number, pair in enumerate(records)
    }
    await players.create(broker.bootstrap_servers, topics)
    async with Rigs(broker.bootstrap_servers, topics, records) as rigs:
        await rigs.publish(plans.values())
    with processes.consumer(flags(broker, topics, root, topics.group, "--until", "end")) as running:
        code = await asyncio.to_thread(running.finish)
    assert code == 0, running.lines[-5:]
    found = by_session(shards(root))
    await players.delete(broker.bootstrap_servers, topics)
    return {pair: in_order(found.get(one.name, ())) for pair, one in plans.items()}
