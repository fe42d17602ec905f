"""Panels of one look, so that a board says only what it shows, from where it is red, and what to do then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from grafana_foundation_sdk.builders import common as commons
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.builders.timeseries import Panel as Timeseries
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    FieldTextAlignment,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_TAG = "padreel"
_STAT_WIDTH, _STAT_HEIGHT = 6, 4
_GRAPH_WIDTH, _GRAPH_HEIGHT = 12, 8
_TABLE_WIDTH = 24


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel, and what its series are called. In a table it is a column, of a unit of its own."""

    expression: str
    legend: str
    unit: str = "short"


@dataclass(frozen=True, slots=True)
class Panel:
    """What a panel shows. `unit` is Grafana's name of one; it is red at `red` and above, or where `red_below` below it.

    `when_red` is what to do then.
    """

    title: str
    shows: str
    when_red: str
    unit: str
    red: float
    queries: tuple[Query, ...]
    is_number: bool = False  # one number instead of a graph
    rows_by: str = ""  # a table instead of a graph: one row for each value of this label, red by its first column
    red_below: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A row of a board."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """What a person chooses at the top of a board: the values of a label."""

    name: str
    label: str
    query: str


def board(title: str, uid: str, description: str, choices: Sequence[Choice], sections: Sequence[Section]) -> Dashboard:
    """A dashboard of these rows. Panels are numbered in order, so that the same code always makes the same file."""
    made = (
        Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([_TAG])
        .timezone("browser")
        .time("now-3h", "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .link(DashboardLink("padreel").type(DashboardLinkType.DASHBOARDS).tags([_TAG]).keep_time(True))
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for choice in choices:
        made.with_variable(
            QueryVariable(choice.name)
            .label(choice.label)
            .datasource(SOURCE)
            .query(choice.query)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
        )
    ids = count(1)
    for section in sections:
        made.with_row(Row(section.title).id(next(ids)))
        for panel in section.panels:
            made.with_panel(_made(panel, next(ids)))
    return made


def _made(panel: Panel, number: int) -> Stat | Table | Timeseries:
    if panel.rows_by:
        return _table(panel, number)
    return _number(panel, number) if panel.is_number else _graph(panel, number)


def _number(panel: Panel, number: int) -> Stat:
    made = Stat().span(_STAT_WIDTH).height(_STAT_HEIGHT).color_mode(BigValueColorMode.BACKGROUND)
    made.reduce_options(commons.ReduceDataOptions().calcs(["lastNotNull"]))
    made.id(number).title(panel.title).description(_description(panel)).datasource(SOURCE)
    made.unit(panel.unit).thresholds(_thresholds(panel)).no_value("no consumer")
    for query in _queries(panel):
        # Of now, and not the last one of a range: that may be of before the consumers were gone.
        made.with_target(query.instant())
    return made


def _graph(panel: Panel, number: int) -> Timeseries:
    made = Timeseries().span(_GRAPH_WIDTH).height(_GRAPH_HEIGHT).fill_opacity(10).min(0)
    made.id(number).title(panel.title).description(_description(panel)).datasource(SOURCE)
    made.unit(panel.unit).thresholds(_thresholds(panel))
    made.thresholds_style(commons.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    # Most reasons never happen: those that do come first.
    legend = commons.VizLegendOptions().show_legend(True).display_mode(LegendDisplayMode.TABLE)
    legend.placement(LegendPlacement.RIGHT).calcs(["max", "lastNotNull"]).sort_by("Max").sort_desc(True)
    made.legend(legend)
    for query in _queries(panel):
        made.with_target(query)
    return made


def _table(panel: Panel, number: int) -> Table:
    made = Table().span(_TABLE_WIDTH).height(_GRAPH_HEIGHT).align(FieldTextAlignment.AUTO).inspect(False)
    made.id(number).title(panel.title).description(_description(panel)).datasource(SOURCE)
    made.unit(panel.unit).thresholds(_thresholds(panel))
    names = {panel.rows_by: panel.rows_by}
    for query, column in zip(_queries(panel), panel.queries, strict=True):
        made.with_target(query.instant().format(PromQueryFormat.TABLE))
        names[f"Value #{query.build().ref_id}"] = column.legend
        is_first = column is panel.queries[0]
        red = [DynamicConfigValue("custom.cellOptions", {"type": "color-background"})] if is_first else []
        made.override_by_name(column.legend, [DynamicConfigValue("unit", column.unit), *red])
    # One table of them all, its columns as they are called here.
    made.with_transformation(DataTransformerConfig(id_val="merge", options={}))
    order = {name: place for place, name in enumerate(names)}
    options = {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": names}
    made.with_transformation(DataTransformerConfig(id_val="organize", options=options))
    return made


def _description(panel: Panel) -> str:
    return f"{panel.shows}\n\n**When it is red:** {panel.when_red}"


def _thresholds(panel: Panel) -> ThresholdsConfig:
    below, above = ("red", "green") if panel.red_below else ("green", "red")
    steps = [Threshold(value=None, color=below), Threshold(value=panel.red, color=above)]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _queries(panel: Panel) -> list[Dataquery]:
    return [
        Dataquery().ref_id(letter).datasource(SOURCE).expr(query.expression).legend_format(query.legend).range()
        for letter, query in zip("ABCDEFGH", panel.queries, strict=False)
    ]
