"""What cannot go on says so: what was found, what was expected, and the command that resolves it; a real broker."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete

from padreel.dataset.commit_log import FORMAT_VERSION
from tests.conftest import TopicNames
from tests.dataset_reading import by_session, shards
from tests.e2e.processes import Rig, consumer, padreel
from tests.e2e.streams import DEMO, demo_flags, messages, numbers_shown, publish, streams


def administer(broker: str, act: Callable[[Any], Awaitable[None]]) -> None:
    async def run() -> None:
        client = AIOKafkaAdminClient(bootstrap_servers=broker)
        await client.start()
        try:
            await act(client)
        finally:
            await client.close()

    asyncio.run(run())


def backfill(rig: Rig, output: Path, *more: str) -> None:
    with consumer(demo_flags(rig, output, f"group-{rig.frames}", "--until", "end", *more)) as running:
        assert running.finish() == 0, running.lines[-5:]


def refusal(rig: Rig, output: Path, *more: str) -> str:
    """What a consumer says that does not start or stops by itself."""
    with consumer(demo_flags(rig, output, f"group-{rig.frames}", *more)) as running:
        assert running.finish() in (1, 2), running.lines[-5:]
    return " ".join(str(line["event"]) for line in running.lines[-3:])


@pytest.fixture
def rig(broker: str, topics: TopicNames) -> Rig:
    made = Rig(broker, topics.frames, topics.pads)
    made.create_topics(partitions=1)
    return made


def test_deleted_records_are_named_and_skipped_on_request(rig: Rig, tmp_path: Path) -> None:
    topics, output = TopicNames(rig.frames, rig.pads), tmp_path / "out"
    one, two, three = streams("one"), streams("two"), streams("three")
    publish(rig.broker, messages(topics, one))
    backfill(rig, output)
    # The rest is deleted before it is consumed: all of session two, its pad too.
    publish(rig.broker, messages(topics, two))

    async def delete(client: Any) -> None:
        every = {TopicPartition(name, 0): RecordsToDelete(before_offset=-1) for name in (rig.frames, rig.pads)}
        await client.delete_records(every)

    administer(rig.broker, delete)
    publish(rig.broker, messages(topics, three))
    said = refusal(rig, output)
    assert f"topic '{rig.frames}', partition 0" in said
    assert "were deleted before they were consumed" in said
    assert "padreel skip --partition 0" in said
    skip = ["skip", "--bootstrap-servers", rig.broker, "--output-root", str(output), "--partition", "0"]
    done = padreel(*skip)
    assert done.returncode == 0, done.stderr
    frames, pads = len(one.frames), len(one.pads)
    assert f"frames: offsets {frames} to {frames + len(two.frames) - 1} are given up" in done.stdout
    assert f"pads: offsets {pads} to {pads + len(two.pads) - 1} are given up" in done.stdout
    backfill(rig, output)
    episodes = by_session(shards(output))
    assert episodes.keys() == {"one", "three"}
    assert [numbers_shown(episode) for episode in episodes["three"]] == [list(range(90))]
    lost = [json.loads(path.read_text()) for path in (output / "partition-00000" / "commits").glob("*.json")]
    assert sorted(entry["lost"]["topic"] for entry in lost if entry["kind"] == "lost") == ["frames", "pads"]
    # A second time there is nothing to skip.
    again = padreel(*skip)
    assert again.returncode == 1
    assert "nothing is lost" in again.stderr


def test_a_topic_created_anew_is_refused(rig: Rig, tmp_path: Path) -> None:
    topics, output = TopicNames(rig.frames, rig.pads), tmp_path / "out"
    publish(rig.broker, messages(topics, streams("one")))
    backfill(rig, output)

    async def recreate(client: Any) -> None:
        await client.delete_topics([rig.frames, rig.pads])
        while {rig.frames, rig.pads} & set(await client.list_topics()):  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.5)

    administer(rig.broker, recreate)
    rig.create_topics(partitions=1)
    publish(rig.broker, [*messages(topics, streams("two")), *messages(topics, streams("three"))])
    said = refusal(rig, output)
    assert "was created anew" in said
    assert "--output-root" in said


def test_a_changed_partition_count_is_refused(rig: Rig, tmp_path: Path) -> None:
    topics, output = TopicNames(rig.frames, rig.pads), tmp_path / "out"
    publish(rig.broker, messages(topics, streams("one")))
    backfill(rig, output)

    async def add(client: Any) -> None:
        await client.create_partitions({name: NewPartitions(total_count=2) for name in (rig.frames, rig.pads)})

    administer(rig.broker, add)
    said = refusal(rig, output)
    assert "partitions: found 1, expected 2" in said
    assert "--output-root" in said


def test_a_changed_action_layout_is_refused(rig: Rig, tmp_path: Path) -> None:
    output = tmp_path / "out"
    backfill(rig, output)
    changed, mapping = tmp_path / "game.yaml", tmp_path / "mapping.yaml"
    for made, name in ((changed, "game-definition.yaml"), (mapping, "action-mapping.yaml")):
        made.write_text(re.sub(r"\bjump\b", "hop", (DEMO / name).read_text()))
    said = refusal(rig, output, "--game-definition", str(changed), "--action-mapping", str(mapping))
    assert "action_names: found" in said
    assert "--game-definition" in said


def test_a_commit_of_a_newer_version_is_refused_by_its_number(rig: Rig, tmp_path: Path) -> None:
    topics, output = TopicNames(rig.frames, rig.pads), tmp_path / "out"
    publish(rig.broker, messages(topics, streams("one", 1)))
    backfill(rig, output)
    commits = output / "partition-00000" / "commits"
    last = max(commits.glob("*.json"), key=lambda path: int(path.stem))
    entry = json.loads(last.read_text())
    newer = {**entry, "format_version": FORMAT_VERSION + 1, "n": entry["n"] + 1}
    (commits / f"{newer['n']}.json").write_text(json.dumps(newer))
    assert f"format_version {FORMAT_VERSION + 1} is newer than {FORMAT_VERSION}" in refusal(rig, output)


def test_a_second_group_on_one_root_is_refused(rig: Rig, tmp_path: Path) -> None:
    output = tmp_path / "out"
    backfill(rig, output)
    said = refusal(rig, output, "--group-id", "another")
    assert "group: found" in said
    assert "another" in said


def test_two_groups_with_a_root_each_live_side_by_side(rig: Rig, tmp_path: Path) -> None:
    topics = TopicNames(rig.frames, rig.pads)
    publish(rig.broker, messages(topics, streams("one", 1)))
    first = demo_flags(rig, tmp_path / "first", "first", "--until", "end")
    second = demo_flags(rig, tmp_path / "second", "second", "--until", "end")
    with consumer(first) as one, consumer(second) as other:
        assert one.finish() == 0
        assert other.finish() == 0
    roots = [by_session(shards(tmp_path / name)) for name in ("first", "second")]
    assert roots[0] == roots[1]
    assert roots[0].keys() == {"one"}
