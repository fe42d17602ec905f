"""Following a folder that grows: what comes out, once, whatever dies; what is refused, by name."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from padreel_schemas.recording import PublishedRecord
from padreel_schemas.v1.gamepad_pb2 import GamepadState
from padreel_schemas.v1.video_pb2 import VideoFrame
from padreel_shim import locks
from padreel_shim.follower import LOCK, session_folders
from padreel_shim.growing import can_grow
from padreel_shim.publish import PublishOptions
from padreel_shim.state import StateError
from padreel_shim.watch import FollowOptions
from tests.fake_publisher import FakePublisher
from tests.follow_world import Recorder, copy_sessions, expected, follow, follow_with_crashes
from tests.session_folders import event, frame_times, write_actions, write_folder, write_sync
from tests.test_shim_publish import publish
from tests.video_source import Clip, moving_pictures, write_clip

INLINE = FollowOptions(rig_id="rig", task="play", poll_seconds=0.05, closed_after_seconds=1.0)
VIDEOS = {
    "plain": ("capture.mp4", False),
    "fragmented": ("capture.mp4", True),
    "matroska": ("capture.mkv", False),
    "transport stream": ("capture.ts", False),
}


def reference(root: Path) -> FollowOptions:
    return FollowOptions(
        video="reference", media_root=root, rig_id="rig", task="play", poll_seconds=0.05, closed_after_seconds=1.0
    )


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    write_folder(tmp_path / "whole" / "session", frames=40)
    return tmp_path / "whole"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


def values(sent: Sequence[tuple[str, bytes, bytes]], topic: str) -> list[bytes]:
    """What a topic holds of a session once repeats are left out."""
    return list(dict.fromkeys(value for of, _, value in sent if of == topic))


def assert_published(sent: Sequence[tuple[str, bytes, bytes]], records: list[PublishedRecord]) -> None:
    assert len({key for _, key, _ in sent}) == 1
    for topic in ("frames", "pads"):
        assert values(sent, topic) == [record.value for record in records if record.topic == topic]


@pytest.mark.parametrize("kind", VIDEOS)
def test_inline_it_is_what_the_finished_folder_gives(tmp_path: Path, root: Path, state_dir: Path, kind: str) -> None:
    video, fragmented = VIDEOS[kind]
    folder = write_folder(tmp_path / "whole" / "session", frames=60, video=video, fragmented=fragmented)
    recorder, publisher, live = Recorder(folder.parent, root, seed=1), FakePublisher(), kind != "plain"
    early: list[int] = []

    def then() -> None:
        if not recorder.is_done:
            early.append(len(publisher.sent))
        if not (live and recorder.is_ending and early[-1] <= 10):  # it must not need the end
            recorder.write()

    done, told = follow(root, state_dir, publisher, INLINE, then=then)
    assert_published(publisher.sent, expected(folder, INLINE))
    assert (done[0].frames, done[0].events, done[0].records) == (60, 10, len(publisher.sent))
    assert [text for text in told if "waiting for more" not in text] == []
    assert (max(early) > 10) == live, "what can be read while it grows goes out then, a plain mp4 once it is closed"
    assert can_grow(folder / video) == live


@pytest.mark.parametrize("video", ["capture.mkv", "capture.ts", "capture.mp4"])
@pytest.mark.parametrize("encoder", ["libx265", "libsvtav1"])
def test_other_codecs_go_out_live_too(tmp_path: Path, root: Path, state_dir: Path, encoder: str, video: str) -> None:
    if (encoder, video) == ("libsvtav1", "capture.ts"):
        pytest.skip("MPEG-TS has no place for AV1")
    folder = write_folder(tmp_path / "whole" / "session", frames=60, video="capture.mkv")
    (folder / "capture.mkv").unlink()
    clip = Clip(encoder, open_gop=True)
    options = {"movflags": "frag_keyframe+empty_moov"} if video == "capture.mp4" else {}
    container = {".mkv": "matroska", ".ts": "mpegts", ".mp4": "mp4"}[Path(video).suffix]
    write_clip(str(folder / video), moving_pictures(60), clip, container, muxer=options)
    recorder, publisher = Recorder(folder.parent, root, seed=3, most=20_000), FakePublisher()
    early: list[int] = []

    def then() -> None:
        early.append(len(publisher.sent))
        if not (recorder.is_ending and early[-1] <= 10):  # it must not need the end
            recorder.write()

    follow(root, state_dir, publisher, INLINE, then=then)
    assert_published(publisher.sent, expected(folder, INLINE))
    frames = [VideoFrame.FromString(value) for topic, _, value in publisher.sent if topic == "frames"]
    keys = [frame for frame in frames if frame.keyframe]
    assert len(keys) == 5
    assert {key.stream.codec for key in keys} == {"hevc" if encoder == "libx265" else "av1"}


def test_by_reference_the_rows_go_out_before_there_is_a_video(whole: Path, root: Path, state_dir: Path) -> None:
    publisher, recorder = FakePublisher(), Recorder(whole, root, seed=2)
    early = 0

    def then() -> None:
        nonlocal early
        if not (root / "session" / "capture.mp4").exists():
            early = len(publisher.sent)
        recorder.write()

    follow(root, state_dir, publisher, reference(root), then=then)
    assert early > 0
    assert_published(publisher.sent, expected(whole / "session", reference(whole)))
    *frames, end = [VideoFrame.FromString(value) for topic, _, value in publisher.sent if topic == "frames"]
    assert [(f.sequence, f.frame_index, f.monotonic_ns) for f in frames] == [
        (n, n, time_ns) for n, time_ns in enumerate(frame_times(40))
    ]
    assert {(frame.session.media_uri, frame.access_unit) for frame in frames} == {("session/capture.mp4", b"")}
    assert (end.kind, end.frame_count, end.session.media_uri) == (VideoFrame.END, 40, "session/capture.mp4")


def test_there_is_no_heartbeat_and_none_is_promised(whole: Path, root: Path, state_dir: Path) -> None:
    copy_sessions(whole, root)
    for options in (INLINE, reference(root)):
        publisher = FakePublisher()
        follow(root, state_dir / options.video, publisher, options)
        pads = [GamepadState.FromString(value) for topic, _, value in publisher.sent if topic == "pads"]
        assert {pad.kind for pad in pads} == {GamepadState.EVENT, GamepadState.END}
        frames = [VideoFrame.FromString(value) for topic, _, value in publisher.sent if topic == "frames"]
        assert not any(frame.session.heartbeats for frame in frames)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["plain", "matroska", "reference"])
def test_killed_and_started_again_nothing_appears_twice(
    tmp_path: Path, root: Path, state_dir: Path, kind: str, seed: int
) -> None:
    video, _ = VIDEOS.get(kind, ("capture.mp4", False))
    folder = write_folder(tmp_path / "whole" / "session", frames=50, video=video)
    recorder = Recorder(folder.parent, root, seed)
    options = reference(root) if kind == "reference" else INLINE
    sent = follow_with_crashes(recorder, state_dir, options, seed=seed, crashes=6)
    told_by = INLINE if kind != "reference" else reference(folder.parent)
    assert_published(sent, expected(folder, told_by))


def test_a_published_session_is_left_alone(whole: Path, root: Path, state_dir: Path) -> None:
    copy_sessions(whole, root)
    for options in (INLINE, reference(root)):
        states, publisher = state_dir / options.video, FakePublisher()
        follow(root, states, publisher, options)
        write_folder(root / f"next-{options.video}", frames=3, events=1)
        again = FakePublisher()
        done, told = follow(root, states, again, options)
        assert told == []
        assert [one.key.partition("@")[0] for one in done] == [f"next-{options.video}"]
        assert publish(root / "session", FakePublisher(), states).finished_before
        shutil.rmtree(root / f"next-{options.video}")


def test_a_part_that_was_followed_is_not_published_by_the_other_command(root: Path, state_dir: Path) -> None:
    folder = write_folder(root / "session")
    (folder / "capture.mp4").rename(folder / "later")
    follow(root, state_dir, FakePublisher(), reference(root), until=lambda told: "is missing" in told[-1])
    (folder / "later").rename(folder / "capture.mp4")
    with pytest.raises(StateError, match="`padreel-shim follow` has published a part of it as session@"):
        publish(folder, FakePublisher(), state_dir)
    publish(folder, FakePublisher(), state_dir, PublishOptions(speed=float("inf"), again=True))


def test_the_second_follower_is_refused_by_name(whole: Path, root: Path, state_dir: Path) -> None:
    copy_sessions(whole, root)
    holders: list[str] = []
    done, _ = follow(root, state_dir, FakePublisher(), INLINE, then=lambda: holders.append((root / LOCK).read_text()))
    assert len(done) == 1
    assert set(holders) == {f"process {os.getpid()} on {socket.gethostname()}"}
    lock = locks.take(root / LOCK, "process 7 on rig-3")
    try:
        with pytest.raises(StateError, match=f"{root}: is followed already, by process 7 on rig-3"):
            follow(root, state_dir / "others", FakePublisher(), INLINE)
    finally:
        os.close(lock)
    done, _ = follow(root, state_dir / "others", FakePublisher(), INLINE)
    assert len(done) == 1, "the lock goes with the one who had it"


# ---- folders that change under the follower


def growing(root: Path, frames: int = 30) -> Path:
    """A folder with everything but its video."""
    folder = write_folder(root / "session", frames=frames)
    (folder / "capture.mp4").unlink()
    return folder


def follow_until(
    root: Path, state_dir: Path, word: str, publisher: FakePublisher | None = None, **extra: object
) -> str:
    """Follow by reference until something is told that has `word` in it; that."""
    _, told = follow(
        root,
        state_dir,
        publisher or FakePublisher(),
        reference(root),
        until=lambda told: word in told[-1],
        **extra,  # type: ignore[arg-type]
    )
    return told[-1]


@pytest.mark.parametrize("name", ["sync.csv", "actions.bin"])
def test_a_file_that_is_cut_while_it_is_followed(root: Path, state_dir: Path, name: str) -> None:
    path = growing(root) / name

    def cut() -> None:
        if publisher.sent:
            path.write_bytes(path.read_bytes()[:100])

    publisher = FakePublisher()
    _, told = follow(
        root, state_dir, publisher, reference(root), then=cut, until=lambda told: "was cut to less" in told[-1]
    )
    assert str(path) in told[-1]
    again = FakePublisher()
    assert "are not, or not only, those that were published" in follow_until(root, state_dir, "published as", again)
    assert again.sent == []


def test_a_folder_that_is_deleted_is_told_and_the_others_go_on(root: Path, state_dir: Path) -> None:
    folder = growing(root)
    publisher = FakePublisher()

    def then() -> None:
        if publisher.sent and folder.exists():
            shutil.rmtree(folder)
            write_folder(root / "other", frames=5, events=1)

    done, told = follow(root, state_dir, publisher, reference(root), then=then)
    assert [one.key.partition("@")[0] for one in done] == ["other"]
    assert any(f"{folder}" in text and "is gone" in text for text in told)
    ends = [
        VideoFrame.FromString(value) for topic, key, value in publisher.sent if topic == "frames" and b"session@" in key
    ]
    assert all(frame.kind == VideoFrame.FRAME for frame in ends), "a session that is gone gets no END"


def test_a_renamed_folder_goes_on_under_the_name_it_had(whole: Path, root: Path, state_dir: Path) -> None:
    copy_sessions(whole, root)
    folder = root / "session"
    (folder / "capture.mp4").rename(root / "later.mp4")
    publisher = FakePublisher()

    def then() -> None:
        if len(publisher.sent) >= 40 and folder.exists():
            folder.rename(root / "final-name")
            (root / "later.mp4").rename(root / "final-name" / "capture.mp4")

    done, told = follow(root, state_dir, publisher, reference(root), then=then)
    assert done[0].key.startswith("session@")
    assert any("goes on as session@" in text for text in told)
    frames = [VideoFrame.FromString(value) for topic, _, value in publisher.sent if topic == "frames"]
    assert [frame.sequence for frame in frames] == list(range(41)), "nothing twice"
    assert frames[-1].session.media_uri == "final-name/capture.mp4"


def test_another_recording_in_a_folder_of_the_same_name_gets_a_run_of_its_own(root: Path, state_dir: Path) -> None:
    folder = write_folder(root / "session", frames=10, events=2)
    first, _ = follow(root, state_dir, FakePublisher(), reference(root))
    write_sync(folder / "sync.csv", [time_ns + 10**12 for time_ns in frame_times(10)])
    write_actions(folder / "actions.bin", [event(5_000_000_000 + 10**12, 1)])
    second, told = follow(root, state_dir, FakePublisher(), reference(root))
    assert second[0].key != first[0].key
    assert "is another recording than session@" in told[0]


def test_a_session_that_grows_after_its_end_is_told(root: Path, state_dir: Path) -> None:
    folder = write_folder(root / "session", frames=10, events=2)
    follow(root, state_dir, FakePublisher(), reference(root))
    with (folder / "actions.bin").open("ab") as file:
        file.write(b"\0\0\0\0")
    told = follow_until(root, state_dir, "published as session@")
    assert "not only" in told


def test_options_cannot_change_half_way(root: Path, state_dir: Path) -> None:
    growing(root)
    follow_until(root, state_dir, "is missing")
    changed = FollowOptions(
        video="reference", media_root=root, rig_id="other", task="play", poll_seconds=0.05, closed_after_seconds=1.0
    )
    _, told = follow(root, state_dir, FakePublisher(), changed, until=lambda told: "changed" in told[-1])
    assert "--rig-id changed from 'rig' to 'other'" in told[-1]


def test_a_clock_that_steps_back_is_raised_as_in_the_finished_folder(root: Path, state_dir: Path) -> None:
    folder = write_folder(root / "session", frames=10, events=0)
    times = frame_times(10)
    write_sync(folder / "sync.csv", [*times[:5], times[2], *times[6:]])
    write_actions(folder / "actions.bin", [event(5_100_000_000), event(5_050_000_000, 3)])
    publisher = FakePublisher()
    done, _ = follow(root, state_dir, publisher, reference(root))
    assert [warning for warning in done[0].warnings if "steps back at 1 places" in warning] == list(done[0].warnings)
    assert len(done[0].warnings) == 2
    frames = [VideoFrame.FromString(value) for topic, _, value in publisher.sent if topic == "frames"]
    assert frames[5].monotonic_ns == times[4]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "sync.csv").write_text("a,b\n"), "sync.csv: header is 'a,b'"),
        (lambda folder: (folder / "actions.bin").write_bytes(b"\xff" * 9), "the file is damaged"),
        (lambda folder: (folder / "capture.mkv").touch(), "expected one video file"),
        (lambda folder: folder.rename(folder.parent / "bad name"), "rename the folder"),
    ],
)
def test_bad_folders_are_told_once_and_the_others_go_on(
    root: Path, state_dir: Path, damage: object, words: str
) -> None:
    assert callable(damage)
    damage(write_folder(root / "bad", frames=3, events=1))
    write_folder(root / "good", frames=3, events=1)
    publisher = FakePublisher()
    done, told = follow(root, state_dir, publisher, reference(root))
    assert done[0].key.startswith("good@")
    assert len([text for text in told if words in text]) == 1


def test_files_outside_the_media_root_are_refused(root: Path, state_dir: Path, tmp_path: Path) -> None:
    write_folder(root / "session", frames=3, events=1)
    (tmp_path / "media").mkdir()
    options = FollowOptions(video="reference", media_root=tmp_path / "media", poll_seconds=0.05)
    publisher = FakePublisher()
    _, told = follow(root, state_dir, publisher, options, until=lambda told: True)
    assert "is not below --media-root" in told[0]
    assert publisher.sent == []


def test_hidden_and_empty_folders_are_no_sessions(root: Path) -> None:
    write_folder(root / ".tmp-session", frames=1, events=0)
    (root / "empty").mkdir()
    (root / "file").touch()
    seen = write_folder(root / "seen", frames=1, events=0)
    assert session_folders(root, ()) == {seen}
