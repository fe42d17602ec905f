"""What a partition's state is after an operator gave records up. Pure.

The frames of a session that were lost end what it had begun: it waits for an IDR. Pads that were lost leave it open
which EVENT is in force, so that until the next one the pad counts as not known (neutral, age -1), not as unchanged.
"""

from __future__ import annotations

from dataclasses import replace

from padreel.model import OpenSession, PartitionState, Topic


def skipped(state: PartitionState, topic: Topic, until: int) -> PartitionState:
    """The state to go on from if the records of `topic` below `until` are lost.

    Raises ValueError if reading is already there.
    """
    start = state.frames_next if topic is Topic.FRAMES else state.pads_next
    if until <= start:
        raise ValueError(f"reading goes on at offset {start}: nothing below {until} can be given up")
    if topic is Topic.FRAMES:
        return replace(
            state,
            frames_next=until,
            frames_position=max(until, state.frames_position),
            open={key: _without_frames(session, until) for key, session in state.open.items()},
            last_frame=None,
        )
    return replace(
        state,
        pads_next=until,
        pads_position=max(until, state.pads_position),
        open={key: _without_pads(session, until) for key, session in state.open.items()},
        last_pad=None,
    )


def _without_frames(session: OpenSession, until: int) -> OpenSession:
    if session.resume >= until:
        return session
    return replace(session, resume=until, waiting=True, segment_ns=None)


def _without_pads(session: OpenSession, until: int) -> OpenSession:
    if session.pads_resume >= until:
        return session
    # The maxima stay: what is late stays late.
    return replace(session, pads_resume=until, pad=replace(session.pad, event=None))
