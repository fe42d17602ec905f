"""The consumers of a round: they are started, killed, stopped and continued, and what they log is read all the time."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from padreel.dataset import points
from tests.chaos.schedule import MEMBERS, MOST_MEMBERS, Join, Kill, Plan, Stop, Term
from tests.e2e.processes import Consumer, consumer

RESTART_SECONDS = 0.5  # after which whoever watches over the consumers replaces a dead one
COMMAND = "padreel.__main__"


class ChaosError(AssertionError):
    """What must not happen, has."""


@dataclass(slots=True)
class Member:
    """A running consumer."""

    number: int
    point: str | None
    running: Consumer
    scope: AbstractContextManager[Consumer]
    reading: threading.Thread
    continues: float | None = None  # when it is sent SIGCONT
    is_killed: bool = False
    is_ending: bool = False

    @property
    def pid(self) -> int:
        return self.running.process.pid

    def events(self, name: str) -> int:
        return sum(line["event"] == name for line in list(self.running.lines))

    def stands(self) -> bool:
        """Whether it was stopped, by us or by its own point."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except OSError:
            return False


@dataclass(slots=True)
class Tally:
    """What was done in all rounds."""

    counts: Counter[str] = field(default_factory=Counter)
    waited: list[float] = field(default_factory=list)  # seconds from a round's last record to its last commit

    def add(self, what: str, count: int = 1) -> None:
        self.counts[what] += count


class Fleet:
    """All consumers of one group; a `with` block, at whose end those that are left are killed."""

    def __init__(
        self,
        flags: list[str],
        plan: Plan,
        tally: Tally,
        logs: Path,
        *,
        command: str = COMMAND,
        environment: Mapping[str, str],
    ) -> None:
        self._flags, self._plan, self._tally, self._logs = flags, plan, tally, logs
        self._command, self._environment = command, dict(environment)
        self._points, self._pauses = iter(plan.points), iter(plan.pauses)
        self._members: list[Member] = []
        self._due: list[float] = []  # when dead ones are replaced
        self._number = 0

    def __enter__(self) -> Fleet:
        for _ in range(MEMBERS):
            self.start(next(self._points))
        return self

    def __exit__(self, *error: object) -> None:
        for member in self._members:
            member.running.process.kill()
            self._bury(member)
        self._members.clear()

    @property
    def alive(self) -> list[Member]:
        return [one for one in self._members if one.running.process.poll() is None and not one.is_ending]

    @property
    def opened(self) -> int:
        """How often those that are alive have begun to read a partition."""
        return sum(member.events("shard open") for member in self.alive)

    def start(self, point: str | None) -> None:
        """Start one more consumer."""
        environment = self._environment | ({points.VARIABLE: point} if point else {})
        scope = consumer(self._flags, environment, module=self._command)
        running = scope.__enter__()
        reading = threading.Thread(target=lambda: [None for _ in running.lines_until_end()], daemon=True)
        reading.start()
        self._members.append(Member(self._number, point, running, scope, reading))
        self._number += 1

    def act(self, event: Kill | Stop | Term | Join) -> None:
        """Let one of the consumers meet an event."""
        alive = self.alive
        if isinstance(event, Join):
            if len(alive) < MOST_MEMBERS:
                self.start(event.point)
                self._tally.add("joins")
            return
        if not alive:
            return
        member = alive[event.pick % len(alive)]
        match event:
            case Kill():
                member.is_killed = True
                member.running.process.kill()
                self._tally.add("kills")
            case Stop(seconds=seconds):
                member.running.process.send_signal(signal.SIGSTOP)
                member.continues = time.monotonic() + seconds
                self._tally.add("stops")
            case Term() if len(alive) > 1:
                self._end(member)
                self._tally.add("terminations")

    def watch(self) -> None:
        """Continue those that have stood long enough, and replace those that died. Raises ChaosError."""
        now = time.monotonic()
        for member in list(self._members):
            if member.running.process.poll() is not None:
                self._ended(member, now)
            elif member.continues is not None:
                if now >= member.continues:
                    self._continue(member)
            elif member.point is not None and member.point.endswith("stop") and member.stands():
                member.continues = now + next(self._pauses, 0.5)
                self._tally.add("stops")
        for due in [one for one in self._due if now >= one]:
            self._due.remove(due)
            if len(self.alive) < MOST_MEMBERS:
                self.start(next(self._points, None))

    def end(self) -> list[str]:
        """Let all go on and end; which have not yet. Raises ChaosError."""
        self._due.clear()
        for member in list(self._members):
            if not member.is_ending:
                self._end(member)
        self.watch()
        return [f"consumer {member.number}" for member in self._members]

    def _end(self, member: Member) -> None:
        self._continue(member)
        member.is_ending = True
        member.running.process.send_signal(signal.SIGTERM)

    def _continue(self, member: Member) -> None:
        # Whether it stands or not: on a busy machine a SIGSTOP takes a while, and SIGCONT undoes one that is pending.
        member.continues = None
        member.running.process.send_signal(signal.SIGCONT)

    def _ended(self, member: Member, now: float) -> None:
        self._members.remove(member)
        code = member.running.process.wait()
        self._bury(member)
        if not member.is_ending:
            self._due.append(now + RESTART_SECONDS)
        if code == -signal.SIGKILL:
            if not member.is_killed:
                if member.point is None or not member.point.endswith("kill"):
                    raise ChaosError(f"consumer {member.number} was killed by nobody")
                self._tally.add("kills")
        elif code != 0 or not member.is_ending:
            if not self._is_excused(member, code):
                raise ChaosError(f"consumer {member.number} ended with code {code}: {_last(member)}")
            self._tally.add("failed starts")

    def _is_excused(self, member: Member, code: int) -> bool:
        """Whether it could not even start, with the disk full or the broker away, so that whoever watches tries again;
        or was told to end before it had begun."""
        if code == -signal.SIGTERM and member.is_ending:
            return not member.running.lines
        has_error = member.point is not None and not member.point.endswith(("kill", "stop"))
        has_fault = self._plan.has_broker_restart or self._plan.has_full_disk or has_error
        return code in (1, 2) and has_fault and not member.events("assigned")

    def _bury(self, member: Member) -> None:
        member.reading.join()
        member.scope.__exit__(None, None, None)
        self._tally.add("rebalances", member.events("assigned"))
        self._tally.add("fences", member.events("fenced"))
        self._tally.add("returns", member.events("came back"))
        lines = "".join(f"{line}\n" for line in member.running.lines)
        (self._logs / f"consumer-{member.number}.log").write_text(f"{member.point}\n{lines}")


def _last(member: Member) -> list[dict[str, Any]]:
    return member.running.lines[-5:]
