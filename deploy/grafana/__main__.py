"""Writes the boards' JSON: `python -m deploy.grafana`. A test compares it with what the code makes."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.consumer import consumer_board
from deploy.grafana.fleet import fleet_board

FOLDER = Path(__file__).with_name("boards")


def boards() -> dict[str, str]:
    """The files by name."""
    made = {"padreel-fleet.json": fleet_board(), "padreel-consumer.json": consumer_board()}
    return {
        name: json.dumps(one.build(), cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"
        for name, one in made.items()
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in boards().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
