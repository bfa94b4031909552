"""The dashboards as Grafana reads them: JSON by grafana-foundation-sdk, whose types a checker can look at."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueTextMode,
    LegendDisplayMode,
    LegendPlacement,
    TooltipDisplayMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    GridPos,
    VariableRefresh,
    VariableSort,
)

from bohdi_monitoring.panels import Board, Panel, Variable

TAG = "bohdi"
_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_WIDTH, _HEIGHT, _GRID = {"number": 6, "lines": 8, "bars": 8}, {"number": 5, "lines": 8, "bars": 8}, 24
_LAST = common.ReduceDataOptions().calcs(["lastNotNull"])
_AnyPanel = timeseries.Panel | stat.Panel | bargauge.Panel


def as_json(board: Board) -> str:
    """The dashboard's file."""
    return str(JSONEncoder(sort_keys=True, indent=1).encode(_built(board).build())) + "\n"


def _built(board: Board) -> dashboard.Dashboard:
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.says)
        .tags([TAG])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .link(
            dashboard.DashboardLink("Bohdi")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for variable in board.variables:
        made = made.with_variable(_variable(variable))
    y, ids = 0, count(1)
    for title, panels in board.rows:
        made = made.with_row(dashboard.Row(title).id(next(ids)).grid_pos(GridPos(x=0, y=y, w=_GRID, h=1)))
        for panel, place in _placed(panels, y + 1):
            made = made.with_panel(_panel(panel).id(next(ids)).grid_pos(place))
            y = max(y, place.y + place.h)
    return made


def _variable(variable: Variable) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(variable.name)
        .label(variable.name.capitalize())
        .datasource(_SOURCE)
        .query(f"label_values({variable.metric}, {variable.label})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )


def _placed(panels: tuple[Panel, ...], y: int) -> Iterator[tuple[Panel, GridPos]]:
    """Side by side from `y` down, wrapped where the grid ends."""
    x = height = 0
    for panel in panels:
        if x + _WIDTH[panel.kind] > _GRID:
            x, y, height = 0, y + height, 0
        yield panel, GridPos(x=x, y=y, w=_WIDTH[panel.kind], h=_HEIGHT[panel.kind])
        x, height = x + _WIDTH[panel.kind], max(height, _HEIGHT[panel.kind])


def _panel(panel: Panel) -> _AnyPanel:
    made: _AnyPanel
    match panel.kind:
        case "number":
            made = stat.Panel().text_mode(BigValueTextMode.VALUE_AND_NAME).reduce_options(_LAST)
        case "bars":
            made = bargauge.Panel().orientation(VizOrientation.HORIZONTAL).reduce_options(_LAST)
        case _:
            legend = common.VizLegendOptions().show_legend(True).display_mode(LegendDisplayMode.TABLE)
            made = (
                timeseries.Panel()
                .legend(legend.placement(LegendPlacement.BOTTOM).calcs(["lastNotNull", "max"]))
                .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
                .fill_opacity(8)
            )
    made = made.title(panel.title).description(panel.says).unit(panel.unit).datasource(_SOURCE).min(0)
    if panel.most is not None:
        made = made.max(panel.most)
    for number, query in enumerate(panel.queries):
        asked = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(chr(ord("A") + number))
        made = made.with_target(asked if panel.kind == "lines" else asked.instant())
    return made
