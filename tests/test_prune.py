"""Which sessions may be thrown away, and how they go: only whole ones of which every frame was told."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from padreel_schemas.v1.episodes_pb2 import EpisodeEvent
from padreel_shim.coverage import Episode, Session, collect, why_kept
from padreel_shim.events import parse_event
from padreel_shim.prune import Pruned, PruneOptions, finish_pruning, prune
from padreel_shim.publish import PublishOptions, publish_session
from padreel_shim.state import StateFile
from tests.fake_publisher import FakePublisher
from tests.session_folders import START_NS, write_actions, write_folder

FRAMES = 20

# ---- what was told, against what was recorded


def committed(first: int, frames: int, idle_until_ns: int = 0, group: str = "padreel") -> EpisodeEvent:
    return EpisodeEvent(consumergroup=group, first_frame_index=first, frames=frames, idle_until_ns=idle_until_ns)


def told(*events: EpisodeEvent, group: str = "padreel") -> Session | None:
    return collect([("one@1", event) for event in events], group).get("one@1")


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[int], int, list[tuple[int, int]], list[bool]]:
    """Frame times, until when they are idle, ranges of episodes in order, and which of these were told."""
    times = sorted(draw(st.lists(st.integers(1, 50), min_size=1, max_size=30)))
    idle_until = draw(st.sampled_from([0, *times, 51]))
    cuts = sorted(draw(st.sets(st.integers(0, len(times)), max_size=8)))
    ranges = [(a, b) for a, b in pairwise(cuts) if draw(st.integers(0, 9))]
    return times, idle_until, ranges, [draw(st.integers(0, 5)) > 0 for _ in ranges]


@given(histories(), st.randoms(use_true_random=False))
def test_a_session_goes_where_each_frame_is_a_row_or_was_idle_and_only_there(
    history: tuple[list[int], int, list[tuple[int, int]], list[bool]], random: object
) -> None:
    times, idle_until, ranges, which = history
    events = [committed(a, b - a, idle_until) for (a, b), is_told in zip(ranges, which, strict=True) if is_told]
    events += events[:2]  # again, after a recovery
    random.shuffle(events)  # type: ignore[attr-defined]
    rows = {
        index for event in events for index in range(event.first_frame_index, event.first_frame_index + event.frames)
    }
    first = min(rows, default=len(times))
    missing = [i for i, t in enumerate(times) if i not in rows and not (i < first and t < idle_until)]
    may_go = bool(rows) and not missing
    assert (why_kept(told(*events), times, rejected_too=False) is None) == may_go


TIMES = list(range(100, 110))


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([], "nothing was told of it"),
        ([committed(0, 10, group="another")], "nothing was told of it"),
        ([committed(0, 9)], "frames 9 to 9 are in no episode yet"),
        ([committed(0, 4), committed(6, 4)], "frames 4 to 5 are in no episode"),
        ([committed(3, 7)], "frame 2 is in no episode and was not idle"),
        ([committed(3, 7, idle_until_ns=102)], "frame 2 is in no episode and was not idle"),
        ([committed(3, 7, idle_until_ns=103)], None),
        ([committed(0, 11)], "an episode ends at frame 10, the recording has 10"),
        ([committed(12, 1)], "an episode begins at frame 12, the recording has 10"),
        ([committed(0, 4), committed(4, 6)], None),
    ],
)
def test_why_a_session_is_kept(events: list[EpisodeEvent], why: str | None) -> None:
    assert why_kept(told(*events), TIMES, rejected_too=False) == why
    assert why_kept(told(*events), TIMES, rejected_too=True) == why


def test_rejected_sessions_are_kept_unless_they_are_asked_for() -> None:
    rejected = EpisodeEvent(consumergroup="padreel", kind=EpisodeEvent.REJECTED, reason="restarted")
    some = told(committed(0, 4), rejected)
    assert why_kept(some, TIMES, rejected_too=False) == "it was rejected (restarted)"
    assert why_kept(some, TIMES, rejected_too=True) is None
    quarantined = EpisodeEvent(consumergroup="padreel", kind=EpisodeEvent.QUARANTINED, reason="undecodable")
    some = told(committed(0, 4), quarantined)
    for rejected_too in (False, True):  # the next episode may still be under way
        why = why_kept(some, TIMES, rejected_too=rejected_too)
        assert why == "an episode of it is in the dead letters (undecodable)"


def test_what_is_no_event_is_passed_over() -> None:
    value = committed(0, 4).SerializeToString()
    assert parse_event(b"one@1", value) == ("one@1", committed(0, 4))
    for key, found in ((None, value), (b"one@1", None), (b"\xff", value), (b"one@1", b"\xff")):
        assert parse_event(key, found) is None


# ---- folders


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "recordings"


def options(root: Path, **more: object) -> PruneOptions:
    return PruneOptions(root, root.parent / "state", **more)  # type: ignore[arg-type]


def published(root: Path, name: str = "one", *, fail_at: int | None = None) -> str:
    """A session folder, published; its key."""
    folder = write_folder(root / name, FRAMES)
    publisher = FakePublisher(fail_at=fail_at)
    done = asyncio.run(publish_session(folder, publisher, root.parent / "state", PublishOptions(speed=math.inf)))
    return done.key


def all_of(*keys: str) -> dict[str, Session]:
    return {key: Session({Episode(0, FRAMES, 0)}) for key in keys}


def pruned(root: Path, told: dict[str, Session], cluster: str = "cluster", **more: object) -> list[Pruned]:
    wanted = options(root, **more)
    finish_pruning(wanted)
    return list(prune(wanted, told, cluster))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_told_whole_goes_and_the_rest_stays(root: Path) -> None:
    one, two = published(root), published(root, "two")
    told = {**all_of(one), two: Session({Episode(0, FRAMES - 1, 0)})}
    (root / "notes").mkdir()
    would = pruned(root, told, dry_run=True)
    assert [(found.folder.name, found.key, found.kept) for found in would] == [
        ("one", one, ""),
        ("two", two, "frames 19 to 19 are in no episode yet"),
    ]
    assert names(root) == ["notes", "one", "two"]
    assert pruned(root, told) == would
    assert names(root) == ["notes", "two"]
    assert [found.folder.name for found in pruned(root, told)] == ["two"]


def test_the_frames_before_the_first_row_are_compared_with_the_clock_of_the_recording(root: Path) -> None:
    key = published(root)
    for idle_until_ns, kept in ((START_NS, "frame 0 is in no episode and was not idle"), (START_NS + 1, "")):
        (found,) = pruned(root, {key: Session({Episode(1, FRAMES, idle_until_ns)})})
        assert found.kept == kept


def test_what_must_not_go(root: Path) -> None:
    key = published(root)
    (found,) = pruned(root, all_of(key), cluster="another")
    assert found.kept == "it was published to cluster cluster, this is another"
    with StateFile(root.parent / "state", root / "one"):
        (found,) = pruned(root, all_of(key))
    assert "another padreel-shim publishes this session" in found.kept
    write_actions(root / "one" / "actions.bin", [])
    (found,) = pruned(root, all_of(key))
    assert found.kept == "actions.bin changed since it was published"
    (root / "one" / "actions.bin").unlink()
    (found,) = pruned(root, all_of(key))
    assert found.kept == "actions.bin is gone"
    assert names(root) == ["one"]
    write_folder(root / "never")
    assert {found.folder.name: found.kept for found in pruned(root, all_of(key))}["never"] == (
        "it was not published from here"
    )


def test_a_session_that_was_not_published_to_its_end_stays(root: Path) -> None:
    folder = write_folder(root / "one", FRAMES)
    from padreel_shim.producer import PublishError

    with pytest.raises(PublishError):
        asyncio.run(
            publish_session(folder, FakePublisher(fail_at=25), root.parent / "state", PublishOptions(speed=math.inf))
        )
    with StateFile(root.parent / "state", folder) as file:
        state = file.load()
    assert state is not None
    (found,) = pruned(root, all_of(f"one@{state.run}"))
    assert found.kept == "it is not published to its end"


def test_a_link_stays(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    key = published(elsewhere)
    root.mkdir()
    (root / "one").symlink_to(elsewhere / "one")
    (found,) = pruned(root, all_of(key))
    assert found.kept == "it is a link"
    assert (elsewhere / "one").exists()


def test_a_crash_in_the_middle_is_finished(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = published(root)

    def dies(path: Path) -> None:
        (path / "sync.csv").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patcher:
        patcher.setattr(shutil, "rmtree", dies)
        with pytest.raises(KeyboardInterrupt):
            pruned(root, all_of(key))
    assert names(root) == [".padreel-pruned-one"]
    assert pruned(root, {}, dry_run=True) == []
    assert names(root) == [".padreel-pruned-one"]
    assert pruned(root, {}) == []
    assert names(root) == []


@pytest.mark.parametrize("is_other_disk", [False, True])
def test_folders_may_be_moved(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_other_disk: bool) -> None:
    key = published(root)
    shutil.copytree(root / "one", tmp_path / "before")
    target = tmp_path / "attic"
    target.mkdir()
    if is_other_disk:
        original = Path.rename

        def rename(self: Path, other: Path) -> Path:
            if self.parent == root and other.parent == target:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            return original(self, other)

        monkeypatch.setattr(Path, "rename", rename)
        (target / ".padreel-moving-one").mkdir()  # of a copy that was not finished
    (found,) = pruned(root, all_of(key), move_to=target, dry_run=True)
    assert (found.kept, names(root)) == ("", ["one"])
    (found,) = pruned(root, all_of(key), move_to=target)
    assert (found.kept, names(root), names(target)) == ("", [], ["one"])
    for path in (tmp_path / "before").iterdir():
        assert (target / "one" / path.name).read_bytes() == path.read_bytes()


def test_a_name_that_is_taken_is_not_overwritten_unless_it_is_the_copy(root: Path, tmp_path: Path) -> None:
    key = published(root)
    target = tmp_path / "attic"
    write_folder(target / "one", 3)
    (found,) = pruned(root, all_of(key), move_to=target)
    assert found.kept == f"{target / 'one'} exists"
    (found,) = pruned(root, all_of(key), move_to=root)
    assert found.kept == f"{root / 'one'} exists"
    shutil.rmtree(target / "one")
    shutil.copytree(root / "one", target / "one")  # a crash came before the source was deleted
    (found,) = pruned(root, all_of(key), move_to=target)
    assert (found.kept, names(root)) == ("", [])
