"""Where every episode of a training set goes: its numbers, its rows, its files. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from padreel.dataset.layout import DATA_FILES_SIZE_IN_MB, VIDEO_FILES_SIZE_IN_MB
from padreel.training.episode import CommittedEpisode

MAX_PACKED_SECONDS: Final = 1000  # LeRobot's float32 sums fail from 1024 s on
_MB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Start:
    """What the dataset has before the episodes of a plan: nothing, or what an update adds to."""

    episodes: int = 0
    rows: int = 0
    tasks: tuple[str, ...] = ()
    data_files: int = 0
    videos: int = 0


@dataclass(frozen=True, slots=True)
class Pictures:
    """What packing has to know of an episode's mp4: its packets, and what must be equal in one file.

    `may_follow`: it begins with an IDR, so that a decoder forgets the pictures that lie before it.
    """

    packets: int
    form: str
    may_follow: bool = True


@dataclass(frozen=True, slots=True)
class Planned:
    """An episode with its place. `data` and `video` are running numbers of files, `first_picture` the position in the
    video of the mp4's first picture; timestamps in seconds, in the video."""

    episode: CommittedEpisode
    index: int
    first_row: int
    task_index: int
    data: int
    video: int
    first_picture: int
    from_timestamp: float
    to_timestamp: float


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it. `tasks` has those of `start` first; the two counts include its files too."""

    start: Start
    episodes: tuple[Planned, ...]
    tasks: tuple[str, ...]
    data_files: int
    videos: int
    packed: bool

    @property
    def rows(self) -> int:
        """How many rows the dataset has in the end."""
        return self.start.rows + sum(one.episode.length for one in self.episodes)


def plan_merge(
    episodes: Sequence[CommittedEpisode], fps: int, start: Start, pictures: Mapping[int, Pictures] | None = None
) -> Plan:
    """Place the episodes in the order given, behind what `start` has.

    Rows are packed into files of about 100 MB. Videos stay one per episode, unless `pictures` says (by position in
    `episodes`) what is to be packed: files of about 200 MB, at most 1000 s, of one form, each mp4 that may not follow
    another at the beginning of one.
    """
    tasks = list(start.tasks)
    places = {task: i for i, task in enumerate(tasks)}
    data, videos = (
        _Files(start.data_files, DATA_FILES_SIZE_IN_MB * _MB),
        _Files(start.videos, VIDEO_FILES_SIZE_IN_MB * _MB),
    )
    planned: list[Planned] = []
    row = start.rows
    for i, episode in enumerate(episodes):
        if episode.task not in places:
            places[episode.task] = len(tasks)
            tasks.append(episode.task)
        data_number, _ = data.place(episode.file("data").size)
        if pictures is None:
            video, first = start.videos + i, 0
        else:
            one = pictures[i]
            size = episode.file("video").size
            if not one.may_follow:
                videos.end()
            video, first = videos.place(size, one.packets, MAX_PACKED_SECONDS * fps, one.form)
        # In whole frames: times in seconds may not add up exactly.
        begin = first + round(episode.from_timestamp * fps)
        planned.append(
            Planned(
                episode=episode,
                index=start.episodes + i,
                first_row=row,
                task_index=places[episode.task],
                data=data_number,
                video=video,
                first_picture=first,
                from_timestamp=begin / fps,
                to_timestamp=(begin + episode.length) / fps,
            )
        )
        row += episode.length
    count = start.videos + len(planned) if pictures is None else videos.count
    return Plan(start, tuple(planned), tuple(tasks), data.count, count, pictures is not None)


class _Files:
    """Fills files one after the other; a new one is begun where the next part would not fit."""

    def __init__(self, begun: int, max_bytes: int) -> None:
        self.count = begun
        self._max_bytes = max_bytes
        self._bytes = self._length = 0
        self._form: str | None = None

    def end(self) -> None:
        """Put nothing more into the last file."""
        self._form = None

    def place(self, size: int, length: int = 0, max_length: int = 0, form: str = "") -> tuple[int, int]:
        """The file's number and what length is in it before."""
        fits = self._form == form and self._bytes + size <= self._max_bytes and self._length + length <= max_length
        if not fits:
            self.count += 1
            self._bytes = self._length = 0
            self._form = form
        before = self._length
        self._bytes += size
        self._length += length
        return self.count - 1, before
