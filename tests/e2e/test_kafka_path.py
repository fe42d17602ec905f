"""The whole way: published by the shim, through a real broker, consumed by a real process, compared with `convert`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.conftest import TopicNames
from tests.dataset_reading import ReadEpisode, by_session, shards
from tests.e2e.processes import Rig, consumer, consumer_flags, shim
from tests.e2e.test_convert import NAMES
from tests.training_world import convert_recordings


@pytest.fixture
def rig(broker: str, topics: TopicNames) -> Rig:
    made = Rig(broker, topics.frames, topics.pads)
    made.create_topics(partitions=2)
    return made


@pytest.fixture(scope="session")
def converted(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[ReadEpisode]]:
    """What `convert` makes of the same sessions."""
    output = tmp_path_factory.mktemp("converted") / "out"
    convert_recordings(recordings, output)
    return by_session([output])


def publish(rig: Rig, recordings: Path, state: Path, speed: str, names: list[str] = NAMES) -> None:
    folders = [str(recordings / "sessions" / name) for name in names]
    shim("publish", *folders, *rig.flags, "--speed", speed, "--state-dir", str(state))


def test_published_at_full_speed_equals_convert(
    rig: Rig, recordings: Path, tmp_path: Path, converted: dict[str, list[ReadEpisode]]
) -> None:
    publish(rig, recordings, tmp_path / "state", "max")
    with consumer(consumer_flags(rig, recordings, tmp_path / "out", "--until", "end")) as running:
        assert running.finish() == 0, running.lines[-5:]
    assert by_session(shards(tmp_path / "out")) == converted
    # A finished session is not published again, and a second backfill has nothing to do.
    publish(rig, recordings, tmp_path / "state", "max")
    with consumer(consumer_flags(rig, recordings, tmp_path / "out", "--until", "end")) as running:
        assert running.finish() == 0, running.lines[-5:]
    assert by_session(shards(tmp_path / "out")) == converted


def test_published_live_equals_convert(
    rig: Rig, recordings: Path, tmp_path: Path, converted: dict[str, list[ReadEpisode]]
) -> None:
    """At the rig's own pace, consumed meanwhile; SIGTERM ends the consumer in good order."""
    with consumer(consumer_flags(rig, recordings, tmp_path / "out")) as running:
        publish(rig, recordings, tmp_path / "state", "1.0")
        running.await_episodes(3)
        assert not running.process.poll()
        running.process.send_signal(signal.SIGTERM)
        assert running.finish() == 0, running.lines[-5:]
    assert by_session(shards(tmp_path / "out")) == converted


def test_a_consumer_killed_in_the_middle_and_started_again(
    rig: Rig, recordings: Path, tmp_path: Path, converted: dict[str, list[ReadEpisode]]
) -> None:
    """SIGKILL after the first episode while the next sessions are being read."""
    flags = consumer_flags(rig, recordings, tmp_path / "out")
    publish(rig, recordings, tmp_path / "state", "max")
    with consumer(flags) as running:
        running.await_episodes(1)
        running.process.kill()
        running.process.wait()
    with consumer([*flags, "--until", "end"]) as running:
        assert running.finish() == 0, running.lines[-5:]
    assert by_session(shards(tmp_path / "out")) == converted


def test_a_running_consumer_has_not_imported_torch(rig: Rig, recordings: Path, tmp_path: Path) -> None:
    publish(rig, recordings, tmp_path / "state", "max", NAMES[:1])
    with consumer(consumer_flags(rig, recordings, tmp_path / "out")) as running:
        running.await_episodes(1)
        if sys.platform == "linux":
            loaded = Path(f"/proc/{running.process.pid}/maps").read_text()
            assert "libtorch" not in loaded
            assert "pyarrow" in loaded
