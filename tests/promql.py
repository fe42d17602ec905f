"""What a PromQL expression uses of our metrics, compared with the code's own table of them.

No parser: promtool judges the syntax. Names, labels of selectors and labels of groupings are found by their form.
"""

from __future__ import annotations

import re

from padreel.metrics import Metrics

# What Prometheus adds to whatever it scrapes; the last two by the PodMonitor.
TARGET_LABELS = frozenset({"instance", "job", "namespace", "pod"})

_SELECTOR = re.compile(r"\b(padreel_[a-z_]+)\b(?:\s*\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")


def series_labels() -> dict[str, frozenset[str]]:
    """The labels of every series that can be queried, by its name."""
    found: dict[str, frozenset[str]] = {}
    for one in Metrics().definitions:
        labels = frozenset(one.labels)
        if one.kind == "histogram":
            found |= {f"{one.name}_sum": labels, f"{one.name}_count": labels, f"{one.name}_bucket": labels | {"le"}}
        else:
            found[one.name] = labels
    return found


def metrics_in(expression: str) -> set[str]:
    """The names of our metrics in it."""
    return {match[1] for match in _SELECTOR.finditer(expression)}


def grouped_by(expression: str) -> set[str]:
    """The labels that it groups or matches by."""
    lists = [match[1] for match in _GROUPING.finditer(expression)]
    return {label.strip() for one in lists for label in one.split(",") if label.strip()}


def problems(expression: str) -> list[str]:
    """What in it is not in the table; labels that are grouped by must be those of every metric in it."""
    known = series_labels()
    found: list[str] = []
    for match in _SELECTOR.finditer(expression):
        name, selector = match[1], match[2] or ""
        if name not in known:
            found.append(f"{name}: no such metric")
            continue
        labels = known[name] | TARGET_LABELS
        used = set(_MATCHER.findall(selector)) | grouped_by(expression)
        found += [f"{name}: no label {label!r}" for label in sorted(used - labels)]
    return found
