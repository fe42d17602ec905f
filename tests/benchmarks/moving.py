"""What it costs when partitions move between consumers in the middle of sessions: bytes read again, and seconds.

    python -m tests.benchmarks.moving [--sessions 60] [--age 20] [--frame-bytes 20000] [--partitions 8]

A real broker holds that many open sessions of that age. Two consumers have read them; then one leaves in good order,
a second and a third join, and one is killed. What is read again grows in proportion to the age, which is why so short
a one tells.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from aiokafka.partitioner import murmur2
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.broker import Broker
from padreel_schemas.recording import PublishedRecord
from padreel_shim.producer import RigProducer
from padreel_shim.synthetic import EncodedUnit, SyntheticRig
from tests.e2e.processes import Consumer, Rig, consumer, wait_for
from tests.e2e.prometheus import free_port
from tests.e2e.streams import FPS, demo_flags
from tests.e2e.test_scaling import follow

_READ, _KNOWN = "padreel_bytes_total", "padreel_reread_bytes_total"
_NEVER_SECONDS = "86400"  # these sessions do not fall silent while this runs


@dataclass(frozen=True, slots=True)
class Moved:
    """What one change of the group cost: bytes read again, those of them that the metric knows of, and seconds."""

    what: str
    read: int
    known: int
    seconds: float


@dataclass(frozen=True)
class PaddedRig(SyntheticRig):
    """A rig whose access units have this size, by filler data behind small pictures."""

    unit_bytes: int = 0

    def units(self) -> Iterator[tuple[int, EncodedUnit, bytes]]:
        for released_ns, unit, extradata in super().units():
            missing = self.unit_bytes - len(unit.data) - 4
            if missing > 2:
                filler = b"\x0c" + b"\xff" * (missing - 2) + b"\x80"
                unit = replace(unit, data=unit.data + missing.to_bytes(4, "big") + filler)
            yield released_ns, unit, extradata


def keys(sessions: int, partitions: int) -> list[bytes]:
    """As many sessions in each partition as in every other."""
    found: list[bytes] = []
    number = 0
    while len(found) < sessions:
        key = f"session-{number}@1".encode()
        number += 1
        if (murmur2(key) & 0x7FFFFFFF) % partitions == len(found) % partitions:
            found.append(key)
    return found


async def publish_all(rig: Rig, made: list[PublishedRecord], names: list[bytes]) -> int:
    """Publish a session under each of these keys; its bytes in all."""
    async with RigProducer(rig.broker, rig.frames, rig.pads) as producer:
        for key in names:
            for one in made:
                await producer.send(one.topic, key, one.value)
        await producer.drain()
        return producer.bytes_sent


class Group:
    """Consumers of one group by their metrics ports."""

    def __init__(self, rig: Rig, output: Path, sessions: int, partitions: int, running: ExitStack) -> None:
        self._rig, self._output, self._running = rig, output, running
        self._sessions, self._partitions = sessions, partitions
        self.consumers: dict[int, Consumer] = {}

    def add(self) -> int:
        port = free_port()
        flags = demo_flags(self._rig, self._output, "moving", "--metrics-port", str(port))
        flags += ["--session-timeout-seconds", _NEVER_SECONDS]
        made = self._running.enter_context(consumer(flags))
        thread = follow(made)
        self._running.callback(thread.join)
        self._running.callback(made.process.kill)
        self.consumers[port] = made
        return port

    def end(self, port: int, number: int) -> None:
        made = self.consumers.pop(port)
        made.process.send_signal(number)
        made.process.wait()

    def values(self, name: str, port: int) -> list[float]:
        """A metric of one consumer, by series; none while it does not listen yet."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except OSError:
            return []
        samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
        return [one.value for one in samples if one.name == name]

    def total(self, name: str) -> float:
        """A metric, summed up over series and consumers."""
        return sum(sum(self.values(name, port)) for port in self.consumers)

    def wait(self, read: float) -> None:
        """Wait until the consumers have shared out the partitions and have read so far."""

        def shared_out() -> bool:
            counts = [len(self.values("padreel_open_sessions", port)) for port in self.consumers]
            return sum(counts) == self._partitions and all(counts)

        wait_for(
            lambda: (
                shared_out()
                and self.total("padreel_open_sessions") == self._sessions
                and self.total("padreel_lag_records") == 0
                and self.total("padreel_read_position") == read
            ),
            "all is read",
        )


def measure(group: Group, records: int) -> list[Moved]:
    """One leaves, one joins, a third one joins, and one is killed."""
    group.add()
    changing = group.add()
    group.wait(records)
    found: list[Moved] = []

    def change(what: str, how: signal.Signals | None) -> None:
        """Nothing new is published: whatever is read from here on was read before."""
        nonlocal changing
        if how is not None:
            group.end(changing, how)
        before = {name: group.total(name) for name in (_READ, _KNOWN)}
        began = time.monotonic()
        if how is None:
            changing = group.add()
        group.wait(records)
        read, known = (int(group.total(name) - was) for name, was in before.items())
        found.append(Moved(what, read, known, time.monotonic() - began))

    change("one of two leaves", signal.SIGTERM)
    change("a second one joins", None)
    change("a third one joins", None)
    change("one of three is killed", signal.SIGKILL)
    return found


@contextmanager
def brokered(folder: Path) -> Iterator[str]:
    configured = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if configured:
        yield configured
        return
    broker = Broker(folder / "kafka")
    broker.start()
    try:
        yield broker.bootstrap_servers
    finally:
        broker.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=60)
    parser.add_argument("--age", type=float, default=20.0, help="seconds that each has been open")
    parser.add_argument("--frame-bytes", type=int, default=20_000)
    parser.add_argument("--partitions", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, brokered(Path(name)) as broker, ExitStack() as running:
        rig = Rig(broker, "moving.frames", "moving.gamepad")
        rig.create_topics(partitions=options.partitions)
        session = PaddedRig(
            *("moving", options.age, 160, 120, Fraction(FPS), 60, "moving", "", "padreel-demo"), options.frame_bytes
        )
        # Without its END it stays open, and an unread last pad record says that nothing earlier can come.
        made = [one for one in session.records() if not _is_end(one)]
        published = asyncio.run(publish_all(rig, made, keys(options.sessions, options.partitions)))
        group = Group(rig, Path(name) / "out", options.sessions, options.partitions, running)
        for one in measure(group, len(made) * options.sessions):
            line = {
                "what": one.what,
                "published_bytes": published,
                "read_again": one.read,
                "share": round(one.read / published, 3),
                "padreel_reread_bytes_total": one.known,
                "seconds": round(one.seconds, 1),
            }
            print(json.dumps(line), flush=True)


def _is_end(record: PublishedRecord) -> bool:
    from padreel_schemas.v1.gamepad_pb2 import GamepadState
    from padreel_schemas.v1.video_pb2 import VideoFrame

    if record.topic == "frames":
        return VideoFrame.FromString(record.value).kind == VideoFrame.END
    return GamepadState.FromString(record.value).kind == GamepadState.END


if __name__ == "__main__":
    main()
