"""What a process that only records does without. For commands alone: it holds for the whole process."""

from __future__ import annotations

import gc
import sys
from importlib.abc import MetaPathFinder
from typing import Final

import pyarrow as pa

# Objects that are made and not yet gone before the youngest are searched for cycles; Python's own 700 are less than one
# batch of records has, so that it went through everything that lives again and again.
_COLLECT_AFTER: Final = 100_000


class _NoPandas(MetaPathFinder):
    """Finds no pandas, and leaves everything else to the others."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is left out of this process", name=fullname)


def leave_pandas_out() -> None:
    """Have pyarrow find, for good, that there is no pandas.

    It would import it for the first array, whatever that is made of: half a second in the midst of the first commit,
    with the event loop standing still, and 35 MB, for nothing that is used here.
    """
    hidden = _NoPandas()
    sys.meta_path.insert(0, hidden)
    try:
        pa.array([])
    finally:
        sys.meta_path.remove(hidden)


def collect_seldom() -> None:
    """Have the collector of cycles look less often, and not at what was imported, which stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
