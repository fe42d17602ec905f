"""Checks of a shard that play it, and fail where a rule of the storage protocol is missing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from padreel.dataset import files, layout
from padreel.dataset.commit_log import CommitLog, Entry
from padreel.errors import FencedError
from tests.power import Change, Recorder, Said, Synced, recording
from tests.shard_world import WORLD, Crash, episode_effects, open_shard, play, read_shard, snapshot, whole_world
from tests.storage_lives import Life, live, lose_power, record


@contextmanager
def probing(probe: Callable[[str, Path], None]) -> Iterator[None]:
    before, files.probe = files.probe, probe
    try:
        yield
    finally:
        files.probe = before


def overtaken(folder: Path) -> None:
    """A writer that was overtaken at any step of publishing changes nothing, and learns of it."""
    for point in ("after link", "before replace", "after replace"):
        for count in range(5):
            path = folder / f"{point} {count}"
            old = open_shard(path)
            play(old, WORLD[:2])
            left = count
            by_new: dict[str, tuple[int, int, str]] | None = None

            def stop(at: str, where: Path, path: Path = path, point: str = point) -> None:
                nonlocal left, by_new
                left -= at == point
                if left < 0 and by_new is None:
                    by_new = {}
                    with probing(files._silent):
                        play(open_shard(path, writer="new"), [*WORLD[:2], episode_effects, episode_effects])
                    by_new = snapshot(path)

            with probing(stop), suppress(FencedError):
                old.apply(episode_effects(2))
            if left >= 0:
                break  # no such step any more
            assert snapshot(path) == by_new, "the loser has changed the shard"
            with pytest.raises(FencedError):
                old.check_tail()


def stale_view(folder: Path) -> None:
    """Whoever opens the shard and does not see its last commit at first (NFS) takes nothing back."""
    play(open_shard(folder), WORLD[:3])
    before = read_shard(folder)
    assert before.skipped == 1  # by the last commit
    real = CommitLog.last
    looks = 0

    def stale(log: CommitLog) -> Entry | None:
        nonlocal looks
        last = real(log)
        looks += 1
        return log.read(last.n - 1) if last is not None and looks == 1 else last

    def look(point: str, path: Path) -> None:
        try:
            seen = read_shard(folder)
        except AssertionError as error:
            raise AssertionError("the dataset has gone back") from error
        assert seen == before, "the dataset has gone back"

    with pytest.MonkeyPatch.context() as patch, probing(look):
        patch.setattr(CommitLog, "last", stale)
        opened = open_shard(folder, writer="new")
    assert opened.totals.skipped_count == 1, "the last commit is lost"
    assert CommitLog(folder).exists(opened.claim), "the claim is not in the log"
    entry = CommitLog(folder).read(opened.claim)
    assert entry is not None
    assert entry.writer == "new", "the claim is another's"


def lost_reply(folder: Path) -> None:
    """An error after a link is no loss: the commit is there, and is published."""
    opened = open_shard(folder)
    play(opened, WORLD[:1])

    def lose(point: str, path: Path) -> None:
        if point == "after link":
            files.probe = files._silent
            raise OSError(5, "the reply is lost")

    with probing(lose), suppress(OSError):
        opened.apply(episode_effects(1))
    opened.apply(())
    play(opened)
    assert read_shard(folder) == whole_world()


def _dies(folder: Path, wanted: Callable[[str, Path], bool]) -> None:
    """Die at each step that is wanted; what is left loads, and the next writer goes on to the same end."""
    seen: list[tuple[str, Path]] = []
    with probing(lambda point, path: seen.append((point, path))):
        play(open_shard(folder / "count"))
    for number in [i for i, one in enumerate(seen) if wanted(*one)]:
        path = folder / str(number)
        left = number

        def die(point: str, where: Path) -> None:
            nonlocal left
            left -= 1
            if left == -1:
                raise Crash

        with probing(die), suppress(Crash):
            play(open_shard(path))
        try:
            read_shard(path)
        except (AssertionError, OSError) as error:
            raise AssertionError("what was left does not load") from error
        play(open_shard(path))
        assert read_shard(path) == whole_world(), number


def dies_in_the_log(folder: Path) -> None:
    _dies(folder, lambda point, path: path.parent.name == "commits" and path.stem in "234")


def dies_between_replaces(folder: Path) -> None:
    _dies(folder, lambda point, path: point.endswith("replace"))


def late_sweep(folder: Path) -> None:
    """An older claimer that sweeps late spares what a younger one has staged."""
    play(open_shard(folder), WORLD[:1])
    stands, goes_on = threading.Event(), threading.Event()

    def open_slowly() -> None:
        with suppress(FencedError):
            open_shard(folder, writer="slow")

    slow = threading.Thread(target=open_slowly)

    def probe(point: str, path: Path) -> None:
        if threading.current_thread() is slow:
            if point == "after claim":
                stands.set()
                assert goes_on.wait(300)
        elif point == "before link":
            goes_on.set()
            slow.join()

    with probing(probe):
        slow.start()
        assert stands.wait(300)
        play(open_shard(folder, writer="quick"))
    assert read_shard(folder) == whole_world()


def power_loss(folder: Path) -> None:
    """The power is lost just after the log has changed or something was reported."""
    with recording(folder / "root") as recorder:
        live(recorder.top / "shard", recorder)
        _lose_power_at_commits(recorder, 0.0)


def power_loss_after_a_death(folder: Path) -> None:
    """The power is lost after a writer had died at one of its first steps, or just after a link."""
    lives = [[Life("dies", count, "after mkdir")] for count in range(12)]
    lives.append([Life("dies", 1, "after link"), Life("dies", 0, "after claim")])
    for number, before in enumerate(lives):
        with recording(folder / f"root-{number}") as recorder:
            record(recorder.top / "shard", recorder, before)
            if len(before) == 1:
                live(recorder.top / "shard", recorder)
            for seed in range(1 if len(before) == 1 else 8):
                lose_power(recorder, len(recorder.events), Random(seed), 0.0 if len(before) == 1 else 0.5)


def _lose_power_at_commits(recorder: Recorder, survival: float) -> None:
    log = (recorder.top / "shard" / layout.COMMITS).stat().st_ino
    cuts = [
        i + 1
        for i, event in enumerate(recorder.events)
        if isinstance(event, Said)
        or (isinstance(event, Synced) and event.inode == log)
        or (isinstance(event, Change) and event.place[0] == log)
    ]
    for cut in cuts:
        lose_power(recorder, cut, Random(cut), survival)
