"""`padreel status`: open sessions and recent episodes, out of the logs of shards alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from padreel.__main__ import cli
from padreel.dataset import layout, shard
from padreel.errors import SettingsError
from padreel.model import Commit, Effect, LastRecord, OpenSession, PartitionState, SessionInfo
from padreel.status import read_status
from tests.shard_world import PlainStage, episode_effects, open_shard, snapshot

NOW = 2_000_000_000.0
INFO = SessionInfo(rig_id="lab-3")
PLAYING = OpenSession(
    resume=40, sequence=30, time_ns=1_500_000_000, session_ns=500_000_000, session=INFO, waiting=False
)


@pytest.fixture(autouse=True)
def _plain_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard, "Stage", PlainStage)


def progress(last: LastRecord | None, **sessions: OpenSession) -> list[Effect]:
    """A commit of the read positions; `last` is the last frame record that was read."""
    opened = {f"{name}@1": one for name, one in sessions.items()}
    return [Commit(PartitionState(40, 50, 40, 50, opened, {}, last), {})]


def write(root: Path, partition: int, *commits: tuple[list[Effect], float]) -> Path:
    """A shard with these commits, each written so many seconds before NOW."""
    path = root / layout.shard_folder(partition)
    writer = open_shard(path, partition=partition)
    for effects, seconds in commits:
        (done,) = writer.apply(effects)
        os.utime(path / layout.commit_path(done.n), (NOW - seconds, NOW - seconds))
    writer.close()
    return path


def test_open_sessions_of_all_shards(tmp_path: Path) -> None:
    read = LastRecord(39, round((NOW - 7.5) * 1000), 0)
    silent = OpenSession(sequence=3, dormant=True)
    write(tmp_path, 2, (progress(read, playing=PLAYING, gone=silent), 30))
    write(tmp_path, 10, (progress(None, pad=OpenSession()), 20))
    write(tmp_path, 11)
    (tmp_path / "padreel.json").write_text("{}")
    found = read_status(tmp_path, NOW)
    assert found.shards == 3
    assert found.committed == ()
    assert [(row.session, row.rig, row.partition, row.frames, row.seconds) for row in found.open] == [
        ("gone@1", "", 2, 3, 0.0),
        ("playing@1", "lab-3", 2, 30, 1.0),
        ("pad@1", "", 10, 0, 0.0),
    ]
    assert [row.is_silent for row in found.open] == [True, False, False]
    assert [row.lag_seconds for row in found.open] == [7.5, 7.5, 20.0]


def test_episodes_of_the_last_hour_in_the_order_they_were_committed(tmp_path: Path) -> None:
    write(
        tmp_path,
        0,
        (episode_effects(1), 4000),
        (episode_effects(2, 2), 3000),
        (episode_effects(3, 5), 10),
        (progress(None), 5),
    )
    write(tmp_path, 1, (episode_effects(4), 100))
    found = read_status(tmp_path, NOW)
    assert [(row.session, row.partition, row.episode, row.frames) for row in found.committed] == [
        ("session-2@2", 0, 1, 2),
        ("session-4@4", 1, 0, 3),
        ("session-3@3", 0, 2, 5),
    ]
    assert [row.committed_at for row in found.committed] == [NOW - 3000, NOW - 100, NOW - 10]
    assert {(row.rig, row.ended_by) for row in found.committed} == {("rig-1", "end")}
    assert found.committed[0].seconds == pytest.approx(2 / 30)


def test_nothing_is_written_and_a_shard_alone_will_do(tmp_path: Path) -> None:
    path = write(tmp_path, 0, (episode_effects(1), 10), (progress(None, playing=PLAYING), 5))
    before = snapshot(tmp_path)
    assert read_status(path, NOW) == read_status(tmp_path, NOW)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", ["", "missing"])
def test_what_is_no_root_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="found no shard, expected an output root"):
        read_status(tmp_path / name, NOW)
    done = CliRunner().invoke(cli, ["status", str(tmp_path / name)])
    assert done.exit_code == 2
    assert "found no shard" in done.output


def test_as_tables_and_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOW)
    write(tmp_path, 3, (episode_effects(2, 60), 10), (progress(None, playing=PLAYING), 5))
    text = CliRunner().invoke(cli, ["status", str(tmp_path)]).output
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "Open sessions: 1 in 1 shards" in lines
    assert "playing@1 lab-3 3 30 1.0 5 s" in lines
    assert "Episodes of the last hour: 1" in lines
    assert "session-2@2 rig-1 3 0 60 2.0 end 03:33:10" in lines
    body = json.loads(CliRunner().invoke(cli, ["status", str(tmp_path), "--json"]).output)
    assert body["shards"] == 1
    (opened,), (committed,) = body["open"], body["committed_last_hour"]
    assert (opened["session"], opened["rig"], opened["lag_seconds"]) == ("playing@1", "lab-3", 5.0)
    assert (committed["session"], committed["ended_by"], committed["committed_at"]) == ("session-2@2", "end", NOW - 10)
