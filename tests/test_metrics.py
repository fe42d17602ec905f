from __future__ import annotations

import re
from typing import get_args

from prometheus_client import Gauge
from prometheus_client.parser import text_string_to_metric_families

from padreel.dataset.committed import Step
from padreel.metrics import STEPS, Metrics


def test_names_follow_the_conventions() -> None:
    for one in Metrics().definitions:
        assert re.fullmatch(r"padreel_[a-z]+(_[a-z]+)*", one.name)
        assert (one.kind == "counter") == one.name.endswith("_total")
        assert one.help.endswith(".")


def test_no_label_can_hold_a_session() -> None:
    bounded = {
        "topic",
        "partition",
        "consumergroup",
        "reason",
        "fate",
        "verdict",
        "what",
        "kind",
        "version",
        "step",
        "rig",
        "component",
    }
    used = {label for one in Metrics().definitions for label in one.labels}
    assert used <= bounded


def test_what_is_defined_is_what_is_served() -> None:
    metrics = Metrics()
    metrics.lag_records.labels("t", "3", "g").set(7)
    metrics.commit_seconds.labels("3", "g").observe(0.02)
    families = {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}
    assert set(families) == {one.name.removesuffix("_total") for one in metrics.definitions}
    (sample,) = families["padreel_lag_records"].samples
    assert (sample.labels, sample.value) == ({"topic": "t", "partition": "3", "consumergroup": "g"}, 7.0)
    documented = {one.name.removesuffix("_total"): one for one in metrics.definitions}
    assert all(family.documentation == documented[name].help for name, family in families.items())


def test_two_consumers_do_not_share_metrics() -> None:
    one, other = Metrics(), Metrics()
    one.rebalances.labels("g").inc()
    assert b"padreel_rebalances_total{" in one.render()
    assert b"padreel_rebalances_total{" not in other.render()


VALUES = {"topic": "t", "consumergroup": "g", "what": "pads", "version": "1", "rig": "lab-1"}


def gauges_of(metrics: Metrics, partition: str) -> set[str]:
    """Names of the gauges that have a series for this partition."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        family.name
        for family in families
        if family.type == "gauge" and any(sample.labels.get("partition") == partition for sample in family.samples)
    }


def test_a_lost_partition_leaves_no_gauge_behind() -> None:
    metrics = Metrics()
    partitioned = {one.name for one in metrics.definitions if one.kind == "gauge" and "partition" in one.labels}
    gauges = {name: one for name, one in vars(metrics).items() if isinstance(one, Gauge)}
    assert partitioned <= {one._name for one in gauges.values()}
    for number in ("0", "1"):
        metrics.begin_partition(("t", "other"), int(number), "g")
        for one in gauges.values():
            one.labels(**{label: {**VALUES, "partition": number}[label] for label in one._labelnames}).set(1)
    assert gauges_of(metrics, "1") == partitioned
    metrics.drop_partition(("t", "other"), 1, "g")
    assert gauges_of(metrics, "1") == set()
    assert gauges_of(metrics, "0") == partitioned
    assert 'records_total{consumergroup="g",partition="1",topic="t"}' in metrics.render().decode()


def test_the_counters_of_a_partition_begin_at_0() -> None:
    """Prometheus does not see the step from nothing to the first value."""
    metrics = Metrics()
    metrics.begin_partition(("t",), 3, "g")
    families = {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}
    for one in metrics.definitions:
        if one.kind == "gauge" or "partition" not in one.labels or one.name == "padreel_dead_letters_total":
            continue
        samples = families[one.name.removesuffix("_total")].samples
        assert samples, one.name
        assert {sample.value for sample in samples} == {0.0}


def test_every_step_of_a_commit_has_its_series() -> None:
    assert get_args(Step) == STEPS


def test_the_table_has_a_row_for_every_metric() -> None:
    metrics = Metrics()
    rows = metrics.table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [one.name for one in metrics.definitions]


def series_of(metrics: Metrics, rig: str) -> set[str]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {family.name for family in families if any(one.labels.get("rig") == rig for one in family.samples)}


def test_a_rig_that_is_not_listed_any_more_leaves_nothing_behind() -> None:
    metrics = Metrics()
    of_rigs = {one.name.removesuffix("_total") for one in metrics.definitions if "rig" in one.labels}
    metrics.begin_rigs(["lab-1", "lab-2"], "g")
    metrics.rig_last_frame.labels("lab-1", "g").set(1)
    metrics.rig_open_sessions.labels("lab-1", "g").set(1)
    assert series_of(metrics, "lab-1") == of_rigs
    metrics.forget_rigs(["lab-1", "lab-3"], "g")
    assert series_of(metrics, "lab-1") == set()
    gauges = {one.name for one in metrics.definitions if one.kind == "gauge"}
    assert series_of(metrics, "lab-2") == of_rigs - gauges
