"""Shards, a bundle of them, and a stand-in for the remote video model: it inverts colours and encodes anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from padreel.exports.augment.bundle import Bundled, make_bundle
from padreel.exports.augment.returning import Imported, import_returned
from padreel.exports.augment.settings import AugmentBundleSettings, AugmentImportSettings
from padreel.options import load
from padreel.training.check.check import check
from padreel.training.check.report import Verdict
from tests.dataset_reading import ReadEpisode
from tests.fakes import FakeBroker
from tests.training_world import Played, consume, publish
from tests.video_source import Clip, Picture, decode, encode, moving_pictures, write_clip

SESSIONS = [
    Played(
        f"session-{i}@{i}",
        f"rig-{i % 2}",
        encode(moving_pictures(13 + 3 * i, seed=i), gop=6, b_frames=i),
        task="Win the match" if i == 2 else "",
    )
    for i in range(3)
]
RUN_FILES = {"augmentation.json", "export_manifest.json", "checksums.sha256"}  # they name the run


def played(root: Path) -> Path:
    """An output root with two shards."""
    broker = FakeBroker(2)
    publish(broker, 0, SESSIONS[:2])
    publish(broker, 1, SESSIONS[2:])
    return consume(broker, root)


def silent(step: str, done: int, total: int) -> None:
    return None


def bundle(source: Path, output: Path, variants: int = 2, seed: int = 1000, **more: object) -> Bundled:
    values = {"output": output, "variants_per_episode": variants, "base_seed": seed, **more}
    return make_bundle(source, load(AugmentBundleSettings, values), silent)


def take_back(source: Path, bundled: Path, output: Path, **more: object) -> Imported:
    return import_returned(source, load(AugmentImportSettings, {"bundle": bundled, "output": output, **more}), silent)


def varied(pictures: list[Picture], seed: int) -> list[Picture]:
    return [np.ascontiguousarray(255 - np.roll(one, seed % 7, axis=1)) for one in pictures]


def vary(bundled: Path, made: Bundled, clip: Clip | None = None) -> Mapping[str, list[Picture]]:
    """Do what the jobs ask for. What was shown in each returned file, by its name, as a plain decoder sees it."""
    (bundled / "returned").mkdir()
    videos = {one.index: one.video for one in made.record.episodes}
    shown: dict[str, list[Picture]] = {}
    for job in made.record.jobs():
        target = bundled / "returned" / job.returned
        write_clip(str(target), varied(decode(str(bundled / videos[job.episode])), job.seed), clip or Clip())
        shown[job.returned] = decode(str(target))
    return shown


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but those that name the run."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in RUN_FILES
    }


def passes(dataset: Path) -> None:
    """`padreel check --deep` finds nothing."""
    (report,) = check(dataset, deep=True)
    assert report.verdict is Verdict.PASS, report.findings


def shown(episode: ReadEpisode) -> list[Picture]:
    """Its pictures, by a plain decoder."""
    first = round(episode.from_timestamp * 30)
    return decode(str(episode.video))[first : first + len(episode)]
