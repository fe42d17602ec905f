"""`padreel show` on real shards and merged sets: what is rendered, what is skipped, what cannot be shown."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from padreel.__main__ import cli
from padreel.dataset import files, layout
from padreel.dataset.layout import shard_folder
from padreel.errors import CorruptShardError, DatasetError, InputError, SettingsError
from padreel.options import load
from padreel.training.checksums import CHECKSUMS, read_checksums
from padreel.training.relabel.command import relabel_any
from padreel.training.settings import RelabelSettings, ShowSettings
from padreel.training.show import show as show_module
from padreel.training.show.listing import SHOW_LIST, VIS, locked_folder, read_show_list
from padreel.training.show.read import open_dataset
from padreel.training.show.screen import Screen
from padreel.training.show.show import show
from tests.shard_world import snapshot
from tests.show_world import SESSIONS, make, names_in, nearest, pictures_in, played, run
from tests.training_world import failing, nothing


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "root", tmp_path / "root"))


# ---- what is rendered ----------------------------------------------------------------------------------------


def test_a_video_has_a_picture_per_row_and_each_is_the_right_one(root: Path) -> None:
    for shown in run(root):
        session = played(shown)
        with av.open(str(shown.path)) as container:
            stream = container.streams.video[0]
            assert stream.average_rate == 30
            assert stream.frames == len(session.source.pictures)
        found = pictures_in(shown.path)
        assert len(found) == len(session.source.pictures)
        assert found[0].shape == (540 + 4 * 20 + 28, 960, 3)
        assert found[0][40:530, :70].max() < 16  # 96x64 leaves bars on both sides
        for row, picture in enumerate(found):
            assert nearest(picture[:540, 75:885], session.source.pictures) == row, (session.key, row)


def test_it_is_drawn_what_the_rows_say(root: Path) -> None:
    """The decoded video against a rendering of the same row that was never encoded."""
    (shown,) = run(root / shard_folder(1), episode=0)
    found = pictures_in(shown.path)
    episode = open_dataset(root / shard_folder(1)).episode(0)
    assert episode.pad is not None
    screen = Screen(episode)
    page = screen.page(0, episode.length)
    for row, picture in enumerate(found):
        drawn = screen.moment(SESSIONS[2].source.pictures[row], row, page, 0, episode.length)
        assert np.abs(drawn.astype(int) - picture).mean() < 6
        south = drawn[540 - 10 - 150 + 108 - 8, 960 - 10 - 300 + 258]
        assert (tuple(south) == (255, 186, 66)) is bool(episode.pad[row, 6] >= 0.5)
    pressed = [bool(one) for one in episode.pad[:, 6]]
    assert len(set(pressed)) == 2


def test_a_sheet_is_one_picture(root: Path) -> None:
    shown = run(root, picture_format="png", pictures=4)
    assert [one.path.name for one in shown] == ["episode-000000.png", "episode-000001.png", "episode-000000.png"]
    for one in shown:
        with Image.open(one.path) as image:
            sheet: NDArray[np.uint8] = np.asarray(image.convert("RGB"))
        assert sheet.shape[:2] == (36 + 2 * 326 + round(4 * 20 * 1.4) + round(28 * 1.4), 1452)
        episode = open_dataset(one.dataset).episode(one.rendering.episode)
        session = played(one)
        for number, row in enumerate(Screen(episode).sheet_rows(4)):
            x, y = number % 3 * 486, 36 + number // 3 * 326
            assert nearest(sheet[y : y + 320, x : x + 480], session.source.pictures) == row


@pytest.mark.parametrize("kind", ["merged", "packed"])
def test_a_merged_dataset_shows_the_same_as_its_shards(made: Path, root: Path, tmp_path: Path, kind: str) -> None:
    before = snapshot(made)
    in_shards = {one.rendering.session: one.path.read_bytes() for one in run(root)}
    in_merged = {one.rendering.session: one.path.read_bytes() for one in run(made / kind, output_dir=tmp_path / "vis")}
    assert in_merged == in_shards
    assert snapshot(made) == before


def test_a_relabelled_dataset_shows_its_own_actions(made: Path, tmp_path: Path) -> None:
    settings = load(RelabelSettings, {"output": tmp_path / "out", "action_mapping": made / "other.yaml"})
    relabel_any(made / "merged", settings, nothing)
    old = run(made / "merged", output_dir=tmp_path / "old", episode=0)[0]
    new = run(tmp_path / "out", episode=0)[0]
    assert old.path.read_bytes() != new.path.read_bytes()
    assert old.rendering.source != new.rendering.source
    assert failing(tmp_path / "out") == {}


@pytest.mark.recordings
def test_the_real_recordings(recordings: Path, tmp_path: Path) -> None:
    command = ["convert", "--session-root", str(recordings / "sessions"), "--repo-id", "a/b", "--task", "Win"]
    command += ["--game-definition", str(recordings / "melee-game-definition.yaml"), "--output-root"]
    command += [str(tmp_path / "out"), "--action-mapping", str(recordings / "melee-action-mapping.yaml")]
    assert CliRunner().invoke(cli, command).exit_code == 0
    sheets = run(tmp_path / "out", picture_format="png")
    assert len(sheets) == 3
    (video,) = run(tmp_path / "out", episode=1)
    with av.open(str(video.path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 390
    assert failing(tmp_path / "out") == {}


# ---- what is there already, and lists ------------------------------------------------------------------------


def test_the_same_again_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    for kind in ("mp4", "png"):
        first = run(root, picture_format=kind, output_dir=tmp_path / "a")
        again = run(root, picture_format=kind, output_dir=tmp_path / "b")
        assert [one.path.read_bytes() for one in first] == [one.path.read_bytes() for one in again]


def test_what_is_there_and_whole_is_skipped(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = root / shard_folder(0)
    assert [one.outcome for one in run(shard, skip_existing=True)] == ["made", "made"]
    before = snapshot(shard)
    assert [one.outcome for one in run(shard, skip_existing=True)] == ["there", "there"]
    assert snapshot(shard) == before
    (shard / VIS / "episode-000000.mp4").write_bytes(b"cut short")
    assert [one.outcome for one in run(shard, skip_existing=True)] == ["made", "there"]
    (shard / VIS / "episode-000001.mp4").unlink()
    assert [one.outcome for one in run(shard, skip_existing=True)] == ["there", "made"]
    assert {name: digest for name, (_, _, digest) in snapshot(shard / VIS).items() if name.endswith("mp4")} == {
        name.removeprefix("vis/"): digest
        for name, (_, _, digest) in before.items()
        if name.endswith("mp4") and "vis/" in name
    }
    assert [one.outcome for one in run(shard)] == ["made", "made"]
    monkeypatch.setattr(show_module, "DRAWING", 2)
    assert [one.outcome for one in run(shard, skip_existing=True)] == ["made", "made"]


def test_a_sheet_of_other_pictures_is_made_anew(root: Path) -> None:
    shard = root / shard_folder(1)
    for pictures, outcome in ((4, "made"), (4, "there"), (6, "made")):
        (one,) = run(shard, picture_format="png", pictures=pictures, skip_existing=True)
        assert one.outcome == outcome
    (one,) = run(shard, skip_existing=True)  # the video is another file
    assert one.outcome == "made"
    assert names_in(shard / VIS) == [str(CHECKSUMS), "episode-000000.mp4", "episode-000000.png", str(SHOW_LIST)]


def test_the_lists_say_what_was_made_by_which_run(root: Path) -> None:
    shard = root / shard_folder(0)
    first, _ = show(shard, load(ShowSettings, {"all_episodes": True}), nothing)
    second, (again,) = show(shard, load(ShowSettings, {"episode": 1}), nothing)
    listed = read_show_list(shard / VIS)
    assert [(one.episode, one.session, one.run) for one in listed.renderings] == [
        (0, "session-0@0", first),
        (1, "session-1@1", second),
    ]
    assert [(one.id, one.arguments, one.settings["episode"]) for one in listed.runs] == [
        (first, (str(shard),), None),
        (second, (str(shard),), 1),
    ]
    assert again.path.stat().st_size == listed.renderings[1].size
    digests = read_checksums(shard / VIS / CHECKSUMS)
    assert digests == {one.name: files.sha256_of(shard / VIS / one.name) for one in listed.renderings}
    show(shard, load(ShowSettings, {"episode": 0}), nothing)
    assert len(read_show_list(shard / VIS).runs) == 2  # of the first run nothing is left


def test_the_command_says_what_it_made(root: Path) -> None:
    told = CliRunner().invoke(cli, ["show", str(root), "--all", "--format", "png"])
    assert told.exit_code == 0, told.output
    assert "3 of 3 episodes rendered" in told.stdout.splitlines()[-1]
    told = CliRunner().invoke(cli, ["show", str(root), "--all", "--format", "png", "--skip-existing", "--json"])
    found = json.loads(told.stdout)
    assert (found["format_version"], found["made"]) == (1, 0)
    assert [one["outcome"] for one in found["renderings"]] == ["there"] * 3
    assert found["renderings"][2]["path"] == str(root / shard_folder(1) / VIS / "episode-000000.png")


def test_progress_is_told_to_the_end(root: Path) -> None:
    told: list[tuple[str, int, int]] = []
    settings = load(ShowSettings, {"all_episodes": True})
    show(root / shard_folder(0), settings, lambda step, done, total: told.append((step, done, total)))
    assert [one for one in told if one[0] == "episodes"] == [("episodes", i, 2) for i in range(3)]
    assert [one[1:] for one in told if one[0] == "pictures"] == [
        (i, rows) for rows in (9, 10) for i in range(1, rows + 1)
    ]


def test_it_needs_neither_display_nor_lerobot(root: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom padreel.__main__ import cli\n"
        f"cli(['show', {str(root)!r}, '--all', '--output-dir', {str(tmp_path / 'vis')!r}], standalone_mode=False)\n"
        "assert not {'torch', 'lerobot', 'matplotlib', 'tkinter'} & sys.modules.keys()\n"
    )
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {"PYTHONPATH": paths, "PATH": os.environ["PATH"]}  # neither DISPLAY nor WAYLAND_DISPLAY nor HOME
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert names_in(tmp_path / "vis") == [shard_folder(0), shard_folder(1)]


# ---- what cannot be shown ------------------------------------------------------------------------------------


def test_an_episode_that_is_not_there(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--episode 2: found 2 episodes, expected 0 to 1"):
        run(root / shard_folder(0), episode=2)
    assert not (root / shard_folder(0) / VIS).exists()
    with pytest.raises(SettingsError, match="has 2 datasets"):
        run(root, episode=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="found no shard or dataset"):
        run(tmp_path / "empty")
    with pytest.raises(InputError, match="is no folder"):
        run(tmp_path / "nothing")
    (tmp_path / "begun" / shard_folder(0) / layout.COMMITS).mkdir(parents=True)
    with pytest.raises(InputError, match="no episode yet in 1 shards"):
        run(tmp_path / "begun")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "--episode or --all: found none"),
        (["--episode", "1", "--all"], "--episode with --all"),
        (["--episode", "-1"], "--episode (PADREEL_SHOW_EPISODE) found '-1'"),
        (["--episode", "one"], "--episode"),
        (["--all", "--pictures", "0"], "--pictures"),
        (["--all", "--format", "gif"], "gif"),
    ],
)
def test_wrong_flags_are_named(root: Path, flags: list[str], said: str) -> None:
    told = CliRunner().invoke(cli, ["show", str(root), *flags])
    assert told.exit_code == 2
    assert said in told.output.replace(":", "") or said in told.output


def video_of(shard: Path) -> Path:
    return next((shard / "videos").rglob("*.mp4"))


def test_a_video_that_cannot_be_read_is_named_and_what_was_made_stays(root: Path) -> None:
    shard = root / shard_folder(0)
    second = sorted((shard / "videos").rglob("*.mp4"))[1]
    whole = second.read_bytes()

    def refused(match: str) -> None:
        with pytest.raises(CorruptShardError, match=match) as error:
            run(shard, skip_existing=True)
        assert str(second) in str(error.value)
        assert names_in(shard / VIS) == [str(CHECKSUMS), "episode-000000.mp4", str(SHOW_LIST)]

    second.unlink()
    refused("No such file or directory; restore it")
    second.write_bytes(whole[: len(whole) // 2])
    refused("restore it")
    start_of_data = whole.index(b"mdat") + 4
    torn = whole[: start_of_data + 300] + bytes(len(whole) - start_of_data - 2300) + whole[-2000:]
    second.write_bytes(torn)
    refused(r"cannot be decoded|not there when it is decoded")
    second.write_bytes(whole)
    assert [one.outcome for one in run(shard, skip_existing=True)] == ["there", "made"]


def test_fewer_pictures_than_rows_and_fewer_rows_than_told(root: Path) -> None:
    shard = root / shard_folder(0)
    one, other = sorted((shard / "videos").rglob("*.mp4"))
    shutil.copyfile(one, other)  # 9 pictures for 10 rows
    with pytest.raises(CorruptShardError, match=r"found 9 pictures, expected 10 from 0 on"):
        run(shard, episode=1)
    one, other = sorted((shard / "data").rglob("*.parquet"))
    shutil.copyfile(one, other)
    with pytest.raises(CorruptShardError, match=r"found 0 rows of episode 1, expected 10"):
        run(shard, episode=1)
    other.unlink()
    with pytest.raises(CorruptShardError, match="missing; restore it"):
        run(shard, episode=1)
    (shard / layout.INFO).write_text("{")
    with pytest.raises(DatasetError, match=r"info\.json: no JSON"):
        run(shard, episode=1)


def test_a_folder_that_cannot_be_written_and_one_that_is_taken(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = CliRunner().invoke(
        cli, ["show", str(root / shard_folder(0)), "--all", "--output-dir", str(tmp_path / "file")]
    )
    assert (told.exit_code, told.output.splitlines()[-1].startswith("Error: ")) == (1, True)
    assert str(tmp_path / "file") in told.output
    with locked_folder(tmp_path / "vis"), pytest.raises(DatasetError, match="another process is writing renderings"):
        run(root / shard_folder(0), output_dir=tmp_path / "vis")
    (tmp_path / "vis" / SHOW_LIST).write_text("[]")
    with pytest.raises(DatasetError, match="no list of renderings"):
        run(root / shard_folder(0), output_dir=tmp_path / "vis")
    (tmp_path / "vis" / SHOW_LIST).write_text('{"format_version": 2}')
    with pytest.raises(DatasetError, match="is newer than 1"):
        run(root / shard_folder(0), output_dir=tmp_path / "vis")
