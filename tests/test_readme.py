"""The README says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy.readme import README, filled_in


def test_generated_tables_are_up_to_date() -> None:
    text = README.read_text(encoding="utf-8")
    assert text == filled_in(text), "run `make docs`"


PAGES = [README, *sorted((README.parent / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert links or page != README
    assert [link for link in links if not (page.parent / Path(link)).exists()] == []
    anchors = {
        re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", text, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


def test_the_tests_it_names_are_there() -> None:
    named = re.findall(r"\[`[\w.]+::(\w+)`\]\((tests/[\w/.]+)\)", README.read_text(encoding="utf-8"))
    assert named
    missing = [name for name, path in named if f"def {name}(" not in (README.parent / path).read_text("utf-8")]
    assert missing == []
