"""Writes the closed schemas from the definitions that the operators' projects publish as Go modules. Needs `go`.

Of a definition only what decides validity is kept: names, types and limits of fields, without their descriptions.
KEDA's says nothing of a trigger's settings: which ones the Kafka scaler reads from there is in its struct tags.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.custom_resources import FOLDER

_KEPT = frozenset(
    {"anyOf", "enum", "items", "maximum", "minimum", "minItems", "minLength", "pattern", "required", "type"}
)
_METADATA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


@dataclass(frozen=True, slots=True)
class Definition:
    """Where a custom resource is defined."""

    module: str
    version: str
    path: str


PODMONITOR = Definition(
    "github.com/prometheus-operator/prometheus-operator",
    "v0.85.0",
    "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
)
SCALEDOBJECT = Definition("github.com/kedacore/keda/v2", "v2.21.0", "config/crd/bases/keda.sh_scaledobjects.yaml")
_KAFKA_SCALER = "pkg/scalers/kafka_scaler.go"


def fetched(definition: Definition) -> Path:
    """The module's folder in Go's cache."""
    command = ["go", "mod", "download", "-json", f"{definition.module}@{definition.version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Path(json.loads(done.stdout)["Dir"])


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema in which an object takes the fields that it names and no other."""
    made = {name: value for name, value in schema.items() if name in _KEPT}
    if "items" in made:
        made["items"] = closed(made["items"])
    if "anyOf" in made:
        made["anyOf"] = [closed(one) for one in made["anyOf"]]
    if "properties" in schema:
        made["properties"] = {name: closed(one) for name, one in schema["properties"].items()}
    if isinstance(more := schema.get("additionalProperties"), dict):
        made["additionalProperties"] = closed(more)
    elif schema.get("type") == "object" and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made["additionalProperties"] = False
    return made


def resource(text: str) -> tuple[str, str, dict[str, Any]]:
    """The API version, kind and schema of the newest version that a definition serves; its status is left out."""
    spec = yaml.safe_load(text)["spec"]
    newest = [one for one in spec["versions"] if one["served"]][-1]
    schema = closed(newest["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = _METADATA
    schema["properties"].pop("status", None)
    return f"{spec['group']}/{newest['name']}", spec["names"]["kind"], schema


def kafka_trigger(source: str) -> dict[str, Any]:
    """The settings of a Kafka trigger in its `metadata`; all values are texts."""
    settings: dict[str, Any] = {}
    required: list[str] = []
    for tag in re.findall(r'`keda:"([^"]*)"`', source):
        parts = dict(part.partition("=")[::2] for part in tag.split(","))
        places = parts["order"].split(";")
        if "triggerMetadata" in places:
            values = {"enum": parts["enum"].split(";")} if "enum" in parts else {}
            settings[parts["name"]] = {"type": "string", **values}
            if "resolvedEnv" in places:  # its value can come from the container's environment instead
                settings[f"{parts['name']}FromEnv"] = {"type": "string"}
            elif not {"optional", "default"} & set(parts) and places == ["triggerMetadata"]:
                required.append(parts["name"])
    return {"type": "object", "additionalProperties": False, "properties": settings, "required": required}


def write(definition: Definition, folder: Path) -> None:
    """Write the schema of one resource."""
    api_version, kind, schema = resource((folder / definition.path).read_text("utf-8"))
    sources = [definition.path]
    if kind == "ScaledObject":
        trigger = schema["properties"]["spec"]["properties"]["triggers"]["items"]
        # Of the scalers the only one that we use.
        trigger["properties"]["type"] = {"const": "kafka"}
        trigger["properties"]["metadata"] = kafka_trigger((folder / _KAFKA_SCALER).read_text("utf-8"))
        sources.append(_KAFKA_SCALER)
    made = {
        "from": {"module": definition.module, "version": definition.version, "files": sources},
        "apiVersion": api_version,
        "kind": kind,
        "schema": schema,
    }
    text = json.dumps(made, indent=1, sort_keys=True, ensure_ascii=False)
    (FOLDER / f"{kind.lower()}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    for one in (PODMONITOR, SCALEDOBJECT):
        write(one, fetched(one))
