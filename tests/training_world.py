"""Shards for the tests of checking and merging, written by consumers, of rigs that play at the same time."""

from __future__ import annotations

import asyncio
import itertools
import resource
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from padreel.convert import ConversionResult, convert
from padreel.dataset.root import RootIdentity, open_root
from padreel.model import Topic
from padreel.options import load
from padreel.settings import ConvertSettings
from padreel.training.check.check import check
from padreel.training.check.report import Finding, Verdict
from padreel_schemas.v1 import gamepad_pb2, video_pb2
from tests.consumer_on_disk import Member
from tests.dataset_reading import CAMERA, ReadEpisode, read_episodes
from tests.fakes import FakeBroker
from tests.video_source import Source, stream_block
from tests.video_world import DATASET

FRAME_NS = 33_333_333

GAME = """
game_id: game
display_name: Game
classes:
  - id: main
    label: Main
    actions:
      - {id: attack, kind: digital, label: Attack, description: ""}
      - {id: move, kind: vector2, label: Move, description: ""}
"""
MAPPING = """
schema_version: 1
game_id: game
class_ids: [main]
profile_name: pad
created_at: 2026-04-20T17:18:45Z
updated_at: 2026-04-20T17:18:45Z
complete: true
axis_button_thresholds: {}
actions:
  attack: {skipped: false, bindings: [{type: button, control: south}]}
  move: {skipped: false, bindings: [{type: stick, control: left_stick}]}
"""
OTHER_MAPPING = MAPPING.replace("control: south", "control: east").replace("left_stick", "right_stick")


@dataclass(frozen=True, slots=True)
class Played:
    """A session of one rig: what it shows, and what the pad does at which frame (x, buttons).

    `lost` are the positions, in decode order, of frames that do not arrive.
    """

    key: str
    rig: str
    source: Source
    pad: tuple[tuple[float, float, tuple[int, ...]], ...] = ((0, 0.5, (0,)), (7, -0.25, ()), (9, 1.0, (1,)))
    task: str = ""
    lost: frozenset[int] = frozenset()


def messages(session: Played) -> Iterator[tuple[Topic, bytes]]:
    """Its records in the order of publishing."""
    source, rows = session.source, len(session.source.units)
    for at, x, buttons in session.pad:
        event = gamepad_pb2.GamepadState(
            monotonic_ns=1 + round(at * FRAME_NS), axes=[x, -x, -x, x], pressed_buttons=buttons
        )
        yield Topic.PADS, event.SerializeToString()
    for n, unit in enumerate(source.units):
        if n in session.lost:
            continue
        frame = video_pb2.VideoFrame(
            sequence=n,
            frame_index=unit.index,
            monotonic_ns=1 + unit.index * FRAME_NS,
            access_unit=unit.data,
            keyframe=unit.idr,
        )
        if unit.idr:
            frame.stream.CopyFrom(stream_block(source))
            frame.session.rig_id, frame.session.task = session.rig, session.task
        yield Topic.FRAMES, frame.SerializeToString()
    yield Topic.FRAMES, video_pb2.VideoFrame(kind=video_pb2.VideoFrame.END, frame_count=rows).SerializeToString()
    yield Topic.PADS, gamepad_pb2.GamepadState(kind=gamepad_pb2.GamepadState.END).SerializeToString()


def publish(broker: FakeBroker, partition: int, sessions: Sequence[Played]) -> None:
    """All sessions at the same time, a record of each in turn."""
    for turn in itertools.zip_longest(*(messages(one) for one in sessions)):
        for session, message in zip(sessions, turn, strict=True):
            if message is not None:
                topic, value = message
                at = len(broker.records[topic, partition])
                broker.produce((topic, partition), session.key.encode(), value, 1_700_000_000_000 + at)


def consume(broker: FakeBroker, root: Path, codec: str = "h264", **given: Any) -> Path:
    """Write what the broker has into the shards of `root`; `given` are settings of the consumer."""
    identity = RootIdentity(
        cluster_id="cluster",
        frames_topic="padreel.frames",
        pads_topic="padreel.gamepad",
        partitions=broker.partitions,
        group="padreel",
        schema=replace(DATASET.schema, codec=codec),
        columns=DATASET.columns,
        game_id=DATASET.game_id,
        class_ids=DATASET.class_ids,
        action_names=DATASET.encoder.names,
        key_names=DATASET.key_names,
    )
    open_root(root, identity)

    async def run() -> None:
        with ThreadPoolExecutor(4) as threads:
            async with asyncio.timeout(300):
                await Member(broker, root, threads, until="end", codec=codec, **given).consumer.run()

    asyncio.run(run())
    return root


def check_against_sources(
    lerobot: ModuleType, root: Path, expected: Sequence[tuple[Played, int, int]], actions: Any = None
) -> None:
    """LeRobot reads every row of every episode: `expected` has session, first row and length, in order.

    Pixels and actions are compared with the sources, by a plain reading of them.
    """
    dataset = lerobot.LeRobotDataset("tests/merged", root=root, video_backend="pyav")
    episodes = read_episodes_by_info(dataset)
    assert len(episodes) == len(expected)
    row = 0
    for number, (session, first, length) in enumerate(expected):
        assert episodes[number] == length, (number, session.key)
        for i in range(length):
            item = dataset[row + i]
            assert np.array_equal(as_bytes(item[CAMERA]), session.source.pictures[first + i]), (session.key, i)
            assert int(item["episode_index"]) == number
            assert int(item["index"]) == row + i
            assert int(item["frame_index"]) == i
            assert item["task"] == (session.task or "play")
            assert item["action"].tolist() == (actions or plain_action)(session, first + i), (session.key, i)
        row += length
    assert len(dataset) == row


def read_episodes_by_info(dataset: Any) -> list[int]:
    return [int(dataset.meta.episodes[n]["length"]) for n in range(dataset.meta.total_episodes)]


def plain_action(session: Played, frame: int) -> list[float]:
    """attack, move.x, move.y of the latest change at or before a frame."""
    x, buttons = next(((x, buttons) for at, x, buttons in reversed(session.pad) if at <= frame), (0.0, ()))
    return [float(0 in buttons), x, -x]


def other_action(session: Played, frame: int) -> list[float]:
    """The same by OTHER_MAPPING."""
    x, buttons = next(((x, buttons) for at, x, buttons in reversed(session.pad) if at <= frame), (0.0, ()))
    return [float(1 in buttons), -x, x]


def as_bytes(picture: Any) -> NDArray[np.uint8]:
    """(3, h, w) floats in [0, 1] as (h, w, 3) bytes."""
    pixels: NDArray[np.uint8] = np.rint(np.moveaxis(picture.numpy(), 0, 2) * 255).astype(np.uint8)
    return pixels


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """What a full disk does, without one: no file of this process may grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def episodes_of(root: Path) -> list[ReadEpisode]:
    """The episodes of all shards of a root, shard by shard."""
    return [one for shard in sorted(root.glob("partition-*")) for one in read_episodes(shard)]


def findings(path: Path, *, deep: bool = False) -> dict[str, Finding]:
    (one,) = check(path, deep=deep)
    return {finding.check: finding for finding in one.findings}


def failing(path: Path, *, deep: bool = False) -> dict[str, str]:
    """The checks that do not pass, with what they say."""
    return {name: one.detail for name, one in findings(path, deep=deep).items() if one.verdict is not Verdict.PASS}


def nothing(step: str, done: int, total: int) -> None:
    """What is told of a command's progress goes nowhere."""


def convert_recordings(recordings: Path, output: Path, **more: Any) -> ConversionResult:
    """Make one dataset of the real recordings; `more` are options of `padreel convert`."""
    values = {
        "session_root": recordings / "sessions",
        "game_definition": recordings / "melee-game-definition.yaml",
        "action_mapping": recordings / "melee-action-mapping.yaml",
        "output_root": output,
        "repo_id": "test/melee",
        "task": "Win the match",
        **more,
    }
    return convert(load(ConvertSettings, values))
