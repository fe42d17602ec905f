"""What happens in one round, and when: pure, everything follows from the seed.

Times are seconds since the round's start. Who is meant by an event is told by `pick`, counted through those that are
alive by then: which of them those are depends on how fast the machine is, the schedule does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from padreel.dataset import points

PARTITIONS = 4
MEMBERS = 3
MOST_MEMBERS = 4
SESSIONS = 12
RECORDINGS = 8
BAD_RECORDINGS = 2  # of them those that bad sessions are made from
PLAY_SECONDS = 5.0
GROUP_TIMEOUT_SECONDS = 3.0

# How often a point is reached in a round, more or less: the place of a fault is chosen up to there.
_REACHED = {"stage": 120, "write": 40, "fsync": 60, "mkdir": 20, "unlink": 20, "link": 8, "rename": 16, "replace": 24}
_SELDOM = 3
_ERRORS = ("EIO", "ENOSPC")


class Kind(StrEnum):
    """What is wrong with a session."""

    GOOD = "good"
    DAMAGED = "damaged"  # one access unit is none
    RESTARTED = "restarted"  # the rig restarts under its old run
    RESIZED = "resized"  # another picture size in the middle
    UNDECODABLE = "undecodable"  # its video shows nothing


BAD = tuple(kind for kind in Kind if kind is not Kind.GOOD)


class Loose(StrEnum):
    """A record that is no session's, by the reason that its letter gives."""

    KEY_MISSING = "key_missing"
    KEY_INVALID = "key_invalid"
    UNPARSABLE = "unparsable"


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """A session and its rig. A rig that dies when some of the records are sent, or all, comes back after a while and
    goes back by so many records: what it sends again is the same, byte for byte."""

    name: str
    recording: int
    kind: Kind
    partition: int
    starts: float
    lasts: float
    resend_after: float = 1.0  # share of the records
    resend: int = 0  # records
    away: float = 0.0


@dataclass(frozen=True, slots=True)
class LoosePlan:
    at: float
    kind: Loose
    partition: int


@dataclass(frozen=True, slots=True)
class Kill:
    at: float
    pick: int


@dataclass(frozen=True, slots=True)
class Stop:
    """SIGSTOP, and SIGCONT `seconds` later."""

    at: float
    pick: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Term:
    """SIGTERM: one consumer fewer, unless it is the only one."""

    at: float
    pick: int


@dataclass(frozen=True, slots=True)
class Join:
    """One consumer more, unless there are enough, with a fault at a point of its own."""

    at: float
    point: str | None


@dataclass(frozen=True, slots=True)
class RestartBroker:
    at: float
    seconds: float  # beside what starting it takes


@dataclass(frozen=True, slots=True)
class FillDisk:
    at: float
    seconds: float


Event = Kill | Stop | Term | Join | RestartBroker | FillDisk


@dataclass(frozen=True, slots=True)
class Plan:
    """A round. `points` are the faults of the consumers it begins with, then of those that replace dead ones; a
    process that a fault stops goes on after the next of `pauses`."""

    seed: int
    sessions: tuple[SessionPlan, ...]
    loose: tuple[LoosePlan, ...]
    events: tuple[Event, ...]
    points: tuple[str | None, ...]
    pauses: tuple[float, ...]

    @property
    def has_broker_restart(self) -> bool:
        return any(isinstance(one, RestartBroker) for one in self.events)

    @property
    def has_full_disk(self) -> bool:
        return any(isinstance(one, FillDisk) for one in self.events)


def plan(seed: int, faults: Sequence[str] = ()) -> Plan:
    """The round of a seed. With `faults`, such as "before link:stop", every consumer meets one of those, and whoever is
    stopped by it stands still for longer than the group waits."""
    dice = Random(seed)
    return Plan(
        seed=seed,
        sessions=_sessions(dice),
        loose=tuple(
            LoosePlan(dice.uniform(0, PLAY_SECONDS), kind, dice.randrange(PARTITIONS))
            for kind in Loose
            for _ in range(dice.choice((0, 1, 1, 2)))
        ),
        events=_events(dice, faults),
        points=tuple(_point(dice, faults) if faults or dice.random() < 0.5 else None for _ in range(MEMBERS + 9)),
        pauses=tuple(_long_pause(dice) if faults else _pause(dice) for _ in range(9)),
    )


def _sessions(dice: Random) -> tuple[SessionPlan, ...]:
    bad = dice.sample(range(2, SESSIONS), k=dice.randint(2, 3))
    shared = dice.randrange(PARTITIONS)
    made = []
    for number in range(SESSIONS):
        # The first two are interleaved on one partition, whatever else is.
        is_early = number < 2
        starts = 0.2 * number if is_early else dice.uniform(0, 0.7 * PLAY_SECONDS)
        lasts = dice.uniform(1.0, PLAY_SECONDS - starts) if not is_early else dice.uniform(1.0, PLAY_SECONDS - 0.2)
        kind = dice.choice(BAD) if number in bad else Kind.GOOD
        made.append(
            SessionPlan(
                name=f"session-{number}",
                recording=dice.randrange(RECORDINGS if kind is Kind.GOOD else BAD_RECORDINGS),
                kind=kind,
                partition=shared if is_early else dice.randrange(PARTITIONS),
                starts=starts,
                lasts=lasts,
                resend_after=dice.choice((1.0, dice.uniform(0.1, 1.0))),
                away=dice.uniform(0.1, 1.5),
                # Whoever restarts under its old run is another case than who sends again.
                resend=dice.choice((0, 0, 20, 60)) if kind is Kind.GOOD else 0,
            )
        )
    return tuple(made)


def _events(dice: Random, faults: Sequence[str]) -> tuple[Event, ...]:
    def at() -> float:
        return dice.uniform(0.3, PLAY_SECONDS + 1)

    events: list[Event] = []
    for _ in range(dice.randint(3, 7)):
        match dice.choices(("kill", "stop", "term", "join"), weights=(3, 3, 1, 2))[0]:
            case "kill":
                events.append(Kill(at(), dice.randrange(MOST_MEMBERS)))
            case "stop":
                events.append(Stop(at(), dice.randrange(MOST_MEMBERS), _pause(dice)))
            case "term":
                events.append(Term(at(), dice.randrange(MOST_MEMBERS)))
            case "join":
                events.append(Join(at(), _point(dice, faults)))
    if dice.random() < 0.2:
        events.append(RestartBroker(at(), dice.uniform(0, 2)))
    if dice.random() < 0.3:
        events.append(FillDisk(at(), dice.uniform(0.5, 2)))
    return tuple(sorted(events, key=lambda event: event.at))


def _pause(dice: Random) -> float:
    """Of one that stands still: as often shorter than the group waits as longer."""
    return dice.choice((dice.uniform(0.1, 1), _long_pause(dice)))


def _long_pause(dice: Random) -> float:
    return dice.uniform(1.2, 2) * GROUP_TIMEOUT_SECONDS


def _point(dice: Random, faults: Sequence[str]) -> str:
    """A fault as PADREEL_CRASH_POINT has it."""
    operation = dice.choice((*points.OPERATIONS, *points.GROUP_OPERATIONS, "link", "rename", "replace"))
    # An error that is none of the storage's would be a bug's.
    errors = () if operation in points.GROUP_OPERATIONS else _ERRORS
    point = f"{dice.choice(('before', 'after'))} {operation}"
    action = dice.choice(("kill", "kill", "stop", "stop", *errors))
    if faults:
        point, _, action = dice.choice(faults).partition(":")
    return f"{point}:{dice.randint(1, _REACHED.get(point.split(' ', 1)[1], _SELDOM))}:{action}"
