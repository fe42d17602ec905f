"""Recordings of every codec, as recorders leave them, through `convert` and read back by LeRobot, pixel for pixel."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest

from padreel.convert import convert as convert_folder
from padreel.errors import InputError
from padreel.settings import ConvertSettings
from tests.dataset_reading import CAMERA, read_episodes, read_info
from tests.e2e.test_convert import to_bytes
from tests.session_folders import START_NS, event, write_actions, write_sync
from tests.video_source import Clip, Picture, decode, moving_pictures, write_clip

FRAMES = 60
STEADY_NS = 33_333_333
DELTAS_MS = tuple(itertools.islice(itertools.cycle([20, 47, 33, 33, 61, 17]), FRAMES - 1))
FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".ts": "mpegts"}
CLIPS = {
    "h264": Clip(),
    "h264 at a variable rate": Clip(deltas=DELTAS_MS),
    "hevc": Clip("libx265"),
    "hevc without b-frames": Clip("libx265", b_frames=0),
    "hevc with open gops": Clip("libx265", open_gop=True),
    "hevc with leading pictures of its idrs": Clip("libx265", radl=2),
    "hevc in full range": Clip("libx265", full_range=True),
    "hevc at a variable rate": Clip("libx265", deltas=DELTAS_MS),
    "av1": Clip("libsvtav1"),
    "av1 of libaom": Clip("libaom-av1"),
    "av1 in full range": Clip("libsvtav1", full_range=True),
    "av1 at a variable rate": Clip("libsvtav1", deltas=DELTAS_MS),
}


def record(folder: Path, clip: Clip, *, video: str = "capture.mp4", seed: int = 0) -> list[Picture]:
    """A session folder; its pictures as a plain decoder shows them."""
    folder.mkdir(parents=True)
    path = folder / video
    write_clip(str(path), moving_pictures(FRAMES, seed=seed), clip, FORMATS[path.suffix])
    deltas = [ms * 1_000_000 for ms in clip.deltas] if clip.deltas else [STEADY_NS] * (FRAMES - 1)
    write_sync(folder / "sync.csv", list(itertools.accumulate(deltas, initial=START_NS)))
    write_actions(folder / "actions.bin", [event(START_NS + n * 200_000_000, n % 3) for n in range(10)])
    pictures = decode(str(path))
    assert len(pictures) == FRAMES
    return pictures


def convert(recordings: Path, sessions: Path, output: Path, **more: object) -> tuple[str, ...]:
    """The names of the sessions that were converted."""
    values = {
        "session_root": sessions,
        "game_definition": recordings / "melee-game-definition.yaml",
        "action_mapping": recordings / "melee-action-mapping.yaml",
        "output_root": output,
        "repo_id": "test/codecs",
        "task": "Win the match",
        **more,
    }
    return convert_folder(ConvertSettings.model_validate(values)).converted_sessions


def assert_reads_back(lerobot: ModuleType, output: Path, wanted: list[Picture]) -> None:
    """LeRobot shows these pictures: each by itself and in any order, in windows, and as items."""
    dataset = lerobot.LeRobotDataset("test/codecs", root=output, video_backend="pyav")
    utils = importlib.import_module("lerobot.datasets.video_utils")
    fps, first = dataset.meta.fps, 0
    for number, episode in enumerate(read_episodes(output)):
        path, pictures = output / dataset.meta.get_video_file_path(number, CAMERA), wanted[first : first + len(episode)]
        order = np.random.default_rng(number).permutation(len(episode)).tolist()
        for row in order:
            found = utils.decode_video_frames(path, [episode.from_timestamp + row / fps], 1e-4, "pyav")
            assert np.array_equal(to_bytes(found)[0], pictures[row]), (number, row)
        every = [episode.from_timestamp + row / fps for row in range(len(episode))]
        assert np.array_equal(to_bytes(utils.decode_video_frames(path, every, 1e-4, "pyav")), np.stack(pictures))
        start = int(dataset.meta.episodes[number]["dataset_from_index"])
        for row in (0, len(episode) - 1):
            assert np.array_equal(to_bytes(dataset[start + row][CAMERA][None])[0], pictures[row])
        first += len(episode)
    assert first == len(wanted) == len(dataset)


@pytest.mark.parametrize("name", CLIPS)
def test_every_codec_reads_back(lerobot: ModuleType, recordings: Path, tmp_path: Path, name: str) -> None:
    clip = CLIPS[name]
    wanted = record(tmp_path / "in" / "one", clip) + record(tmp_path / "in" / "two", clip, seed=1)
    output = tmp_path / "out"
    assert convert(recordings, tmp_path / "in", output) == ("one", "two")
    assert read_info(output)["features"][CAMERA]["info"]["video.codec"] == name.split(" ")[0]
    if clip.deltas:
        (times, _) = (episode.rows["capture.time_ns"] for episode in read_episodes(output))
        assert np.diff(times).tolist() == [ms * 1_000_000 for ms in DELTAS_MS]
    assert_reads_back(lerobot, output, wanted)


@pytest.mark.parametrize(
    ("video", "clip"),
    [
        ("capture.mkv", Clip("libx265")),
        ("capture.ts", Clip("libx265")),  # with start codes
        ("capture.ts", Clip("libx265", open_gop=True)),
        ("capture.ts", Clip()),
        ("capture.mkv", Clip("libsvtav1")),
    ],
)
def test_other_containers_read_back(
    lerobot: ModuleType, recordings: Path, tmp_path: Path, video: str, clip: Clip
) -> None:
    wanted = record(tmp_path / "in" / "one", clip, video=video)
    convert(recordings, tmp_path / "in", tmp_path / "out")
    assert_reads_back(lerobot, tmp_path / "out", wanted)


@pytest.mark.parametrize("name", ["hevc", "hevc with open gops", "hevc with leading pictures of its idrs", "av1"])
def test_episodes_are_split_at_idr_pictures_only(
    lerobot: ModuleType, recordings: Path, tmp_path: Path, name: str
) -> None:
    """After an IDR with leading pictures nothing is cut either: they are shown before it, so they belong before it."""
    wanted = record(tmp_path / "in" / "one", CLIPS[name])
    convert(recordings, tmp_path / "in", tmp_path / "out", max_episode_seconds=0.7)
    assert [len(episode) for episode in read_episodes(tmp_path / "out")] == {
        "hevc": [24, 24, 12],
        "av1": [24, 24, 12],
    }.get(name, [60])
    assert_reads_back(lerobot, tmp_path / "out", wanted)


def cut(path: Path, target: Path, key: int) -> None:
    """Copy a video from a key picture on, as it comes out of a stream that was going on."""
    with av.open(str(path)) as source, av.open(str(target), "w") as copy:
        video = source.streams.video[0]
        stream = copy.add_stream_from_template(video, opaque=True)
        packets = [packet for packet in source.demux(video) if packet.size]
        first = [j for j, packet in enumerate(packets) if packet.is_keyframe][key]
        for packet in packets[first:]:
            packet.stream = stream
            copy.mux(packet)


def test_a_recording_that_begins_with_an_open_gop(lerobot: ModuleType, recordings: Path, tmp_path: Path) -> None:
    """The leading pictures cannot be shown without what is not there; the rest can."""
    pictures = record(tmp_path / "whole", CLIPS["hevc with open gops"])
    folder = tmp_path / "in" / "one"
    folder.mkdir(parents=True)
    cut(tmp_path / "whole" / "capture.mp4", folder / "capture.mkv", key=2)
    leading, count = 3, FRAMES - 24 + 3
    write_sync(folder / "sync.csv", [START_NS + n * STEADY_NS for n in range(count)])
    write_actions(folder / "actions.bin", [event(START_NS, 1)])
    convert(recordings, tmp_path / "in", tmp_path / "out")
    (episode,) = read_episodes(tmp_path / "out")
    assert len(episode) == count - leading
    assert_reads_back(lerobot, tmp_path / "out", pictures[24:])


def test_another_codec_than_the_first_session_s_is_skipped_by_name(recordings: Path, tmp_path: Path) -> None:
    record(tmp_path / "in" / "a", Clip("libx265"))
    record(tmp_path / "in" / "b", Clip("libsvtav1"))
    assert convert(recordings, tmp_path / "in", tmp_path / "out") == ("a",)
    (skipped,) = read_info(tmp_path / "out")["extensions"]["game_converter"]["skipped_sessions"]
    assert (skipped["session"], skipped["reason"]) == ("b", "schema")


def test_a_codec_that_is_none_of_the_three_is_named(recordings: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in" / "one"
    record(folder, Clip())
    with av.open(str(folder / "capture.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for picture in moving_pictures(FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match="codec is mpeg4, expected h264, hevc or av1"):
        convert(recordings, tmp_path / "in", tmp_path / "out", strict=True)
