"""The alerts: known metrics and labels, and a firing and a silent case of each, judged by promtool."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.promql import grouped_by, metrics_in, problems

FOLDER = Path(__file__).resolve().parents[1] / "deploy" / "prometheus"
RULES = FOLDER / "alerts.yaml"
CASES = FOLDER / "alerts_test.yaml"
GUIDE = FOLDER.parents[1] / "docs" / "operating.md"


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def test_what_is_not_in_the_table_is_found() -> None:
    assert problems('rate(padreel_frames_total{fate="row"}[5m])') == []
    assert problems('rate(padreel_frames_total{verdict="row"}[5m])') == ["padreel_frames_total: no label 'verdict'"]
    assert problems('padreel_frames_total{fate="rows"}') == ["padreel_frames_total: no fate 'rows'"]
    assert problems('padreel_frames_total{fate!~"row|ends"}') == ["padreel_frames_total: no fate 'ends'"]
    assert problems('padreel_buffered_bytes{what="frames"}') == ["padreel_buffered_bytes: no what 'frames'"]
    assert problems("sum by (rig) (padreel_open_sessions)") == ["padreel_open_sessions: no label 'rig'"]
    assert problems("padreel_frames") == ["padreel_frames: no such metric"]
    assert problems("padreel_commit_seconds") == ["padreel_commit_seconds: no such metric"]
    assert problems("sum by (le) (rate(padreel_commit_seconds_bucket[5m]))") == []
    assert problems("sum by (le) (padreel_open_sessions)") == ["padreel_open_sessions: no label 'le'"]


def test_rules_use_what_the_consumer_serves() -> None:
    assert [problem for rule in rules() for problem in problems(rule["expr"])] == []
    assert all(metrics_in(rule["expr"]) for rule in alerts())


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_where_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert set(rule["annotations"]) == {"summary", "runbook"}
    named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert named <= grouped_by(rule["expr"])
    assert rule["annotations"]["runbook"] == f"docs/operating.md#{rule['alert'].lower()}"


def test_the_operator_s_guide_says_what_to_do_for_each_alert() -> None:
    headings = re.findall(r"^### (\w+)$", GUIDE.read_text("utf-8"), re.M)
    assert headings == [rule["alert"] for rule in alerts()]


def test_every_alert_has_a_firing_and_a_silent_case() -> None:
    fires: set[str] = set()
    silent: set[str] = set()
    for case in yaml.safe_load(CASES.read_text("utf-8"))["tests"]:
        (judged,) = case["alert_rule_test"]
        (fires if judged["exp_alerts"] else silent).add(judged["alertname"])
        # Without a series everything but an absence is silent.
        assert case["input_series"]
    assert fires == silent == {rule["alert"] for rule in alerts()}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
@pytest.mark.parametrize(
    "arguments",
    [["check", "rules", RULES.name], ["test", "rules", CASES.name], ["check", "config", "prometheus.yaml"]],
    ids=["rules", "cases", "config"],
)
def test_promtool_agrees(arguments: list[str]) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
