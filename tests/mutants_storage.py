"""The rules of the storage protocol, each switched off in the real code, and the check that notices.

A mutant changes the code in place through `monkeypatch`; a check plays a shard and fails where the rule is missing.
`tests/test_storage_mutants.py` shows that every check passes on the code as it is and fails on its mutants:

| rule that is switched off | noticed by |
|---|---|
| others' publish folders are taken away (the fence) | `overtaken`: the loser replaces metadata |
| ... in its place the tail is looked at before each replace | `overtaken`: between the look and the replace |
| ... in its place the tail is looked at after publishing | `overtaken`: the loser had published by then |
| who finds its publish folder gone never makes it again | `overtaken`: the loser replaces metadata |
| an idle owner looks at the tail | `overtaken`: the loser does not learn of it |
| a shard is claimed before it is rolled forward | `stale_view`: the dataset goes back |
| a commit's name is created once (rename in place of link) | `stale_view`: a claim replaces a commit |
| after EEXIST the log says who won: "it exists" is no loss | `lost_reply`: fenced though it had won |
| ... nor is it a win | `stale_view`: the dataset goes back |
| a commit appears whole (open and write in place of link) | `dies_in_the_log`: it is no JSON |
| commits are never deleted | `dies_in_the_log`: one is missing |
| info.json is replaced last | `dies_between_replaces`: it is ahead |
| only staged files of older claims are swept | `late_sweep`: a commit's files are gone |
| nothing is swept before the log was read | `dies_in_the_log`: a commit's files are gone |
| staged files are fsynced | `power_loss`: committed and torn |
| `staging/` is fsynced before the commit | `power_loss`: committed and in neither place |
| a commit's content is fsynced before it is linked | `power_loss`: no JSON |
| `commits/` is fsynced before a commit is reported | `power_loss`: reported and gone |
| ... and before a claim follows the last commit | `power_loss_after_a_death`: a commit is missing |
| the final folders are fsynced before info.json | `power_loss`: info.json is ahead |
| `meta/` is fsynced before a commit is reported | `power_loss`: reported and not in the dataset |
| folders are durable before anything in them is | `power_loss`: reported and gone |
| ... also those that were there already | `power_loss_after_a_death`: reported and gone |

Not here, as nothing would notice: that the sweep spares what the last commits name. They have been renamed by then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from padreel.dataset import entries, files, layout, publish
from padreel.dataset.commit_log import CommitLog, Entry, Kind, encode_entry
from padreel.dataset.publish import Prepared, PublishFolder
from padreel.dataset.shard import Shard
from padreel.errors import FencedError
from tests.storage_checks import (
    dies_between_replaces,
    dies_in_the_log,
    late_sweep,
    lost_reply,
    overtaken,
    power_loss,
    power_loss_after_a_death,
    stale_view,
)

Check = Callable[[Path], None]
Switch = Callable[[pytest.MonkeyPatch], None]


def no_fence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PublishFolder, "fence", lambda folder: None)


def _tails(patch: pytest.MonkeyPatch) -> dict[Path, int]:
    """Which commit the writer of a publish folder has made last."""
    tails: dict[Path, int] = {}
    link = CommitLog.link

    def remember(log: CommitLog, entry: Entry, folder: Path) -> bool:
        tails[folder] = entry.n
        return link(log, entry, folder)

    patch.setattr(CommitLog, "link", remember)
    return tails


def _look(tails: dict[Path, int], folder: PublishFolder) -> None:
    if CommitLog(folder.path.parents[1]).exists(tails[folder.path] + 1):
        raise FencedError("the tail has moved")


def look_before_each_replace(patch: pytest.MonkeyPatch) -> None:
    no_fence(patch)
    tails, put = _tails(patch), PublishFolder.put

    def look_and_put(folder: PublishFolder, prepared: Prepared) -> None:
        _look(tails, folder)
        put(folder, prepared)

    patch.setattr(PublishFolder, "put", look_and_put)


def look_after_publishing(patch: pytest.MonkeyPatch) -> None:
    no_fence(patch)
    tails, put_all = _tails(patch), publish.put_all

    def put_all_and_look(shard: Path, folder: PublishFolder, projection: Any) -> None:
        put_all(shard, folder, projection)
        _look(tails, folder)

    patch.setattr(publish, "put_all", put_all_and_look)


def the_folder_is_made_again(patch: pytest.MonkeyPatch) -> None:
    prepare, put = PublishFolder.prepare, PublishFolder.put
    contents: dict[Path, bytes] = {}

    def keep(folder: PublishFolder, final: Path, content: bytes) -> Prepared:
        prepared = prepare(folder, final, content)
        contents[prepared.source] = content
        return prepared

    def put_again(folder: PublishFolder, prepared: Prepared) -> None:
        try:
            put(folder, prepared)
        except FencedError:
            folder.path.mkdir(exist_ok=True)
            prepared.source.write_bytes(contents[prepared.source])
            put(folder, prepared)

    patch.setattr(PublishFolder, "prepare", keep)
    patch.setattr(PublishFolder, "put", put_again)


def nobody_looks_at_the_tail(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Shard, "check_tail", lambda shard: None)


def no_claim(patch: pytest.MonkeyPatch) -> None:
    link, following = CommitLog.link, entries.following

    def link_no_claim(log: CommitLog, entry: Entry, folder: Path) -> bool:
        return entry.kind is Kind.CLAIM or link(log, entry, folder)

    def follow(last: Entry, *more: Any) -> Entry:
        made = following(last, *more)
        return replace(made, n=last.n) if last.kind is Kind.CLAIM else made

    patch.setattr(CommitLog, "link", link_no_claim)
    patch.setattr(entries, "following", follow)


def rename_in_place_of_link(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(files, "link_once", files.rename)


def open_and_write_in_place_of_link(patch: pytest.MonkeyPatch) -> None:
    def write(source: Path, target: Path, operation: str = "link") -> None:
        with target.open("xb") as file:
            files.probe("after mkdir", target)  # the name is there, and empty
            file.write(source.read_bytes())

    patch.setattr(files, "link_once", write)


def _without_asking_the_log(is_won: bool) -> Switch:
    def link(log: CommitLog, entry: Entry, folder: Path) -> bool:
        shard = folder.parents[1]
        temp = folder / f"{entry.uuid}-{os.urandom(4).hex()}.json"
        files.write_durable(temp, encode_entry(entry))
        try:
            files.link_once(temp, shard / layout.commit_path(entry.n))
        except FileExistsError:
            return is_won
        files.fsync_folder(shard / layout.COMMITS)
        return True

    return lambda patch: patch.setattr(CommitLog, "link", link)


def old_commits_are_deleted(patch: pytest.MonkeyPatch) -> None:
    link = CommitLog.link

    def link_and_delete(log: CommitLog, entry: Entry, folder: Path) -> bool:
        is_won = link(log, entry, folder)
        (folder.parents[1] / layout.commit_path(entry.n - 2)).unlink(missing_ok=True)
        return is_won

    patch.setattr(CommitLog, "link", link_and_delete)


def info_first(patch: pytest.MonkeyPatch) -> None:
    put_all = publish.put_all

    def put(shard: Path, folder: PublishFolder, projection: list[Prepared]) -> None:
        if projection:
            folder.put(projection[-1])
            again = folder.prepare(projection[-1].final, projection[-1].final.read_bytes())
            put_all(shard, folder, [*projection[:-1], again])

    patch.setattr(publish, "put_all", put)


def _sweep(shard: Path) -> None:
    """Away with everything staged that the log, as it is now, does not name."""
    log, n, named = CommitLog(shard), 0, set()
    while (entry := log.read(n)) is not None:
        n += 1
        named |= {file.name for file in entry.episode.files} if entry.episode else set()
    for path in (shard / layout.STAGING).iterdir():
        if path.is_file() and path.name not in named:
            path.unlink()


def younger_claims_are_swept_too(patch: pytest.MonkeyPatch) -> None:
    roll_forward = Shard._roll_forward

    def roll_and_sweep(shard: Shard) -> None:
        roll_forward(shard)
        _sweep(shard.path)

    patch.setattr(Shard, "_roll_forward", roll_and_sweep)


def swept_before_the_log_is_read(patch: pytest.MonkeyPatch) -> None:
    fence = PublishFolder.fence

    def fence_and_sweep(folder: PublishFolder) -> None:
        fence(folder)
        for path in folder.path.parent.iterdir():
            if path.is_file():
                path.unlink()

    patch.setattr(PublishFolder, "fence", fence_and_sweep)


def _never_synced(is_meant: Callable[[Path], bool]) -> Switch:
    """Leave out the fsyncs of the files and folders that are meant."""

    def switch(patch: pytest.MonkeyPatch) -> None:
        fsync_folder, write_durable = files.fsync_folder, files.write_durable

        def folder(path: Path) -> None:
            if not is_meant(path):
                fsync_folder(path)

        def write(path: Path, data: bytes) -> None:
            if is_meant(path):
                path.write_bytes(data)
            else:
                write_durable(path, data)

        patch.setattr(files, "fsync_folder", folder)
        patch.setattr(files, "write_durable", write)

    return switch


def folders_never_synced(patch: pytest.MonkeyPatch) -> None:
    def make(paths: Iterable[Path], top: Path) -> None:
        for path in paths:
            path.mkdir(parents=True, exist_ok=True)

    patch.setattr(files, "make_folders", make)


def old_folders_never_synced(patch: pytest.MonkeyPatch) -> None:
    make_folders = files.make_folders

    def make(paths: Iterable[Path], top: Path) -> None:
        make_folders([path for path in paths if not path.is_dir()], top)

    patch.setattr(files, "make_folders", make)


def the_log_is_not_synced_when_read(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CommitLog, "sync", lambda log: None)


@dataclass(frozen=True)
class Mutant:
    """A switch, the check that notices, and what it says then."""

    switch: Switch
    check: Check
    says: str


def _is(kind: str) -> Callable[[Path], bool]:
    """Which fsyncs are left out."""
    return {
        "staged files": lambda path: path.parent.name == "staging" and path.suffix != "",
        "staging": lambda path: path.name == "staging",
        "a commit's content": lambda path: path.name.startswith("commit-"),
        "commits": lambda path: path.name == "commits",
        "final folders": lambda path: path.name.startswith("chunk-") and "episodes" not in path.parts,
        "meta": lambda path: path.name == "meta",
    }[kind]


MUTANTS = {
    "no fence": Mutant(no_fence, overtaken, "the loser has changed the shard"),
    "the tail is looked at before each replace": Mutant(
        look_before_each_replace, overtaken, "the loser has changed the shard"
    ),
    "the tail is looked at after publishing": Mutant(look_after_publishing, overtaken, "the loser has changed"),
    "the publish folder is made again": Mutant(the_folder_is_made_again, overtaken, "the loser has changed"),
    "nobody looks at the tail": Mutant(nobody_looks_at_the_tail, overtaken, "DID NOT RAISE"),
    "no claim": Mutant(no_claim, stale_view, "the dataset has gone back"),
    "rename in place of link": Mutant(rename_in_place_of_link, stale_view, "gone back|commit is lost"),
    "EEXIST is a loss": Mutant(_without_asking_the_log(False), lost_reply, "is another writer's"),
    "EEXIST is a win": Mutant(_without_asking_the_log(True), stale_view, "the dataset has gone back"),
    "open and write in place of link": Mutant(open_and_write_in_place_of_link, dies_in_the_log, "no JSON"),
    "old commits are deleted": Mutant(old_commits_are_deleted, dies_in_the_log, "commits are never deleted"),
    "info.json first": Mutant(info_first, dies_between_replaces, "does not load"),
    "younger claims are swept too": Mutant(younger_claims_are_swept_too, late_sweep, "missing, and .* too"),
    "swept before the log is read": Mutant(swept_before_the_log_is_read, dies_in_the_log, "missing, and .* too"),
    "staged files never synced": Mutant(
        _never_synced(_is("staged files")), power_loss, "found .* expected .* by commit"
    ),
    "staging never synced": Mutant(_never_synced(_is("staging")), power_loss, "missing, and .* too"),
    "a commit's content never synced": Mutant(_never_synced(_is("a commit's content")), power_loss, "no JSON"),
    "commits never synced": Mutant(_never_synced(_is("commits")), power_loss, "reported and gone"),
    "final folders never synced": Mutant(_never_synced(_is("final folders")), power_loss, "No such file"),
    "meta never synced": Mutant(_never_synced(_is("meta")), power_loss, "reported and not in the dataset"),
    "folders never synced": Mutant(folders_never_synced, power_loss, "reported and gone"),
    "old folders never synced": Mutant(old_folders_never_synced, power_loss_after_a_death, "reported and gone"),
    "the log is not synced when it is read": Mutant(
        the_log_is_not_synced_when_read, power_loss_after_a_death, "missing, though commit"
    ),
}
