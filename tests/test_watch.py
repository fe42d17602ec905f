"""`convert --watch`: sessions are taken when they are closed, and once, whatever happens in between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

import padreel.conversion
import padreel.watch
from padreel.convert import convert
from padreel.dataset.committed import Committed
from padreel.dataset.shard import Shard
from padreel.errors import InputError, RootMismatchError
from padreel.model import Effect
from padreel.options import load
from padreel.settings import ConvertSettings
from padreel.training.erase.command import erase
from padreel.training.settings import EraseSettings
from padreel.watch import Pace, WatchResult, read_history, watch
from tests.dataset_reading import ReadEpisode, read_episodes, read_info
from tests.properties.test_hostile_folders import GAME, MAPPING
from tests.session_folders import event, frame_times, write_actions, write_folder, write_sync, write_video

SETTLE = 2.0


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sessions, of several episodes each when they are split every half second."""
    root = tmp_path_factory.mktemp("recorded")
    write_folder(root / "a", frames=60, events=12)
    write_folder(root / "b", frames=40, events=8)
    return root


def settings_of(folder: Path, **more: Any) -> ConvertSettings:
    (folder / "game.yaml").write_text(GAME)
    (folder / "mapping.yaml").write_text(MAPPING)
    (folder / "in").mkdir(exist_ok=True)
    values = {
        "session_root": folder / "in",
        "game_definition": folder / "game.yaml",
        "action_mapping": folder / "mapping.yaml",
        "output_root": folder / "out",
        "repo_id": "tests/watch",
        "task": "play",
        "max_episode_seconds": 0.5,
        "watch": True,
        "settle_seconds": SETTLE,
        **more,
    }
    return ConvertSettings.model_validate(values)


class FakeTime:
    """A clock that only pauses move. After each `EVERY` seconds the next step is done, after the last it ends."""

    EVERY = 5.0

    def __init__(self, steps: Iterable[Callable[[], object]] = ()) -> None:
        self.seconds, self._due, self._steps, self.is_over = 0.0, self.EVERY, iter(steps), False

    def pause(self, seconds: float) -> None:
        self.seconds += seconds
        if self.seconds >= self._due:
            self._due = self.seconds + self.EVERY
            step = next(self._steps, None)
            if step is None:
                self.is_over = True
            else:
                step()

    @property
    def pace(self) -> Pace:
        return Pace(lambda: self.seconds, self.pause, lambda: self.is_over)


def run(settings: ConvertSettings, *steps: Callable[[], object]) -> WatchResult:
    return watch(settings, lambda committed: None, FakeTime(steps).pace)


def episodes(settings: ConvertSettings) -> list[ReadEpisode]:
    return read_episodes(settings.output_root)


@pytest.fixture(scope="module")
def expected(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> list[ReadEpisode]:
    """What `convert` makes of the two sessions."""
    folder = tmp_path_factory.mktemp("expected")
    convert(settings_of(folder, session_root=recorded, watch=False))
    found = read_episodes(folder / "out")
    assert [one.session for one in found] == ["a"] * 4 + ["b"] * 3
    return found


def test_a_session_is_taken_when_its_recorder_has_closed_it(tmp_path: Path, recorded: Path) -> None:
    settings = settings_of(tmp_path)
    session, source = tmp_path / "in" / "a", recorded / "a"
    video, pads = (source / "capture.mp4").read_bytes(), (source / "actions.bin").read_bytes()
    done: list[int] = []

    def nothing_yet() -> None:
        assert not (settings.output_root / "meta").exists()
        done.append(1)

    def begin() -> None:
        session.mkdir()
        (session / "capture.mp4").write_bytes(video[: len(video) // 2])
        nothing_yet()

    def all_three_but_open() -> None:
        (session / "actions.bin").write_bytes(pads[:-3])
        write_sync(session / "sync.csv", frame_times(50))
        nothing_yet()

    def close_video() -> None:
        nothing_yet()
        (session / "capture.mp4").write_bytes(video)

    def close_sync() -> None:
        nothing_yet()
        write_sync(session / "sync.csv", frame_times(60))

    def close_pads() -> None:
        nothing_yet()
        (session / "actions.bin").write_bytes(pads)

    result = run(settings, begin, all_three_but_open, close_video, close_sync, close_pads)
    assert len(done) == 5
    assert result.converted == ("a",)
    assert (result.episodes, result.frames) == (4, 60)


def test_a_session_that_still_changes_waits(tmp_path: Path, recorded: Path) -> None:
    settings = settings_of(tmp_path)
    shutil.copytree(recorded / "a", tmp_path / "in" / "a")
    clock = FakeTime()
    touches = iter(range(1, 40))

    def pause(seconds: float) -> None:
        clock.seconds += seconds
        if (nth := next(touches, None)) is None:
            clock.is_over = clock.seconds > 30
        else:
            os.utime(tmp_path / "in" / "a" / "actions.bin", ns=(nth, nth))
            assert not settings.output_root.exists()

    pace = Pace(lambda: clock.seconds, pause, lambda: clock.is_over)
    assert watch(settings, lambda committed: None, pace).episodes == 4


def test_a_record_that_stays_cut_is_left_out_in_the_end(tmp_path: Path, recorded: Path) -> None:
    settings = settings_of(tmp_path)
    pads = shutil.copytree(recorded / "a", tmp_path / "in" / "a") / "actions.bin"
    pads.write_bytes(pads.read_bytes()[:-3])
    assert run(settings, *[lambda: None] * 5).episodes == 0
    assert run(settings, *[lambda: None] * 30).episodes == 4


def test_it_makes_what_convert_makes(tmp_path: Path, recorded: Path, expected: list[ReadEpisode]) -> None:
    settings = settings_of(tmp_path)
    told: list[str | None] = []

    def arrives(name: str) -> Callable[[], object]:
        return lambda: shutil.copytree(recorded / name, tmp_path / "in" / name)

    def tell(committed: Committed) -> None:
        told.append(committed.key)

    result = watch(settings, tell, FakeTime([arrives("a"), arrives("b")]).pace)
    assert episodes(settings) == expected
    assert len(told) == len(expected)
    assert (result.converted, result.skipped) == (("a", "b"), ())
    kept = read_info(settings.output_root)["extensions"]["game_converter"]
    assert kept["converted_sessions"] == ["a", "b"]
    again = run(settings)
    assert (again.converted, again.episodes) == (("a", "b"), len(expected))
    assert episodes(settings) == expected


def test_it_goes_on_with_what_convert_has_made(tmp_path: Path, recorded: Path, expected: list[ReadEpisode]) -> None:
    settings = settings_of(tmp_path)
    shutil.copytree(recorded / "a", tmp_path / "in" / "a")
    convert(settings)
    shutil.copytree(recorded / "b", tmp_path / "in" / "b")
    run(settings)
    assert episodes(settings) == expected


def test_a_done_session_whose_folder_changes_or_goes_is_left_as_it_is(tmp_path: Path, recorded: Path) -> None:
    settings = settings_of(tmp_path)
    shutil.copytree(recorded / "a", tmp_path / "in" / "a")

    def change() -> None:
        write_actions(tmp_path / "in" / "a" / "actions.bin", [event(1)])

    assert run(settings, change, lambda: shutil.rmtree(tmp_path / "in" / "a")).episodes == 4
    assert run(settings).episodes == 4


def test_sessions_without_an_episode_are_done_too(tmp_path: Path, recorded: Path) -> None:
    settings = settings_of(tmp_path, max_pre_action_seconds=0.0)
    shutil.copytree(recorded / "a", tmp_path / "in" / "a")
    session = write_folder(tmp_path / "in" / "b-idle", frames=20, events=1)
    late = frame_times(20)[-1] + 10_000_000_000
    write_actions(session / "actions.bin", [event(frame_times(20)[0]), event(late, 0)])
    result = run(settings)
    assert [(one.session, one.reason) for one in result.skipped] == [("b-idle", "no_rows")]
    history = read_history(settings.output_root)
    assert history.done == {"a", "b-idle"}
    commits = len(list((settings.output_root / "commits").iterdir()))
    assert run(settings).skipped[0].session == "b-idle"
    assert len(list((settings.output_root / "commits").iterdir())) == commits + 1  # the claim


def test_another_schema_and_a_bad_name_are_told(tmp_path: Path, recorded: Path) -> None:
    settings = settings_of(tmp_path)
    shutil.copytree(recorded / "a", tmp_path / "in" / "a")
    shutil.copytree(recorded / "b", tmp_path / "in" / "no name")
    write_video(write_folder(tmp_path / "in" / "slow", frames=20) / "capture.mp4", 20, rate=25)
    result = run(settings, lambda: None)
    assert [(one.session, one.reason) for one in result.skipped] == [("no name", "name"), ("slow", "schema")]
    assert "at 25 Hz; the dataset has h264 64x48 at 30 Hz" in result.skipped[1].detail
    kept = read_info(settings.output_root)["extensions"]["game_converter"]
    assert [one["session"] for one in kept["skipped_sessions"]] == ["no name", "slow"]
    with pytest.raises(InputError, match="session no name"):
        run(settings_of(tmp_path, strict=True))


def test_something_else_at_the_output_root_is_left_alone(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(RootMismatchError, match="found something there"):
        run(settings)
    with pytest.raises(InputError, match="No such file"):
        run(settings_of(tmp_path, session_root=tmp_path / "none", output_root=tmp_path / "new"))


class KilledError(BaseException):
    """The process ends here."""


def lives(settings: ConvertSettings, start: Callable[[], object], at_most: int) -> int:
    """Start it again and again until everything is there; how many lives it took."""
    for life in range(1, at_most + 1):
        try:
            start()
        except KilledError:
            continue
        if read_history(settings.output_root).done == {"a", "b"}:
            return life
    raise AssertionError(f"not done after {at_most} lives")


def test_stopped_between_any_two_batches_it_goes_on(
    tmp_path: Path, recorded: Path, expected: list[ReadEpisode], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(padreel.conversion, "_BATCH", 7)
    settings = settings_of(tmp_path, session_root=recorded)

    patience = iter(range(5, 200, 2))

    def start() -> None:
        clock, last, asked, limit = FakeTime(), -1.0, 0, next(patience)

        def is_stopped() -> bool:
            nonlocal last, asked
            asked, last = (asked + 1 if clock.seconds == last else 0), clock.seconds  # time stands still while it reads
            return clock.is_over or asked > limit

        watch(settings, lambda committed: None, Pace(lambda: clock.seconds, clock.pause, is_stopped))

    assert lives(settings, start, at_most=60) > 3
    assert episodes(settings) == expected


@pytest.mark.parametrize("after", [False, True])
def test_killed_before_or_after_any_step_it_goes_on(
    tmp_path: Path, recorded: Path, expected: list[ReadEpisode], monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    monkeypatch.setattr(padreel.conversion, "_BATCH", 5)
    settings = settings_of(tmp_path, session_root=recorded)
    apply, left = Shard.apply, 0

    def killed(shard: Shard, effects: list[Effect]) -> list[Committed]:
        nonlocal left
        left -= 1
        if left == 0 and not after:
            raise KilledError
        done = apply(shard, effects)
        if left == 0:
            raise KilledError
        return done

    monkeypatch.setattr(Shard, "apply", killed)
    monkeypatch.setattr(Shard, "close", lambda shard: None)  # the dead close nothing
    allowed = iter(range(2, 200, 3))

    def start() -> None:
        nonlocal left
        left = next(allowed)
        run(settings)

    assert lives(settings, start, at_most=60) > 3
    assert episodes(settings) == expected


def test_errors_of_the_output_root_are_waited_out(
    tmp_path: Path, recorded: Path, expected: list[ReadEpisode], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path, session_root=recorded)
    apply, calls = Shard.apply, 0

    def failing(shard: Shard, effects: list[Effect]) -> list[Committed]:
        nonlocal calls
        calls += 1
        if calls in (2, 3, 5):
            raise OSError(28, "No space left on device")
        return apply(shard, effects)

    monkeypatch.setattr(padreel.conversion, "_BATCH", 20)
    monkeypatch.setattr(Shard, "apply", failing)
    run(settings, *[lambda: None] * 6)
    assert calls > 5
    assert episodes(settings) == expected


def test_half_a_session_that_is_gone_or_changed_is_named(
    tmp_path: Path, recorded: Path, expected: list[ReadEpisode], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path)
    shutil.copytree(recorded / "a", tmp_path / "in" / "a")
    monkeypatch.setattr(padreel.conversion, "_BATCH", 10)
    clock, told = FakeTime(), []

    def until_two(committed: Committed) -> None:
        told.append(committed)
        clock.is_over = len(told) == 2

    assert watch(settings, until_two, clock.pace).episodes in (2, 3)
    (tmp_path / "in" / "a").rename(tmp_path / "away")
    with pytest.raises(InputError, match=r"session a: a part of it is converted, but .* is gone"):
        run(settings)
    shutil.copytree(tmp_path / "away", tmp_path / "in" / "a")
    write_actions(tmp_path / "in" / "a" / "actions.bin", [event(1)])
    with pytest.raises(InputError, match=r"session a: a part of it is converted, but .* has changed since"):
        run(settings)
    shutil.rmtree(tmp_path / "in" / "a")
    (tmp_path / "away").rename(tmp_path / "in" / "a")
    run(settings)
    assert episodes(settings) == expected[:4]


def test_the_command_ends_in_good_order(tmp_path: Path, recorded: Path) -> None:
    settings = settings_of(tmp_path)
    flags = ["--session-root", "in", "--game-definition", "game.yaml", "--action-mapping", "mapping.yaml"]
    flags += ["--output-root", "out", "--repo-id", "a/b", "--task", "play", "--watch", "--settle-seconds", "0.2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    command = [sys.executable, "-m", "padreel", "convert", *flags]
    shutil.copytree(recorded / "a", tmp_path / "in" / "a")
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as running:
        try:
            while not (settings.output_root / "meta" / "info.json").exists():
                assert running.poll() is None
                time.sleep(0.1)
            running.send_signal(signal.SIGINT)
            out, _ = running.communicate()
        finally:
            running.kill()
    assert running.returncode == 0
    assert "1 sessions converted, 0 skipped: 1 episodes, 60 frames in out" in out


def test_a_session_that_was_erased_is_not_taken_again(tmp_path: Path, recorded: Path) -> None:
    settings = settings_of(tmp_path)
    shutil.copytree(recorded, tmp_path / "in", dirs_exist_ok=True)
    run(settings)
    erase([settings.output_root], load(EraseSettings, {"session": "a", "yes": True}))
    assert {one.session for one in episodes(settings)} == {"b"}
    shutil.copytree(recorded / "b", tmp_path / "in" / "c")
    assert "a" not in run(settings).converted
    assert {one.session for one in episodes(settings)} == {"b", "c"}
    told = [json.loads(one.read_bytes()) for one in (settings.output_root / "runs").glob("*.json")]
    assert "erase" in {one["command"] for one in told}
