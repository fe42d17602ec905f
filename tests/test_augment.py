"""`padreel augment`: a bundle for a remote video model, requests, and what comes back as new episodes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from padreel.__main__ import cli
from padreel.dataset import layout
from padreel.errors import DatasetError
from padreel.options import load
from padreel.training.manifest import read_manifest
from padreel.training.merge.merge import merge
from padreel.training.settings import MergeSettings
from tests.augment_world import SESSIONS, bundle, contents, passes, played, shown, silent, take_back, vary
from tests.dataset_reading import CAMERA, read_episodes
from tests.shard_world import snapshot
from tests.training_world import episodes_of
from tests.video_source import Clip, decode, sync_samples


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`root` with two shards, `merged`, and `packed`, all episodes in one mp4."""
    folder = tmp_path_factory.mktemp("made")
    played(folder / "root")
    for name, compact in (("merged", False), ("packed", True)):
        merge([folder / "root"], load(MergeSettings, {"output": folder / name, "compact": compact}), silent)
    return folder


# ---- the bundle ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["root", "merged", "packed"])
def test_the_bundle_has_every_episode_and_a_job_for_each_variant(made: Path, tmp_path: Path, source: str) -> None:
    before = snapshot(made)
    found = bundle(made / source, tmp_path / "out")
    assert snapshot(made) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    for i, session in enumerate(SESSIONS):
        pictures = decode(str(tmp_path / f"out/videos/episode_{i:06d}.mp4"))
        assert len(pictures) == len(session.source.pictures)
        assert all(np.array_equal(a, b) for a, b in zip(pictures, session.source.pictures, strict=True))
    jobs = [json.loads(line) for line in (tmp_path / "out/transfer_jobs.jsonl").read_text().splitlines()]
    assert [(job["episode_index"], job["variant_index"], job["seed"]) for job in jobs] == [
        (e, v, 1000 + 1000 * e + v) for e in range(3) for v in range(2)
    ]
    for job in jobs:
        request = json.loads((tmp_path / "out" / job["request"]).read_text())
        assert {name: request[name] for name in job} == job
        session = SESSIONS[job["episode_index"]]
        assert (request["num_frames"], request["task_text"]) == (len(session.source.units), session.task or "play")
        assert (request["fps"], request["width"], request["height"]) == (30, 96, 64)
    assert [one.session for one in found.record.episodes] == [one.key for one in SESSIONS]


def test_sha256sum_accepts_its_lists(made: Path, tmp_path: Path) -> None:
    bundle(made / "root", tmp_path / "out")
    for name, count in (("transfer_input_checksums.sha256", 3), ("checksums.sha256", 12)):
        done = subprocess.run(
            ["sha256sum", "--check", "--strict", name], cwd=tmp_path / "out", capture_output=True, text=True, check=True
        )
        assert done.stdout.count(": OK\n") == len(done.stdout.splitlines()) == count
    (tmp_path / "out/videos/episode_000001.mp4").write_bytes(b"other")
    spoilt = subprocess.run(
        ["sha256sum", "--check", "transfer_input_checksums.sha256"],
        cwd=tmp_path / "out",
        capture_output=True,
        check=False,
    )
    assert spoilt.returncode == 1


def test_two_bundles_are_byte_identical_but_for_the_run(made: Path, tmp_path: Path) -> None:
    first, second = bundle(made / "root", tmp_path / "a"), bundle(made / "root", tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert first.record.run != second.record.run
    assert first.record.config_hash == second.record.config_hash


def test_the_same_again_changes_nothing_and_other_settings_are_refused(made: Path, tmp_path: Path) -> None:
    first = bundle(made / "merged", tmp_path / "out")
    before = snapshot(tmp_path)
    again = bundle(made / "root", tmp_path / "out")  # the same episodes
    assert (again.outcome, again.record.run) == ("unchanged", first.record.run)
    with pytest.raises(DatasetError, match="holds a bundle of other episodes or with other settings"):
        bundle(made / "merged", tmp_path / "out", seed=1)
    with pytest.raises(DatasetError, match="holds a bundle of other episodes"):
        bundle(made / "root" / "partition-00001", tmp_path / "out")
    assert snapshot(tmp_path) == before
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(DatasetError, match="taken: found something else there"):
        bundle(made / "merged", tmp_path / "taken")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"format_version": 2}', r"augmentation\.json: format_version 2 is newer than 1"),
        ('{"format_version": 0}', r"augmentation\.json: no record of a bundle .* found 0, expected 1 to 1"),
        ('{"format_version": 1}', r"augmentation\.json: no record of a bundle"),
        ("[]", r"augmentation\.json: no record of a bundle"),
    ],
)
def test_a_record_of_another_version_or_none_is_named(made: Path, tmp_path: Path, content: str, said: str) -> None:
    bundle(made / "merged", tmp_path / "out")
    (tmp_path / "out/augmentation.json").write_text(content)
    before = snapshot(tmp_path)
    out, other = str(tmp_path / "out"), str(tmp_path / "other")
    making = ["--output", out, "--variants-per-episode", "2", "--base-seed", "1000"]
    for arguments in (
        ["requests", out, "--augmented-sample-ratio", "1", "--seed", "0"],
        ["import", str(made / "merged"), "--bundle", out, "--output", other],
        ["bundle", str(made / "merged"), *making],
    ):
        result = CliRunner().invoke(cli, ["augment", *arguments])
        assert result.exit_code == 1
        assert re.search(said, " ".join(result.output.split())), result.output
    assert snapshot(tmp_path) == before


# ---- requests --------------------------------------------------------------------------------------------------


def request_lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_requests_are_all_originals_and_a_share_of_every_stratum(made: Path, tmp_path: Path) -> None:
    bundle(made / "root", tmp_path / "out", variants=6)
    arguments = ["augment", "requests", str(tmp_path / "out"), "--augmented-sample-ratio", "0.3", "--seed", "5"]
    result = CliRunner().invoke(cli, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    lines = request_lines(tmp_path / "out/reason_requests.jsonl")
    originals = [line for line in lines if line["source_type"] == "original"]
    variants = [line for line in lines if line["source_type"] == "augmented"]
    assert (summary["originals"], summary["variants"]) == (len(originals), len(variants))
    assert [line["episode_index"] for line in originals] == [0, 1, 2]
    assert all((tmp_path / "out" / str(line["video_path"])).is_file() for line in originals)
    # Two episodes of one task, one of another; each has two variants of each profile: 4 and 2 of a stratum.
    found = Counter((line["task_text"], line["prompt_profile"]) for line in variants)
    profiles = ("lighting", "texture", "sensor")
    assert found == {("play", one): 2 for one in profiles} | {("Win the match", one): 1 for one in profiles}
    jobs = {job["output_video"]: job for job in request_lines(tmp_path / "out/transfer_jobs.jsonl")}
    for line in variants:
        job = jobs[line["video_path"]]
        assert (line["seed"], line["job_id"], line["variant_index"]) == (
            job["seed"],
            job["job_id"],
            job["variant_index"],
        )
    manifest = json.loads((tmp_path / "out/reason_requests.jsonl.manifest.json").read_text())
    assert (manifest["run"], manifest["bundle_run"]) != (None, None)
    assert sum(one["requested"] for one in manifest["strata"]) == len(variants)


def test_the_same_requests_again_change_nothing(made: Path, tmp_path: Path) -> None:
    bundle(made / "root", tmp_path / "out")
    base = ["augment", "requests", str(tmp_path / "out"), "--augmented-sample-ratio", "0.5", "--seed"]
    assert CliRunner().invoke(cli, [*base, "5"]).output.startswith("created: ")
    before = snapshot(tmp_path)
    assert CliRunner().invoke(cli, [*base, "5"]).output.startswith("unchanged: ")
    refused = CliRunner().invoke(cli, [*base, "6"])
    assert refused.exit_code == 1
    assert "found something else there, or made of other episodes" in refused.output
    assert snapshot(tmp_path) == before
    other = CliRunner().invoke(cli, [*base, "5", "--output", str(tmp_path / "other.jsonl")])
    assert other.exit_code == 0
    assert (tmp_path / "other.jsonl").read_bytes() == (tmp_path / "out/reason_requests.jsonl").read_bytes()


# ---- the import ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["root", "merged", "packed"])
@pytest.mark.parametrize("with_originals", [False, True])
def test_variants_have_the_returned_pixels_and_their_original_s_rows(
    made: Path, tmp_path: Path, source: str, with_originals: bool
) -> None:
    bundled = bundle(made / source, tmp_path / "bundle")
    pixels = vary(tmp_path / "bundle", bundled)
    before = snapshot(made), snapshot(tmp_path / "bundle")
    found = take_back(made / source, tmp_path / "bundle", tmp_path / "out", with_originals=with_originals)
    assert (snapshot(made), snapshot(tmp_path / "bundle")) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "out"]
    passes(tmp_path / "out")
    read, originals = read_episodes(tmp_path / "out"), episodes_of(made / "root")
    lineage = json.loads((tmp_path / "out/lineage.json").read_text())["episodes"]
    jobs = bundled.record.jobs()
    assert found.manifest.total_episodes == len(read) == len(lineage) == len(jobs) + 3 * with_originals
    expected = [(i, None) for i in range(3) if with_originals] + [(job.episode, job) for job in jobs]
    for episode, line, (original, job) in zip(read, lineage, expected, strict=True):
        assert episode.rows == originals[original].rows
        assert episode.events == originals[original].events
        assert episode.key == originals[original].key == line["session"]
        pictures = SESSIONS[original].source.pictures if job is None else pixels[job.returned]
        assert all(np.array_equal(a, b) for a, b in zip(shown(episode), pictures, strict=True))
        if job is not None:
            assert sync_samples(episode.video) == sync_samples(tmp_path / "bundle" / "returned" / job.returned)
        assert line["augmented_from"] == original
        assert (line["variant"], line["variant_seed"]) == ((job.variant, job.seed) if job else (-1, -1))
    table = pq.read_table(next((tmp_path / "out").glob("meta/episodes/*/*.parquet")))
    for name in ("augmented_from", "variant", "variant_seed"):
        assert table[name].to_pylist() == [line[name] for line in lineage]


def test_statistics_of_a_variant_are_of_its_own_pictures(made: Path, tmp_path: Path) -> None:
    bundled = bundle(made / "merged", tmp_path / "bundle", variants=1)
    pixels = vary(tmp_path / "bundle", bundled, Clip(gop=1))  # every picture is a key, at most 16 are looked at
    take_back(made / "merged", tmp_path / "bundle", tmp_path / "out")
    table = pq.read_table(next((tmp_path / "out").glob("meta/episodes/*/*.parquet")))
    first = np.stack(pixels[bundled.record.jobs()[0].returned]).astype(np.float64) / 255
    found = np.asarray(table[f"stats/{CAMERA}/mean"][0].as_py()).reshape(3)
    np.testing.assert_allclose(found, first.mean(axis=(0, 1, 2)), atol=1e-9)
    before = pq.read_table(next((made / "merged").glob("meta/episodes/*/*.parquet")))
    assert table["stats/action/mean"][0] == before["stats/action/mean"][0]


@pytest.mark.parametrize("encoder", ["libx265", "libsvtav1"])
def test_another_codec_than_the_original_s(made: Path, tmp_path: Path, encoder: str) -> None:
    bundled = bundle(made / "merged", tmp_path / "bundle", variants=1)
    pixels = vary(tmp_path / "bundle", bundled, Clip(encoder=encoder, gop=5))
    take_back(made / "merged", tmp_path / "bundle", tmp_path / "out")
    passes(tmp_path / "out")
    info = json.loads((tmp_path / "out" / layout.INFO).read_text())
    codec = {"libx265": "hevc", "libsvtav1": "av1"}[encoder]
    assert info["features"][CAMERA]["info"]["video.codec"] == codec
    for episode, job in zip(read_episodes(tmp_path / "out"), bundled.record.jobs(), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(shown(episode), pixels[job.returned], strict=True))
    with pytest.raises(DatasetError, match="another"):
        take_back(made / "merged", tmp_path / "bundle", tmp_path / "out", with_originals=True)
    result = import_command(made / "merged", tmp_path / "bundle", tmp_path / "both", "--with-originals")
    assert f"variant_000.mp4: codec {codec}, expected h264 as the originals" in result
    assert not (tmp_path / "both").exists()


def import_command(source: Path, bundled: Path, output: Path, *more: str) -> str:
    """What is said where an import is refused."""
    flags = ["--bundle", str(bundled), "--output", str(output), *more]
    result = CliRunner().invoke(cli, ["augment", "import", str(source), *flags])
    assert result.exit_code == 1, result.output
    return result.output


def test_two_imports_are_byte_identical_and_the_same_again_changes_nothing(made: Path, tmp_path: Path) -> None:
    vary(tmp_path / "bundle", bundle(made / "root", tmp_path / "bundle"))
    first = take_back(made / "root", tmp_path / "bundle", tmp_path / "a")
    second = take_back(made / "merged", tmp_path / "bundle", tmp_path / "b")
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert {name for name in a if a[name] != b[name]} == {"README.md"}  # it has the folder's name
    before = snapshot(tmp_path)
    again = take_back(made / "root", tmp_path / "bundle", tmp_path / "a")
    assert (first.outcome, again.outcome, again.manifest) == ("created", "unchanged", first.manifest)
    assert second.manifest.run != first.manifest.run
    with pytest.raises(DatasetError, match="holds another dataset, made by augment"):
        take_back(made / "root", tmp_path / "bundle", tmp_path / "a", with_originals=True)
    with pytest.raises(DatasetError, match="holds another dataset, made by merge"):
        take_back(made / "root", tmp_path / "bundle", made / "merged")
    assert snapshot(tmp_path) == before
    manifest = read_manifest(tmp_path / "a")
    assert manifest is not None
    assert (manifest.command, [run.command for run in manifest.runs]) == ("augment", ["merge", "augment"])


def test_what_has_come_back_can_be_taken_before_the_rest(made: Path, tmp_path: Path) -> None:
    bundled = bundle(made / "merged", tmp_path / "bundle")
    vary(tmp_path / "bundle", bundled)
    (tmp_path / "bundle/returned/episode_000001_variant_000.mp4").unlink()
    said = import_command(made / "merged", tmp_path / "bundle", tmp_path / "out")
    assert "1 of 6 files are missing: episode_000001_variant_000.mp4" in said
    found = take_back(made / "merged", tmp_path / "bundle", tmp_path / "out", allow_missing=True)
    assert found.missing == ("episode_000001_variant_000.mp4",)
    assert found.manifest.total_episodes == 5
    passes(tmp_path / "out")


def test_another_dataset_than_the_bundle_s_is_named(made: Path, tmp_path: Path) -> None:
    vary(tmp_path / "bundle", bundle(made / "root", tmp_path / "bundle"))
    said = import_command(made / "root" / "partition-00001", tmp_path / "bundle", tmp_path / "out")
    assert "does not have episode 0 of the bundle (session session-" in said
    other = Path(shutil.copytree(made / "merged", tmp_path / "other"))
    manifest = json.loads((other / "export_manifest.json").read_text())
    manifest["episodes"][1]["sha256"]["data"] = "0" * 64
    (other / "export_manifest.json").write_text(json.dumps(manifest))
    said = import_command(other, tmp_path / "bundle", tmp_path / "out")
    assert "episode 1 is not episode 1 of the bundle" in said
    assert not (tmp_path / "out").exists()
