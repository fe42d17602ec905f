"""Closed schemas of the custom resources in our manifests: what their operators do not name is an error.

An API server drops unknown fields of these without a word, and `kubernetes-validate` only warns that it does not know
the kinds. The JSON files beside this are made by `python -m tests.custom_resources` and name where they are from.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

FOLDER = Path(__file__).resolve().parent


@cache
def known() -> dict[tuple[str, str], dict[str, Any]]:
    """The schemas by API version and kind."""
    read = [json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))]
    return {(one["apiVersion"], one["kind"]): one["schema"] for one in read}


def problems(resource: dict[str, Any]) -> list[str]:
    """What in a custom resource its operator does not know, or cannot take. KeyError for a kind that is not here."""
    schema = known()[resource["apiVersion"], resource["kind"]]
    found = jsonschema.Draft202012Validator(schema).iter_errors(resource)
    return sorted(f"{'.'.join(map(str, one.absolute_path))}: {one.message}" for one in found)
