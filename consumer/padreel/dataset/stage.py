"""Staging: an episode's files, whole and durable in `staging/`, before the episode has a number.

The mp4 grows while the session plays; data and gamepad file are written when the episode is decided. Names carry the
writer's claim and a uuid (see `layout.staged_name`), so that a later writer knows what it may sweep away.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from padreel.core.gate import EpisodeQuality
from padreel.dataset import files, layout
from padreel.dataset.layout import CAMERA, DatasetSpec, FileKind
from padreel.dataset.media import MediaFiles
from padreel.dataset.remux import SpanWriter, keep_from
from padreel.dataset.rows import data_file, episode_columns, judged, pad_age
from padreel.dataset.stats import Stats, column_stats, picture_stats, sample_keyframes
from padreel.model import AppendUnit, EpisodeDraft, OpenSpan, Stream

_PIECE_BYTES = 2**18
_WRITE_BACK_BYTES = 4 * 2**20  # of video, before the disk is to begin with it


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A complete, fsynced file in `staging/`: its name there, hex digest and size in bytes."""

    kind: FileKind
    name: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class StagedEpisode:
    """An episode's files (one of each kind) and what its metadata row says of its rows.

    `from_timestamp` and `to_timestamp` are seconds in the mp4; `stats` is per feature and JSON-able; `pad_age_max` is
    in seconds, -1 where no row has an EVENT. `pad_ages` are those of one row in each second, without rows before the
    first EVENT. `quality` is None where the dataset has no gate.
    """

    files: tuple[StagedFile, ...]
    length: int
    from_timestamp: float
    to_timestamp: float
    stats: dict[str, Stats]
    pad_age_max: float
    pad_ages: tuple[float, ...]
    quality: EpisodeQuality | None


@dataclass(slots=True)
class _Span:
    writer: SpanWriter
    stream: Stream
    keyframes: list[int] = field(default_factory=list)  # display positions of the keys
    fresh_bytes: int = 0  # of video that the disk was not asked to write yet
    written_back: int = 0  # position in the file up to which it was


class Stage:
    """The open spans of one writer. Blocking; one thread at a time.

    Every method may raise OSError. After one, the spans' content is not to be relied on: `close()` and begin anew with
    a new Stage, reading the units again. A span that is not open is a KeyError: a bug of the caller's.
    """

    def __init__(
        self, folder: Path, spec: DatasetSpec, claim: int, media: MediaFiles | None = None, decoders: int = 1
    ) -> None:
        """`decoders`: how many work side by side on an episode's keyframes."""
        self._media, self._decoders = media or MediaFiles(None), decoders
        self._folder = folder
        self._spec = spec
        self._claim = claim
        self._spans: dict[int, _Span] = {}

    def open_span(self, effect: OpenSpan) -> None:
        """Begin a staged mp4."""
        if effect.span in self._spans:
            raise ValueError(f"span {effect.span} is open already")
        path = self._fresh("video")
        with files.announced("stage", path):
            self._spans[effect.span] = _Span(SpanWriter(path, effect.stream), effect.stream)

    def append(self, effect: AppendUnit) -> None:
        """Mux one access unit, in decode order."""
        span = self._spans[effect.span]
        with files.announced("stage", span.writer.path):
            span.writer.append(effect.index, effect.idr, effect.unit)
            span.fresh_bytes += len(effect.unit)
            if span.fresh_bytes >= _WRITE_BACK_BYTES:
                span.written_back = files.start_writing_back(span.writer.path, span.written_back)
                span.fresh_bytes = 0
        if effect.idr:
            span.keyframes.append(effect.index)

    def drop(self, span: int) -> None:
        """Throw an open span and its file away."""
        self._spans.pop(span).writer.discard()

    def episode(
        self, draft: EpisodeDraft, *, episode_index: int, first_row_index: int, task_index: int
    ) -> StagedEpisode:
        """Close the draft's span and write the episode's files; each is fsynced, `staging/` itself is not.

        `first_row_index` is the dataset-wide index of the first row. Raises UndecodableError where the video shows
        nothing, or its file is not what it was. Where this raises, nothing of the episode stays.
        """
        span = self._copied(draft) if draft.media is not None else self._spans.pop(draft.span)
        written = [span.writer.path]
        try:
            path = self._finish_video(span, draft, written)
            with ThreadPoolExecutor(1, "digest") as thread:  # it needs no interpreter, and the file is whole by now
                digesting = thread.submit(_digested, path)
                pictures = self._picture_stats(span, draft, path)  # before the rows take their memory
                columns = episode_columns(
                    self._spec,
                    draft,
                    episode_index=episode_index,
                    first_row_index=first_row_index,
                    task_index=task_index,
                )
                data = self._write("data", [data_file(self._spec, columns)], written)
                gamepad = self._write("gamepad", gamepad_file(draft.events), written)
                stats = {CAMERA: pictures, **{name: column_stats(values) for name, values in columns.items()}}
                video = digesting.result()
        except BaseException:
            span.writer.discard()
            for path in written:
                path.unlink(missing_ok=True)
            raise
        ages = pad_age(draft)
        start, length, fps = draft.first_row - draft.first_unit, len(draft.time_ns), self._spec.schema.fps
        return StagedEpisode(
            files=(video, data, gamepad),
            length=length,
            from_timestamp=start / fps,
            to_timestamp=(start + length) / fps,
            stats={name: stats[name] for name in layout.features(self._spec)},
            pad_age_max=float(ages.max()),
            pad_ages=tuple(age for age in ages[::fps].tolist() if age >= 0),
            quality=judged(self._spec, columns, draft.forced),
        )

    def close(self) -> None:
        """Drop all open spans, also where that fails for one of them."""
        with contextlib.ExitStack() as discarding:
            while self._spans:
                discarding.callback(self._spans.popitem()[1].writer.discard)

    def _fresh(self, kind: FileKind) -> Path:
        return self._folder / layout.staged_name(self._claim, kind)

    def _copied(self, draft: EpisodeDraft) -> _Span:
        """A span with the pictures out of the file that a session by reference names, from the first unit on."""
        assert draft.media is not None
        path = self._fresh("video")
        with files.announced("stage", path):
            span = _Span(SpanWriter(path, draft.stream), draft.stream)
            try:
                self._media.copy(draft.media, span.writer)
            except BaseException:
                span.writer.discard()
                raise
        places = zip(draft.media.positions, draft.media.idr, strict=True)
        span.keyframes += [draft.first_unit + position for position, idr in places if idr]
        return span

    def _finish_video(self, span: _Span, draft: EpisodeDraft, written: list[Path]) -> Path:
        """The span's mp4, complete and durable, without the GOPs before the first unit."""
        path = span.writer.path
        with files.announced("stage", path):
            span.writer.close()
        if draft.first_unit > 0 and draft.media is None:
            kept = self._fresh("video")
            written.append(kept)
            with files.announced("stage", kept):
                keep_from(path, kept, draft.first_unit, span.stream, span.keyframes)
            files.unlink(path)
            path = kept
        with files.announced("fsync", path), path.open("rb") as file:
            os.fsync(file.fileno())
        return path

    def _write(self, kind: FileKind, chunks: Iterable[bytes], written: list[Path]) -> StagedFile:
        path = self._fresh(kind)
        written.append(path)
        digest, size = hashlib.sha256(), 0

        def noted() -> Iterator[bytes]:
            nonlocal size
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                yield chunk

        files.write_chunks_durable(path, noted())
        return StagedFile(kind, path.name, digest.hexdigest(), size)

    def _picture_stats(self, span: _Span, draft: EpisodeDraft, video: Path) -> Stats:
        sample = sample_keyframes(span.keyframes, draft.first_row, len(draft.time_ns))
        positions = [index - draft.first_unit for index in sample]
        return picture_stats(video, self._spec.schema, positions, decoders=self._decoders)


def gamepad_file(events: Iterable[bytes]) -> Iterator[bytes]:
    """EVENT payloads in the recorder's framing, in pieces: each after its length, a little-endian uint32."""
    piece = bytearray()
    for event in events:
        piece += struct.pack("<I", len(event))
        piece += event
        if len(piece) >= _PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def _digested(video: Path) -> StagedFile:
    """A finished mp4 and its digest, for which it is read once."""
    with video.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return StagedFile("video", video.name, digest.hexdigest(), file.tell())
