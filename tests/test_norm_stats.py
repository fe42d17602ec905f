"""`padreel stats` on real shards and merged sets, computed once more with pandas and plain numpy."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from padreel.__main__ import cli
from padreel.dataset.layout import shard_folder
from padreel.errors import DatasetError
from padreel.options import load
from padreel.training.merge.merge import merge
from padreel.training.norm_stats import SavedStats, save_stats
from padreel.training.one_file import manifest_path
from padreel.training.settings import MergeSettings, StatsSettings
from tests.commands import start
from tests.fakes import FakeBroker
from tests.shard_world import snapshot
from tests.training_world import Played, consume, publish
from tests.video_source import encode, moving_pictures

SESSIONS = [
    Played(
        f"session-{i}@{i}",
        f"rig-{i}",
        encode(moving_pictures(14 + i, seed=i), gop=6),
        # Values that a row or two have, and others that all have.
        pad=((0, 0.5, (0,)), (3 + i, i / 4 - 0.8, ()), (4 + i, 0.25, (1,) if i == 1 else ()), (9, 0.5, (0,))),
    )
    for i in range(4)
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`root` with two shards, and `merged`."""
    folder = tmp_path_factory.mktemp("made")
    broker = FakeBroker(2)
    publish(broker, 0, SESSIONS[:3])
    publish(broker, 1, SESSIONS[3:])
    consume(broker, folder / "root")
    merge([folder / "root"], load(MergeSettings, {"output": folder / "merged"}), lambda step, done, total: None)
    return folder


def save(source: Path, target: Path, **more: Any) -> SavedStats:
    return save_stats(source, load(StatsSettings, {"save_path": target, "data_name": "game", **more}))


def by_pandas(source: Path, key: str, *, deltas: bool, drop: bool) -> dict[str, NDArray[np.float64]]:
    """What a reader's own script makes of the files: every parquet by name, episode by episode."""
    pandas = pytest.importorskip("pandas")
    table = pandas.concat(
        [pandas.DataFrame(pq.read_table(path).to_pydict()) for path in sorted(source.glob("data/*/*.parquet"))]
    )
    parts = []
    for _, rows in table.groupby("episode_index"):
        values = np.stack([np.atleast_1d(value) for value in rows[key]]).astype(np.float64)
        parts.append(values[1:] - values[:-1] if deltas else values)
    data = np.concatenate(parts)
    q99, q01 = np.percentile(data, 99, axis=0), np.percentile(data, 1, axis=0)
    kept = data[((data >= q01) & (data <= q99)).all(axis=1)] if drop else data
    return {"mean": kept.mean(axis=0), "std": kept.std(axis=0), "q99": q99, "q01": q01}


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("source", ["merged", f"root/{shard_folder(0)}"])
def test_as_a_reader_computes_it(made: Path, tmp_path: Path, source: str, drop: bool) -> None:
    before = snapshot(made)
    saved = save(made / source, tmp_path / "stats.json", filter=drop)
    assert all((one.kept < one.rows) is drop for one in saved.figures.values())
    content = json.loads((tmp_path / "stats.json").read_bytes())
    assert [*content] == ["game_joint", "game_delta_joint", "game_state_joint"]
    for name, key, deltas in (
        ("game_joint", "action", False),
        ("game_delta_joint", "action", True),
        ("game_state_joint", "observation.state", False),
    ):
        expected = by_pandas(made / source, key, deltas=deltas, drop=drop)
        found, floored = content[name], saved.figures[name].floored
        assert [*found] == ["mean", "std", "q99", "q01"]
        assert len(found["mean"]) == (27 if "state" in name else 3)
        for figure in ("mean", "q99", "q01"):
            np.testing.assert_allclose(found[figure], expected[figure], atol=1e-12, err_msg=f"{name} {figure}")
        for i, std in enumerate(expected["std"]):
            if i in floored:
                assert found["std"][i] in (0.1, 0.01)
                assert std < found["std"][i], (name, i)
            else:
                assert found["std"][i] == pytest.approx(std, abs=1e-12), (name, i)
    assert snapshot(made) == before


def test_two_runs_are_byte_identical_and_say_what_they_are_of(made: Path, tmp_path: Path) -> None:
    first = save(made / "merged", tmp_path / "a" / "stats.json")
    second = save(made / "merged", tmp_path / "b" / "stats.json")
    content = (tmp_path / "a/stats.json").read_bytes()
    assert (tmp_path / "b/stats.json").read_bytes() == content
    manifest = json.loads((tmp_path / "a/stats.json.manifest.json").read_bytes())
    assert (manifest["run"], manifest["settings"]["data_name"]) == (first.run, "game")
    assert first.run != second.run
    assert manifest["sha256"] == {"stats.json": hashlib.sha256(content).hexdigest()}
    assert sum(one["frames"] for one in manifest["episodes"]) == first.frames
    assert manifest["names"]["action"] == ["attack", "move.x", "move.y"]


def test_the_same_again_changes_nothing_and_something_else_is_refused(made: Path, tmp_path: Path) -> None:
    first = save(made / "merged", tmp_path / "stats.json")
    before = snapshot(tmp_path)
    again = save(made / "merged", tmp_path / "stats.json")
    assert (first.outcome, again.outcome, again.run) == ("created", "unchanged", first.run)
    for source, more in (("root/partition-00000", {}), ("merged", {"data_name": "other"}), ("merged", {"filter": 1})):
        with pytest.raises(DatasetError, match="found something else there"):
            save(made / source, tmp_path / "stats.json", **more)
    (tmp_path / "folder").mkdir()
    with pytest.raises(DatasetError, match="folder: found something else"):
        save(made / "merged", tmp_path / "folder")
    (tmp_path / "folder").rmdir()
    assert snapshot(tmp_path) == before
    path = manifest_path(tmp_path / "stats.json")
    path.write_text('{"format_version": 99}')
    with pytest.raises(DatasetError, match=r"stats\.json\.manifest\.json: format_version 99 is newer than 1"):
        save(made / "merged", tmp_path / "stats.json")


def test_names_of_the_kind_and_other_columns(made: Path, tmp_path: Path) -> None:
    save(made / "merged", tmp_path / "eef.json", data_type="eef")
    assert [*json.loads((tmp_path / "eef.json").read_bytes())] == ["game_eef", "game_delta_eef", "game_state_eef"]
    save(made / "merged", tmp_path / "age.json", state_key="capture.pad_age")
    content = json.loads((tmp_path / "age.json").read_bytes())
    expected = by_pandas(made / "merged", "capture.pad_age", deltas=False, drop=False)
    np.testing.assert_allclose(content["game_state_joint"]["q99"], expected["q99"], atol=1e-12)
    with pytest.raises(DatasetError, match=r"no column 'hands' of numbers, expected one of action, observation.state"):
        save(made / "merged", tmp_path / "no.json", action_key="hands")
    assert not (tmp_path / "no.json").exists()


def test_what_cannot_be_read_is_named(made: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"info\.json: missing; expected a shard or a merged dataset"):
        save(made / "root", tmp_path / "no.json")
    copy = Path(shutil.copytree(made / "merged", tmp_path / "copy"))
    path = copy / "data/chunk-000/file-000.parquet"
    rows = pq.read_table(path)
    wrong = rows.to_pydict()
    wrong["action"][5][1] = float("nan")
    pq.write_table(type(rows).from_pydict(wrong, schema=rows.schema), path)
    with pytest.raises(DatasetError, match=r"file-000\.parquet: action: found a null, an infinity or no number"):
        save(copy, tmp_path / "no.json")
    pq.write_table(rows.slice(0, rows.num_rows - 1), path)
    with pytest.raises(DatasetError, match="rows, expected 17; see `padreel check`"):
        save(copy, tmp_path / "no.json")
    path.write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match=r"file-000\.parquet: no parquet file"):
        save(copy, tmp_path / "no.json")
    assert not (tmp_path / "no.json").exists()


def test_too_few_rows_for_the_filter(made: Path, tmp_path: Path) -> None:
    """Each of 17 rows is the highest in one of 27 slots: none is left."""
    copy = Path(shutil.copytree(made / "root" / shard_folder(1), tmp_path / "copy"))
    (path,) = copy.glob("data/*/*.parquet")
    rows = pq.read_table(path)
    assert rows.num_rows == 17
    values = rows.to_pydict()
    values["observation.state"] = [[float(slot == row) for slot in range(27)] for row in range(17)]
    pq.write_table(type(rows).from_pydict(values, schema=rows.schema), path)
    with pytest.raises(DatasetError, match=r"game_state_joint: none of 17 rows .*; leave out --filter"):
        save(copy, tmp_path / "no.json", filter=True)
    assert not (tmp_path / "no.json").exists()
    assert save(copy, tmp_path / "all.json").figures["game_state_joint"].kept == 17


def test_the_command(made: Path, tmp_path: Path) -> None:
    flags = ["--save-path", str(tmp_path / "s.json"), "--data-name", "game", "--filter"]
    result = CliRunner().invoke(cli, ["stats", str(made / "merged"), *flags, "--json"])
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert (content["outcome"], content["episodes"]) == ("created", 4)
    assert content["figures"]["game_delta_joint"]["rows"] == content["frames"] - 4
    table = CliRunner().invoke(cli, ["stats", str(made / "merged"), *flags])
    assert table.output.splitlines()[-1].startswith("unchanged: ")
    missing = CliRunner().invoke(cli, ["stats", str(made / "merged")])
    assert missing.exit_code == 2
    assert "--save-path" in missing.output


@pytest.mark.parametrize("crash", ["before write:1:ENOSPC", "before write:2:ENOSPC", "after write:1:kill"])
@pytest.mark.parametrize("more", [[], ["--filter"]])
def test_killed_or_out_of_room_there_is_no_file_or_the_whole(
    made: Path, tmp_path: Path, crash: str, more: list[str]
) -> None:
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PATH": os.environ["PATH"]}
    flags = ["--save-path", str(tmp_path / "out" / "s.json"), "--data-name", "game", *more]
    arguments = ["stats", str(made / "merged"), *flags]
    crashing = environment | {"PADREEL_CRASH_POINT": crash}
    with closing(start("padreel.__main__", *arguments, environment=crashing)) as process:
        out, err = process.communicate(300)
    assert process.wait() == (-signal.SIGKILL if "kill" in crash else 1), out + err
    assert not (tmp_path / "out/s.json").exists()
    with closing(start("padreel.__main__", *arguments, environment=environment)) as process:
        out, err = process.communicate(300)
    assert process.wait() == 0, out + err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["s.json", "s.json.manifest.json"]
    expected = save(made / "merged", tmp_path / "expected.json", filter=bool(more))
    assert (tmp_path / "out/s.json").read_bytes() == (tmp_path / "expected.json").read_bytes()
    assert expected.outcome == "created"
