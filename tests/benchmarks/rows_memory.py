"""Rows 4 and 5: what the consumer keeps in memory of long sessions, and of many."""

from __future__ import annotations

from tests.benchmarks import measure
from tests.benchmarks.capture import clip
from tests.benchmarks.measure import Row, Spread, Target, ratios
from tests.benchmarks.world import World


def session_length(world: World) -> list[Row]:
    """Row 4: one session, long and short; it is the process's peak, imports and all."""
    minutes = 5 if world.short else 30
    with world.load(1, 60 * minutes) as long, world.load(1, 60) as short:
        of_long, of_short = measure.interleaved(
            2 if world.short else 3, lambda: world.consume(long), lambda: world.consume(short)
        )
    peaks = [[run.notes["peak_rss_mb"] for run in runs] for runs in (of_long, of_short)]
    figures = (
        Spread(f"{minutes} minutes", "MB", tuple(peaks[0])),
        Spread("1 minute", "MB", tuple(peaks[1])),
        ratios("long to short", peaks[0], peaks[1]),
    )
    targets = (
        Target("long to short", 1.1, "at most", regressed=1.3),
        Target(f"{minutes} minutes", 150, "at most"),
    )
    note = "720p30, read as a backlog; peak resident memory of the process"
    return [Row("4", f"peak RSS of a {minutes}-minute session against a 1-minute one", figures, targets, note)]


def open_sessions(world: World) -> list[Row]:
    """Row 5: a hundred sessions side by side, all of which end at the same moment."""
    sessions, seconds = 100, 900
    source = clip(60, 160, 96, kbit=60)
    with world.load(sessions, seconds, of=source) as many, world.load(1, seconds, of=source) as one:
        of_many, of_one = measure.interleaved(1, lambda: world.consume(many), lambda: world.consume(one))
    peaks = [[run.notes["peak_rss_mb"] for run in runs] for runs in (of_many, of_one)]
    each = tuple((most - least) / (sessions - 1) for most, least in zip(*peaks, strict=True))
    figures = (
        Spread(f"{sessions} sessions", "MB", tuple(peaks[0])),
        Spread("1 session", "MB", tuple(peaks[1])),
        Spread("for each session more", "MB", each),
    )
    note = (
        f"{sessions} interleaved sessions of 15 minutes in one partition, all open to their end, with pictures of "
        f"{source.unit_bytes:.0f} bytes: no picture stays in memory, and {sessions} at 720p would be 54 GB"
    )
    target = Target("for each session more", 3, "at most")
    return [Row("5", "RSS per open session beyond the first", figures, (target,), note)]
