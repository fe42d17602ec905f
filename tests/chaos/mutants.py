"""Rules that are switched off in the consumers of a round, so that it is seen that the check at its end can fail.

Run as `python -m tests.chaos --mutant NAME`. This module is the command of such a consumer: the rule is switched off in
its process alone, and for good.

Not here are those rules that matter only where a listing is stale or two writers are at one commit behind the fence's
back: put-if-absent, the claim, and who has won after EEXIST. `tests.mutants_storage` notices them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

import padreel.__main__
from padreel.core.offsets import Ledger
from padreel.dataset.publish import PublishFolder
from padreel.dataset.shard import Shard
from padreel.errors import DeadLetterError
from padreel.model import Commit, DeadLetter, PartitionState, Topic
from padreel.starting import StartingPoint
from padreel.writer import Writer
from tests import mutants_storage
from tests.properties import test_sessions

VARIABLE = "PADREEL_CHAOS_MUTANT"
_LINGER_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Mutant:
    """A switch. Where the rule is about a moment too short to be met by chance, consumers stop or die there: `faults`
    as `schedule.plan` takes them."""

    switch: Callable[[pytest.MonkeyPatch], None]
    faults: tuple[str, ...] = ()


def the_groups_offset_is_the_truth(patch: pytest.MonkeyPatch) -> None:
    restore = StartingPoint.restore

    async def trust(self: StartingPoint, number: int, state: PartitionState | None) -> PartitionState:
        found = await restore(self, number, state)
        told = await self._source.committed([(topic, number) for topic in Topic]) or {}
        return replace(
            found,
            frames_next=told.get((Topic.FRAMES, number)) or found.frames_next,
            pads_next=told.get((Topic.PADS, number)) or found.pads_next,
        )

    patch.setattr(StartingPoint, "restore", trust)


def no_fence(patch: pytest.MonkeyPatch) -> None:
    """Others' publish folders stay until their owners, or whoever closes the shard, remove them."""
    fence, close = PublishFolder.fence, Shard.close

    def close_and_clear(self: Shard) -> None:
        fence(self._folder)
        close(self)

    patch.setattr(PublishFolder, "fence", lambda folder: None)
    patch.setattr(Shard, "close", close_and_clear)


def no_resume_snapshot(patch: pytest.MonkeyPatch) -> None:
    commit = Ledger.commit

    def forget(self: Ledger, *given: Any) -> Commit:
        made = commit(self, *given)
        return replace(made, state=replace(made.state, open={}))

    patch.setattr(Ledger, "commit", forget)


def letters_are_not_waited_for(patch: pytest.MonkeyPatch) -> None:
    """They are on their way, as in a producer that lingers, when the commit that releases their offsets is made."""
    on_their_way = set()

    async def send(self: Writer, letters: Sequence[DeadLetter]) -> None:
        await asyncio.sleep(_LINGER_SECONDS)
        while True:
            try:
                await self._around.send_letters(letters)
                return
            except DeadLetterError:
                await asyncio.sleep(_LINGER_SECONDS)

    async def bury(self: Writer, letters: Sequence[DeadLetter]) -> None:
        task = asyncio.create_task(send(self, letters))
        on_their_way.add(task)
        task.add_done_callback(on_their_way.discard)

    patch.setattr(Writer, "_bury", bury)


_STOPPED_WHILE_PUBLISHING = ("after link:stop", "before replace:stop")
_DEAD_WHILE_PUBLISHING = ("after link:kill", "before rename:kill", "before replace:kill", "after replace:kill")

MUTANTS = {
    "group-offset": Mutant(the_groups_offset_is_the_truth),
    "no-fence": Mutant(no_fence, _STOPPED_WHILE_PUBLISHING),
    "swept-too-early": Mutant(mutants_storage.swept_before_the_log_is_read, _DEAD_WHILE_PUBLISHING),
    "info-first": Mutant(mutants_storage.info_first, _DEAD_WHILE_PUBLISHING),
    "no-resume-snapshot": Mutant(no_resume_snapshot),
    "done-sessions-forgotten": Mutant(test_sessions.closed_sessions_are_forgotten_at_once),
    "letters-not-waited-for": Mutant(letters_are_not_waited_for),
}


def main() -> None:
    """The command of a consumer that has the mutant of the environment."""
    MUTANTS[os.environ[VARIABLE]].switch(pytest.MonkeyPatch())
    padreel.__main__.main()
