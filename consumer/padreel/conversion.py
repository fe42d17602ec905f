"""Recorded sessions through the pipeline, one after the other, as one partition pair would bring them.

Each folder is read as the records that a rig would have published, so what comes out is, row for row and packet for
packet, what the Kafka path makes of it. The offsets in the log are positions in that imagined topic pair: the n-th
session has those from n * `STRIDE` on, in both topics. So a session that was left in the middle is found again in
whatever state the log remembers, and goes on there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import structlog

from padreel.core.decode import Decoder, DecodeRules, session_name
from padreel.core.pipeline import Limits, Pipeline
from padreel.dataset.committed import Committed
from padreel.dataset.layout import DatasetSpec, SkippedSession
from padreel.dataset.root import identity_of, open_root
from padreel.dataset.shard import Shard
from padreel.errors import InputError, RootMismatchError, UndecodableError
from padreel.model import Effect, PartitionState, Record, Rejected, Schema, SessionRejection
from padreel.settings import ConversionSettings
from padreel_schemas.key import session_key
from padreel_schemas.recording import PADS, SYNC, PublishedRecord, Recording

STRIDE = 1 << 32  # offsets of a session; no recording has as many records
_BATCH = 256  # records per step: what is held in memory at a time
_DECODERS = 2  # of keyframes: while an episode is committed nothing else is done

_log = structlog.get_logger("padreel.convert")


@dataclass(slots=True)
class Outcome:
    """What became of the folders so far; `skipped` says why. A session may be in both: a part of it was rejected."""

    converted: list[str] = field(default_factory=list)
    skipped: list[SkippedSession] = field(default_factory=list)

    def skip(self, session: str, reason: str, detail: str, *, strict: bool) -> None:
        """Note that a session is skipped, or a part of it. Raises InputError where that is not to be (`strict`)."""
        session, detail = _writable(session), _writable(detail)
        if strict:
            raise InputError(f"session {session}: {detail}")
        _log.warning("skipped", session=session, reason=reason, detail=detail)
        self.skipped.append(SkippedSession(session, reason, detail))


def _writable(text: str) -> str:
    """Text with names of files in it, which may be any bytes, as info.json and the log can hold it."""
    return text.encode(errors="backslashreplace").decode()


def schema_of(recording: Recording) -> Schema:
    """What a dataset of this recording has. Raises RecordingError."""
    stream = recording.stream
    return Schema(stream.codec, stream.width, stream.height, round(stream.fps_num / (stream.fps_den or 1)))


def key_of(recording: Recording) -> bytes:
    """The session's key. Its run is the same whenever the same folder is read.

    Raises ValueError where the folder's name cannot be a session's, OSError where it cannot be read.
    """
    session_key(recording.name, "0")  # before anything is read
    digest = hashlib.sha256()
    for name in (SYNC, PADS):
        digest.update((recording.path / name).read_bytes())
    return session_key(recording.name, digest.hexdigest()[:16])


def open_output(output_root: Path, spec: DatasetSpec, run: str) -> Shard:
    """Make the root this dataset's, or see that it is, and open its one shard.

    Its commits name the run by the first eight digits. Raises DatasetError, OSError.
    """
    open_root(output_root, identity_of(spec))
    return Shard.open(
        output_root,
        dataset=spec,
        writer=f"convert-{run[:8]}",
        group="",
        cluster_id="",
        frames_topic="",
        pads_topic="",
        partition=0,
        partitions=1,
        decoders=_DECODERS,
    )


def refuse_filled(output_root: Path, *, unless: str = "") -> None:
    """Raises RootMismatchError where something stands at the output root already; a folder with `unless` in it may.

    Names that begin with a dot do not count: a process that died at its first step leaves such.
    """
    if not output_root.exists() or (unless and (output_root / unless).exists()):
        return
    if not output_root.is_dir() or any(not one.name.startswith(".") for one in output_root.iterdir()):
        raise RootMismatchError(
            f"--output-root: {output_root}: found something there, expected a folder that is empty or not there; "
            "remove it or name another"
        )


class Conversion:
    """Feeds sessions to one pipeline and its effects to one shard, from where the shard's log stands."""

    def __init__(
        self,
        settings: ConversionSettings,
        spec: DatasetSpec,
        shard: Shard,
        outcome: Outcome,
        on_episode: Callable[[Committed], None],
    ) -> None:
        self._settings, self._shard, self._outcome, self._on_episode = settings, shard, outcome, on_episode
        state = shard.state or PartitionState()
        self._pipeline = Pipeline(settings.rules(spec.schema, spec.game_id), Limits(), state)
        self._decoder = Decoder(DecodeRules(idle_deadzone=settings.idle_deadzone))
        for key, session in state.open.items():
            if session.stream is not None:
                self._decoder.remember(key, session.stream)
        self._begun = {key: session.resume // STRIDE * STRIDE for key, session in state.open.items()}
        self._resume = self._pipeline.at  # records below are accounted
        self._frames = self._pads = 0  # offsets of the next records of the session in hand
        self._episodes: set[str] = set()  # names of sessions that have one
        self._rejections: list[SessionRejection] = []

    @property
    def begun(self) -> list[str]:
        """Keys of sessions of which a part is committed: they have to be fed before any other."""
        return list(self._begun)

    def feed(self, recording: Recording, key: bytes, is_stopped: Callable[[], bool] = lambda: False) -> bool:
        """Convert one session; its episodes, and that it is done, are committed when this returns True.

        False: it was stopped, and goes on when it is fed again from the log. Raises RecordingError where the folder
        changed meanwhile, DatasetError, OSError; after any of them begin anew with what the log has.
        """
        at = self._pipeline.at
        fresh = (max(at) + STRIDE - 1) // STRIDE * STRIDE
        self._frames = self._pads = self._begun.pop(key.decode("ascii"), fresh)
        self._rejections = []
        faults: list[Rejected] = []
        records = recording.records()
        while batch := list(islice(records, _BATCH)):
            if is_stopped():
                return False
            faults += self._read(key, batch)
        if (commit := self._pipeline.progress()) is not None:  # what leaves no episode behind is done too
            self._apply([commit])
        self._note_end(recording, faults)
        return True

    def _note_end(self, recording: Recording, faults: Sequence[Rejected]) -> None:
        name, path, strict = recording.name, recording.path, self._settings.strict
        for fault in faults[:3]:
            _log.warning("record rejected", session=name, reason=str(fault.reason), detail=fault.detail)
        converted = self._outcome.converted
        if name in self._episodes and name not in converted:
            converted.append(name)
        if self._rejections:
            first = self._rejections[0]
            self._outcome.skip(name, str(first.reason), f"{path}: {first.detail}", strict=strict)
        elif name not in converted:
            detail = f"{path}: no frame is left; {len(faults)} records rejected, the rest idle or without an IDR"
            self._outcome.skip(name, "no_rows", detail, strict=strict)

    def _read(self, key: bytes, batch: list[PublishedRecord]) -> list[Rejected]:
        frames: list[Record] = []
        pads: list[Record] = []
        for record in batch:
            if record.topic == "frames":
                if self._frames >= self._resume.frames:
                    frames.append(Record(self._frames, 0, key, record.value))
                self._frames += 1
            else:
                if self._pads >= self._resume.pads:
                    pads.append(Record(self._pads, 0, key, record.value))
                self._pads += 1
        frame_items, pad_items = self._decoder.frames(frames), self._decoder.pads(pads)
        self._pipeline.read_pads(pad_items, max(self._pads, self._resume.pads), 0)
        self._pipeline.read_frames(frame_items, max(self._frames, self._resume.frames), 0)
        self._apply(self._pipeline.effects())
        return [item for item in (*frame_items, *pad_items) if isinstance(item, Rejected)]

    def _apply(self, effects: Sequence[Effect]) -> None:
        try:
            done = self._shard.apply(effects)
        except UndecodableError as error:
            self._shard.reject(str(error))
            self._apply(())
        else:
            for committed in done:
                self._rejections += committed.rejections
                if committed.key is not None:
                    self._episodes.add(session_name(committed.key))
                    self._on_episode(committed)


def check(recording: Recording) -> None:
    """Read the folder and say what of it was repaired. Raises RecordingError where it cannot be used."""
    recording.check()
    for warning in recording.warnings:
        _log.warning("repaired", session=recording.name, detail=warning)
