"""How dead letters and replays look on a terminal (times are UTC), and as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

import click

from padreel.core.decode import session_name
from padreel.replay import Listed, Outcome


def show(listed: Sequence[Listed], others: int, *, json_lines: bool) -> None:
    """Print the letters."""
    if json_lines:
        for one in listed:
            click.echo(json.dumps(_as_json(one), ensure_ascii=False))
        return
    for one in listed:
        letter = one.letter
        last = "" if letter.first_offset == letter.last_offset else f"-{letter.last_offset}"
        who = letter.session or (f"{letter.key!r}" if letter.key else "no key")
        where = f"{letter.source_topic}/{letter.partition} {letter.first_offset}{last}"
        again = f"  replayed as {one.replayed_as}" if one.replayed_as else ""
        click.echo(f"{_time(letter.timestamp)}  {who}  {where}  {click.style(letter.reason, bold=True)}{again}")
        click.echo(f"    {letter.detail}")
    click.echo(f"{len(listed)} dead letters" + (f"; {others} records of the topic are none" if others else ""))


def say(outcome: Outcome, *, json_lines: bool) -> None:
    """Print what became of one session."""
    if json_lines:
        click.echo(json.dumps(asdict(outcome), ensure_ascii=False))
        return
    frames = outcome.frames
    left_out = f"{frames.in_episodes} in episodes, {frames.before_idr} before an IDR, {frames.unusable} unusable"
    if outcome.why_not:
        click.echo(f"{session_name(outcome.key)}: not published again: {outcome.why_not} ({left_out})")
    else:
        click.echo(f"{session_name(outcome.key)}: {frames.frames} frames published as {outcome.new_key} ({left_out})")


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _as_json(one: Listed) -> dict[str, object]:
    letter = one.letter
    return {
        "kind": letter.kind.value,
        "session": letter.session,
        "topic": letter.source_topic,
        "partition": letter.partition,
        "first_offset": letter.first_offset,
        "last_offset": letter.last_offset,
        "timestamp_ms": letter.timestamp,
        "reason": letter.reason,
        "detail": letter.detail,
        "version": letter.version,
        "replayed_as": one.replayed_as,
        "value_bytes": len(letter.value or b""),
    }
