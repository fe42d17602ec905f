"""How the status of an output root looks on a terminal (times are UTC), and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime

import click
from rich import box
from rich.console import Console
from rich.table import Table

from padreel.status import Status

LAG = (
    "Frames and seconds are what the shards' logs account for; lag is the age of the last frame record that "
    "their latest commits know of. Commits come at least once a minute while frames do."
)
_WIDTH = 400  # columns; a key has up to 145


def show(status: Status, *, as_json: bool) -> None:
    """Print it."""
    if as_json:
        body = {
            "shards": status.shards,
            "open": [asdict(row) for row in status.open],
            "committed_last_hour": [asdict(row) for row in status.committed],
        }
        click.echo(json.dumps(body, ensure_ascii=False, indent=2))
        return
    console = Console()
    if not console.is_terminal:  # nobody wants a name cut short in a file
        console.width = _WIDTH
    console.print(_opened(status))
    console.print(LAG, style="dim", highlight=False)
    console.print(_committed(status))


def _opened(status: Status) -> Table:
    made = _table(f"Open sessions: {len(status.open)} in {status.shards} shards")
    _columns(made, "session", "rig", "partition", "frames", "seconds", "lag", "")
    for row in status.open:
        made.add_row(
            row.session,
            row.rig,
            str(row.partition),
            str(row.frames),
            f"{row.seconds:.1f}",
            f"{row.lag_seconds:.0f} s",
            "silent" if row.is_silent else "",
        )
    return made


def _committed(status: Status) -> Table:
    made = _table(f"Episodes of the last hour: {len(status.committed)}")
    _columns(made, "session", "rig", "partition", "episode", "frames", "seconds", "ended by", "committed (UTC)", "")
    for row in status.committed:
        made.add_row(
            row.session,
            row.rig,
            str(row.partition),
            str(row.episode),
            str(row.frames),
            f"{row.seconds:.1f}",
            row.ended_by,
            datetime.fromtimestamp(row.committed_at, UTC).strftime("%H:%M:%S"),
            "quarantined" if row.quarantined else "",
        )
    return made


def _table(title: str) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")


def _columns(table: Table, *names: str) -> None:
    for name in names:
        is_number = name in ("partition", "episode", "frames", "seconds", "lag")
        table.add_column(name, justify="right" if is_number else "left", no_wrap=True)
