"""Keeps the README's generated tables true: `python -m deploy.readme` writes them, a test compares them."""

from __future__ import annotations

import re
from pathlib import Path

from padreel.metrics import Metrics
from padreel.options import configuration_table
from padreel.settings import ConsumerSettings

README = Path(__file__).resolve().parents[1] / "README.md"
# The generated part ends where the next paragraph begins.
_BLOCK = "<!-- {name} -->\n"
_TABLE = re.compile(r"\n?(?:\|[^\n]*\n)*")


def tables() -> dict[str, str]:
    """The generated tables by the name of their marker."""
    return {"configuration: consume": configuration_table(ConsumerSettings), "metrics": Metrics().table()}


def filled_in(text: str) -> str:
    """`text` with every generated table as it should be. Raises ValueError for a marker that is not there."""
    for name, table in tables().items():
        marker = _BLOCK.format(name=name)
        before, found, after = text.partition(marker)
        if not found:
            raise ValueError(f"{README.name}: the marker {marker.strip()} is missing")
        rest = _TABLE.sub("", after, count=1).lstrip("\n")
        text = f"{before}{marker}\n{table}\n{rest}"
    return text


if __name__ == "__main__":
    README.write_text(filled_in(README.read_text(encoding="utf-8")), encoding="utf-8")
