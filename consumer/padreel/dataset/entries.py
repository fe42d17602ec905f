"""What the next commit of a shard says, given the last one. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from padreel.core.gate import EpisodeQuality
from padreel.dataset.commit_log import CommittedFile, Entry, Episode, Kind, Source, Totals
from padreel.dataset.layout import NAMES_KEPT, SkippedSession
from padreel.errors import RootMismatchError
from padreel.model import CloseReason, Commit, EpisodeDraft, Fate, PartitionState, SessionRejection, Topic

Stats = dict[str, dict[str, Any]]
Aggregate = Callable[[Stats | None, Stats], Stats]  # (all so far, one episode's) -> all


@dataclass(frozen=True, slots=True)
class Staged:
    """What staging an episode gave, as the commit will have it."""

    files: tuple[CommittedFile, ...]
    length: int
    from_timestamp: float
    to_timestamp: float
    stats: Stats
    pad_age_max: float
    quality: EpisodeQuality | None = None


def check_source(last: Entry, source: Source, where: str) -> None:
    """Raises RootMismatchError if the log was written from other topics, partitions, cluster or group."""
    for name in ("cluster_id", "frames_topic", "pads_topic", "partition", "partitions", "group"):
        found, expected = getattr(last.source, name), getattr(source, name)
        if found != expected:
            raise RootMismatchError(
                f"{where}: {name}: found {found!r} in commit {last.n}, expected {expected!r}; use another output root, "
                "or the topics and group that this one was made from"
            )


def claim(last: Entry | None, writer: str, source: Source) -> Entry:
    """The claim that follows `last`; it copies the whole state."""
    n = 0 if last is None else last.n + 1
    return Entry(
        n=n,
        uuid=uuid4().hex,
        kind=Kind.CLAIM,
        claim=n,
        writer=writer,
        source=source,
        state=None if last is None else last.state,
        totals=Totals() if last is None else last.totals,
        previous_episode=None if last is None else latest_episode(last),
        latest_erasure=None if last is None else last.latest_erasure,
        erasing=last is not None and last.erasing,
        previous_release=None if last is None else latest_release(last),
    )


def following(last: Entry, commit: Commit, staged: Staged | None, task: str, aggregate: Aggregate) -> Entry:
    """The commit that follows `last`, a commit of the same claim; `staged` goes with `commit.episode`."""
    totals = _with_accounted(last.totals, commit)
    episode = None
    kind = Kind.PROGRESS
    if commit.episode is not None and staged is not None:
        kind = Kind.EPISODE
        totals = _with_episode(totals, commit.episode, staged, task, commit.state, aggregate)
        episode = _episode(last.totals, totals, commit.episode, staged, task)
    elif commit.rejections:
        kind = Kind.REJECTED
    return replace(
        last,
        n=last.n + 1,
        uuid=uuid4().hex,
        kind=kind,
        state=commit.state,
        totals=totals,
        previous_episode=latest_episode(last),
        episode=episode,
        rejections=commit.rejections,
        lost=None,
        erasure=None,
        erasing=False,  # whoever goes on has opened the shard, and so has carried it out
        released=None,
        previous_release=latest_release(last),
    )


def without_episode(commit: Commit, detail: str) -> Commit:
    """`commit` with its episode rejected as undecodable: its rows are then rejected frame records."""
    draft = commit.episode
    if draft is None:
        raise ValueError("a commit without an episode")
    rows = len(draft.time_ns)
    accounted = dict(commit.accounted)
    accounted[Fate.ROW] = accounted.get(Fate.ROW, 0) - rows
    accounted[Fate.REJECTED] = accounted.get(Fate.REJECTED, 0) + rows
    rejection = SessionRejection(
        draft.key,
        draft.session.rig_id,
        CloseReason.UNDECODABLE if draft.media is None else CloseReason.MEDIA,
        detail,
        draft.first_frame_offset,
        draft.last_frame_offset,
    )
    return replace(commit, accounted=accounted, episode=None, rejections=(*commit.rejections, rejection))


def task_index(totals: Totals, task: str) -> int:
    """The task's index; a new task gets the next one."""
    return totals.tasks.index(task) if task in totals.tasks else len(totals.tasks)


def next_offset(state: PartitionState, topic: Topic) -> int:
    """Where reading of a topic goes on."""
    return state.frames_next if topic is Topic.FRAMES else state.pads_next


def latest_episode(entry: Entry) -> int | None:
    """The N of the latest episode's commit up to this one."""
    return entry.n if entry.episode is not None else entry.previous_episode


def latest_release(entry: Entry) -> int | None:
    """The N of the latest release up to this one."""
    return entry.n if entry.released is not None else entry.previous_release


def was_quarantined(entry: Entry) -> bool:
    """Whether its episode was held back when it was committed; a release comes later."""
    return entry.episode is not None and entry.episode.quality is not None and entry.episode.quality.quarantined


def _with_accounted(totals: Totals, commit: Commit) -> Totals:
    accounted = {
        fate: count
        for fate in Fate
        if (count := totals.accounted.get(fate, 0) + commit.accounted.get(fate, 0)) or fate in totals.accounted
    }
    skipped = [SkippedSession(one.key, one.reason.value, one.detail) for one in commit.rejections]
    return replace(
        totals,
        accounted=accounted,
        skipped_count=totals.skipped_count + len(skipped),
        skipped=(*totals.skipped, *skipped)[-NAMES_KEPT:],
    )


def _with_episode(
    totals: Totals, draft: EpisodeDraft, staged: Staged, task: str, state: PartitionState, aggregate: Aggregate
) -> Totals:
    tasks = totals.tasks if task in totals.tasks else (*totals.tasks, task)
    converted, count = totals.converted, totals.converted_count
    if draft.key not in converted:
        converted, count = (*converted, draft.key), count + 1
        # A session that may go on keeps its name here, however many came after it: else it is counted twice.
        surplus = len(converted) - NAMES_KEPT
        if surplus > 0:
            oldest = tuple(key for key in converted[:surplus] if key in state.open)
            converted = (*oldest, *converted[surplus:])
    is_quarantined = staged.quality is not None and staged.quality.quarantined
    return replace(
        totals,
        episodes=totals.episodes + 1,
        rows=totals.rows + staged.length,
        forced=totals.forced + draft.forced,
        late=totals.late + draft.late,
        tasks=tasks,
        stats=aggregate(totals.stats, staged.stats),
        converted=converted,
        converted_count=count,
        quarantined_count=totals.quarantined_count + is_quarantined,
        quarantined=(*totals.quarantined, totals.episodes)[-NAMES_KEPT:] if is_quarantined else totals.quarantined,
    )


def _episode(before: Totals, after: Totals, draft: EpisodeDraft, staged: Staged, task: str) -> Episode:
    return Episode(
        index=before.episodes,
        task_index=after.tasks.index(task),
        task=task,
        length=staged.length,
        first_row=before.rows,
        from_timestamp=staged.from_timestamp,
        to_timestamp=staged.to_timestamp,
        columns={
            "session": draft.key,
            "rig": draft.session.rig_id,
            "first_frame_index": draft.first_frame_index,
            "idle_until_ns": draft.idle_until_ns,
            "frames_first_offset": draft.first_frame_offset,
            "frames_last_offset": draft.last_frame_offset,
            "pads_first_offset": draft.first_pad_offset,
            "pads_last_offset": draft.last_pad_offset,
            "end_reason": draft.reason.value,
            "forced": draft.forced,
            "late": draft.late,
        },
        stats=staged.stats,
        files=staged.files,
        quality=staged.quality,
    )
