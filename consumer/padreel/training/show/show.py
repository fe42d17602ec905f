"""`padreel show`: renderings of episodes, for people to see whether picture and pad belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from uuid import uuid4

import structlog

from padreel.dataset import files
from padreel.errors import DatasetError, SettingsError
from padreel.training.settings import ShowSettings
from padreel.training.show.listing import (
    VIS,
    Rendering,
    ShowRun,
    locked_folder,
    read_show_list,
    rendering_name,
    write_show_list,
)
from padreel.training.show.read import ShownDataset, ShownEpisode, find_datasets, open_dataset
from padreel.training.source import digest_of
from padreel.training.write_rows import TEMPORARY
from padreel.training.write_tree import Tell
from padreel.version import __version__

_log = structlog.get_logger("padreel.show")

DRAWING: Final = 1  # raised with every change of how things are drawn: what an older one drew is not there "already"


@dataclass(frozen=True, slots=True)
class Shown:
    """What became of one episode: its file, and whether it is new."""

    path: Path
    outcome: Literal["made", "there"]
    dataset: Path
    rendering: Rendering


def show(path: Path, settings: ShowSettings, tell: Tell) -> tuple[str, list[Shown]]:
    """Render what `settings` ask for of the dataset at `path`, or of those directly below it; the run's id with it.

    Raises InputError where there is no dataset or no such episode, SettingsError, DatasetError where one cannot be
    read or another process is writing there; OSError. What was made before stays.
    """
    _check_drawing_library()
    datasets = find_datasets(path)
    if settings.episode is not None and len(datasets) > 1:
        found = ", ".join(one.name for one in datasets[:5])
        raise SettingsError(f"{path}: has {len(datasets)} datasets ({found}); name one of them, or use --all")
    run = ShowRun(uuid4().hex, __version__, (str(path),), settings.model_dump(mode="json"))
    _log.info("showing", run=run.id, path=str(path), settings=run.settings)
    shown: list[Shown] = []
    for one in datasets:
        folder = _folder(one, path, settings)
        dataset = open_dataset(one)
        indices = [settings.episode] if settings.episode is not None else range(len(dataset))
        shown += _show_dataset(dataset, indices, folder, run, settings, tell)
    return run.id, shown


def _check_drawing_library() -> None:
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise DatasetError("Pillow is needed to draw: pip install 'padreel[show]'") from error


def _folder(dataset: Path, path: Path, settings: ShowSettings) -> Path:
    """Where a dataset's renderings go: by default into it, which is where `merge` looks for them."""
    if settings.output_dir is None:
        return dataset / VIS
    return settings.output_dir if dataset == path else settings.output_dir / dataset.name


def _show_dataset(
    dataset: ShownDataset, indices: Sequence[int], folder: Path, run: ShowRun, settings: ShowSettings, tell: Tell
) -> list[Shown]:
    shown: list[Shown] = []
    episodes = [(index, dataset.episode(index)) for index in indices[:1]]  # a wrong number makes no folder
    with locked_folder(folder):
        listed = read_show_list(folder)
        for done, index in enumerate(indices):
            tell("episodes", done, len(indices))
            episode = episodes.pop()[1] if episodes else dataset.episode(index)
            name = rendering_name(index, settings.picture_format)
            source = _source(episode, settings)
            there = listed.find(name)
            if settings.skip_existing and there is not None and _is_whole(folder, there, source):
                shown.append(Shown(folder / name, "there", dataset.path, there))
                continue
            rendering = _render(episode, folder / name, source, run, settings, tell)
            listed = listed.put([rendering], [run])
            write_show_list(folder, listed)
            shown.append(Shown(folder / name, "made", dataset.path, rendering))
            _log.info("shown", run=run.id, file=str(folder / name))
        tell("episodes", len(indices), len(indices))
    return shown


def _source(episode: ShownEpisode, settings: ShowSettings) -> str:
    """A digest of everything that decides what is drawn."""
    return digest_of({"drawing": DRAWING, "settings": settings.recorded(), "episode": episode.digest()})


def _is_whole(folder: Path, there: Rendering, source: str) -> bool:
    path = folder / there.name
    return there.source == source and files.size_of(path) == there.size and files.sha256_of(path) == there.sha256


def _render(
    episode: ShownEpisode, path: Path, source: str, run: ShowRun, settings: ShowSettings, tell: Tell
) -> Rendering:
    from padreel.training.show.write import write_sheet, write_video

    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    if settings.picture_format == "mp4":
        write_video(episode, temporary, lambda done, total: tell("pictures", done, total))
    else:
        write_sheet(episode, temporary, settings.pictures, lambda done, total: tell("pictures", done, total))
    size, sha256 = files.size_of(temporary), files.sha256_of(temporary)
    assert size is not None
    assert sha256 is not None
    files.rename(temporary, path)
    return Rendering(
        name=path.name,
        episode=episode.index,
        session=str(episode.told.get("session", "")),
        data_sha256=str(episode.told.get("data_sha256", "")),
        video_sha256=str(episode.told.get("video_sha256", "")),
        source=source,
        sha256=sha256,
        size=size,
        run=run.id,
    )


def summary(run: str, shown: Sequence[Shown]) -> dict[str, Any]:
    """The stable JSON form of what was made."""
    return {
        "format_version": 1,
        "run": run,
        "made": sum(one.outcome == "made" for one in shown),
        "renderings": [
            {
                "dataset": str(one.dataset),
                "episode": one.rendering.episode,
                "session": one.rendering.session,
                "path": str(one.path),
                "outcome": one.outcome,
                "sha256": one.rendering.sha256,
            }
            for one in shown
        ],
    }
