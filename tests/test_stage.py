"""A staged episode: its three files, its rows, its figures, and what stays of it when something fails."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import struct
from array import array
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from padreel.core.action import (
    ActionBinding,
    ActionDefinition,
    ActionEncoder,
    ActionMappingProfile,
    GameClass,
    GameDefinition,
)
from padreel.core.pad import OBSERVATION_NAMES
from padreel.dataset import files, layout
from padreel.dataset import stage as stage_module
from padreel.dataset.layout import DatasetSpec
from padreel.dataset.remux import SpanWriter
from padreel.dataset.rows import data_schema
from padreel.dataset.stage import Stage, StagedEpisode
from padreel.model import AppendUnit, EndReason, EpisodeDraft, OpenSpan, Schema, SessionInfo
from padreel_schemas.v1 import gamepad_pb2
from tests.video_source import Source, decode, encode, moving_pictures

FPS = 30
FRAME_NS = 33_333_333
START_NS = 5_000_000_000_000


def encoder(*, one_slot: bool = False) -> ActionEncoder:
    actions = [ActionDefinition("attack", "digital")]
    if not one_slot:
        actions.append(ActionDefinition("move", "vector2"))
    bindings = {
        "attack": (ActionBinding("button", "south"),),
        "move": (ActionBinding("stick", "left_stick"),),
    }
    return ActionEncoder(
        GameDefinition("game", "Game", (GameClass("main", tuple(actions)),)),
        ActionMappingProfile(
            "game", ("main",), "pad", {action.id: bindings[action.id] for action in actions}, complete=True
        ),
    )


def spec(columns: str = "full", *, one_slot: bool = False) -> DatasetSpec:
    return DatasetSpec(
        repo_id="tests/stage",
        schema=Schema("h264", 96, 64, FPS),
        columns="minimal" if columns == "minimal" else "full",
        encoder=encoder(one_slot=one_slot),
        default_task="play",
        settings={},
        game_id="game",
        class_ids=("main",),
        profile_name="pad",
    )


def event(time_ns: int, x: float, *buttons: int) -> bytes:
    return gamepad_pb2.GamepadState(monotonic_ns=time_ns, axes=[x, -x], pressed_buttons=buttons).SerializeToString()


EVENT_NS = (START_NS + 22 * FRAME_NS - 1_000_000, START_NS + 25 * FRAME_NS)
EVENTS = (event(EVENT_NS[0], 0.25), event(EVENT_NS[1], 1.0, 0))


@pytest.fixture(scope="module")
def source() -> Source:
    """Three GOPs of 12 with B-frames, and one more."""
    return encode(moving_pictures(40), gop=12)


def draft(source: Source, first_row: int = 20, rows: int = 9) -> EpisodeDraft:
    """Rows 20 to 28 of the span: two before the first EVENT, three with the first, four with the second."""
    times = [START_NS + i * FRAME_NS for i in range(first_row, first_row + rows)]
    return EpisodeDraft(
        span=7,
        key="session@1",
        stream=source.stream,
        session=SessionInfo(rig_id="rig"),
        reason=EndReason.END,
        first_unit=max(unit.index for unit in source.units if unit.idr and unit.index <= first_row),
        first_row=first_row,
        first_frame_index=first_row,
        time_ns=tuple(times),
        pairing=tuple(sum(at <= time for at in EVENT_NS) - 1 for time in times),
        forced=0,
        late=0,
        events=EVENTS,
        event_ns=EVENT_NS,
        session_ns=START_NS,
        first_frame_offset=0,
        last_frame_offset=39,
        first_pad_offset=0,
        last_pad_offset=1,
    )


def fill(stage: Stage, source: Source, span: int = 7) -> None:
    stage.open_span(OpenSpan(span, source.stream))
    for unit in source.units:
        stage.append(AppendUnit(span, unit.index, unit.idr, unit.data))


def staged(folder: Path, source: Source, what: DatasetSpec, one: EpisodeDraft) -> StagedEpisode:
    stage = Stage(folder, what, 3)
    fill(stage, source)
    return stage.episode(one, episode_index=4, first_row_index=1000, task_index=2)


def table(folder: Path, episode: StagedEpisode) -> pa.Table:
    (data,) = [file for file in episode.files if file.kind == "data"]
    with (folder / data.name).open("rb") as file:
        return pq.read_table(file)


def test_rows(tmp_path: Path, source: Source) -> None:
    rows = table(tmp_path, staged(tmp_path, source, spec(), draft(source))).to_pydict()
    quarter, full = [0.0, 0.25, -0.25], [1.0, 1.0, -1.0]
    assert rows["action"] == [[0.0, 0.0, 0.0]] * 2 + [quarter] * 3 + [full] * 4
    assert rows["observation.state"][0] == [0.0] * 27
    assert rows["observation.state"][8][:3] == [1.0, -1.0, 0.0]
    assert rows["observation.state"][8][OBSERVATION_NAMES.index("south")] == 1.0
    assert rows["capture.time_ns"] == [i * FRAME_NS for i in range(20, 29)]
    ages = [-1, -1, *((i * FRAME_NS + 1_000_000) / 1e9 for i in range(3)), *(i * FRAME_NS / 1e9 for i in range(4))]
    np.testing.assert_array_equal(np.asarray(rows["capture.pad_age"], np.float32), np.asarray(ages, np.float32))
    np.testing.assert_array_equal(np.float32(rows["timestamp"]), np.float32(np.arange(9) / FPS))
    assert rows["frame_index"] == list(range(9))
    assert rows["index"] == list(range(1000, 1009))
    assert rows["episode_index"] == [4] * 9
    assert rows["task_index"] == [2] * 9


@pytest.mark.parametrize("columns", ["full", "minimal"])
@pytest.mark.parametrize("one_slot", [False, True])
def test_columns_are_the_features(tmp_path: Path, source: Source, columns: str, one_slot: bool) -> None:
    what = spec(columns, one_slot=one_slot)
    episode = staged(tmp_path, source, what, draft(source))
    found = table(tmp_path, episode)
    features = layout.features(what)
    assert found.schema.names == [name for name in features if name != layout.CAMERA]
    assert list(episode.stats) == list(features)
    assert found.schema.equals(data_schema(what))  # parquet renames the lists' items, which this passes over
    assert found.schema.metadata == data_schema(what).metadata
    described = json.loads(found.schema.metadata[b"huggingface"])["info"]["features"]
    for name, feature in features.items():
        if name == layout.CAMERA:
            continue
        (size,) = feature["shape"]
        kind = found.schema.field(name).type
        value = kind if size == 1 else kind.value_type
        assert size == (1 if kind == value else kind.list_size)
        assert value == pa.type_for_alias(feature["dtype"])
        assert described[name]["_type"] == ("Value" if size == 1 else "List")
        assert found.column(name).null_count == 0
    if one_slot:
        assert found.column("action").to_pylist() == [0.0] * 5 + [1.0] * 4


def test_statistics_are_of_the_rows(tmp_path: Path, source: Source) -> None:
    episode = staged(tmp_path, source, spec(), draft(source))
    rows = table(tmp_path, episode)
    for name in rows.schema.names:
        values = np.array(rows.column(name).to_pylist(), np.float64).reshape(9, -1)
        np.testing.assert_allclose(episode.stats[name]["mean"], values.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(episode.stats[name]["std"], values.std(axis=0), rtol=1e-12, atol=1e-12)
        assert episode.stats[name]["count"] == [9]
    json.dumps(episode.stats, allow_nan=False)
    # Of the rows 20 to 28, 24 alone is a keyframe.
    pixels = source.pictures[24].reshape(-1, 3) / 255.0
    np.testing.assert_allclose(np.reshape(episode.stats[layout.CAMERA]["mean"], 3), pixels.mean(axis=0), rtol=1e-9)
    assert episode.stats[layout.CAMERA]["count"] == [1]
    assert episode.pad_age_max == pytest.approx(0.1, abs=1e-6)


def test_pad_ages_are_of_one_row_in_each_second_that_has_an_event(tmp_path: Path, source: Source) -> None:
    episode = staged(tmp_path, source, spec(), draft(source, 0, 40))
    ages = table(tmp_path, episode).column("capture.pad_age").to_pylist()
    assert (ages[0], FPS) == (-1.0, 30)
    assert episode.pad_ages == (ages[30],)


@pytest.mark.parametrize("first_row", [0, 5, 12, 20, 24])
def test_the_video_starts_at_the_last_idr_before_the_rows(tmp_path: Path, source: Source, first_row: int) -> None:
    one = draft(source, first_row)
    episode = staged(tmp_path, source, spec(), one)
    (video,) = [file for file in episode.files if file.kind == "video"]
    pictures = decode(str(tmp_path / video.name))
    start = round(episode.from_timestamp * FPS)
    assert episode.from_timestamp == start / FPS
    assert episode.to_timestamp == (start + 9) / FPS
    assert start == first_row % 12
    assert len(pictures) == 40 - one.first_unit
    for i in range(9):
        np.testing.assert_array_equal(pictures[start + i], source.pictures[first_row + i])


def test_files_are_what_is_said_of_them(tmp_path: Path, source: Source) -> None:
    episode = staged(tmp_path, source, spec(), draft(source))
    assert [file.kind for file in episode.files] == ["video", "data", "gamepad"]
    assert {path.name for path in tmp_path.iterdir()} == {file.name for file in episode.files}
    for file in episode.files:
        content = (tmp_path / file.name).read_bytes()
        assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert layout.staged_claim(file.name) == 3
    gamepad = (tmp_path / episode.files[2].name).read_bytes()
    assert gamepad == b"".join(struct.pack("<I", len(one)) + one for one in EVENTS)


def test_a_session_without_any_event(tmp_path: Path, source: Source) -> None:
    one = replace(draft(source), events=(), event_ns=(), pairing=(-1,) * 9)
    episode = staged(tmp_path, source, spec(), one)
    rows = table(tmp_path, episode).to_pydict()
    assert rows["action"] == [[0.0] * 3] * 9
    assert rows["capture.pad_age"] == [-1.0] * 9
    assert episode.pad_age_max == -1.0
    assert episode.pad_ages == ()
    assert episode.files[2].size == 0


def test_arrays_in_place_of_tuples(tmp_path: Path, source: Source) -> None:
    """The pipeline may hand memoryviews of int64."""
    one = draft(source)
    views = replace(
        one,
        time_ns=memoryview(array("q", one.time_ns)),
        pairing=memoryview(array("q", one.pairing)),
        event_ns=memoryview(array("q", one.event_ns)),
    )
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    a, b = (staged(tmp_path / name, source, spec(), each) for name, each in (("a", one), ("b", views)))
    assert [file.sha256 for file in a.files] == [file.sha256 for file in b.files]
    assert a.stats == b.stats


def test_the_disk_begins_with_video_before_the_commit(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each stretch of the file once, so that nothing that could be read again is dropped from memory."""
    asked: list[tuple[int, int]] = []

    def fadvise(descriptor: int, offset: int, length: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_DONTNEED
        assert offset + length == os.fstat(descriptor).st_size
        asked.append((offset, offset + length))

    monkeypatch.setattr(os, "posix_fadvise", fadvise)
    monkeypatch.setattr(stage_module, "_WRITE_BACK_BYTES", sum(len(unit.data) for unit in source.units) // 4)
    plain, asking = (tmp_path / name for name in ("plain", "asking"))
    asking.mkdir()
    found = staged(asking, source, spec(), draft(source, first_row=0, rows=len(source.units)))
    assert len(asked) >= 3
    assert [start for start, _ in asked] == [0, *(end for _, end in asked[:-1])]
    monkeypatch.delattr(os, "posix_fadvise")  # as on systems that have none
    plain.mkdir()
    same = staged(plain, source, spec(), draft(source, first_row=0, rows=len(source.units)))
    assert [file.sha256 for file in same.files] == [file.sha256 for file in found.files]


def test_drop_and_close_leave_nothing(tmp_path: Path, source: Source) -> None:
    stage = Stage(tmp_path, spec(), 3)
    for span in (1, 2, 3):
        fill(stage, source, span)
    assert len(list(tmp_path.iterdir())) == 3
    stage.drop(2)
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(KeyError):
        stage.append(AppendUnit(2, 0, True, b"x"))
    with pytest.raises(ValueError, match="span 1 is open"):
        stage.open_span(OpenSpan(1, source.stream))
    stage.close()
    assert list(tmp_path.iterdir()) == []


def test_closing_leaves_nothing_where_no_file_can_be_completed(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, spec(), 3)
    for span in (1, 2, 3):
        fill(stage, source, span)

    def fail(writer: SpanWriter) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(SpanWriter, "close", fail)
    stage.close()
    assert list(tmp_path.iterdir()) == []


def test_closing_goes_on_where_a_file_cannot_be_removed(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, spec(), 3)
    for span in (1, 2, 3):
        fill(stage, source, span)
    unlink, calls = Path.unlink, 0

    def fail_once(path: Path, missing_ok: bool = False) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(errno.EIO, "input/output error")
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail_once)
        with pytest.raises(OSError, match="input/output"):
            stage.close()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("failing", range(1, 17))
def test_a_failure_leaves_nothing(
    tmp_path: Path, source: Source, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever step the disk fails at."""
    calls = 0

    def probe(point: str, path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(errno.ENOSPC, "no space left", str(path))

    stage = Stage(tmp_path, spec(), 3)
    fill(stage, source)
    monkeypatch.setattr(files, "probe", probe)
    with pytest.raises(OSError, match="no space left"):
        stage.episode(draft(source), episode_index=0, first_row_index=0, task_index=0)
    assert list(tmp_path.iterdir()) == []


def test_a_digest_that_cannot_be_taken_leaves_nothing(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*arguments: object) -> None:
        raise OSError(errno.EIO, "input/output error")

    stage = Stage(tmp_path, spec(), 3)
    fill(stage, source)
    monkeypatch.setattr("padreel.dataset.stage.hashlib.file_digest", unreadable)
    with pytest.raises(OSError, match="input/output"):
        stage.episode(draft(source), episode_index=0, first_row_index=0, task_index=0)
    assert list(tmp_path.iterdir()) == []
