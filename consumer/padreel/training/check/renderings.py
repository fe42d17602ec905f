"""Whether the renderings in a dataset's `vis/` are those that were made. What is wrong with them harms no training."""

from __future__ import annotations

from pathlib import Path

from padreel.dataset import files
from padreel.errors import DatasetError
from padreel.training.check.report import Finding, Verdict, judged
from padreel.training.show.listing import SHOW_LIST, VIS, read_show_list


def check_renderings(dataset: Path) -> Finding | None:
    """None where the dataset has none. One that was thrown away is no fault; one that is another is. Raises OSError."""
    folder = dataset / VIS
    if not files.exists(folder / SHOW_LIST):
        return None
    try:
        listed = read_show_list(folder)
    except DatasetError as error:
        return Finding("renderings", Verdict.WARN, str(error))
    problems = [
        f"{folder / one.name}: is not what `padreel show` made; show the episode again"
        for one in listed.renderings
        if files.sha256_of(folder / one.name) not in (None, one.sha256)
    ]
    return judged("renderings", problems, f"{len(listed.renderings)} in {VIS}/", Verdict.WARN)
