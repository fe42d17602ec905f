"""Which rigs are known by name and which are denied: a list that somebody writes, handed over as a value. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

UNKNOWN: Final = "unknown"  # the label of every rig that is not listed
MAX_RIGS: Final = 2_000  # each is a label of some twenty series


class RigListError(ValueError):
    """A list of rigs that cannot be used; the message names the line."""


@dataclass(frozen=True, slots=True)
class RigList:
    """The rig ids that are listed, and those of them that are denied."""

    listed: frozenset[str] = frozenset()
    denied: frozenset[str] = frozenset()

    def label(self, rig_id: str) -> str:
        """What a rig is called where only so many names may be used."""
        return rig_id if rig_id in self.listed else UNKNOWN

    @property
    def labels(self) -> frozenset[str]:
        """Everything that `label` can say."""
        return self.listed | {UNKNOWN}


NO_RIGS: Final = RigList()


def parse_rigs(text: str) -> RigList:
    """The list in a text of lines `RIG` or `RIG deny`; what follows a `#` is a comment.

    Raises RigListError.
    """
    lines: dict[str, int] = {}
    denied: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        rig = words[0]
        if len(words) > 2 or words[1:] not in ([], ["deny"]):
            raise RigListError(f"line {number}: found {line.strip()!r}, expected a rig id, or a rig id and 'deny'")
        if rig == UNKNOWN:
            raise RigListError(
                f"line {number}: {UNKNOWN!r} stands for every rig that is not listed; give it another id"
            )
        if rig in lines:
            raise RigListError(f"line {number}: rig {rig!r} is listed in line {lines[rig]} already; remove one of them")
        if len(lines) == MAX_RIGS:
            raise RigListError(f"line {number}: more than {MAX_RIGS:,} rigs; each is a label of metrics: list fewer")
        lines[rig] = number
        if words[1:]:
            denied.add(rig)
    return RigList(frozenset(lines), frozenset(denied))
