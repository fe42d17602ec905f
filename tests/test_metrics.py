from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families

from padreel.metrics import Metrics


def test_names_follow_the_conventions() -> None:
    for one in Metrics().definitions:
        assert re.fullmatch(r"padreel_[a-z]+(_[a-z]+)*", one.name)
        assert (one.kind == "counter") == one.name.endswith("_total")
        assert one.help.endswith(".")


def test_no_label_can_hold_a_session() -> None:
    bounded = {"topic", "partition", "consumergroup", "reason", "fate", "verdict", "what", "kind", "version"}
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


def test_a_lost_partition_leaves_no_gauge_behind() -> None:
    metrics = Metrics()
    for number in ("0", "1"):
        metrics.lag_records.labels("t", number, "g").set(1)
        metrics.open_sessions.labels(number, "g").set(1)
        metrics.records.labels("t", number, "g").inc()
    metrics.drop_partition(("t", "other"), 1, "g")
    text = metrics.render().decode()
    assert 'lag_records{consumergroup="g",partition="0",topic="t"}' in text
    assert 'lag_records{consumergroup="g",partition="1",topic="t"}' not in text
    assert 'open_sessions{consumergroup="g",partition="1"}' not in text
    assert 'records_total{consumergroup="g",partition="1",topic="t"}' in text


def test_the_table_has_a_row_for_every_metric() -> None:
    metrics = Metrics()
    rows = metrics.table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [one.name for one in metrics.definitions]
