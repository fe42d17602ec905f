"""The README says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from deploy.readme import README, filled_in


def test_generated_tables_are_up_to_date() -> None:
    text = README.read_text(encoding="utf-8")
    assert text == filled_in(text), "run `make docs`"


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (README.parent / Path(link)).exists()] == []
