"""The dashboards: what the library that builds them does not check. It takes any field, name and query."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("grafana_foundation_sdk")

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.__main__ import FOLDER, boards
from tests.promql import grouped_by, metrics_in, problems

ALERTS = FOLDER.parents[1] / "prometheus" / "alerts.yaml"
UNITS = {"short", "s", "Bps", "percentunit"}  # of Grafana's names for units, those that are used here
NAMES = ("padreel-consumer.json", "padreel-fleet.json")


def board(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / name).read_text("utf-8"))
    return found


def panels(name: str) -> list[dict[str, Any]]:
    """All but the rows."""
    return [panel for panel in board(name)["panels"] if panel["type"] != "row"]


def expressions() -> list[tuple[str, str]]:
    """Every query as (board and panel, expression)."""
    return [
        (f"{name}: {panel['title']}", target["expr"])
        for name in NAMES
        for panel in panels(name)
        for target in panel["targets"]
    ]


def test_the_files_are_what_the_code_makes() -> None:
    made = boards()
    assert sorted(made) == sorted(path.name for path in FOLDER.iterdir()) == list(NAMES)
    assert {name: (FOLDER / name).read_text("utf-8") for name in NAMES} == made, "run `make boards`"


@pytest.mark.parametrize("name", NAMES)
def test_every_field_is_known(name: str) -> None:
    """What the library's own model of 11.6 does not know is lost when it reads the file."""
    register_default_plugins()
    read = Dashboard.from_json(board(name))
    assert json.loads(json.dumps(read, cls=JSONEncoder)) == board(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_field_that_is_not_known_is_found(name: str) -> None:
    register_default_plugins()
    paths: tuple[tuple[Any, ...], ...] = ((), ("panels", 1), ("panels", 1, "fieldConfig"))
    for path in paths:
        changed: Any = board(name)
        place = changed
        for step in path:
            place = place[step]
        place["colour"] = "red"
        assert json.loads(json.dumps(Dashboard.from_json(changed), cls=JSONEncoder)) != changed


@pytest.mark.parametrize("name", NAMES)
def test_names_are_unique_and_nothing_overlaps(name: str) -> None:
    one = board(name)
    ids = [panel["id"] for panel in one["panels"]]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in one["panels"]]
    assert len(set(titles)) == len(titles)
    for panel in panels(name):
        letters = [target["refId"] for target in panel["targets"]]
        assert all(letters)
        assert len(set(letters)) == len(letters)
    places = [panel["gridPos"] for panel in one["panels"]]
    for place in places:
        assert place["x"] + place["w"] <= 24
    for a, b in combinations(places, 2):
        is_beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        is_above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert is_beside or is_above, (a, b)


@pytest.mark.parametrize("name", NAMES)
def test_a_panel_says_from_where_it_is_red_and_what_to_do_then(name: str) -> None:
    alerts = set(re.findall(r"alert: (\w+)", ALERTS.read_text("utf-8")))
    for panel in panels(name):
        shows, _, advice = panel["description"].partition("**When it is red:** ")
        assert shows
        assert advice.endswith(".")
        assert set(re.findall(r"\bPadreel\w+", panel["description"])) <= alerts
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"] in UNITS
        steps = defaults["thresholds"]["steps"]
        assert [step["color"] for step in steps].count("red") == 1
        # Grafana takes the first for minus infinity, and the rest in ascending order.
        assert [step["value"] is None for step in steps] == [True, False]


def test_queries_use_what_the_consumer_serves() -> None:
    assert [(where, problem) for where, one in expressions() for problem in problems(one)] == []
    assert all(metrics_in(one) for _, one in expressions())


@pytest.mark.parametrize("name", NAMES)
def test_legends_and_variables_are_there(name: str) -> None:
    one = board(name)
    declared = {variable["name"]: variable for variable in one["templating"]["list"]}
    assert [problem for one in declared.values() if one["type"] == "query" for problem in problems(one["query"])] == []
    for panel in panels(name):
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert shown <= grouped_by(target["expr"])
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= set(declared)
            assert used, "of one group, or of one consumer"


def test_a_table_has_a_column_for_each_query_and_one_row_for_each_rig() -> None:
    (table,) = [panel for panel in panels("padreel-fleet.json") if panel["type"] == "table"]
    merge, organize = table["transformations"]
    assert (merge["id"], organize["id"]) == ("merge", "organize")
    renamed = organize["options"]["renameByName"]
    assert list(renamed) == ["rig", *(f"Value #{target['refId']}" for target in table["targets"])]
    assert [one["matcher"]["options"] for one in table["fieldConfig"]["overrides"]] == list(renamed.values())[1:]
    for one in table["fieldConfig"]["overrides"]:
        assert {given["value"] for given in one["properties"] if given["id"] == "unit"} <= UNITS
    for target in table["targets"]:
        assert (target["format"], target["instant"], target.get("range", False)) == ("table", True, False)
        assert {name for name in grouped_by(target["expr"]) if name != "le"} == {"rig"}


@pytest.mark.parametrize("name", NAMES)
def test_a_number_is_of_now(name: str) -> None:
    """Of a range the last value is taken: while no consumer answers, what was true when one last did."""
    numbers = [panel for panel in panels(name) if panel["type"] == "stat"]
    assert numbers
    for panel in numbers:
        assert panel["fieldConfig"]["defaults"]["noValue"]
        for target in panel["targets"]:
            assert target.get("instant") is True
            assert not target.get("range")


@pytest.mark.parametrize("name", NAMES)
def test_the_boards_lead_to_each_other(name: str) -> None:
    (link,) = board(name)["links"]
    assert (link["type"], link["tags"], link["keepTime"]) == ("dashboards", board(name)["tags"], True)


def test_they_are_provisioned() -> None:
    provisioning = FOLDER.parent / "provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "padreel.yaml").read_text("utf-8"))["providers"]
    assert Path(provider["options"]["path"]).name == FOLDER.name
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text("utf-8"))["datasources"]
    scraped = yaml.safe_load((ALERTS.parent / "prometheus.yaml").read_text("utf-8"))["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraped


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_can_read_every_query(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{n}", "expr": expression.replace("$__rate_interval", "1m")}
        for n, (_, expression) in enumerate(expressions())
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    command = ["promtool", "check", "rules", "--lint=none", str(tmp_path / "rules.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
