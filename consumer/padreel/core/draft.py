"""A segment that is whole becomes an episode's draft. Pure."""

from __future__ import annotations

from array import array

from padreel.core.align import Join
from padreel.core.segment import Segment
from padreel.media import MediaRange
from padreel.model import EpisodeDraft


def draft_of(
    segment: Segment, join: Join, *, key: str, session_ns: int, late: int, media: MediaRange | None
) -> EpisodeDraft:
    """The episode that a complete segment with rows is; `session_ns` is the time of the session's first frame."""
    pads = join.pads
    first_key, serials = segment.resume_key(), segment.row_serials
    # From the EVENT in force at the first row on; without one there, from the first that came after it.
    first = min((serial for serial in serials if serial >= 0), default=None)
    if serials[0] < 0 and (later := pads.first_after(segment.row_times[0])) is not None:
        first = later if first is None else min(first, later)
    payloads, times, offsets = (
        # A row that came after its pad was folded is paired with an EVENT that may be later than every row.
        ((), array("q"), array("q")) if first is None else pads.events(first, max(serials), segment.row_times[-1])
    )
    known = offsets[offsets.count(-1) :]  # one that was carried by value is the first
    assert segment.cut is not None
    return EpisodeDraft(
        span=segment.span,
        key=key,
        stream=segment.stream,
        session=segment.info,
        reason=segment.cut,
        first_unit=first_key.frame_index - segment.first_index,
        first_row=segment.row_index - segment.first_index,
        first_frame_index=segment.row_index,
        time_ns=segment.row_times,
        pairing=array("q", (serial - first if first is not None and serial >= 0 else -1 for serial in serials)),
        forced=sum(segment.row_forced),
        late=late,
        events=payloads,
        event_ns=times,
        session_ns=session_ns,
        first_frame_offset=segment.first_offset,
        last_frame_offset=segment.last_offset,
        first_pad_offset=known[0] if known else -1,
        last_pad_offset=known[-1] if known else -1,
        media=media,
        idle_until_ns=join.idle_until_ns,
    )
