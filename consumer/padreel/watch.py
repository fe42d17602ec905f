"""`padreel convert --watch`: each session becomes an episode as soon as its recorder has closed it, without a broker.

A session is *closed* when its three files can be read, agree with each other, and have not changed for a while: the mp4
of a recorder that still runs has no index yet, and its `sync.csv` fewer rows than pictures. Until then it waits. A last
record of `actions.bin` that is cut short makes it wait a minute more: then its recorder has died.

The commit log remembers which sessions are done, and where one was left in the middle. So after an error of the output
root, a folder that changed while it was read, a kill or Ctrl-C, everything begins anew with what the log has.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import structlog

from padreel.conversion import Conversion, Outcome, check, key_of, open_output, refuse_filled, schema_of
from padreel.core.decode import session_name
from padreel.dataset.commit_log import CommitLog
from padreel.dataset.committed import Committed
from padreel.dataset.layout import ROOT_FILE, SkippedSession
from padreel.dataset.root import read_root
from padreel.dataset.shard import Shard
from padreel.dataset.spec import dataset_spec, log_gate
from padreel.errors import InputError
from padreel.model import Schema
from padreel.recordings import list_session_dirs
from padreel.settings import ConvertSettings
from padreel_schemas.recording import PADS, SYNC, VIDEO, Recording, RecordingError, read_actions_bin

_LOOK_SECONDS = 0.5  # between two looks at the folders
_LONGEST_WAIT_SECONDS = 30.0  # after an error of the output root
_CUT_SECONDS = 60.0  # for which a folder with a cut record must not have changed
_LONGEST_REST_SECONDS = 300.0  # before a folder that cannot be read is tried again as it is

_log = structlog.get_logger("padreel.watch")

FileStates = tuple[tuple[int, int, int] | None, ...]  # of each file: inode, size, time of the last change


@dataclass(frozen=True, slots=True)
class Pace:
    """Time as the watch sees it: a steady clock and a pause, in seconds, and whether it is to end."""

    now: Callable[[], float]
    pause: Callable[[float], None]
    is_stopped: Callable[[], bool]


def until_signal() -> Pace:
    """The real time, until SIGINT or SIGTERM ends it in good order; a second signal ends the process at once."""
    received: list[int] = []

    def end(number: int, frame: object) -> None:
        if received:
            os._exit(128 + number)  # what is committed is safe, the rest is read again
        received.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    return Pace(time.monotonic, time.sleep, lambda: bool(received))


@dataclass(frozen=True, slots=True)
class WatchResult:
    """All sessions that the dataset knows of, by name, and its figures."""

    converted: tuple[str, ...] = ()
    skipped: tuple[SkippedSession, ...] = ()
    episodes: int = 0
    frames: int = 0


@dataclass(slots=True)
class _Look:
    """A folder as it was when it last changed, and how long after `since` it is to be read, in seconds."""

    states: FileStates
    changed: float
    since: float
    rest: float
    is_refused: bool = False  # as it is it can never be part of the dataset
    is_told: bool = False  # that it cannot be read


@dataclass(slots=True)
class History:
    """What the commit log says of sessions, by name."""

    done: set[str] = field(default_factory=set)
    outcome: Outcome = field(default_factory=Outcome)


def watch(settings: ConvertSettings, on_episode: Callable[[Committed], None], pace: Pace) -> WatchResult:
    """Convert sessions as they are closed until `pace` says to end.

    Errors of the output root are waited out. Raises InputError where the session root cannot be listed at the start,
    where a session that is half converted is gone or has changed, and with `settings.strict` for a session that is
    closed and cannot be converted; ProfileError, DatasetError.
    """
    log_gate(settings)
    list_session_dirs(settings.session_root)
    refuse_filled(settings.output_root, unless=ROOT_FILE)
    watching = _Watch(settings, on_episode, pace)
    failures = 0
    try:
        while not pace.is_stopped():
            began = pace.now()
            try:
                # Many folders on a slow share are not looked at all the time.
                pause = 0.0 if watching.look() else max(_LOOK_SECONDS, pace.now() - began)
                failures = 0
            except OSError as error:
                pause = min(_LONGEST_WAIT_SECONDS, 2.0**failures)
                failures += 1
                _log.warning("output root failed, waiting", error=str(error), seconds=pause)
                watching.leave()
            _sleep(pace, pause)
        return watching.finish()
    finally:
        watching.leave()


def _sleep(pace: Pace, seconds: float) -> None:
    """Pause, but not much beyond the end."""
    until = pace.now() + seconds
    while not pace.is_stopped() and (left := until - pace.now()) > 0:
        pace.pause(min(left, _LOOK_SECONDS))


def read_history(output_root: Path) -> History:
    """Fold the log of a dataset that `convert` writes. Raises DatasetError, OSError."""
    history, log, n = History(), CommitLog(output_root), 0
    converted: dict[str, None] = {}
    rejected: set[str] = set()
    closed: dict[str, None] = {}
    while (entry := log.read(n)) is not None:
        n += 1
        if entry.episode is not None:
            converted[session_name(entry.episode.columns["session"])] = None
        for one in entry.rejections:
            rejected.add(session_name(one.key))
            history.outcome.skipped.append(SkippedSession(session_name(one.key), one.reason.value, one.detail))
        if entry.state is not None:
            closed.update(dict.fromkeys(map(session_name, entry.state.closed)))
    history.done = set(closed)
    history.outcome.converted = list(converted)
    for name in closed:
        if name not in converted and name not in rejected:
            history.outcome.skipped.append(SkippedSession(name, "no_rows", "no frame is left"))
    return history


class _Watch:
    def __init__(self, settings: ConvertSettings, on_episode: Callable[[Committed], None], pace: Pace) -> None:
        self._settings, self._on_episode, self._pace = settings, on_episode, pace
        self._looks: dict[str, _Look] = {}
        self._history = History()
        self._refused: dict[str, SkippedSession] = {}  # which no log knows
        self._is_away = False  # the session root, as far as was told
        self._schema: Schema | None = None
        self._shard: Shard | None = None
        self._conversion: Conversion | None = None

    def look(self) -> bool:
        """Convert what is closed by now. True if there was something."""
        if self._shard is None and (self._settings.output_root / ROOT_FILE).exists():
            self._open(read_root(self._settings.output_root).schema)
        try:
            folders = list_session_dirs(self._settings.session_root)
        except InputError as error:  # a share that is away for a while
            if not self._is_away:
                _log.warning("waiting for the session root", error=str(error))
            self._is_away = True
            return False
        self._is_away = False
        took = False
        for path in folders:
            if self._pace.is_stopped():
                break
            if self._is_settled(path):
                took |= self._take(path)
        return took

    def finish(self) -> WatchResult:
        """Write the lists of sessions, now that the end is in good order."""
        converted = tuple(self._history.outcome.converted)
        refused = [one for name, one in self._refused.items() if name not in self._history.done]
        skipped = (*self._history.outcome.skipped, *refused)
        if self._shard is None:
            return WatchResult(converted, skipped)
        try:
            self._shard.write_session_lists(converted, skipped)
        except OSError as error:  # the next commit writes info.json again
            _log.warning("the lists of sessions were not written", error=str(error))
        totals = self._shard.totals
        return WatchResult(converted, skipped, totals.episodes, totals.rows)

    def leave(self) -> None:
        """Let the shard go. What is not committed is read again."""
        shard, self._shard, self._conversion = self._shard, None, None
        if shard is not None:
            try:
                shard.close()
            except OSError as error:  # whoever opens it next sweeps what is left
                _log.warning("closing the dataset failed", error=str(error))

    # ---- folders

    def _is_settled(self, path: Path) -> bool:
        """Whether a folder is worth reading: not done, and for a while as it is."""
        if path.name in self._history.done:
            return False
        states, now = _states(path), self._pace.now()
        look = self._looks.get(path.name)
        if look is None or look.states != states:
            look = self._looks[path.name] = _Look(states, now, now, self._settings.settle_seconds)
        return not look.is_refused and None not in states and now - look.since >= look.rest

    def _take(self, path: Path) -> bool:
        """Convert one folder if it is closed and of the dataset's schema."""
        look, recording = self._looks[path.name], Recording(path)
        if recording.name in self._history.done:  # a second name of it
            look.is_refused = True
            return False
        try:
            key = key_of(recording)
            check(recording)
            schema = schema_of(recording)
            if self._pace.now() - look.changed < _CUT_SECONDS and (cut := read_actions_bin(path / PADS)[1]):
                raise RecordingError(cut)
        except (RecordingError, OSError) as error:
            if not look.is_told:
                _log.info("not closed yet, or damaged", session=recording.name, detail=str(error))
            look.is_told, look.since = True, self._pace.now()
            look.rest = min(_LONGEST_REST_SECONDS, 2 * look.rest)
            return False
        except ValueError as error:
            self._refuse(look, recording, "name", str(error))
            return False
        if self._schema is not None and schema != self._schema:
            self._refuse(look, recording, "schema", f"{schema}; the dataset has {self._schema}")
            return False
        if self._conversion is None:
            self._open(schema)
        return _states(path) == look.states and self._feed(recording, key)

    def _refuse(self, look: _Look, recording: Recording, reason: str, detail: str) -> None:
        look.is_refused = True
        told = Outcome()
        told.skip(recording.name, reason, f"{recording.path}: {detail}", strict=self._settings.strict)
        self._refused[recording.name] = told.skipped[0]

    # ---- the dataset

    def _open(self, schema: Schema) -> None:
        settings = self._settings
        spec = dataset_spec(settings, schema)
        self._shard = open_output(settings.output_root, spec, uuid4().hex)
        self._schema = schema
        self._history = read_history(settings.output_root)
        conversion = Conversion(settings, spec, self._shard, self._history.outcome, self._on_episode)
        self._conversion = conversion
        for key in conversion.begun:
            self._go_on(key)

    def _go_on(self, key: str) -> None:
        """Convert the rest of a session of which a part is committed."""
        name = session_name(key)
        for path in list_session_dirs(self._settings.session_root):
            recording = Recording(path)
            if recording.name == name:
                try:
                    found = key_of(recording)
                    check(recording)
                except (RecordingError, OSError, ValueError) as error:
                    raise _half_converted(name, str(error)) from error
                if found != key.encode("ascii"):
                    raise _half_converted(name, f"{path} has changed since")
                self._feed(recording, found)
                return
        raise _half_converted(name, f"{self._settings.session_root / name} is gone")

    def _feed(self, recording: Recording, key: bytes) -> bool:
        """Convert one session. True if it is done; the dataset is let go where the folder changed meanwhile."""
        if self._conversion is None or recording.name in self._history.done:
            return False
        try:
            done = self._conversion.feed(recording, key, self._pace.is_stopped)
        except RecordingError as error:
            _log.warning("changed while it was read", session=recording.name, detail=str(error))
            self.leave()  # what was read of it is forgotten
            return False
        if done:
            self._history.done.add(recording.name)
        return done


def _half_converted(name: str, why: str) -> InputError:
    return InputError(
        f"session {name}: a part of it is converted, but {why}; put it back as it was, or use another --output-root"
    )


def _states(folder: Path) -> FileStates:
    found: list[tuple[int, int, int] | None] = []
    for name in (VIDEO, SYNC, PADS):
        try:
            status = (folder / name).stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)
