"""`padreel convert`: recorded session folders through the same pipeline, without a broker.

Each folder is read as the records that a rig would have published, so what comes out is, row for row and packet for
packet, what the Kafka path makes of it. The offsets in the log are positions in that imagined topic pair.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from uuid import uuid4

import structlog

from padreel.core.decode import Decoder, DecodeRules, session_name
from padreel.core.pipeline import Limits, Pipeline
from padreel.dataset.layout import DatasetSpec, SkippedSession
from padreel.dataset.root import RootIdentity, open_root
from padreel.dataset.shard import Committed, Shard
from padreel.dataset.spec import dataset_spec
from padreel.errors import InputError, RootMismatchError, UndecodableError
from padreel.model import Effect, PartitionState, Record, Rejected, Schema, SessionRejection
from padreel.settings import ConvertSettings
from padreel_schemas.key import session_key
from padreel_schemas.recording import PADS, SYNC, PublishedRecord, Recording, RecordingError

_BATCH = 256  # records per step: what is held in memory at a time

_log = structlog.get_logger("padreel.convert")


@dataclass(slots=True)
class ConversionResult:
    """What became of the folders. `skipped` says why; `episodes` and `frames` are the dataset's."""

    converted: list[str] = field(default_factory=list)
    skipped: list[SkippedSession] = field(default_factory=list)
    episodes: int = 0
    frames: int = 0


def collect_session_dirs(session_root: Path) -> list[Path]:
    """The immediate child folders of `session_root`, sorted by name. Raises InputError where there is none."""
    try:
        found = sorted(path for path in session_root.iterdir() if path.is_dir())
    except OSError as error:
        raise InputError(f"--session-root: {session_root}: {error.strerror or error}") from error
    if not found:
        raise InputError(f"--session-root: {session_root} has no folder in it; expected one per recorded session")
    return found


def convert_sessions(
    settings: ConvertSettings, on_episode: Callable[[Committed], None] = lambda committed: None
) -> ConversionResult:
    """Convert every session below `settings.session_root` into one dataset at `settings.output_root`.

    A session that cannot be converted is skipped and listed with its reason; with `settings.strict` the first one
    raises InputError. InputError is also raised when none can be converted, RootMismatchError when the output root is
    not empty.
    """
    result = ConversionResult()
    valid = list(_valid(settings, result))
    if not valid:
        raise InputError(f"--session-root: {settings.session_root}: no session can be converted: {_reasons(result)}")
    schema = _schema(valid[0])
    spec = dataset_spec(settings, schema)
    _open_output(settings.output_root, spec)
    shard = Shard.open(
        settings.output_root,
        dataset=spec,
        writer=f"convert-{uuid4().hex[:8]}",
        group="",
        cluster_id="",
        frames_topic="",
        pads_topic="",
        partition=0,
        partitions=1,
    )
    with closing(shard):
        conversion = _Conversion(settings, spec, shard, result, on_episode)
        for recording in valid:
            if _schema(recording) == schema:
                conversion.feed(recording)
            else:
                detail = f"{recording.path}: {_schema(recording)}; the first session has {schema}"
                _skip(settings, result, recording.name, "schema", detail)
        conversion.finish()
    return result


def _valid(settings: ConvertSettings, result: ConversionResult) -> Iterator[Recording]:
    for path in collect_session_dirs(settings.session_root):
        recording = Recording(path)
        try:
            session_key(recording.name, "0")
            recording.check()
        except ValueError as error:
            _skip(settings, result, recording.name, "name", f"{path}: {error}")
        except RecordingError as error:
            _skip(settings, result, recording.name, "invalid", str(error))
        else:
            for warning in recording.warnings:
                _log.warning("repaired", session=recording.name, detail=warning)
            yield recording


def _skip(settings: ConvertSettings, result: ConversionResult, session: str, reason: str, detail: str) -> None:
    session, detail = _writable(session), _writable(detail)
    if settings.strict:
        raise InputError(f"session {session}: {detail}")
    _log.warning("skipped", session=session, reason=reason, detail=detail)
    result.skipped.append(SkippedSession(session, reason, detail))


def _writable(text: str) -> str:
    """Text with names of files in it, which may be any bytes, as info.json and the log can hold it."""
    return text.encode(errors="backslashreplace").decode()


def _reasons(result: ConversionResult) -> str:
    return "; ".join(one.detail for one in result.skipped)


def _schema(recording: Recording) -> Schema:
    stream = recording.stream
    return Schema(stream.codec, stream.width, stream.height, round(stream.fps_num / (stream.fps_den or 1)))


def _open_output(output_root: Path, spec: DatasetSpec) -> None:
    if output_root.exists() and (not output_root.is_dir() or any(output_root.iterdir())):
        raise RootMismatchError(
            f"--output-root: {output_root}: found something there, expected a folder that is empty or not there; "
            "remove it or name another"
        )
    identity = RootIdentity(
        cluster_id="",
        frames_topic="",
        pads_topic="",
        partitions=1,
        group="",
        schema=spec.schema,
        columns=spec.columns,
        game_id=spec.game_id,
        class_ids=spec.class_ids,
        action_names=spec.encoder.names,
    )
    open_root(output_root, identity)


class _Conversion:
    """Feeds sessions one after the other to one pipeline, as one partition pair would bring them."""

    def __init__(
        self,
        settings: ConvertSettings,
        spec: DatasetSpec,
        shard: Shard,
        result: ConversionResult,
        on_episode: Callable[[Committed], None],
    ) -> None:
        self._settings, self._shard, self._result, self._on_episode = settings, shard, result, on_episode
        self._pipeline = Pipeline(settings.rules(spec.schema, spec.game_id), Limits(), PartitionState())
        self._decoder = Decoder(DecodeRules(idle_deadzone=settings.idle_deadzone))
        self._episodes: dict[str, int] = {}  # of the session in hand, by name
        self._rejections: list[SessionRejection] = []

    def feed(self, recording: Recording) -> None:
        """Convert one session; its episodes are committed when this returns."""
        key = session_key(recording.name, _run(recording))
        self._episodes, self._rejections = {}, []
        faults: list[Rejected] = []
        records = recording.records()
        try:
            while batch := list(islice(records, _BATCH)):
                faults += self._read(key, batch)
        except RecordingError as error:  # the folder changed while it was read
            raise InputError(f"session {recording.name}: {error}") from error
        for fault in faults[:3]:
            _log.warning("record rejected", session=recording.name, reason=str(fault.reason), detail=fault.detail)
        if recording.name in self._episodes:
            self._result.converted.append(recording.name)
        if self._rejections:
            detail = f"{recording.path}: {self._rejections[0].detail}"
            _skip(self._settings, self._result, recording.name, str(self._rejections[0].reason), detail)
        elif recording.name not in self._episodes:
            detail = (
                f"{recording.path}: no frame is left; {len(faults)} records rejected, the rest idle or without an IDR"
            )
            _skip(self._settings, self._result, recording.name, "no_rows", detail)

    def _read(self, key: bytes, batch: list[PublishedRecord]) -> list[Rejected]:
        at = self._pipeline.at
        frames = [
            Record(at.frames + i, 0, key, record.value)
            for i, record in enumerate(record for record in batch if record.topic == "frames")
        ]
        pads = [
            Record(at.pads + i, 0, key, record.value)
            for i, record in enumerate(record for record in batch if record.topic == "pads")
        ]
        frame_items, pad_items = self._decoder.frames(frames), self._decoder.pads(pads)
        self._pipeline.read_pads(pad_items, at.pads + len(pads), 0)
        self._pipeline.read_frames(frame_items, at.frames + len(frames), 0)
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
                self._note(committed)

    def _note(self, committed: Committed) -> None:
        self._rejections += committed.rejections
        if committed.key is not None:
            name = session_name(committed.key)
            self._episodes[name] = self._episodes.get(name, 0) + 1
            self._on_episode(committed)

    def finish(self) -> None:
        """Account for what is left and write the two lists of sessions."""
        if (commit := self._pipeline.progress()) is not None:
            self._shard.apply([commit])
        self._shard.write_session_lists(self._result.converted, self._result.skipped)
        totals = self._shard.totals
        self._result.episodes, self._result.frames = totals.episodes, totals.rows
        if not totals.episodes:
            raise InputError(
                f"--session-root: {self._settings.session_root}: no frame is left: {_reasons(self._result)}"
            )


def _run(recording: Recording) -> str:
    """A run id that is the same whenever the same folder is converted."""
    digest = hashlib.sha256()
    for name in (SYNC, PADS):
        digest.update((recording.path / name).read_bytes())
    return digest.hexdigest()[:16]
