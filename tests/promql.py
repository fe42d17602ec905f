"""What a PromQL expression uses of our metrics, compared with the code's own table of them.

No parser: promtool judges the syntax. Names, labels of selectors and labels of groupings are found by their form.
"""

from __future__ import annotations

import re
from functools import cache

from padreel.metrics import BYTE_BUFFERS, RECORD_BUFFERS, Metrics

# What Prometheus adds to whatever it scrapes; the last two by the PodMonitor.
TARGET_LABELS = frozenset({"instance", "job", "namespace", "pod"})

_SELECTOR = re.compile(r"\b(padreel_[a-z_]+)\b(?:\s*\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
# Labels whose values the code enumerates.
_ENUMERATED = frozenset({"fate", "kind", "reason", "step", "verdict", "what"})
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


@cache
def series_values() -> dict[tuple[str, str], frozenset[str]]:
    """The values that an enumerated label of a series can have, by the names of both."""
    made = Metrics()
    made.begin_partition(("topic",), 0, "group")
    for what in RECORD_BUFFERS:
        made.buffered_records.labels("0", "group", what)
        made.buffer_limit_records.labels("0", "group", what)
    for what in BYTE_BUFFERS:
        made.buffered_bytes.labels("0", "group", what)
        made.buffer_limit_bytes.labels("0", "group", what)
    found: dict[tuple[str, str], set[str]] = {}
    for family in made.registry.collect():
        for sample in family.samples:
            for label in _ENUMERATED & set(sample.labels):
                found.setdefault((sample.name, label), set()).add(sample.labels[label])
    return {where: frozenset(values) for where, values in found.items()}


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
        matched = _MATCHER.findall(selector)
        used = {label for label, _ in matched} | grouped_by(expression)
        found += [f"{name}: no label {label!r}" for label in sorted(used - labels)]
        for label, values in matched:
            possible = series_values().get((name, label))
            if possible is not None:
                found += [f"{name}: no {label} {value!r}" for value in values.split("|") if value not in possible]
    return found
