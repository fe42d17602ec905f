"""The publish folder and its fence, and how files get their final names."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from padreel.dataset import files, layout, publish
from padreel.dataset.commit_log import CommittedFile, Entry, Episode, Kind, Source, Totals
from padreel.dataset.publish import PublishFolder
from padreel.errors import CorruptShardError, FencedError, FilesystemError, ForeignFileError


@pytest.fixture(autouse=True)
def restored_probe() -> Iterator[None]:
    yield
    files.probe = files._silent


def staged_entry(shard: Path, n: int = 5) -> Entry:
    found = []
    (shard / "staging").mkdir(exist_ok=True)
    for kind in layout.FILE_KINDS:
        content = f"{kind} of {n}".encode()
        name = layout.staged_name(0, kind)
        (shard / "staging" / name).write_bytes(content)
        (shard / layout.final_path(kind, n)).parent.mkdir(parents=True, exist_ok=True)
        found.append(CommittedFile(kind, name, hashlib.sha256(content).hexdigest(), len(content)))
    episode = Episode(0, 0, "task", 1, 0, 0.0, 1 / 30, {}, {}, tuple(found))
    source = Source("", "", "", 0, 1, "")
    return Entry(n, "uuid", Kind.EPISODE, 0, "writer", source, None, Totals(episodes=1), None, episode)


def test_replacing_is_by_rename_out_of_the_folder(tmp_path: Path) -> None:
    folder = PublishFolder(tmp_path)
    final = tmp_path / "info.json"
    final.write_text("old")
    prepared = folder.prepare(final, b"new")
    assert final.read_text() == "old"
    assert not prepared.source.name.endswith(".parquet")
    folder.put(prepared)
    assert final.read_text() == "new"


def test_the_fence_takes_what_others_prepared(tmp_path: Path) -> None:
    old, final = PublishFolder(tmp_path), tmp_path / "info.json"
    prepared = old.prepare(final, b"old writer")
    new = PublishFolder(tmp_path)
    new.fence()
    assert os.listdir(tmp_path / "staging") == [new.path.name]
    with pytest.raises(FencedError):
        old.put(prepared)
    with pytest.raises(FencedError):
        old.prepare(final, b"old writer")
    with pytest.raises(FencedError):
        old.check()
    with pytest.raises(FencedError):
        old.clear()
    assert not old.path.exists()
    assert not final.exists()
    old.remove()
    new.check()


def test_the_fence_holds_against_a_writer_that_goes_on_writing(tmp_path: Path) -> None:
    old = PublishFolder(tmp_path)
    new = PublishFolder(tmp_path)
    rounds = 0

    def write_again(point: str, path: Path) -> None:
        nonlocal rounds
        if point == "before fence rmdir" and rounds < 3:
            rounds += 1
            (old.path / f"again-{rounds}").write_bytes(b"x")

    files.probe = write_again
    new.fence()
    assert rounds == 3
    assert not old.path.exists()


def test_a_fence_that_never_holds_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = PublishFolder(tmp_path), PublishFolder(tmp_path)
    monkeypatch.setattr(publish, "_FENCE_ROUNDS", 5)

    def write_again(point: str, path: Path) -> None:
        if point == "before fence rmdir":
            (old.path / "again").write_bytes(b"x")

    files.probe = write_again
    with pytest.raises(FilesystemError, match="does not go away"):
        new.fence()


def test_a_lost_reply_of_a_rename_is_no_fence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = PublishFolder(tmp_path)
    prepared = folder.prepare(tmp_path / "info.json", b"new")
    prepared.source.rename(prepared.final)
    folder.put(prepared)
    prepared.final.write_bytes(b"of another")
    with pytest.raises(FencedError):
        folder.put(prepared)


def test_a_stale_folder_is_a_fence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = PublishFolder(tmp_path)
    prepared = folder.prepare(tmp_path / "info.json", b"new")
    prepared.source.unlink()

    def stale(source: Path, target: Path) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(os, "replace", stale)
    with pytest.raises(FencedError):
        folder.put(prepared)


def test_an_error_that_is_no_fence_is_passed_on(tmp_path: Path) -> None:
    folder = PublishFolder(tmp_path)
    prepared = folder.prepare(tmp_path / "missing" / "info.json", b"new")
    with pytest.raises(FileNotFoundError):
        folder.put(prepared)


def test_info_is_replaced_last(tmp_path: Path) -> None:
    folder = PublishFolder(tmp_path)
    prepared = [folder.prepare(tmp_path / name, b"x") for name in ("meta/info.json", "meta/stats.json")]
    with pytest.raises(ValueError, match="the last file to publish"):
        publish.put_all(tmp_path, folder, prepared)


def test_staged_files_get_their_final_names_once(tmp_path: Path) -> None:
    entry = staged_entry(tmp_path)
    for _ in range(2):
        publish.place(tmp_path, entry, verify=True)
    for kind in layout.FILE_KINDS:
        assert (tmp_path / layout.final_path(kind, 5)).read_text() == f"{kind} of 5"
    assert os.listdir(tmp_path / "staging") == []


def test_a_rename_that_another_did_first_is_success(tmp_path: Path) -> None:
    entry = staged_entry(tmp_path)

    def faster(point: str, path: Path) -> None:
        if point == "before rename":
            files.probe = files._silent
            publish.place(tmp_path, entry, verify=True)

    files.probe = faster
    publish.place(tmp_path, entry, verify=True)
    assert (tmp_path / layout.final_path("data", 5)).read_text() == "data of 5"


def test_a_foreign_file_is_not_overwritten(tmp_path: Path) -> None:
    entry = staged_entry(tmp_path)
    final = tmp_path / layout.final_path("data", 5)
    final.write_text("foreign")
    with pytest.raises(ForeignFileError, match=r"file-005\.parquet: found a file with another sha256"):
        publish.place(tmp_path, entry, verify=True)
    assert final.read_text() == "foreign"


def test_a_file_that_is_nowhere_is_named(tmp_path: Path) -> None:
    entry = staged_entry(tmp_path)
    publish.place(tmp_path, entry, verify=True)
    (tmp_path / layout.final_path("gamepad", 5)).unlink()
    with pytest.raises(CorruptShardError, match=r"gamepad/chunk-000/file-005\.bin: missing, and .* too"):
        publish.place(tmp_path, entry, verify=False)


@pytest.mark.parametrize("name", ["data/chunk-000/file-006.parquet", "data/chunk-001/file-000.parquet"])
def test_a_foreign_data_file_beyond_the_last_is_named(tmp_path: Path, name: str) -> None:
    entry = staged_entry(tmp_path)
    publish.place(tmp_path, entry, verify=True)
    publish.check_foreign(tmp_path, entry, PublishFolder(tmp_path))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("foreign")
    with pytest.raises(ForeignFileError, match=name):
        publish.check_foreign(tmp_path, entry, PublishFolder(tmp_path))


def test_chunks_are_compared_as_numbers(tmp_path: Path) -> None:
    entry = staged_entry(tmp_path, 1_000_000)
    publish.place(tmp_path, entry, verify=True)
    (tmp_path / "data/chunk-999").mkdir()
    (tmp_path / "data/chunk-999/file-999.parquet").write_text("an older commit's")
    publish.check_foreign(tmp_path, entry, PublishFolder(tmp_path))
