"""The list of rigs: the file, its reloading, what denied rigs lose, and what the metrics say of single rigs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

import padreel.rig_file
from padreel.core.pipeline import Limits, Pipeline
from padreel.core.rigs import MAX_RIGS, NO_RIGS, UNKNOWN, RigList, RigListError, parse_rigs
from padreel.core.rules import Rules
from padreel.errors import SettingsError
from padreel.model import Commit, Fate, FrameEnd, PartitionState, Schema
from padreel.rig_file import RigFile, load_rigs
from tests.consumer_world import Stage, backfill, be_quick, play, record, until
from tests.fakes import FakeBroker, FakeDisk
from tests.test_reference import KEY, PADS, ROWS, scan

IDS = st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C"), exclude_characters="#"), min_size=1)

# ---- the text


@given(st.dictionaries(IDS.filter(lambda text: text != UNKNOWN), st.booleans()), st.sampled_from(["", "  # why", "\t"]))
def test_what_is_written_is_what_is_listed(rigs: dict[str, bool], after: str) -> None:
    lines = ["# rigs of the lab", "", *(f" {rig}{' deny' * denied}{after}" for rig, denied in rigs.items())]
    found = parse_rigs("\n".join(lines))
    assert found.listed == set(rigs)
    assert found.denied == {rig for rig, denied in rigs.items() if denied}
    assert all(found.label(rig) == rig for rig in rigs)
    assert found.labels == {*rigs, UNKNOWN}


@given(st.text())
def test_any_text_is_a_list_or_names_a_line(text: str) -> None:
    try:
        found = parse_rigs(text)
    except RigListError as error:
        found, message = NO_RIGS, str(error)
    else:
        message = "line "
    assert message.startswith("line ")
    assert found.denied <= found.listed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb denied", "line 2: found 'b denied', expected a rig id, or a rig id and 'deny'"),
        ("a deny now", "line 1: found 'a deny now'"),
        ("a\n\na deny", "line 3: rig 'a' is listed in line 1 already"),
        ("unknown", "line 1: 'unknown' stands for every rig that is not listed"),
        ("\n".join(f"rig-{n}" for n in range(MAX_RIGS + 1)), "line 2001: more than 2,000 rigs"),
    ],
)
def test_a_wrong_line_is_named(text: str, message: str) -> None:
    with pytest.raises(RigListError, match=message):
        parse_rigs(text)


def test_who_is_not_listed_is_unknown() -> None:
    assert RigList(frozenset({"a"})).label("b") == NO_RIGS.label("") == UNKNOWN


# ---- the file


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb c d\n", r"--rigs \(PADREEL_RIGS\): .*rigs\.txt, line 2: found 'b c d'"),
        (b"a\n\xff\n", r"rigs\.txt, line 2: no UTF-8 text"),
        (None, r"rigs\.txt: No such file"),
    ],
)
def test_at_the_start_a_broken_file_is_an_error_that_names_it(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "rigs.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=message):
        load_rigs(path)


def test_a_file_is_read_again_when_it_is_another(tmp_path: Path) -> None:
    path = tmp_path / "rigs.txt"
    path.write_text("a\n")
    file = RigFile(path)
    assert file.load().listed == {"a"}
    assert file.changed() is None
    replaced = tmp_path / "new"
    replaced.write_text("b\n")
    replaced.replace(path)
    changed = file.changed()
    assert changed is not None
    assert changed.listed == {"b"}
    path.write_text("b b b\n")
    with pytest.raises(SettingsError, match="line 1"):
        file.changed()
    assert file.changed() is None, "told once"
    path.unlink()
    with pytest.raises(SettingsError, match="No such file"):
        file.changed()
    assert file.changed() is None
    path.write_text("c\n")
    changed = file.changed()
    assert changed is not None
    assert changed.listed == {"c"}


# ---- a denied rig by reference: its rows are kept until the file comes


def by_reference() -> Pipeline:
    machine = Pipeline(Rules(schema=Schema("h264", 64, 48, 30), max_episode_ns=30), Limits(), PartitionState())
    machine.read_pads(PADS, 10, 0)
    return machine


def counted(machine: Pipeline) -> dict[Fate, int]:
    commit = machine.progress()
    assert commit is not None
    assert commit.state.frames_next == machine.at.frames
    assert commit.state.pads_next == machine.at.pads
    assert list(commit.state.closed) == [KEY]
    assert not commit.state.open
    return {fate: count for fate, count in commit.accounted.items() if count}


DENIED = RigList(frozenset({""}), frozenset({""}))


@pytest.mark.parametrize(
    ("rows", "is_ended", "is_found", "expected"),
    [
        (8, False, False, {Fate.DENIED: 8}),
        (8, True, False, {Fate.DENIED: 8, Fate.END: 1}),
        (8, True, True, {Fate.DENIED: 8, Fate.END: 1}),
    ],
)
def test_rows_that_wait_for_their_file_are_dropped(
    rows: int, is_ended: bool, is_found: bool, expected: dict[Fate, int]
) -> None:
    machine = by_reference()
    machine.read_frames([*ROWS[:rows], *([FrameEnd(8, KEY, 8)] if is_ended else [])], rows + is_ended, 0)
    if is_found:
        machine.media_found(KEY, scan())
    machine.use_rigs(DENIED)
    machine.tick(1)
    assert not [effect for effect in machine.effects() if isinstance(effect, Commit) and effect.episode]
    assert counted(machine) == expected


def test_rows_that_were_gone_through_are_dropped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = by_reference()
    machine.read_frames([*ROWS, FrameEnd(8, KEY, 8)], 9, 0)
    machine.media_found(KEY, scan())
    monkeypatch.setattr("padreel.core.pipeline._EXPANDED", 1)
    machine.tick(1)  # to the second IDR
    machine.use_rigs(DENIED)
    assert counted(machine) == {Fate.DENIED: 8, Fate.END: 1}


# ---- a consumer


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    be_quick(monkeypatch)
    monkeypatch.setattr(padreel.rig_file, "_LOOK_SECONDS", 0.02)


def watch(broker: FakeBroker, disk: FakeDisk, path: Path, see: Callable[[Stage], list[Callable[[], bool]]]) -> None:
    """Run a consumer until each of the conditions that `see` gives has been true, in order."""

    async def scene(threads: ThreadPoolExecutor) -> None:
        stage = Stage(broker, disk, threads, rigs=str(path))
        running = asyncio.create_task(stage.consumer.run())
        for reached in see(stage):
            await until(reached)
        stage.consumer.stop()
        await asyncio.wait_for(running, 300)

    play(scene)


def test_what_is_said_of_single_rigs(tmp_path: Path) -> None:
    path = tmp_path / "rigs"
    path.write_text("lab-1\nlab-2 deny\nlab-3\n")
    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "one@1", frames=7, rig="lab-1")
    record(broker, 0, "two@2", frames=6, rig="lab-2")
    record(broker, 0, "other@3", frames=5, rig="home")
    broker.produce(next(iter(broker.records)), b"other@3", b"\xff", 3_000)
    stage = backfill(broker, disk, rigs=str(path))
    assert disk.rows() == {"one@1": 7, "other@3": 5}
    assert stage.value("padreel_rig_last_frame_timestamp_seconds", rig="lab-1") == 1.006
    assert stage.value("padreel_rig_last_frame_timestamp_seconds", rig="lab-2") == 1.005
    assert stage.value("padreel_rig_last_frame_timestamp_seconds", rig="lab-3") is None
    assert stage.value("padreel_rig_frames_total", rig="lab-1", fate="row") == 7
    assert stage.value("padreel_rig_frames_total", rig="lab-2", fate="row") == 0
    assert stage.value("padreel_rig_frames_total", rig="lab-2", fate="denied") == 6
    assert stage.value("padreel_rig_frames_total", rig="lab-3", fate="denied") == 0
    assert stage.value("padreel_rig_frames_total", rig="unknown", fate="row") == 5
    assert stage.value("padreel_frames_total", partition="0", fate="denied") == 6
    assert stage.value("padreel_rig_pad_age_seconds_count", rig="lab-1") == 2
    assert stage.value("padreel_rig_pad_age_seconds_count", rig="lab-2") == 0
    assert stage.value("padreel_rig_rejected_total", rig="unknown") == 1
    assert stage.value("padreel_rig_rejected_total", rig="lab-1") == 0
    assert stage.value("padreel_rig_open_sessions", rig="lab-1") == 0
    assert stage.value("padreel_rig_frames_total", rig="home", fate="row") is None


def test_the_list_may_change_and_a_broken_one_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "rigs"
    path.write_text("lab-1\n")
    broker, disk = FakeBroker(1), FakeDisk()
    record(broker, 0, "one@1", frames=7, end=False, rig="lab-1")

    def rewrite(text: str) -> bool:
        new = path.with_suffix(".new")
        new.write_text(text)
        os.replace(new, path)
        return True

    def see(stage: Stage) -> list[Callable[[], bool]]:
        def now(name: str, expected: float | None, **labels: str) -> Callable[[], bool]:
            return lambda: stage.value(f"padreel_{name}", **labels) == expected

        return [
            now("rig_open_sessions", 1, rig="lab-1"),
            lambda: rewrite("lab-1 dney\n"),
            lambda: any("stays as it was" in line["event"] for line in logs),
            lambda: rewrite("lab-1 deny\nlab-2\n"),
            now("rig_frames_total", 0, rig="lab-2", fate="row"),
            now("rig_open_sessions", 0, rig="lab-1"),
            now("open_sessions", 0, partition="0"),
            lambda: rewrite("lab-2\n"),
            now("rig_open_sessions", None, rig="lab-1"),
        ]

    with capture_logs() as logs:
        watch(broker, disk, path, see)
    assert disk.rows() == {}
    assert sum("stays as it was" in line["event"] for line in logs) == 1
