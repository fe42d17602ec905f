"""Quarantine for its readers: the episodes topic, rigs, `padreel status` and `padreel quarantine`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from padreel.__main__ import cli
from padreel.core.episodes import EventKind
from padreel.errors import SettingsError
from padreel.status import read_status
from padreel.training.quarantine import list_held, release_held
from padreel_shim.coverage import collect, why_kept
from padreel_shim.events import parse_event
from tests.quarantine_world import held, judging_stage, last_of, make, tell
from tests.shard_world import snapshot

__all__ = ["judging_stage"]  # a fixture that is used by being there


def test_the_episodes_topic_is_told_of_quarantine_and_release(tmp_path: Path) -> None:
    path = make(tmp_path, range(2))
    good, bad = tell(tmp_path)
    assert (good.kind, good.detail) == (EventKind.COMMITTED, "")
    assert (bad.kind, bad.episode_index, bad.frames, bad.reason) == (EventKind.QUARANTINED, 1, 3, "end")
    assert bad.detail == "quality 0.400 is below 0.6: forced 0.100, duration 1.000"
    release_held([path], [], [1])
    (event,) = tell(tmp_path)
    assert event == replace(bad, kind=EventKind.COMMITTED, detail="", commit=last_of(path).n)


def test_a_rig_may_delete_a_session_whose_episode_is_in_quarantine(tmp_path: Path) -> None:
    """Its files are in the shard, and a release needs nothing of the rig's."""
    make(tmp_path, [1])
    (event,) = tell(tmp_path)
    told = parse_event(event.key.encode(), event.message())
    assert told is not None
    session = collect([told], "recorders")["session-1@1"]
    assert why_kept(session, [0, 1, 2], rejected_too=False) is None
    assert why_kept(session, [0, 1, 2, 3], rejected_too=False) == "frames 3 to 3 are in no episode yet"


def test_status_marks_it(tmp_path: Path) -> None:
    make(tmp_path, range(2))
    committed = read_status(tmp_path, 0.0).committed
    assert [(row.quality, row.quarantined) for row in committed] == [(0.9, False), (0.4, True)]


# ---- the command


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["quarantine", *arguments])
    return done.exit_code, done.output


def test_list_says_what_is_held_back_and_why_and_writes_nothing(tmp_path: Path) -> None:
    path = make(tmp_path)
    before = snapshot(tmp_path)
    code, text = run("list", str(tmp_path))
    assert code == 0
    assert text.splitlines()[-1] == "2 episodes in quarantine"
    assert "session-1@1" in text
    assert "forced 0.100" in text
    code, text = run("list", str(tmp_path), "--json")
    body = json.loads(text)
    assert body["format_version"] == 1
    assert body["episodes"][0] == {
        "shard": str(path),
        "episode": 1,
        "commit": 2,
        "session": "session-1@1",
        "rig": "rig-1",
        "frames": 3,
        "seconds": 0.1,
        "end_reason": "end",
        "score": 0.4,
        "threshold": 0.6,
        "weakest": "forced",
        "components": {"forced": 0.1, "duration": 1.0},
    }
    assert snapshot(tmp_path) == before


def test_release_says_what_it_did(tmp_path: Path) -> None:
    path = make(tmp_path)
    code, text = run("release", str(tmp_path), "--session", "session-1,session-3@3")
    assert (code, text.count("is released")) == (0, 2)
    assert "episode 1 of session-1@1 is released" in text
    assert held(path) == []
    assert run("list", str(tmp_path)) == (0, "0 episodes in quarantine\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "found neither --session nor --episode"),
        (["--session", "session-2"], "--session: session-2: no episode of it is in quarantine"),
        (["--session", "session-1,session-9"], "--session: session-9: no episode"),
        (["--episode", "1,2"], "--episode: 2: not in quarantine"),
        (["--episode", "first"], "--episode (PADREEL_EPISODE): found 'first'"),
    ],
)
def test_what_is_not_in_quarantine_is_named_and_nothing_released(
    tmp_path: Path, arguments: list[str], expected: str
) -> None:
    make(tmp_path)
    before = snapshot(tmp_path)
    code, text = run("release", str(tmp_path), *arguments)
    assert code == 2
    assert expected in " ".join(text.split())
    assert snapshot(tmp_path) == before


def test_an_index_is_of_one_shard(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make(tmp_path / name)
    assert len(list_held([tmp_path])) == 4
    with pytest.raises(SettingsError, match="found 2 shards, expected one"):
        release_held([tmp_path], [], [1])
    assert len(release_held([tmp_path], ["session-1"], [])) == 2
    assert [one.episode for one in list_held([tmp_path])] == [3, 3]
