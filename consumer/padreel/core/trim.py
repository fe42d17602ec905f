"""Which frames of a recording are kept in front of its first action. Pure."""

from __future__ import annotations

from collections.abc import Sequence

_NS = 1_000_000_000


def trim_idle_frame_indices(
    frame_timestamps_ns: Sequence[int],
    first_action_timestamp_ns: int | None,
    max_pre_action_seconds: float | None,
) -> list[int]:
    """Indices of the frames to keep: from the first one on that is at most `max_pre_action_seconds` before the action.

    Times are nanoseconds of one clock, in display order. All frames are kept where there is no action, or no limit.
    """
    if first_action_timestamp_ns is None or max_pre_action_seconds is None:
        return list(range(len(frame_timestamps_ns)))
    window_ns = round(max_pre_action_seconds * _NS)
    first = next(
        (i for i, time_ns in enumerate(frame_timestamps_ns) if first_action_timestamp_ns <= time_ns + window_ns),
        len(frame_timestamps_ns),
    )
    return list(range(first, len(frame_timestamps_ns)))
