"""A recorder that writes session folders piece by piece, and followers that are killed and started again.

Time is made up: it passes while a follower sleeps, and the recorder writes then.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from padreel_schemas.recording import PublishedRecord, Recording
from padreel_schemas.v1.video_pb2 import SessionInfo
from padreel_shim.follower import follow_root
from padreel_shim.producer import PublishError
from padreel_shim.publish import Published
from padreel_shim.tail import FolderTail, ReferenceFrames
from padreel_shim.watch import FollowOptions, Surroundings
from tests.fake_publisher import FakePublisher


class Recorder:
    """Writes the files of finished folders below `root`, in pieces that end anywhere.

    A plain mp4 appears at the end, as recorders write its index last. `whole` is a folder of finished sessions.
    """

    def __init__(self, whole: Path, root: Path, seed: int = 0, *, most: int = 600) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        self._random = random.Random(seed)
        self._most = most
        self._left: list[tuple[Path, bytes]] = []
        for folder in sorted(whole.iterdir()):
            (root / folder.name).mkdir(exist_ok=True)
            for path in sorted(folder.iterdir()):
                self._left.append((root / folder.name / path.name, path.read_bytes()))

    @property
    def is_done(self) -> bool:
        return not self._left

    @property
    def is_ending(self) -> bool:
        """Whether one piece is left."""
        return len(self._left) == 1 and len(self._left[0][1]) <= self._most

    def write(self) -> None:
        """Append a piece to one of the files."""
        if self.is_done:
            return
        growing = [number for number, (path, data) in enumerate(self._left) if not _is_plain_mp4(path, data)]
        number = self._random.choice(growing or range(len(self._left)))
        path, data = self._left.pop(number)
        size = self._random.randint(1, self._most) if growing else len(data) // 2 + 1
        with path.open("ab") as file:
            file.write(data[:size])
        if data[size:]:
            self._left.insert(number, (path, data[size:]))


def _is_plain_mp4(path: Path, data: bytes) -> bool:
    return path.suffix == ".mp4" and not (path.exists() or b"mvex" in data)


class Time:
    """Passes while somebody sleeps; `then` is called each time."""

    def __init__(self, then: Callable[[], object]) -> None:
        self.now = 0.0
        self.then = then

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if seconds:
            self.now += seconds
            self.then()
        await asyncio.sleep(0.001 if seconds else 0)


def follow(
    root: Path,
    state_dir: Path,
    publisher: FakePublisher,
    options: FollowOptions,
    *,
    sessions: int = 1,
    then: Callable[[], object] = lambda: None,
    until: Callable[[list[str]], bool] = lambda told: False,
) -> tuple[list[Published], list[str]]:
    """Follow `root` until so many sessions are published, or until what was told says to; what was done and told."""
    done: list[Published] = []
    told: list[str] = []
    time = Time(then)

    async def run() -> None:
        over = asyncio.Event()

        def published(one: Published) -> None:
            done.append(one)
            if len(done) == sessions:
                over.set()

        def tell(text: str) -> None:
            told.append(text)
            if until(told):
                over.set()

        around = Surroundings(publisher, state_dir, options, tell, time.clock, time.sleep)
        following = asyncio.create_task(follow_root(root, around, published))
        waiting = asyncio.create_task(over.wait())
        await asyncio.wait([following, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if following.done():
            await following
        following.cancel()
        await asyncio.wait([following])

    asyncio.run(run())
    return done, told


def follow_with_crashes(
    recorder: Recorder, state_dir: Path, options: FollowOptions, *, seed: int, crashes: int, sessions: int = 1
) -> list[tuple[str, bytes, bytes]]:
    """Everything that was sent by followers of which the first ones die at random points, one after the other."""
    chance = random.Random(seed)
    sent: list[tuple[str, bytes, bytes]] = []
    done = 0
    for _ in range(crashes):
        # What is held back is on its way and lost to the publisher's memory, not to the broker.
        publisher = FakePublisher(fail_at=chance.randint(0, 40))
        if chance.random() < 0.5:
            publisher.hold = True
        try:
            found, _ = follow(
                recorder.root, state_dir, publisher, options, sessions=sessions - done, then=recorder.write
            )
            done += len(found)
        except PublishError:
            pass
        sent += publisher.sent
        if done == sessions:
            return sent
    publisher = FakePublisher()
    follow(recorder.root, state_dir, publisher, options, sessions=sessions - done, then=recorder.write)
    return sent + publisher.sent


def expected(folder: Path, options: FollowOptions) -> list[PublishedRecord]:
    """What following a folder has to publish, each topic in order."""
    if options.video == "inline":
        return list(Recording(folder).records(rig_id=options.rig_id, task=options.task, heartbeats=False))
    info = SessionInfo(rig_id=options.rig_id, task=options.task, media_uri=f"{folder.name}/capture.mp4")
    tail = FolderTail(folder, ReferenceFrames(info))
    return [*tail.read(), *tail.finish(info)[0]]


def copy_sessions(whole: Path, root: Path) -> None:
    """Finished session folders, all at once."""
    for folder in whole.iterdir():
        shutil.copytree(folder, root / folder.name)
