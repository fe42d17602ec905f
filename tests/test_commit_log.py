"""The commit log: what goes in comes out, names are created once, and what is not right is refused by name."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from padreel.dataset import codec, files
from padreel.dataset.commit_log import (
    FORMAT_VERSION,
    CommitLog,
    CommittedFile,
    Entry,
    Episode,
    Kind,
    Source,
    Totals,
    decode_entry,
    encode_entry,
)
from padreel.errors import CorruptShardError, FencedError, FormatVersionError
from padreel.model import Fate, PadState, PartitionState, SessionRejection

SOURCE = Source("cluster", "frames", "pads", 0, 1, "group")
PATH = Path("commits/0.json")


@pytest.fixture(autouse=True)
def restored_probe() -> Iterator[None]:
    yield
    files.probe = files._silent


def claim(n: int = 0, uuid: str = "a", **changes: Any) -> Entry:
    entry = Entry(n, uuid, Kind.CLAIM, n, "writer", SOURCE, None, Totals(), None)
    return replace(entry, **changes) if changes else entry


def make_log(shard: Path, commits: int = 0) -> tuple[CommitLog, Path]:
    log, folder = CommitLog(shard), shard / "staging/pub-1"
    log.create()
    folder.mkdir(parents=True)
    for n in range(commits):
        assert log.link(claim(n, f"uuid-{n}"), folder)
    return log, folder


@given(st.from_type(PartitionState))
def test_every_state_survives_the_log(state: PartitionState) -> None:
    entry = claim(state=state)
    again = decode_entry(encode_entry(entry), PATH)
    assert again == entry
    assert type(again.state) is PartitionState


finite = st.floats(allow_nan=False, allow_infinity=False)
episodes = st.builds(
    Episode,
    from_timestamp=finite,
    to_timestamp=finite,
    columns=st.dictionaries(st.text(), st.integers() | st.text()),
    stats=st.dictionaries(st.text(), st.dictionaries(st.text(), st.lists(finite))),
    files=st.tuples(*(st.builds(CommittedFile, kind=st.just(kind)) for kind in ("video", "data", "gamepad"))),
)
totals = st.builds(
    Totals,
    accounted=st.dictionaries(st.sampled_from(Fate), st.integers()),
    stats=st.none() | st.dictionaries(st.text(), st.dictionaries(st.text(), st.lists(finite))),
)


@given(totals, episodes, st.lists(st.from_type(SessionRejection)).map(tuple))
def test_every_episode_survives_the_log(
    total: Totals, episode: Episode, rejections: tuple[SessionRejection, ...]
) -> None:
    entry = claim(kind=Kind.EPISODE, totals=total, episode=episode, rejections=rejections)
    assert decode_entry(encode_entry(entry), PATH) == entry


def damaged(change: str, value: Any) -> bytes:
    body = json.loads(encode_entry(claim(state=PartitionState())))
    *path, name = change.split(".")
    place = body
    for one in path:
        place = place[one]
    if value is ...:
        del place[name]
    else:
        place[name] = value
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    ("change", "value", "message"),
    [
        ("n", 1, r"n: found 1, expected 0"),
        ("uuid", ..., r"uuid: missing"),
        ("colour", "red", r"colour: unknown field"),
        ("kind", "boast", r"kind: found 'boast', expected one of claim, episode"),
        ("kind", "episode", r"episode: must be there"),
        ("state.frames_next", "7", r"state\.frames_next: found '7', expected an integer"),
        ("state.frames_next", True, r"state\.frames_next: found True, expected an integer"),
        ("state.open", {"s@1": {}}, r"state\.open\['s@1'\]\.\w+: missing"),
        ("state.closed", [], r"state\.closed: found \[\], expected an object"),
        ("totals.tasks", [1], r"totals\.tasks\[0\]: found 1, expected text"),
        ("format_version", "1", r"format_version: found '1', expected 1"),
    ],
)
def test_what_is_no_commit_is_refused_by_field(change: str, value: Any, message: str) -> None:
    with pytest.raises(CorruptShardError, match=r"commits/0\.json: .*" + message):
        decode_entry(damaged(change, value), PATH)


def test_a_newer_version_is_refused_by_its_number() -> None:
    with pytest.raises(FormatVersionError, match=f"format_version {FORMAT_VERSION + 1} is newer than {FORMAT_VERSION}"):
        decode_entry(damaged("format_version", FORMAT_VERSION + 1), PATH)


def test_a_truncated_commit_is_named() -> None:
    with pytest.raises(CorruptShardError, match=r"commits/0\.json: no JSON"):
        decode_entry(encode_entry(claim())[:-5], PATH)


def test_bytes_that_are_no_base64_are_refused() -> None:
    with pytest.raises(codec.CodecError, match=r"event: found '\*', expected base64"):
        codec.decode(PadState, {**codec.encode(PadState()), "event": "*"})


def test_an_empty_log_has_no_last(tmp_path: Path) -> None:
    assert make_log(tmp_path)[0].last() is None


def test_the_last_commit_is_found(tmp_path: Path) -> None:
    last = make_log(tmp_path, 12)[0].last()
    assert last is not None
    assert last.n == 11


@pytest.mark.parametrize("listed", [0, 1, 3])
def test_commits_beyond_a_stale_listing_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: int) -> None:
    log, _ = make_log(tmp_path, 5)
    monkeypatch.setattr(os, "listdir", lambda folder: [f"{n}.json" for n in range(listed)])
    last = log.last()
    assert last is not None
    assert last.n == 4


def test_a_deleted_commit_is_named(tmp_path: Path) -> None:
    log, _ = make_log(tmp_path, 5)
    (tmp_path / "commits/2.json").unlink()
    with pytest.raises(CorruptShardError, match=r"commits/2\.json: missing, though commit 4 exists"):
        log.last()


def test_a_name_is_created_once(tmp_path: Path) -> None:
    log, folder = make_log(tmp_path, 1)
    assert not log.link(claim(0, "other"), folder)
    first = log.read(0)
    assert first is not None
    assert first.uuid == "uuid-0"


def test_linking_again_is_safe(tmp_path: Path) -> None:
    log, folder = make_log(tmp_path)
    assert log.link(claim(), folder)
    assert log.link(claim(), folder)
    assert list(folder.iterdir()) == []


def test_a_lost_reply_is_no_lost_commit(tmp_path: Path) -> None:
    log, folder = make_log(tmp_path)

    def lose(point: str, path: Path) -> None:
        if point == "after claim":
            raise OSError(errno.EIO, "the reply is lost")

    files.probe = lose
    assert log.link(claim(), folder)


def test_an_error_before_the_link_leaves_nothing(tmp_path: Path) -> None:
    log, folder = make_log(tmp_path)

    def fail(point: str, path: Path) -> None:
        if point == "before claim":
            raise OSError(errno.ENOSPC, "no space")

    files.probe = fail
    with pytest.raises(OSError, match="no space"):
        log.link(claim(), folder)
    assert log.last() is None


def test_a_writer_without_its_folder_cannot_commit(tmp_path: Path) -> None:
    log, folder = make_log(tmp_path)
    folder.rmdir()
    with pytest.raises(FencedError, match="another writer"):
        log.link(claim(), folder)
    assert log.last() is None


def test_a_writer_fenced_just_before_its_link_cannot_commit(tmp_path: Path) -> None:
    log, folder = make_log(tmp_path)

    def fence(point: str, path: Path) -> None:
        if point == "before claim":
            for file in folder.iterdir():
                file.unlink()

    files.probe = fence
    with pytest.raises(FencedError, match="another writer"):
        log.link(claim(), folder)
    assert log.last() is None
