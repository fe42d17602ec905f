"""What is known of a folder that is to be followed, and where to go on. Blocking."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from padreel_schemas.recording import PADS, SYNC
from padreel_schemas.v1.video_pb2 import SessionInfo
from padreel_shim.state import FileMark, FollowState, PublishState, StateError, StateFile, mark_files, new_run
from padreel_shim.tail import AppendedFile, FolderTail, ReferenceFrames, begins_with
from padreel_shim.watch import Surroundings

# What must not change while a session is published, as the options are called.
_MUST_STAY = {
    "cluster_id": "the broker's cluster id",
    "frames_topic": "--frames-topic",
    "pads_topic": "--pads-topic",
    "rig_id": "--rig-id",
    "task": "--task",
    "game_id": "--game-id",
}


def known(state_file: StateFile, around: Surroundings) -> PublishState | None:
    """The state of a folder, also where it was renamed since; None where it was never published.

    Raises StateError, OSError.
    """
    return state_file.load() or _renamed(state_file, around)


def is_published(folder: Path, state: PublishState) -> bool:
    """Whether a session was published to its end, and is as it was then. Raises RecordingError, OSError."""
    if not state.finished:
        return False
    try:
        found = mark_files(folder, state.files)
    except FileNotFoundError:  # what was published may be thrown away
        return True
    return [(mark.name, mark.size, mark.sha256) for mark in found] == [
        (mark.name, mark.size, mark.sha256) for mark in state.files
    ]


def begin(folder: Path, state_file: StateFile, around: Surroundings) -> PublishState:
    """The state to go on from, saved; one that `is_published` where there is nothing to do.

    Raises RecordingError, StateError, OSError.
    """
    options = around.options
    options.media_uri(folder)
    fresh = PublishState(
        folder=str(state_file.folder),
        run=new_run(),
        files=(),
        rig_id=options.rig_id,
        task=options.task,
        game_id=options.game_id,
        cluster_id=around.publisher.cluster_id,
        frames_topic=options.frames_topic,
        pads_topic=options.pads_topic,
        heartbeats=False,
        follow=FollowState(options.video, AppendedFile(folder / SYNC).mark(), AppendedFile(folder / PADS).mark()),
    )
    saved = known(state_file, around)
    if saved is None:
        # Saved before the first record is sent: after a crash nothing in the topics has a run nobody remembers.
        state_file.save(fresh)
        return fresh
    if is_published(folder, saved):
        return saved
    key = f"{saved.session_name}@{saved.run}"
    if not saved.finished:
        if saved.follow is None:
            raise StateError(f"{folder}: `padreel-shim publish` has published a part of it as {key}; let that go on")
        if all(begins_with(folder / mark.name, mark) for mark in _marks(saved)):
            _check_options(folder, saved, fresh, key)
            return saved
    if _is_same_recording(folder, saved):
        raise StateError(
            f"{folder}: its files are not, or not only, those that were published as {key}; "
            "`padreel-shim publish --again` publishes it from the start under a new run"
        )
    around.tell(f"{folder}: is another recording than {key}, which had this folder before; it gets a new run")
    state_file.save(fresh)
    return fresh


def _check_options(folder: Path, saved: PublishState, fresh: PublishState, key: str) -> None:
    """Raises StateError where what decides the records' bytes or place is not as before."""
    assert saved.follow is not None
    assert fresh.follow is not None
    pairs = [(words, getattr(saved, name), getattr(fresh, name)) for name, words in _MUST_STAY.items()]
    for words, before, now in (*pairs, ("--video", saved.follow.video, fresh.follow.video)):
        if before != now:
            raise StateError(f"{folder}: {words} changed from {before!r} to {now!r} since it is published as {key}")


def _marks(state: PublishState) -> list[FileMark]:
    """Of the files that are only appended to."""
    marks = (state.follow.sync, state.follow.actions) if state.follow else state.files
    return [mark for mark in marks if mark.name in (SYNC, PADS)]


def _is_same_recording(folder: Path, state: PublishState) -> bool:
    """Whether a folder holds the recording that was published, longer or cut, and not another under its name."""
    if state.follow is None:
        return all(begins_with(folder / mark.name, mark) for mark in _marks(state))
    tail = FolderTail(folder, ReferenceFrames(SessionInfo()))
    tail.read()
    return not tail.rows or tail.first_ns == state.follow.first_ns


def _renamed(state_file: StateFile, around: Surroundings) -> PublishState | None:
    """The state of a folder that is gone and had the content of this one: it goes on under the name it had.

    Saved under the new name, and removed under the old one.
    """
    folder = state_file.folder
    for path in sorted(around.state_dir.glob("*.json")):
        with contextlib.suppress(StateError):  # damaged: not what is looked for
            state = StateFile.at(path).load()
            if state is None or Path(state.folder).parent != folder.parent or Path(state.folder).exists():
                continue
            if state.follow is not None and state.follow.first_ns < 0:
                continue  # nothing is known by which it would be known again
            if not all(begins_with(folder / mark.name, mark) for mark in _marks(state)):
                continue
            around.tell(f"{folder}: was {state.folder}, and goes on as {state.session_name}@{state.run}")
            state = replace(state, folder=str(folder), session=state.session_name)
            state_file.save(state)
            path.unlink(missing_ok=True)
            return state
    return None
