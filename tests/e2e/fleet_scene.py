"""A fleet for two minutes: two consumers of one group, a third one that everything goes wrong for, and rigs."""

from __future__ import annotations

import asyncio
import resource
import shutil
import signal
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.partitioner import murmur2

from padreel.dataset import entries
from padreel.dataset.commit_log import CommitLog
from padreel.dataset.publish import PublishFolder
from padreel_shim.producer import Publisher, RigProducer
from padreel_shim.simulate import play
from padreel_shim.synthetic import EncodedUnit, SyntheticRig
from tests.e2e.processes import Consumer, Rig, consumer, wait_for
from tests.e2e.prometheus import SCRAPE_SECONDS, Curve, Prometheus, free_port, prometheus
from tests.e2e.streams import FPS, Sent, demo_flags, publish

PARTITIONS = 2
TIMEOUT_SECONDS = 5  # of a session without frames
EPISODE_SECONDS = 5
RIGS = ("playing-0", "playing-1", "silent", "padless", "other-size")  # those that are listed
WAITING_SECONDS = 4.0  # for so long, at least, sessions of two episodes are published while nobody consumes
_SESSIONS_AT_ONCE = 10
FLEET, TROUBLE = "fleet", "trouble"
SMALLEST_BUFFER_BYTES = 2**20
_FILLER_BYTES = 6_000
_SOMEBODY_ELSE = "somebody else"
_NOTHING_BYTES = 10  # a topic that takes no record longer than that takes none


class HeavyRig(SyntheticRig):
    """A rig of a higher bit rate: a NAL of filler data behind every picture."""

    def units(self) -> Iterator[tuple[int, EncodedUnit, bytes]]:
        filler = b"\x0c" + b"\xff" * (_FILLER_BYTES - 2) + b"\x80"
        for released_ns, unit, extradata in super().units():
            yield released_ns, replace(unit, data=unit.data + len(filler).to_bytes(4, "big") + filler), extradata


def key_in(partition: int, name: str, form: str = "{}-{}@1") -> bytes:
    """A key of this form that Kafka's partitioner puts into `partition`."""
    keys = (form.format(name, number).encode() for number in count())
    return next(key for key in keys if (murmur2(key) & 0x7FFFFFFF) % PARTITIONS == partition)


class Rigs:
    """Rigs that play in a thread of their own until they are stopped."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._tasks: list[asyncio.Task[object]] = []
        self._publisher: Publisher | None = None

    def __enter__(self) -> Rigs:
        self._thread.start()
        self._producer = RigProducer(self._rig.broker, self._rig.frames, self._rig.pads)
        self._publisher = self._wait(self._producer.__aenter__())
        return self

    def __exit__(self, *error: object) -> None:
        async def stop() -> None:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._producer.__aexit__(None, None, None)

        self._wait(stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def play(self, key: bytes, rig: SyntheticRig, *, until: float | None = None) -> None:
        """Let a rig play in real time. After `until` seconds it falls silent."""
        assert self._publisher is not None
        publisher = self._publisher

        async def go() -> None:
            task = asyncio.create_task(play(rig, key, publisher, speed=1.0))
            self._tasks.append(task)
            if until is not None:
                self._loop.call_later(until, task.cancel)

        self._wait(go())

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)


@dataclass(slots=True)
class Scene:
    """What is left of the scene when it is over: Prometheus, with all that it saw between two times (Unix seconds)."""

    prometheus: Prometheus
    instances: dict[str, str]  # addresses of the consumers "one" and "two" of the group FLEET, "three" of TROUBLE
    topics: tuple[str, str]
    disk_free: float  # share
    began: float
    said: dict[str, dict[str, Any]] = field(default_factory=dict)  # of each alert, as it was when it fired last
    troubled: float = 0.0  # until then all went well
    stopped: float = 0.0  # when the group FLEET lost its consumers
    waiting: int = 0  # sessions that were published meanwhile
    back: float = 0.0
    ended: float = 0.0

    def history(self, expression: str) -> list[Curve]:
        """What an expression was all the time."""
        return self.prometheus.history(expression, self.began, self.ended)

    def wait_for(self, expression: str) -> None:
        """Wait until Prometheus says so."""
        wait_for(partial(self.says, expression), expression)

    def says(self, expression: str) -> bool:
        """Whether Prometheus says so; what fires meanwhile is remembered."""
        fires = [one for one in self.prometheus.alerts() if one["state"] == "firing"]
        self.said.update({one["labels"]["alertname"]: one for one in fires})
        return bool(self.prometheus.now(expression))

    def wait_for_alert(self, name: str, group: str) -> None:
        """Wait until it fires, or has fired."""
        self.wait_for(f'last_over_time(ALERTS{{alertname="{name}",consumergroup="{group}",alertstate="firing"}}[10m])')


def session_rig(name: str, seconds: float, *, width: int = 160, kind: type[SyntheticRig] = SyntheticRig) -> Any:
    return kind(name, seconds, width, 120, fps=Fraction(FPS), gop=FPS, rig_id=name, game_id="padreel-demo")


def records(rig: Rig, made: SyntheticRig, keys: Sequence[bytes], *, topics: Sequence[str]) -> Iterator[Sent]:
    """A session's records of these topics ("frames", "pads") under each of the keys."""
    names = {"frames": rig.frames, "pads": rig.pads}
    for one in made.records():
        if one.topic in topics:
            for key in keys:
                yield names[one.topic], key, one.value


def garbage(rig: Rig) -> list[Sent]:
    """Records that cannot be used, in partition 1: a name that is none, and bytes that are no message."""
    named, unnamed = key_in(1, "garbage"), key_in(1, "garbage", "../{}/{}@1")
    return [(rig.pads, unnamed, b""), (rig.frames, named, b"\xff\xff")]


def end_its_disk(running: Consumer) -> None:
    """From now on it cannot write a file longer than that, so that no episode can be staged."""
    _, hard = resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (20_000, hard))


def take_the_shard(path: Path) -> None:
    """Claim a shard as another writer does, as soon as its consumer has it, and go away."""
    wait_for(lambda: _last_writer(path) not in ("", _SOMEBODY_ELSE), "the consumer has the shard")
    folder, log = PublishFolder(path), CommitLog(path)
    folder.fence()
    while True:
        last = log.last()
        assert last is not None
        if log.link(entries.claim(last, _SOMEBODY_ELSE, last.source), folder.path):
            break
    folder.remove()


def _last_writer(path: Path) -> str:
    last = CommitLog(path).last()
    return "" if last is None else last.writer


def make_a_topic_that_takes_nothing(broker: str, name: str) -> None:
    async def make() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker)
        await admin.start()
        try:
            settings = {"max.message.bytes": str(_NOTHING_BYTES)}
            made = await admin.create_topics([NewTopic(name, 1, 1, topic_configs=settings)])
            assert all(code == 0 for _, code, *_ in made.topic_errors), made
        finally:
            await admin.close()

    asyncio.run(make())


class Stage:
    """Who is on it, and what can be done to them."""

    def __init__(self, rig: Rig, folder: Path, scene: Scene, running: ExitStack) -> None:
        self._rig, self._folder, self._scene, self._running = rig, folder, scene, running
        self._threads: list[threading.Thread] = []

    def start(self, name: str) -> Consumer:
        group = TROUBLE if name == "three" else FLEET
        nothing = f"{self._rig.frames}.takes-nothing"
        more = ["--dead-letters-topic", nothing, "--episodes-topic", nothing] if group == TROUBLE else []
        more += ["--metrics-port", self._scene.instances[name].partition(":")[2]]
        more += ["--max-episode-seconds", str(EPISODE_SECONDS), "--session-timeout-seconds", str(TIMEOUT_SECONDS)]
        more += ["--rigs", str(self._folder / "rigs")]
        more += ["--buffer-bytes", str(SMALLEST_BUFFER_BYTES)]
        flags = demo_flags(self._rig, self._folder / group, group, *more)
        running = self._running.enter_context(consumer(flags))
        thread = threading.Thread(target=lambda: [None for _ in running.lines_until_end()])
        thread.start()
        self._running.callback(thread.join)
        self._running.callback(running.process.kill)
        return running

    def shard(self, partition: int) -> Path:
        return self._folder / FLEET / f"partition-{partition:05d}"


@contextmanager
def played(broker: str, folder: Path) -> Iterator[Scene]:
    """Play it, and keep Prometheus for questions."""
    rig = Rig(broker, "scene.frames", "scene.gamepad")
    rig.create_topics(partitions=PARTITIONS)
    make_a_topic_that_takes_nothing(broker, f"{rig.frames}.takes-nothing")
    (folder / "rigs").write_text("".join(f"{name}\n" for name in RIGS), encoding="utf-8")
    usage = shutil.disk_usage(folder)
    ports = {name: free_port() for name in ("one", "two", "three")}
    thresholds = {
        "> 120": "> 2",  # seconds behind
        "> 60 < 14400": "> 6 < 14400",  # seconds without a frame
        "padreel:lag_seconds > 60": "padreel:lag_seconds > 3",  # seconds behind then
        "vector(604800)": "vector(90)",  # the retention
        "padreel_storage_retries_total[10m])) > 5": "padreel_storage_retries_total[10m])) > 1",  # as they wait longer
        "padreel_episode_event_retries_total[10m])) > 5": "padreel_episode_event_retries_total[10m])) > 1",
        "padreel_dead_letter_retries_total[10m])) > 5": "padreel_dead_letter_retries_total[10m])) > 1",  # and longer
        "< 0.1": f"< {usage.free / usage.total + 0.05}",  # a disk that is nearly full
    }
    with prometheus(folder / "prometheus", thresholds) as server, ExitStack() as running:
        instances = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        scene = Scene(server, instances, (rig.frames, rig.pads), usage.free / usage.total, time.time())
        stage = Stage(rig, folder, scene, running)
        one, two, three = (stage.start(name) for name in ("one", "two", "three"))
        scene.wait_for('ALERTS{alertname="PadreelDown",alertstate="firing"}')
        server.scrape(list(ports.values()))
        scene.wait_for(f'sum(count by (instance) (padreel_open_sessions{{consumergroup="{FLEET}"}})) == {PARTITIONS}')
        rigs = running.enter_context(Rigs(rig))
        _in_good_order(scene, rig, rigs)
        scene.troubled = time.time()
        # Partition 1 waits for its dead letters, and partition 0 for its disk.
        publish(rig.broker, garbage(rig))
        scene.wait_for(f'padreel_dead_letter_retries_total{{consumergroup="{TROUBLE}",partition="1"}} > 0')
        end_its_disk(three)
        _with_bad_sessions(scene, rig, stage)
        _without_consumers(scene, rig, stage, one, two)
        scene.wait_for_alert("PadreelPadsStale", FLEET)
        for name in ("PadreelCommitsFailing", "PadreelDeadLettersFailing", "PadreelLagGrowing", "PadreelNextOld"):
            scene.wait_for_alert(name, TROUBLE)
        scene.wait_for_alert("PadreelNothingRecorded", TROUBLE)
        time.sleep(4 * SCRAPE_SECONDS)  # what was seen last is then behind the end of what is asked for
        scene.ended = time.time()
        yield scene


def _in_good_order(scene: Scene, rig: Rig, rigs: Rigs) -> None:
    """Each partition has a rig that plays on; one rig falls silent, one publishes no pad; episodes are committed."""
    for partition in range(PARTITIONS):
        rigs.play(key_in(partition, "playing"), session_rig(f"playing-{partition}", 600, kind=HeavyRig))
    rigs.play(key_in(1, "silent"), session_rig("silent", 600), until=4)
    publish(rig.broker, records(rig, session_rig("padless", 3), [key_in(0, "padless")], topics=["frames"]))
    for group in (FLEET, TROUBLE):
        scene.wait_for(f'sum(padreel_episodes_total{{consumergroup="{group}"}}) >= 4')
    scene.wait_for(f'sum(padreel_silent_sessions{{consumergroup="{FLEET}"}}) == 1')
    scene.wait_for_alert("PadreelRigSilent", FLEET)


def _with_bad_sessions(scene: Scene, rig: Rig, stage: Stage) -> None:
    """Records and a session that cannot be used, and another writer that takes a shard three times."""
    other_size = session_rig("other-size", 2, width=176)
    publish(rig.broker, records(rig, other_size, [key_in(1, "other-size")], topics=["frames", "pads"]))
    for number in range(1, 4):
        take_the_shard(stage.shard(0))
        fenced = f'sum(padreel_fences_total{{consumergroup="{FLEET}"}}) == {number}'
        wait_for(partial(_publishes, rig, scene, fenced), "it has lost the shard")
    rejects = f'ALERTS{{alertname="PadreelRejects",consumergroup="{FLEET}",alertstate="firing"}}'
    wait_for(partial(_publishes, rig, scene, rejects), "many rejects")


def _publishes(rig: Rig, scene: Scene, expression: str) -> bool:
    """Publish something that cannot be used; whether Prometheus says so."""
    publish(rig.broker, garbage(rig))
    return scene.says(expression)


def _without_consumers(scene: Scene, rig: Rig, stage: Stage, one: Consumer, two: Consumer) -> None:
    """Both of the group are killed, rigs publish much meanwhile, and both are started again."""
    for running in (one, two):
        running.process.send_signal(signal.SIGKILL)
    scene.stopped = time.time()
    # As many as this machine can: to read them takes longer than to publish them, so that Prometheus sees it happen.
    while time.time() < scene.stopped + WAITING_SECONDS:
        numbers = range(scene.waiting, scene.waiting + _SESSIONS_AT_ONCE)
        keys = [key_in(number % PARTITIONS, f"waiting-{number}") for number in numbers]
        publish(rig.broker, records(rig, session_rig("waiting", 2 * EPISODE_SECONDS), keys, topics=["frames", "pads"]))
        scene.waiting += _SESSIONS_AT_ONCE
    scene.wait_for_alert("PadreelDown", FLEET)
    scene.back = time.time()
    for name in ("one", "two"):
        stage.start(name)
    scene.wait_for(f'sum(padreel_episodes_total{{consumergroup="{FLEET}"}}) >= {2 * scene.waiting}')
    scene.wait_for(f'max(padreel_lag_seconds{{consumergroup="{FLEET}"}}) < 2')
