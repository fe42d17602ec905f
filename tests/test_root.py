"""The output root: made once, compared ever after, on a filesystem that can hold it."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from padreel.dataset import files
from padreel.dataset.root import RootIdentity, open_root, probe_filesystem
from padreel.errors import FilesystemError, FormatVersionError, RootMismatchError
from padreel.model import Schema

IDENTITY = RootIdentity(
    cluster_id="cluster",
    frames_topic="padreel.frames",
    pads_topic="padreel.gamepad",
    partitions=4,
    group="recorders",
    schema=Schema("h264", 640, 480, 60),
    columns="full",
    game_id="melee",
    class_ids=("default",),
    action_names=("move.x", "move.y", "attack"),
)


def test_a_root_is_made_once_and_opened_again(tmp_path: Path) -> None:
    root = tmp_path / "a" / "b"
    open_root(root, IDENTITY)
    made = (root / "padreel.json").read_bytes()
    open_root(root, IDENTITY)
    assert (root / "padreel.json").read_bytes() == made
    assert os.listdir(root) == ["padreel.json"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (replace(IDENTITY, group="others"), 'group: found "recorders", expected "others".*--group-id'),
        (replace(IDENTITY, partitions=8), "partitions: found 4, expected 8.*partition count"),
        (replace(IDENTITY, cluster_id="new"), 'cluster_id: found "cluster", expected "new".*Kafka cluster'),
        (replace(IDENTITY, schema=Schema("h264", 640, 480, 30)), r"schema\.fps: found 60, expected 30.*--fps"),
        (replace(IDENTITY, schema=Schema("h264", 1280, 480, 60)), r"schema\.width: found 640, expected 1280.*--size"),
        (
            replace(IDENTITY, action_names=("jump",)),
            r"action_names: found \[.*\], expected \[.jump.\].*--action-mapping",
        ),
        (replace(IDENTITY, columns="minimal"), "columns: .*--columns"),
        (replace(IDENTITY, game_id="chess"), "game_id: .*--game-definition"),
    ],
)
def test_another_identity_is_refused_by_field(tmp_path: Path, changed: RootIdentity, message: str) -> None:
    open_root(tmp_path, IDENTITY)
    with pytest.raises(RootMismatchError, match=message):
        open_root(tmp_path, changed)


def test_of_two_that_make_a_root_at_once_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overtake(point: str, path: Path) -> None:
        if point == "before link" and path.name == "padreel.json":
            monkeypatch.setattr(files, "probe", files._silent)
            open_root(tmp_path, replace(IDENTITY, group="others"))

    monkeypatch.setattr(files, "probe", overtake)
    with pytest.raises(RootMismatchError, match='group: found "others", expected "recorders"'):
        open_root(tmp_path, IDENTITY)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"format_version": 2}, FormatVersionError, "format_version 2 is newer than 1"),
        ({"format_version": None}, RootMismatchError, "format_version: found None"),
        ({"partitions": "four"}, RootMismatchError, "partitions: found 'four', expected an integer"),
    ],
)
def test_a_root_file_that_cannot_be_read_is_refused(
    tmp_path: Path, change: dict[str, Any], kind: type[Exception], message: str
) -> None:
    open_root(tmp_path, IDENTITY)
    path = tmp_path / "padreel.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(kind, match=message):
        open_root(tmp_path, IDENTITY)


def refuse_links(source: Path, target: Path) -> None:
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


def copy_for_a_link(source: Path, target: Path) -> None:
    if target.exists():
        raise FileExistsError(errno.EEXIST, "File exists")
    target.write_bytes(source.read_bytes())


_LINK = os.link


def replace_with_a_link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    _LINK(source, target)  # os.link itself is what is replaced


@pytest.mark.parametrize(
    ("link", "message"),
    [
        (refuse_links, r"link\(\) fails \(Operation not supported\), expected hard links"),
        (copy_for_a_link, r"st_nlink is 1 after link\(\), expected 2"),
        (replace_with_a_link, r"a second link\(\) to a name that is taken succeeds, expected EEXIST"),
    ],
)
def test_an_unfit_filesystem_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: Callable[[Path, Path], None], message: str
) -> None:
    monkeypatch.setattr(os, "link", link)
    with pytest.raises(FilesystemError, match=message):
        open_root(tmp_path, IDENTITY)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_filesystem_that_fails_is_not_taken_for_an_unfit_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """It is tried again, as all that fails is: a partition that comes while the disk is full waits."""

    def fail(source: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        open_root(tmp_path, IDENTITY)
    assert caught.value.errno == number
    assert os.listdir(tmp_path) == []


def test_a_fit_filesystem_passes_and_nothing_stays(tmp_path: Path) -> None:
    probe_filesystem(tmp_path)
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_left_of_its_trial_is_swept_after_an_hour(tmp_path: Path) -> None:
    old, young, other = tmp_path / ".probe-old", tmp_path / ".probe-young", tmp_path / "probe"
    for folder, hours in ((old, 2.0), (young, 0.1), (other, 2.0)):
        folder.mkdir()
        (folder / "first").write_bytes(b"first")
        then = time.time() - 3600 * hours
        os.utime(folder, (then, then))
    probe_filesystem(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [young.name, other.name]
