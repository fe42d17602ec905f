"""Sessions by reference: rows from Kafka, pictures from a file; cut as if they had been sent, and what is refused."""

from __future__ import annotations

import os
import shutil
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from padreel.core.decode import Decoder
from padreel.core.pipeline import Limits, Pipeline
from padreel.core.reference import MediaScan
from padreel.core.rules import Rules
from padreel.dataset.media import MediaFiles, MediaNotReadyError
from padreel.dataset.remux import SpanWriter
from padreel.errors import MediaError
from padreel.media import MediaMark, MediaRange
from padreel.model import (
    CloseReason,
    Commit,
    EndReason,
    EpisodeDraft,
    Fate,
    Frame,
    FrameEnd,
    PadEnd,
    PadEvent,
    PartitionState,
    Record,
    Rejected,
    Schema,
    SessionInfo,
    Stream,
)
from padreel_schemas.recording import Recording
from padreel_schemas.v1.video_pb2 import SessionInfo as SessionBlock
from padreel_schemas.v1.video_pb2 import VideoFrame
from tests.session_folders import write_folder

KEY = "one@1"
STREAM = Stream("h264", 64, 48, 30, b"")
INFO = SessionInfo(media_uri="one/capture.mp4")
MARK = MediaMark(1, 2, 3, 4)
# Decode order of two GOPs with B-frames: each packet's display position.
POSITIONS = [0, 3, 1, 2, 4, 7, 5, 6]
IDR = [0, 4]
EVENTS = [PadEvent(i, KEY, 10 * i, f"{i}".encode(), True) for i in range(9)]
PADS: list[PadEvent | PadEnd] = [*EVENTS, PadEnd(9, KEY)]


def scan(positions: list[int] = POSITIONS, idr: list[int] = IDR, stream: Stream = STREAM) -> MediaScan:
    flags = bytes(packet in idr for packet in range(len(positions)))
    return MediaScan(
        stream, MARK, array("q", [100 * p for p in positions]), array("q", positions), flags, bytes(len(flags))
    )


def row(offset: int, index: int, time_ns: int | None = None) -> Frame:
    return Frame(offset, KEY, index, index, 10 * index if time_ns is None else time_ns, False, b"", None, INFO)


def pipeline(state: PartitionState | None = None, **rules: int) -> Pipeline:
    return Pipeline(Rules(schema=Schema("h264", 64, 48, 30), **rules), Limits(), state or PartitionState())  # type: ignore[arg-type]


def commits(machine: Pipeline) -> list[Commit]:
    effects = machine.effects()
    assert all(isinstance(effect, Commit) for effect in effects), "no span: nothing is staged before the copy"
    return [effect for effect in effects if isinstance(effect, Commit)]


def episodes(found: list[Commit]) -> list[EpisodeDraft]:
    return [commit.episode for commit in found if commit.episode is not None]


def counted(commit: Commit) -> dict[Fate, int]:
    return {fate: count for fate, count in commit.accounted.items() if count}


def feed(machine: Pipeline, rows: list[Frame], *, end: bool = True, now_ns: int = 0) -> None:
    last = rows[-1].offset + 1
    items: list[Frame | FrameEnd] = [*rows, FrameEnd(last, KEY, 8)] if end else [*rows]
    machine.read_pads([item for item in PADS if item.offset >= machine.at.pads], 10, now_ns)
    machine.read_frames([item for item in items if item.offset >= machine.at.frames], items[-1].offset + 1, now_ns)


ROWS = [row(n, n) for n in range(8)]


def test_nothing_is_cut_before_the_end_and_the_file() -> None:
    machine = pipeline(max_episode_ns=30)
    feed(machine, ROWS, end=False)
    assert machine.wanted(0) == []
    assert commits(machine) == []
    machine.read_frames([FrameEnd(8, KEY, 8)], 9, 0)
    (wanted,) = machine.wanted(0)
    assert wanted == (KEY, "one/capture.mp4", 8)
    assert machine.wanted(0) == [], "asked for once"
    machine.media_found(KEY, scan())
    machine.tick(1)
    first, second = episodes(commits(machine))
    assert (first.reason, second.reason) == (EndReason.SPLIT, EndReason.END)
    assert list(first.time_ns) + list(second.time_ns) == [10 * n for n in range(8)]
    assert list(first.pairing) == list(second.pairing) == [0, 1, 2, 3]
    for draft, packets in ((first, slice(0, 4)), (second, slice(4, 8))):
        assert draft.media is not None
        assert list(draft.media.positions) == [0, 3, 1, 2]
        assert list(draft.media.stamps) == [100 * p for p in POSITIONS[packets]]
        assert draft.media.idr == b"\1\0\0\0"


def test_every_record_is_accounted_once_and_a_restart_goes_on_at_the_commit() -> None:
    machine = pipeline(max_episode_ns=30)
    feed(machine, ROWS)
    machine.media_found(KEY, scan())
    machine.tick(1)
    first, last = commits(machine)
    assert (counted(first), counted(last)) == ({Fate.ROW: 4}, {Fate.ROW: 4, Fate.END: 1})
    assert first.state.frames_next == 4
    assert first.state.open[KEY].resume == 4
    again = pipeline(first.state, max_episode_ns=30)
    feed(again, ROWS)
    assert again.wanted(0)[0].rows == 8
    again.media_found(KEY, scan())
    again.tick(1)
    (rest,) = commits(again)
    assert counted(rest) == counted(last)
    assert rest.state == last.state
    assert rest.episode is not None
    assert last.episode is not None
    assert (rest.episode.media, rest.episode.time_ns) == (last.episode.media, last.episode.time_ns)


HEVC = Stream("hevc", 64, 48, 30, b"")
FROM_OPEN_GOP = [2, 0, 1, 3, 4, 7, 5, 6]  # two leading pictures follow the first one


def open_gop_scan() -> MediaScan:
    found = scan(FROM_OPEN_GOP, [4], HEVC)
    return replace(found, open_gop=bytes([1, *bytes(7)]))


def hevc_pipeline(state: PartitionState | None = None) -> Pipeline:
    rules = Rules(schema=Schema("hevc", 64, 48, 30), max_episode_ns=20)
    return Pipeline(rules, Limits(), state or PartitionState())


def test_leading_pictures_of_an_open_gop_are_left_out_also_after_a_restart() -> None:
    machine = hevc_pipeline()
    items: list[Frame | FrameEnd] = [*ROWS, FrameEnd(8, KEY, 8)]
    machine.read_frames(items, 9, 0)
    machine.media_found(KEY, open_gop_scan())
    machine.tick(1)
    undecided = machine.progress()  # no pad has come
    state = PartitionState() if undecided is None else undecided.state
    assert (undecided is None) or (counted(undecided), state.frames_next) == ({}, 0)
    seen = []
    for begun in (machine, hevc_pipeline(state), hevc_pipeline()):
        if begun is not machine:
            begun.read_frames(items[begun.at.frames :], 9, 0)
            begun.media_found(KEY, open_gop_scan())
        begun.read_pads([item for item in PADS if item.offset >= begun.at.pads], 10, 0)
        begun.tick(2)
        first, last = commits(begun)
        assert (counted(first), counted(last)) == ({Fate.WAIT: 2, Fate.ROW: 2}, {Fate.ROW: 4, Fate.END: 1})
        (one, other) = episodes([first, last])
        assert (one.reason, list(one.time_ns), list(other.time_ns)) == (EndReason.SPLIT, [20, 30], [40, 50, 60, 70])
        assert one.media is not None
        assert other.media is not None
        assert (list(one.media.positions), one.media.idr) == ([0, -2, -1, 1], b"\1\0\0\0")
        assert (list(other.media.positions), other.media.idr) == ([0, 3, 1, 2], b"\1\0\0\0")
        seen.append((first.state.open[KEY].resume, last.state))
    assert seen[0] == seen[1] == seen[2]


def test_a_commit_while_rows_come_holds_them_all() -> None:
    machine = pipeline()
    feed(machine, ROWS[:5], end=False)
    state = machine.progress()
    assert state is None or (state.state.frames_next, counted(state)) == (0, {})


def test_a_lost_row_is_a_gap_as_a_lost_frame_is() -> None:
    machine = pipeline()
    feed(machine, [row(n, index) for n, index in enumerate([0, 1, 3, 4, 5, 6, 7])])
    machine.media_found(KEY, scan())
    machine.tick(1)
    first, second = episodes(commits(machine))
    assert (first.reason, list(first.time_ns)) == (EndReason.GAP, [0, 10])
    assert (second.reason, list(second.time_ns)) == (EndReason.END, [40, 50, 60, 70])


def test_repeated_rows_are_dropped_and_a_restart_ends_the_session() -> None:
    machine = pipeline()
    items = [*ROWS, row(8, 6), row(9, 0, time_ns=1_000), row(10, 1, time_ns=1_010)]
    machine.read_pads(PADS, 10, 0)
    machine.read_frames(items, 11, 0)
    assert machine.wanted(0)[0].rows == 8
    machine.media_found(KEY, scan())
    machine.tick(1)
    found = commits(machine)
    assert [draft.reason for draft in episodes(found)] == [EndReason.RESTARTED]
    assert sum(commit.accounted.get(Fate.ROW, 0) for commit in found) == 8
    assert sum(commit.accounted.get(Fate.RESTARTED, 0) for commit in found) == 2
    assert sum(commit.accounted.get(Fate.STALE, 0) for commit in found) == 1
    assert [one.reason for commit in found for one in commit.rejections] == [CloseReason.RESTARTED]


@pytest.mark.parametrize("is_final", [True, False])
def test_a_file_that_never_comes_rejects_the_session(is_final: bool) -> None:
    machine = pipeline(media_timeout_ns=100)
    feed(machine, ROWS)
    machine.media_missed(KEY, "why", 50, is_final=is_final)
    if not is_final:
        assert commits(machine) == []
        machine.media_missed(KEY, "why", 100, is_final=False)
    (commit,) = commits(machine)
    (rejection,) = commit.rejections
    assert (rejection.reason, rejection.detail, rejection.first_frame_offset) == (CloseReason.MEDIA, "why", 0)
    assert counted(commit) == {Fate.REJECTED: 8, Fate.END: 1}
    assert KEY in commit.state.closed


def test_without_end_silence_and_the_timeout_stand_for_it() -> None:
    machine = pipeline(session_timeout_ns=10, media_timeout_ns=100)
    feed(machine, ROWS, end=False)
    for now_ns in (11, 50, 100):
        machine.observe_ends(8, 10, now_ns)
        machine.tick(now_ns + 1)
        assert machine.wanted(now_ns + 1) == []
        assert commits(machine) == [], "silence alone cuts nothing"
    machine.observe_ends(8, 10, 200)
    machine.tick(201)
    assert len(machine.wanted(201)) == 1
    machine.media_found(KEY, scan())
    machine.tick(202)
    (commit,) = commits(machine)
    assert commit.episode is not None
    assert (commit.episode.reason, counted(commit)) == (EndReason.SILENCE, {Fate.ROW: 8})


def test_a_file_of_another_schema_rejects_the_session() -> None:
    machine = pipeline()
    feed(machine, ROWS)
    machine.media_found(KEY, scan(stream=Stream("h264", 32, 48, 30, b"")))
    machine.tick(1)
    (commit,) = commits(machine)
    assert [one.reason for one in commit.rejections] == [CloseReason.SCHEMA]
    assert sum(commit.accounted.values()) == 9


@pytest.mark.parametrize("has_ended", [False, True])
def test_rows_before_one_of_another_game_are_accounted(has_ended: bool) -> None:
    machine = Pipeline(Rules(schema=Schema("h264", 64, 48, 30), game_id="one"), Limits(), PartitionState())
    other = replace(row(3, 3), session=replace(INFO, game_id="other"))
    end = [FrameEnd(2, KEY, 2)] if has_ended else [row(2, 2)]
    machine.read_frames([ROWS[0], ROWS[1], *end, other], 4, 0)
    found = machine.progress()
    assert found is not None
    last = {Fate.IGNORED: 3, Fate.END: 1} if has_ended else {Fate.IGNORED: 4}
    assert (counted(found), found.state.frames_next) == (last, 4)


def test_a_unit_in_a_session_by_reference_is_rejected() -> None:
    machine = pipeline()
    machine.read_frames([ROWS[0], Frame(1, KEY, 1, 1, 10, True, b"unit", STREAM, INFO)], 2, 0)
    machine.read_frames([FrameEnd(2, KEY, None)], 3, 0)
    machine.media_missed(KEY, "", 0, is_final=True)
    (commit,) = commits(machine)
    assert counted(commit) == {Fate.REJECTED: 2, Fate.END: 1}


def decode(**fields: int) -> object:
    message = VideoFrame(session=SessionBlock(media_uri="a/b.mp4"), **fields)  # type: ignore[arg-type]
    (item,) = Decoder().frames([Record(0, 0, b"one@1", message.SerializeToString())])
    return item


def test_rows_are_decoded() -> None:
    assert decode(sequence=3, frame_index=3, monotonic_ns=7) == Frame(
        0, KEY, 3, 3, 7, False, b"", None, SessionInfo(media_uri="a/b.mp4")
    )
    wrong = decode(sequence=3, frame_index=4)
    assert isinstance(wrong, Rejected)
    assert "expected the same number by reference" in wrong.detail
    assert decode(kind=VideoFrame.END, frame_count=2) == FrameEnd(0, KEY, 2, "a/b.mp4")


# ---- files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_folder(tmp_path / "media" / "one", frames=24)
    return tmp_path / "media"


def whole(found: MediaScan, uri: str = INFO.media_uri) -> MediaRange:
    first = found.idr.index(1, 1)  # from the second GOP on
    positions = array("q", [position - found.positions[first] for position in found.positions[first:]])
    return MediaRange(uri, found.mark, found.stamps[first:], positions, found.idr[first:])


def test_looking_through_and_copying(root: Path, tmp_path: Path) -> None:
    files = MediaFiles(root)
    found = files.scan(INFO.media_uri, 24)
    frames = [VideoFrame.FromString(r.value) for r in Recording(root / "one").records() if r.topic == "frames"][:-1]
    assert list(found.positions) == [frame.frame_index for frame in frames]
    assert [bool(flag) for flag in found.idr] == [frame.keyframe for frame in frames]
    media = whole(found)
    writer = SpanWriter(tmp_path / "span.mp4", found.stream)
    files.copy(media, writer)
    writer.close()
    assert writer.packets == len(media.idr) == 16


@pytest.mark.parametrize(
    "uri",
    ["../one/capture.mp4", "/etc/passwd.mp4", "c:/x.mp4", "a\\b.mp4", "one/../../x.mp4", "one/list.m3u8", "out/x.mp4"],
)
def test_files_outside_the_root_are_refused(root: Path, tmp_path: Path, uri: str) -> None:
    (tmp_path / "outside").mkdir()
    shutil.copy(root / "one" / "capture.mp4", tmp_path / "outside" / "x.mp4")
    (root / "out").symlink_to(tmp_path / "outside")
    with pytest.raises(MediaError, match="media-root"):
        MediaFiles(root).scan(uri, 1)
    with pytest.raises(MediaError, match="has no --media-root"):
        MediaFiles(None).scan(uri, 1)


def late(path: Path) -> None:
    path.unlink()


def still_growing(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def too_short(path: Path) -> None:
    shutil.rmtree(path.parent)
    write_folder(path.parent, frames=23)


@pytest.mark.parametrize(
    ("damage", "words"),
    [(late, "No such file"), (still_growing, "Invalid data"), (too_short, "has 23 frames, expected 24")],
)
def test_files_that_may_still_come_are_waited_for(root: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(root / "one" / "capture.mp4")
    with pytest.raises(MediaNotReadyError, match=words):
        MediaFiles(root).scan(INFO.media_uri, 24)


def test_a_pipe_is_not_opened(root: Path) -> None:
    os.mkfifo(root / "pipe.mp4")
    with pytest.raises(MediaError, match="no regular file"):
        MediaFiles(root).scan("pipe.mp4", 1)


def test_a_file_that_was_replaced_is_noticed(root: Path, tmp_path: Path) -> None:
    files = MediaFiles(root)
    found = files.scan(INFO.media_uri, 24)
    writer = SpanWriter(tmp_path / "span.mp4", found.stream)
    path = root / "one" / "capture.mp4"
    shutil.copy(path, root / "copy.mp4")
    (root / "copy.mp4").replace(path)
    with pytest.raises(MediaError, match="was replaced or changed"):
        files.copy(whole(found), writer)
    path.unlink()
    with pytest.raises(MediaError, match="is gone"):
        files.copy(whole(found), writer)
    shutil.rmtree(root)
    root.mkdir()
    with pytest.raises(FileNotFoundError):  # the share is not there: that may pass
        files.copy(whole(found), writer)
    writer.discard()
