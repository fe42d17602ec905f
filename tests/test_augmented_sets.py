"""What can be done with an augmented dataset: LeRobot reads it, and it can be varied and relabelled like another."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow.parquet as pq
import pytest

from padreel.errors import DatasetError
from padreel.options import load
from padreel.training.merge.merge import merge
from padreel.training.relabel.relabel import relabel
from padreel.training.settings import MergeSettings, RelabelSettings
from tests.augment_world import SESSIONS, bundle, contents, passes, played, shown, silent, take_back, vary
from tests.dataset_reading import CAMERA, read_episodes
from tests.training_world import OTHER_MAPPING, Played, as_bytes, convert_recordings, episodes_of
from tests.video_source import Picture, decode


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`root` with two shards, and `merged`."""
    folder = tmp_path_factory.mktemp("made")
    played(folder / "root")
    merge([folder / "root"], load(MergeSettings, {"output": folder / "merged"}), silent)
    return folder


@pytest.mark.lerobot
def test_lerobot_reads_the_returned_pixels_beside_the_original_actions(
    lerobot: ModuleType, made: Path, tmp_path: Path
) -> None:
    bundled = bundle(made / "root", tmp_path / "bundle")
    pixels = vary(tmp_path / "bundle", bundled)
    take_back(made / "root", tmp_path / "bundle", tmp_path / "out", with_originals=True)
    dataset = lerobot.LeRobotDataset("tests/augmented", root=tmp_path / "out", video_backend="pyav")
    rows: list[tuple[Played, list[Picture] | None]] = [(session, None) for session in SESSIONS]
    rows += [(SESSIONS[job.episode], pixels[job.returned]) for job in bundled.record.jobs()]
    at = 0
    originals = episodes_of(made / "root")
    for number, (session, pictures) in enumerate(rows):
        expected = originals[SESSIONS.index(session)].rows
        for i in range(len(session.source.units)):
            item = dataset[at]
            wanted = session.source.pictures[i] if pictures is None else pictures[i]
            assert np.array_equal(as_bytes(item[CAMERA]), wanted), (number, i)
            assert item["action"].tolist() == expected["action"][i]
            assert item["observation.state"].tolist() == expected["observation.state"][i]
            assert int(item["episode_index"]) == number
            assert item["task"] == (session.task or "play")
            at += 1
    assert len(dataset) == at


def test_what_was_varied_can_be_varied_again(made: Path, tmp_path: Path) -> None:
    vary(tmp_path / "first", bundle(made / "merged", tmp_path / "first"))
    take_back(made / "merged", tmp_path / "first", tmp_path / "once", with_originals=True)
    bundled = bundle(tmp_path / "once", tmp_path / "second", variants=1)
    pixels = vary(tmp_path / "second", bundled)
    take_back(tmp_path / "once", tmp_path / "second", tmp_path / "twice")
    passes(tmp_path / "twice")
    once, twice = read_episodes(tmp_path / "once"), read_episodes(tmp_path / "twice")
    assert len(twice) == len(once) == 9
    for i, (episode, before, job) in enumerate(zip(twice, once, bundled.record.jobs(), strict=True)):
        assert (episode.rows, episode.key, job.episode) == (before.rows, before.key, i)
        assert all(np.array_equal(a, b) for a, b in zip(shown(episode), pixels[job.returned], strict=True))


def test_relabelling_keeps_whose_variants_they_are(made: Path, tmp_path: Path) -> None:
    vary(tmp_path / "bundle", bundle(made / "merged", tmp_path / "bundle"))
    take_back(made / "merged", tmp_path / "bundle", tmp_path / "out")
    (tmp_path / "other.yaml").write_text(OTHER_MAPPING)
    settings = load(RelabelSettings, {"action_mapping": tmp_path / "other.yaml", "output": tmp_path / "relabelled"})
    relabel(tmp_path / "out", settings, silent)
    passes(tmp_path / "relabelled")
    before, after = read_episodes(tmp_path / "out"), read_episodes(tmp_path / "relabelled")
    assert [one.rows["action"] for one in before] != [one.rows["action"] for one in after]
    assert [one.packets for one in before] == [one.packets for one in after]
    a, b = (contents(tmp_path / name) for name in ("out", "relabelled"))
    assert a["lineage.json"] == b["lineage.json"]
    tables = [
        pq.read_table(tmp_path / name / "meta/episodes/chunk-000/file-000.parquet") for name in ("out", "relabelled")
    ]
    for name in ("augmented_from", "variant", "variant_seed"):
        assert tables[0][name] == tables[1][name]


def test_a_relabelled_source_has_other_actions(made: Path, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(OTHER_MAPPING)
    settings = load(RelabelSettings, {"action_mapping": tmp_path / "other.yaml", "output": tmp_path / "relabelled"})
    relabel(made / "merged", settings, silent)
    vary(tmp_path / "bundle", bundle(made / "merged", tmp_path / "bundle", variants=1))
    take_back(made / "merged", tmp_path / "bundle", tmp_path / "out")
    with pytest.raises(DatasetError, match="holds another dataset, made by augment"):
        take_back(tmp_path / "relabelled", tmp_path / "bundle", tmp_path / "out")
    take_back(tmp_path / "relabelled", tmp_path / "bundle", tmp_path / "other")
    expected = [one.rows for one in read_episodes(tmp_path / "relabelled")]
    assert [one.rows for one in read_episodes(tmp_path / "other")] == expected


@pytest.mark.recordings
def test_real_recordings_that_begin_between_two_keyframes(recordings: Path, tmp_path: Path) -> None:
    """Their mp4s begin with pictures that are hidden: readers that heed edit lists see just the episode's."""
    convert_recordings(recordings, tmp_path / "root", max_pre_action_seconds=0.1)
    originals = read_episodes(tmp_path / "root")
    assert any(one.from_timestamp > 0 for one in originals)
    bundled = bundle(tmp_path / "root", tmp_path / "bundle", variants=1)
    for one, original in zip(bundled.record.episodes, originals, strict=True):
        pictures = decode(str(tmp_path / "bundle" / one.video))
        assert all(np.array_equal(a, b) for a, b in zip(pictures, shown(original), strict=True))
    pixels = vary(tmp_path / "bundle", bundled)
    take_back(tmp_path / "root", tmp_path / "bundle", tmp_path / "out", with_originals=True)
    passes(tmp_path / "out")
    read = read_episodes(tmp_path / "out")
    for episode, original in zip(read, [*originals, *originals], strict=True):
        assert (episode.rows, episode.key) == (original.rows, original.key)
    for episode, original in zip(read, originals, strict=False):
        assert all(np.array_equal(a, b) for a, b in zip(shown(episode), shown(original), strict=True))
    for episode, job in zip(read[len(originals) :], bundled.record.jobs(), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(shown(episode), pixels[job.returned], strict=True))
