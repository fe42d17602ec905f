"""One shard, one writer at a time: opening it to write, and applying what the pipeline asks.

A commit is staged, linked into the log and published, in that order; a step that failed with an OSError is taken up
again by the next `apply`. From any state that a crash leaves, `Shard.open` alone finishes.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from padreel.dataset import entries, erased, files, layout, projection, publish
from padreel.dataset.commit_log import CommitLog, CommittedFile, Entry, Kind, Source, Totals
from padreel.dataset.committed import Committed, Step
from padreel.dataset.entries import Staged
from padreel.dataset.layout import DatasetSpec, SkippedSession
from padreel.dataset.media import MediaFiles
from padreel.dataset.publish import Prepared, PublishFolder
from padreel.dataset.stage import Stage
from padreel.dataset.stats import aggregate_stats
from padreel.errors import DatasetError, FencedError
from padreel.model import (
    AppendUnit,
    Commit,
    DropSpan,
    Effect,
    OpenSpan,
    PartitionState,
    SessionRejection,
)


def _no_clock() -> int:
    return 0


@dataclass(slots=True)
class _Pending:
    """A commit on its way: staged, then linked, then published."""

    entry: Entry
    committed: Committed
    linked: bool = False
    step_seconds: dict[Step, float] = field(default_factory=dict)


class Shard:
    """A shard that is open to write. Blocking; one thread at a time.

    `state` is the last commit's, None where the log has no commit but claims; `totals` are of all commits.
    """

    def __init__(
        self,
        path: Path,
        spec: DatasetSpec,
        folder: PublishFolder,
        log: CommitLog,
        claim: Entry,
        media: MediaFiles | None,
        decoders: int,
        now_ns: Callable[[], int],
    ) -> None:
        """For `open` alone."""
        self._media, self._decoders, self._now_ns = media, decoders, now_ns
        self.path = path
        self.claim = claim.n
        self._spec = spec
        self._schema = projection.episodes_schema(spec)
        self._folder = folder
        self._log = log
        self._last = claim
        self._episodes: projection.EpisodesFile | None = None
        self._stage: Stage | None = None
        self._folders: set[Path] = set()  # for which this writer has seen to their entries
        self._queue: deque[Effect] = deque()
        self._done: list[Committed] = []
        self._pending: _Pending | None = None
        self._unusable: Exception | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        dataset: DatasetSpec,
        writer: str,
        group: str,
        cluster_id: str,
        frames_topic: str,
        pads_topic: str,
        partition: int,
        partitions: int,
        media: MediaFiles | None = None,
        decoders: int = 1,
        now_ns: Callable[[], int] = _no_clock,
    ) -> Self:
        """Take the shard at `path` (made if it is not there) and roll its log forward.

        `decoders` work side by side on the keyframes of an episode that is committed. `now_ns` is any steady clock: it
        times the steps of commits and decides nothing.

        Raises FencedError if another writer took it meanwhile, RootMismatchError, CorruptShardError,
        ForeignFileError, FormatVersionError, and OSError. Calling it again is safe after any of them.
        """
        source = Source(cluster_id, frames_topic, pads_topic, partition, partitions, group)
        files.make_folder(path.parent)
        files.make_folders([path], path.parent)
        log = CommitLog(path)
        log.create()
        folder = PublishFolder(path)
        try:
            folder.fence()
            while True:
                last = log.last()
                log.sync()
                if last is not None:
                    entries.check_source(last, source, str(path))
                claim = entries.claim(last, writer, source)
                if log.link(claim, folder.path):
                    break
            shard = cls(path, dataset, folder, log, claim, media, decoders, now_ns)
            shard._roll_forward()
        except Exception:
            with contextlib.suppress(OSError):  # what stays is taken away by the next one to open
                folder.remove()
            raise
        return shard

    @property
    def state(self) -> PartitionState | None:
        return self._last.state

    @property
    def totals(self) -> Totals:
        return self._last.totals

    def apply(self, effects: Sequence[Effect]) -> list[Committed]:
        """Carry out `effects` in order; what was committed since the last call that returned.

        Raises FencedError for good. After an OSError out of linking or publishing, or out of copying from a file that
        a session by reference names, `apply(())` goes on where it stopped; after one out of staging the video is lost
        and every call raises DatasetError: close, open and read again. After UndecodableError, which says that an
        episode shows nothing or that its file was replaced, `reject` has to be called before `apply(())` goes on.
        ForeignFileError and CorruptShardError want a person; `apply(())` goes on afterwards.
        """
        if self._unusable is not None:
            raise self._unusable
        self._queue.extend(effects)
        while self._queue:
            try:
                self._apply_one(self._queue[0])
            except FencedError as error:
                self._unusable = error
                with contextlib.suppress(OSError, DatasetError):  # what stays is swept by the next one to open
                    self._discard_unlinked()
                raise
            self._queue.popleft()
        done, self._done = self._done, []
        return done

    def reject(self, detail: str) -> SessionRejection:
        """Put its rejection in the place of the episode that `apply` could not make; `apply(())` then commits that."""
        commit = self._queue[0]
        if not isinstance(commit, Commit):
            raise ValueError(f"{commit}: no commit is being applied")
        self._queue[0] = rejected = entries.without_episode(commit, detail)
        return rejected.rejections[-1]

    def add(self, following: Callable[[Entry], Entry]) -> Entry:
        """Commit the entry without files that is to follow the last one, and publish what it says.

        For a person's doings, not beside `apply`. Raises FencedError, OSError: open the shard again, and look.
        """
        entry = following(self._last)
        self._finish(_Pending(entry, Committed(entry.n, entry.kind)))
        return entry

    def check_tail(self) -> None:
        """Raises FencedError if another writer has claimed the shard or is about to."""
        if self._log.exists(self._last.n + 1) and not self._pending:
            raise FencedError(f"{self.path}: commit {self._last.n + 1} is another writer's: it has taken the shard")
        self._folder.check()

    def write_session_lists(self, converted: Sequence[str], skipped: Sequence[SkippedSession]) -> None:
        """Rewrite info.json with the full lists of sessions, for a conversion that has come to its end.

        Nothing is written where there is no episode. Raises FencedError, OSError.
        """
        if self._last.totals.episodes:
            content = projection.info_file(self._spec, self._last.totals, converted, skipped)
            publish.put_all(self.path, self._folder, [self._folder.prepare(self.path / layout.INFO, content)])

    def rewrite_episodes_files(self) -> None:
        """Make all episodes files anew from the log; opening made the last one. Raises FencedError, OSError."""
        batch: list[Entry] = []
        for entry in self._log.episodes_back(self._last):
            batch.append(entry)
            if (entry.totals.episodes - 1) % layout.EPISODES_PER_FILE == 0:
                file = projection.EpisodesFile(self._schema, reversed(batch))
                prepared = self._folder.prepare(self.path / file.path, file.content())
                files.make_folders([prepared.final.parent], self.path)
                self._folder.put(prepared)
                files.fsync_folder(prepared.final.parent)
                batch = []

    def close(self) -> None:
        """Drop open spans, what is staged for no commit, and the publish folder. Raises OSError."""
        with contextlib.ExitStack() as steps:  # all of them, last one first, whichever fails
            steps.callback(self._folder.remove)
            steps.callback(self._discard_unlinked)
            if self._stage is not None:
                steps.callback(self._stage.close)

    # ---- opening ---------------------------------------------------------------------------------------------

    def _roll_forward(self) -> None:
        was_erasing, state = self._last.erasing, self._last.state
        self._last = erased.carried_out(self.path, self._log, self._folder, self._spec, self._last)
        tail = self._log.episodes_of_last_file(self._last)
        for entry in tail:
            # Only the latest episode can be half-published: nobody commits the next one before.
            publish.place(self.path, entry, verify=entry is tail[-1])
        publish.check_foreign(self.path, tail[-1] if tail else None, self._folder)
        if tail:
            self._episodes = projection.EpisodesFile(self._schema, tail)
            publish.put_all(self.path, self._folder, self._prepare_projection(self._last, self._episodes))
        named = {file.name for entry in tail if entry.episode for file in entry.episode.files}
        staging = self.path / layout.STAGING
        for name in sorted(one.name for one in staging.iterdir()):
            claim = layout.staged_claim(name)
            if claim is not None and claim < self.claim and name not in named:
                files.unlink(staging / name, "sweep")
        self._stage = Stage(staging, self._spec, self.claim, self._media, self._decoders)
        if was_erasing and state is not None:
            self.apply([Commit(state, {})])  # says that it is carried out

    # ---- applying --------------------------------------------------------------------------------------------

    def _apply_one(self, effect: Effect) -> None:
        if isinstance(effect, Commit):
            if self._pending is None:
                started_ns = self._now_ns()
                self._pending = self._stage_commit(effect)
                self._pending.step_seconds["stage"] = self._seconds_since(started_ns)
            self._done.append(self._finish(self._pending))
            self._pending = None
            return
        try:
            if isinstance(effect, OpenSpan):
                self._writable_stage().open_span(effect)
            elif isinstance(effect, AppendUnit):
                self._writable_stage().append(effect)
            elif isinstance(effect, DropSpan):
                self._writable_stage().drop(effect.span)
        except OSError as error:
            raise self._lost_video(error) from error

    def _writable_stage(self) -> Stage:
        if self._stage is None:
            raise DatasetError(f"{self.path}: not open")
        return self._stage

    def _lost_video(self, error: OSError) -> OSError:
        self._folder.check()  # it is no error of the disk if the next owner has swept what was staged
        self._unusable = DatasetError(f"{self.path}: staging failed ({error}); open the shard again and read again")
        return error

    def _stage_commit(self, commit: Commit) -> _Pending:
        draft = commit.episode
        if draft is None:
            entry = entries.following(self._last, commit, None, "", aggregate_stats)
            return _Pending(entry, Committed(entry.n, entry.kind, commit.accounted, commit.rejections))
        self.check_tail()
        publish.check_unclaimed(self.path, self._last.n + 1, self._folder)
        totals = self._last.totals
        task = draft.session.task or self._spec.default_task
        try:
            made = self._writable_stage().episode(
                draft,
                episode_index=totals.episodes,
                first_row_index=totals.rows,
                task_index=entries.task_index(totals, task),
            )
            files.fsync_folder(self.path / layout.STAGING)
        except OSError as error:
            if draft.media is not None:  # nothing is lost: it can be copied again
                self._folder.check()
                raise
            raise self._lost_video(error) from error
        staged = Staged(
            files=tuple(CommittedFile(one.kind, one.name, one.sha256, one.size) for one in made.files),
            length=made.length,
            from_timestamp=made.from_timestamp,
            to_timestamp=made.to_timestamp,
            stats=made.stats,
            pad_age_max=made.pad_age_max,
            quality=made.quality,
        )
        entry = entries.following(self._last, commit, staged, task, aggregate_stats)
        return _Pending(
            entry,
            Committed(
                n=entry.n,
                kind=entry.kind,
                accounted=commit.accounted,
                rejections=commit.rejections,
                episode_index=totals.episodes,
                key=draft.key,
                rig_id=draft.session.rig_id,
                reason=draft.reason,
                frames=made.length,
                seconds=made.to_timestamp - made.from_timestamp,
                pad_age_max=made.pad_age_max,
                pad_ages=made.pad_ages,
                forced=draft.forced,
                late=draft.late,
                quality=made.quality,
            ),
        )

    def _finish(self, pending: _Pending) -> Committed:
        """Link and publish; called again after an OSError it does what is left."""
        started_ns = self._now_ns()
        entry, episodes = pending.entry, self._episodes
        self._folder.clear()  # an earlier attempt must not fill the disk
        if entry.episode is not None and not pending.linked:
            episodes = episodes.followed_by(entry) if episodes else projection.EpisodesFile(self._schema, [entry])
        # Prepared before the commit, so that a full disk is met while nothing has happened yet.
        prepared = self._prepare_projection(entry, episodes)
        if not pending.linked:
            if not self._log.link(entry, self._folder.path):
                raise FencedError(f"{self.path}: commit {entry.n} is another writer's: it has taken the shard")
            pending.linked = True
            pending.step_seconds["commit"] = self._seconds_since(started_ns)
            started_ns = self._now_ns()
            self._last, self._episodes = entry, episodes
        publish.place(self.path, entry, verify=True, is_own=True)
        publish.put_all(self.path, self._folder, prepared)
        pending.step_seconds["publish"] = self._seconds_since(started_ns)
        return replace(pending.committed, step_seconds=pending.step_seconds)

    def _seconds_since(self, started_ns: int) -> float:
        return (self._now_ns() - started_ns) / 1e9

    def _prepare_projection(self, entry: Entry, episodes: projection.EpisodesFile | None) -> list[Prepared]:
        """The metadata files that follow from `entry`, info.json last; none before the first episode."""
        if episodes is None or entry.kind in (Kind.PROGRESS, Kind.LOST):
            return []
        info = (layout.INFO, projection.info_file(self._spec, entry.totals))
        contents = [info]
        if entry.kind not in (Kind.REJECTED, Kind.RELEASED):
            contents = [
                (episodes.path, episodes.content()),
                (layout.TASKS, projection.tasks_file(entry.totals.tasks)),
                (layout.STATS, projection.stats_file(entry.totals)),
                info,
            ]
        if not files.exists(self.path / layout.CARD):
            contents.insert(0, (layout.CARD, layout.card(self._spec).encode()))
        prepared = [self._folder.prepare(self.path / name, content) for name, content in contents]
        folders = {(self.path / name).parent for name, _ in contents}
        if entry.episode is not None:
            folders |= {(self.path / layout.final_path(kind, entry.n)).parent for kind in layout.FILE_KINDS}
        if new := folders - self._folders:
            files.make_folders(new, self.path)
            self._folders |= new
        return prepared

    def _discard_unlinked(self) -> None:
        """Remove what was staged for a commit that is not in the log and never will be."""
        pending, self._pending = self._pending, None
        if pending is None or pending.linked or pending.entry.episode is None:
            return
        found = self._log.read(pending.entry.n)
        if found is not None and found.uuid == pending.entry.uuid:
            return
        self._folder.remove()  # from here on its commit cannot be linked any more
        for file in pending.entry.episode.files:
            files.unlink(self.path / layout.STAGING / file.name)
