"""Random worlds of interleaved sessions, and a batch oracle that says what two streams mean.

A world is two lists of records, the frame topic's and the pad topic's, and the order in which they were
published. Frames are `("F", session, sequence, frame_index, time, kind)`, EVENTs `("E", session, time, value, active)`,
HEARTBEATs `("H", session, time)`, ENDs `("X", session)`. The worlds hold B-frames, open GOPs, lost records, restarted
rigs, clocks that step, late and repeated pads, heartbeats that lie, and publishers that send a tail again.

The oracle reads both streams whole, without any notion of arrival, offsets or commits. It shares no code with
padreel.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Kinds of pictures. Those of an open GOP may have leading ones after them, which are shown before them.
OTHER, IDR, OPEN, OPEN_IDR = 0, 1, 2, 3

NEVER = -(10**9)
NEUTRAL = "N"
Row = tuple[int, str, bool]  # frame_index, value, forced


@dataclass(frozen=True, slots=True)
class World:
    frames: list[tuple[Any, ...]]
    pads: list[tuple[Any, ...]]
    published: list[str]  # "f" or "p", in the order of publication
    codec: str = "h264"  # or "hevc", which alone has open GOPs

    @property
    def sessions(self) -> list[str]:
        return list(dict.fromkeys(r[1] for r in self.frames + self.pads))

    def horizon(self) -> int:
        """How many records a session's record comes at most after the session's last one."""
        widest, read, first = 1, {"f": 0, "p": 0}, dict[str, int]()
        last: dict[tuple[str, str], int] = {}
        for topic in self.published:
            session = (self.frames if topic == "f" else self.pads)[read[topic]][1]
            first.setdefault(session, read["f"])
            unseen = read[topic] if topic == "p" else first[session]
            widest = max(widest, read[topic] - last.get((topic, session), unseen))
            last[topic, session] = read[topic]
            read[topic] += 1
        return widest + 1


def _video(
    rng: random.Random, session: str, start: int, sequence: int, n: int, b: int, kinds: Sequence[int]
) -> tuple[list[Any], int]:
    times, t = [], start
    for _ in range(n):
        times.append(t)
        t += rng.randint(rng.choice([0, 1, 1]), 3)
    if rng.random() < 0.1:  # a clock that steps
        times[rng.randrange(n)] += rng.choice([-9, -2, 2, 9])
    order: list[tuple[int, int]] = []
    i = 0
    while i < n:  # the key picture, its leading ones, then each P before its B
        gop = min(n - i, rng.randint(1, 6))
        kind = rng.choice(kinds) if i else kinds[0]
        leading = min(b, gop - 1) if kind in (OPEN, OPEN_IDR) and rng.random() < 0.7 else 0
        order += [(i + leading, kind), *((q, OTHER) for q in range(i, i + leading))]
        j = i + leading + 1
        while j < i + gop:
            k = min(b, i + gop - j - 1)
            order += [(j + k, OTHER), *((q, OTHER) for q in range(j, j + k))]
            j += k + 1
        i += gop
    return [("F", session, sequence + q, idx, times[idx], kind) for q, (idx, kind) in enumerate(order)], t


def _pad(rng: random.Random, session: str, until: int) -> list[Any]:
    t = rng.randint(0, until + 2) if rng.random() < 0.3 else rng.randint(0, 3)
    records: list[Any] = []
    for k in range(rng.choice([0, 1, 2, 5, 9])):
        records.append(("E", session, t, f"{session}{k}", k > 0 and rng.random() < 0.4))
        t += rng.choice([0, 1, 2, 3, 8])
    if len(records) > 2 and rng.random() < 0.4:  # one is late
        j = rng.randrange(1, len(records))
        record = records.pop(j - 1)
        records.insert(min(len(records), j + rng.randint(0, 2)), record)
    if rng.random() < 0.6:
        for _ in range(rng.randint(1, 4)):
            _heartbeat(rng, session, records, max(until, t))
    if rng.random() < 0.6:
        records.append(("X", session))
    return records


def _heartbeat(rng: random.Random, session: str, records: list[Any], until: int) -> None:
    k = rng.randrange(len(records) + 1)
    published = max([r[2] for r in records[:k]], default=NEVER)
    coming = [r[2] for r in records[k:] if r[2] >= published and r[0] == "E"]
    high = min(coming) - 1 if coming else until + 2
    if rng.random() < 0.1:  # it lies: an EVENT follows that is not later
        high += rng.choice([1, 4])
    low = max(published, 0)
    if high >= low:
        records.insert(k, ("H", session, rng.choice([high, rng.randint(low, high)])))


def random_world(rng: random.Random) -> World:
    frames: list[tuple[float, str, Any]] = []
    pads: list[tuple[float, str, Any]] = []
    skew = rng.choice([0, 3, 30, 1000])
    codec = rng.choice(["h264", "hevc"])
    kinds = [IDR] if codec == "h264" else rng.choice([[IDR], [IDR, OPEN], [OPEN, OPEN_IDR], [OPEN_IDR, OPEN, IDR]])
    for session in "abcde"[: rng.randint(2, 5)]:
        start, b, n = rng.randint(0, 30), rng.choice([0, 0, 1, 2]), rng.randint(1, 12)
        first = rng.randint(0, 4)
        video, t = _video(rng, session, first, 0, n, b, kinds)
        if rng.random() < 0.3:  # lost records, perhaps the last ones
            for _ in range(rng.randint(1, 2)):
                if len(video) > 1:
                    k = rng.randrange(1, len(video) + 1)
                    del video[k : k + rng.randint(1, 3)]
        if rng.random() < 0.7:
            video.append(("X", session))
        if rng.random() < 0.12:  # a restarted rig: sequence from 0, the clock goes on or starts again
            if video[-1][0] == "X" and rng.random() < 0.8:
                video.pop()
            video += _video(rng, session, t + 2 if rng.random() < 0.6 else first, 0, n, b, kinds)[0]
            if rng.random() < 0.5:
                video.append(("X", session))
        pad = _pad(rng, session, t)
        for records in (video, pad):  # a publisher sends a tail again
            if rng.random() < 0.4 and records:
                a = rng.randrange(len(records))
                z = min(len(records), a + rng.randint(1, 4))
                at = min(len(records), z + rng.choice([0, 0, 1, 2]))
                records[at:at] = records[a:z]
        for topic, records, out in (("f", video, frames), ("p", pad, pads)):
            when = float(start + (rng.randint(0, skew) if topic == "p" or rng.random() < 0.3 else 0))
            for record in records:
                when += rng.random() * 2
                out.append((when, topic, record))
            if rng.random() < 0.2 and records:  # a pause
                k, delay = rng.randrange(len(records)), rng.choice([5, 40])
                out[len(out) - len(records) + k :] = [
                    (x + delay, y, r) for x, y, r in out[len(out) - len(records) + k :]
                ]
    frames.sort(key=lambda e: e[0])
    pads.sort(key=lambda e: e[0])
    published = [e[1] for e in sorted(frames + pads, key=lambda e: e[0])]
    return World([e[2] for e in frames], [e[2] for e in pads], published, codec)


def accepted_pads(pads: list[Any], session: str, upto: int | None = None) -> tuple[list[Any], int, int, bool]:
    """EVENTs of a session that count, in order; maximum EVENT time; maximum HEARTBEAT time; whether it ended."""
    events: list[Any] = []
    latest, beat, seen = NEVER, NEVER, set()
    for r in pads[:upto]:
        if r[1] != session:
            continue
        if r[0] == "X":
            return events, latest, beat, True
        if r[0] == "H":
            beat = max(beat, r[2])
        elif r[2] >= latest and r[2] > beat and (r[2], r[3]) not in seen:
            events.append(r[2:])
            latest = r[2]
            seen.add((r[2], r[3]))
    return events, latest, beat, False


class _Judge:
    """Which frames of a session are rows, and with what."""

    def __init__(self, world: World, session: str, window: int | None, forced: Mapping[tuple[str, int], Any]) -> None:
        self.session, self.window = session, window
        self.events, self.latest, self.beat, self.ended = accepted_pads(world.pads, session)
        self.first_action = next((t for t, _, active in self.events if active), None)
        times = {r[2]: r[4] for r in reversed(world.frames) if r[1] == session and r[0] == "F"}
        mine = [(times[q], mark[0]) for (z, q), mark in forced.items() if z == session]
        self.forced = forced
        self.kept_from = min((t for t, kind in mine if kind == "row"), default=-NEVER)
        self.idle_until = max((t for t, kind in mine if kind == "idle"), default=NEVER)

    def passed(self, t: int) -> bool:
        return self.ended or self.latest > t or self.beat >= t

    def __call__(self, sequence: int, t: int) -> tuple[str, bool] | str | None:
        """("value", forced?), "idle", or None while it is open."""
        if (self.session, sequence) in self.forced:
            mark = self.forced[self.session, sequence]
            return "idle" if mark[0] == "idle" else (mark[1], True)
        if self.window is not None and t < self.kept_from:
            if t < self.idle_until:
                return "idle"
            if self.first_action is not None:
                if self.first_action > t + self.window:
                    return "idle"
            elif self.events:
                return "idle" if self.passed(t + self.window) else None
            elif not self.ended:
                return None
        if not self.passed(t):
            return None
        return ([v for u, v, _ in self.events if u <= t] or [NEUTRAL])[-1], False


def oracle(
    world: World,
    split: int,
    window: int | None,
    silences: Collection[tuple[str, int]] = (),
    forced: Mapping[tuple[str, int], Any] | None = None,
) -> tuple[dict[str, list[list[Row]]], dict[int, str]]:
    """The episodes of each session, and the fate of each frame record that is known.

    Args:
        silences: `(session, sequence)`, a silence before that sequence.
        forced: `(session, sequence)` to `("row", value)` or `("idle",)`.
    """
    episodes: dict[str, list[list[Row]]] = {}
    fate: dict[int, str] = {}
    for session in dict.fromkeys(r[1] for r in world.frames):
        runs = _runs(world, session, split, silences, fate)
        judge = _Judge(world, session, window, forced or {})
        whole = [rows for frames, done in runs if (rows := _carve(frames, done, judge, fate))]
        if whole:
            episodes[session] = whole
    return episodes, fate


def _runs(
    world: World, session: str, split: int, silences: Collection[tuple[str, int]], fate: dict[int, str]
) -> list[tuple[list[Any], bool]]:
    """Decode side: unbroken sequences from a key, as (frame_index, sequence, time, key, offset), and whether cut."""
    runs: list[list[Any]] = []
    current: list[Any] = [[], True]
    expected, highest, latest = 0, -1, NEVER
    waiting, over, known = True, "", False
    for off, r in enumerate(world.frames):
        if r[1] != session:
            continue
        if r[0] == "X":
            fate[off] = "end" if known and not over else "stale"
            over = over or ("end" if known else "")
            continue
        known = True
        _, _, sequence, idx, t, kind = r
        if over:
            fate[off] = "restarted" if over == "restarted" else "stale"
            continue
        if sequence < expected and t <= latest:
            fate[off] = "stale"
            continue
        if not waiting and (session, expected) in silences:
            current[1] = waiting = True
        gop = current[0] if sequence == expected and not waiting else []
        if sequence < expected:
            over = fate[off] = "restarted"
            continue
        first = current[0][0] if gop else None
        if first and len(gop) == 1 and world.codec == "hevc" and kind == OTHER and idx < first[0] and t <= first[2]:
            expected = sequence + 1  # a leading picture of the first one
            fate[off] = "wait"
            continue
        idr = kind == IDR or (kind == OPEN_IDR and first and len(gop) == idx - first[0]) or (kind != OTHER and not gop)
        new = idr or waiting  # none of the pictures before is shown after it
        if latest > NEVER and (t < latest if idx > highest else t > latest or new or _contradicts(gop, idx, t)):
            current[1] = waiting = True
            expected = sequence + 1
            fate[off] = "wait"
            continue
        if not waiting and (sequence > expected or (idr and t >= current[0][0][2] + split)):
            current[1] = waiting = True
        expected, highest, latest = sequence + 1, max(highest, idx), max(latest, t)
        if waiting and not idr:
            fate[off] = "wait"
            continue
        if waiting:
            current = [[], False]
            runs.append(current)
            waiting = False
        current[0].append((idx, sequence, t, idr, off))
    if over or (session, expected) in silences:
        current[1] = True
    return [(frames, done) for frames, done in runs]


def _contradicts(gop: list[Any], idx: int, t: int) -> bool:
    """Whether a picture that is shown before the highest one does not fit in between the others of its run."""
    return any(
        g[0] == idx or (g[0] < idx and g[2] > t) or (g[0] > idx and g[2] < t) or (g[3] and idx < g[0]) for g in gop
    )


def _carve(frames: list[Any], done: bool, judge: _Judge, fate: dict[int, str]) -> list[Row]:
    """Display side: the unbroken prefix of a run without its idle rows; empty while it is not whole."""
    place = {f[0]: f for f in frames}
    at = frames[0][0]
    rows: list[Row] = []
    stuck = False
    while at in place:
        _, sequence, t, _, off = place[at]
        verdict = judge(sequence, t)
        if verdict is None:
            stuck = True
            break
        if isinstance(verdict, str):
            fate[off] = "idle"
        else:
            rows.append((at, *verdict))
            fate[off] = "row"
        at += 1
    for f in frames:
        if f[0] >= at:
            fate[f[4]] = "open" if stuck or not done else "hole"
    if done and not stuck:
        return rows
    for f in frames:
        if rows and rows[0][0] <= f[0] < at:
            fate[f[4]] = "open"
    return []
