"""The check of a round says what is wrong, whatever that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from padreel.dataset import layout
from padreel.dataset.commit_log import CommitLog
from padreel.kafka.dead_letter import StoredLetter
from padreel.model import LetterKind
from tests.chaos import check
from tests.chaos.check import Letter
from tests.chaos.reader import Seen
from tests.chaos.rigs import loose_record
from tests.chaos.schedule import Kind, Loose, LoosePlan, SessionPlan
from tests.dataset_reading import ReadEpisode, read_info
from tests.shard_world import PlainStage, open_shard, play

SESSION = SessionPlan("one", 0, Kind.GOOD, partition=1, starts=0.0, lasts=1.0)
BAD = replace(SESSION, name="two", kind=Kind.RESTARTED)


def episode(session: str, *times: int, end: str = "split", packets: int = 3) -> ReadEpisode:
    rows: dict[str, list[Any]] = {
        "frame_index": list(range(len(times))),
        "capture.time_ns": list(times),
        "action": [0.5] * len(times),
    }
    made = [(pts, pts, 1, pts == 0, "hash") for pts in range(packets)]
    return ReadEpisode(
        session, end, 0.0, 0.1 * len(times), rows, made, [b"event"], Path("file-000.mp4"), f"{session}@1"
    )


EXPECTED = {
    (0, Kind.GOOD): [episode("recording-0", 0, 1, 2), episode("recording-0", 3, 4, end="end")],
    (0, Kind.RESTARTED): [episode("restarted-0", 0, 1)],
}
RIGHT = {"one": [episode("one", 3, 4, end="end"), episode("one", 0, 1, 2)], "two": [episode("two", 0, 1)]}


def test_what_is_right_is_right() -> None:
    assert check.check_sessions(RIGHT, [SESSION, BAD], EXPECTED) == []


@pytest.mark.parametrize(
    ("one", "said"),
    [
        ([], r"5 frames are missing \[0, 1, 2, 3, 4\], 0 too many"),
        ([episode("one", 0, 1, 2)], r"2 frames are missing \[3, 4\]"),
        ([*RIGHT["one"], episode("one", 0, 1, 2)], r"0 frames are missing \[\], 3 too many \[0, 1, 2\]"),
        ([episode("one", 0, 1, 2), episode("one", 3, 5, end="end")], r"1 frames are missing \[4\], 1 too many \[5\]"),
        ([episode("one", 0, 1), episode("one", 2, 3, 4, end="end")], r"episodes \[\(2, 'split'\), \(3, 'end'\)\]"),
        ([episode("one", 0, 1, 2), episode("one", 3, 4, end="silence")], "'silence'"),
        ([episode("one", 0, 1, 2, packets=4), RIGHT["one"][0]], "episode 0 differs in packets"),
    ],
)
def test_a_session_that_is_not_as_expected(one: list[ReadEpisode], said: str) -> None:
    (wrong,) = check.check_sessions({**RIGHT, "one": one}, [SESSION, BAD], EXPECTED)
    assert wrong.startswith("one (good, partition 1): ")
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(wrong)


def test_rows_of_another_content() -> None:
    first = episode("one", 0, 1, 2)
    first.rows["action"][1] = 0.0
    (wrong,) = check.check_sessions({**RIGHT, "one": [first, RIGHT["one"][0]]}, [SESSION, BAD], EXPECTED)
    assert wrong.endswith("episode 0 differs in action")


def test_episodes_of_a_session_that_nobody_published() -> None:
    (wrong,) = check.check_sessions({**RIGHT, "three": []}, [SESSION, BAD], EXPECTED)
    assert wrong.startswith("three: ")


# ---- letters

SESSIONS, LOOSE = [SESSION, BAD], [LoosePlan(0.0, Loose.KEY_INVALID, 2)]


def letter(kind: LetterKind, key: bytes | None, reason: str, value: bytes | None = None) -> StoredLetter:
    return StoredLetter(kind, "frames", 0, 3, 3, reason, "", "1", key, value, 0)


LETTERS = [
    letter(LetterKind.SESSION, b"two@1", "restarted"),
    letter(LetterKind.SESSION, b"two@1", "restarted"),  # once more, after a crash
    letter(LetterKind.RECORD, *loose_record(Loose.KEY_INVALID)[1:2], "key_invalid", loose_record(Loose.KEY_INVALID)[2]),
]


def test_letters_may_come_twice() -> None:
    assert check.check_letters(LETTERS, check.expected_letters(SESSIONS, LOOSE)) == []


@pytest.mark.parametrize(
    ("letters", "said"),
    [
        (LETTERS[:2], "no dead letter: Letter(kind='record', session=None, reason='key_invalid')"),
        (LETTERS[2:], "no dead letter: Letter(kind='session', session='two', reason='restarted')"),
        ([*LETTERS, letter(LetterKind.SESSION, b"one@1", "schema")], "a dead letter about nothing bad"),
        ([*LETTERS, replace(LETTERS[2], value=b"cut")], "not the record's key and value"),
    ],
)
def test_letters_that_are_not_as_expected(letters: list[StoredLetter], said: str) -> None:
    (wrong,) = check.check_letters(letters, check.expected_letters(SESSIONS, LOOSE))
    assert said in wrong


def test_every_kind_of_bad_session_has_a_letter() -> None:
    made = check.expected_letters([replace(BAD, kind=kind) for kind in Kind], [])
    assert len(made) == len(Kind) - 1
    assert Letter("session", "two", "undecodable") in made


# ---- the tree


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("padreel.dataset.shard.Stage", PlainStage)
    shard = open_shard(tmp_path / layout.shard_folder(0))
    play(shard)
    shard.close()
    return tmp_path


def damage(name: str) -> Callable[[Path], None]:
    """Spoil a file of the shard."""

    def spoil(shard: Path) -> None:
        path = next(shard.glob(name))
        path.write_bytes(path.read_bytes()[:-1])

    return spoil


def go_back(shard: Path) -> None:
    info = shard / layout.INFO
    total = read_info(shard)["total_episodes"]
    info.write_text(info.read_text().replace(f'"total_episodes": {total}', f'"total_episodes": {total - 1}'))


def test_a_tree_that_is_right(root: Path) -> None:
    assert check.check_tree(root, [records(root), 0]) == check.gone_back(root) == check.staged(root) == []


def records(root: Path) -> int:
    """As many frame records as the log says it has seen."""
    last = CommitLog(root / layout.shard_folder(0)).last()
    assert last is not None
    return sum(last.totals.accounted.values())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (damage("data/*/*.parquet"), "another hash"),
        (lambda shard: next(shard.glob("gamepad/*/*.bin")).unlink(), "is missing"),
        (lambda shard: (shard / layout.COMMITS / "copy of 1.json").touch(), "of them are its commits"),
        (go_back, "info.json has (episodes, frames)"),
    ],
)
def test_a_tree_that_is_damaged(root: Path, spoil: Callable[[Path], None], said: str) -> None:
    spoil(root / layout.shard_folder(0))
    (wrong,) = check.check_tree(root, [records(root)])
    assert said in wrong
    assert check.gone_back(root) == ([wrong] if "info.json" in said else [])


def test_records_that_nobody_accounted_for(root: Path) -> None:
    assert "are accounted of" in check.check_tree(root, [records(root) + 1])[0]
    assert "has no log" in check.check_tree(root, [records(root), 1])[0]


def test_what_is_left_in_staging(root: Path) -> None:
    (root / layout.shard_folder(0) / layout.STAGING / "1-abc.mp4").touch()
    assert check.staged(root) == ["left in staging: partition-00000/staging/1-abc.mp4"]


def test_a_reader_sees_what_does_not_open_and_what_has_gone_back(tmp_path: Path) -> None:
    seen, episodes = Seen(), [2, 3, 1]
    for _ in episodes[:]:
        seen.look(tmp_path, lambda shard: episodes.pop(0))
    seen.look(tmp_path, lambda shard: episodes.pop(0))
    assert seen.opens == 3
    gone, failed = seen.failures
    assert "has gone back from 3 episodes to 1" in gone
    assert "IndexError" in failed
