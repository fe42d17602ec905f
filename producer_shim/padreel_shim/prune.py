"""Throws recorded sessions away once every frame of them is in a shard. Blocking.

A folder is first renamed and then taken apart, so that nobody finds half a session under its name; what a crash leaves
half done is finished the next time.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from padreel_schemas.capture import RecordingError
from padreel_schemas.recording import SYNC, forward_times, read_sync_csv
from padreel_shim.coverage import Session, why_kept
from padreel_shim.follower import session_folders
from padreel_shim.state import FileMark, PublishState, StateError, StateFile, changed_files, mark_files

# Followers take no folder whose name begins with a dot for a session.
_DOOMED = ".padreel-pruned-"
_COPYING = ".padreel-moving-"


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """What to prune, and how. Without `move_to` sessions are deleted."""

    root: Path
    state_dir: Path
    move_to: Path | None = None
    dry_run: bool = False
    rejected_too: bool = False


@dataclass(frozen=True, slots=True)
class Pruned:
    """What became of a session folder; `kept` says why it is still there, empty where it is not."""

    folder: Path
    key: str
    kept: str


def finish_pruning(options: PruneOptions) -> None:
    """Take apart what an earlier call had doomed when it died. Raises OSError."""
    if not options.dry_run:
        for entry in sorted(options.root.iterdir()):
            if entry.name.startswith(_DOOMED):
                shutil.rmtree(entry)


def prune(options: PruneOptions, told: Mapping[str, Session], cluster_id: str) -> Iterator[Pruned]:
    """Look at each session folder in the root; those of which nothing is needed any more go.

    `told` is what the consumers of that cluster have told, by session key. Raises OSError; what was told by then is so.
    """
    for folder in sorted(session_folders(options.root, ())):
        try:
            with StateFile(options.state_dir, folder) as state_file:  # nobody publishes it meanwhile
                yield _prune(options, folder, state_file.load(), told, cluster_id)
        except (StateError, RecordingError) as error:
            yield Pruned(folder, "", str(error))


def _prune(
    options: PruneOptions, folder: Path, state: PublishState | None, told: Mapping[str, Session], cluster_id: str
) -> Pruned:
    if state is None:
        return Pruned(folder, "", "it was not published from here")
    key = f"{state.session_name}@{state.run}"
    kept = _why_kept(options, folder, state, told.get(key), cluster_id)
    if kept is None and options.move_to is not None:
        kept = _move(folder, state.files, options.move_to, dry_run=options.dry_run)
    elif kept is None and not options.dry_run:
        _delete(folder)
    return Pruned(folder, key, kept or "")


def _why_kept(
    options: PruneOptions, folder: Path, state: PublishState, told: Session | None, cluster_id: str
) -> str | None:
    if folder.is_symlink():
        return "it is a link"
    if not state.finished:
        return "it is not published to its end"
    if state.cluster_id != cluster_id:
        return f"it was published to cluster {state.cluster_id}, this is {cluster_id}"
    try:
        changed = changed_files(state.files, mark_files(folder, state.files))
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is gone"
    if changed:
        return f"{', '.join(changed)} changed since it was published"
    times, _ = forward_times(folder / SYNC, read_sync_csv(folder / SYNC))
    return why_kept(told, times, rejected_too=options.rejected_too)


def _delete(folder: Path) -> None:
    doomed = folder.with_name(_DOOMED + folder.name)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def _move(folder: Path, files: tuple[FileMark, ...], target_dir: Path, *, dry_run: bool) -> str | None:
    """Move a folder, also to another filesystem; why it stays where it cannot go there."""
    target = target_dir / folder.name
    is_copied = target.exists()
    # As a crash leaves it after the copy; else somebody else's.
    if is_copied and (target.samefile(folder) or not _holds(target, files)):
        return f"{target} exists"
    if not dry_run:
        if not is_copied:
            _bring(folder, target)
        if folder.exists():
            _delete(folder)
    return None


def _bring(folder: Path, target: Path) -> None:
    """Rename a folder, or where its new place is on another filesystem copy it, durably and whole or not at all."""
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy = target.with_name(_COPYING + folder.name)
        if copy.exists():
            shutil.rmtree(copy)
        shutil.copytree(folder, copy, symlinks=True)
        _sync(copy)
        copy.rename(target)
        _sync(target.parent)


def _holds(folder: Path, files: tuple[FileMark, ...]) -> bool:
    try:
        return not changed_files(files, mark_files(folder))
    except (FileNotFoundError, RecordingError):
        return False


def _sync(folder: Path) -> None:
    """Make a folder and what is in it durable, before what it was copied from is deleted."""
    if os.name == "nt":  # Windows opens no folder
        return
    for path in (folder, *(folder.rglob("*") if folder.name.startswith(_COPYING) else ())):
        if path.is_symlink():
            continue
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
