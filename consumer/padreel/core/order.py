"""Whether the next frame of a session can stand where it says, and whether an episode can begin there. Pure."""

from __future__ import annotations

from padreel.core.segment import Received, Segment
from padreel.model import EndReason, Frame, Stream


def begins(frame: Frame, segment: Segment | None, stream: Stream | None) -> bool:
    """Whether reading can begin at the frame; `segment` is the one that it would go on, None if there is none.

    In the middle of a segment that is so at an IDR only, and not if pictures follow it that are shown before it. An
    open GOP begins something new where there is nothing to go on: no segment, or one of another `stream`.
    """
    if segment is None or (frame.stream is not None and frame.stream != stream):
        return frame.idr or frame.open_gop
    return frame.idr and (not frame.open_gop or segment.dense_at(frame.frame_index))


def misplaced(
    frame: Frame, key: bool, received: Received, next_sequence: int, waiting: bool, segment: Segment | None
) -> EndReason | None:
    """Why the frame cannot stand where it says: it disagrees with others, or leaves a hole that nothing fills.

    `key` tells whether reading can begin at it, `segment` is the session's latest.
    """
    if clock_disagrees(frame, key, received, next_sequence, waiting, segment):
        return EndReason.CLOCK
    inside = frame.sequence == next_sequence and not (key or waiting)
    return EndReason.GAP if inside and segment is not None and not segment.reaches(frame.frame_index) else None


def clock_disagrees(
    frame: Frame, key: bool, received: Received, next_sequence: int, waiting: bool, segment: Segment | None
) -> bool:
    """Whether time and frame_index disagree in order with the frames received. Equal times are fine."""
    latest, index = received
    if latest is None:
        return False
    if frame.frame_index >= index:
        return frame.time_ns < latest
    if frame.time_ns > latest or key or waiting:
        return True
    return frame.sequence == next_sequence and segment is not None and segment.contradicts(frame)
