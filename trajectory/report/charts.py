"""Altair charts of the report.

All charts of a page share its data sets by name and its controls by parameter; the page's script
fills both in. A chart is a Vega-Lite specification, so it can be exported as it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import altair as alt

from trajectory.schemas import CHECKPOINTS, HEADS, LAYERS, Table

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#999999")
"""Okabe and Ito's colours, which colour-blind readers can tell apart."""

X_TITLES = {"step": "training step", "onset": "training step / step of sink onset"}

_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [3, 5])
"""Solid for the first domain of a world, then others; a trigger is dotted."""

_DASH_NAMES = ("solid", "dashed", "dotted", "dash-dotted", "finely dotted")


def dashes(domains: list[str]) -> dict[str, list[int]]:
    """A line pattern for each domain."""
    language = [d for d in domains if d not in ("trigger", "non_trigger")]
    given = {"non_trigger": _DASHES[0], "trigger": _DASHES[2]}
    patterns = [_DASHES[0], _DASHES[1], *_DASHES[3:]]
    return given | {d: patterns[i % len(patterns)] for i, d in enumerate(language)}


def dash_names(domains: list[str]) -> dict[str, str]:
    """What each domain's line pattern is called."""
    return {d: _DASH_NAMES[_DASHES.index(p)] for d, p in dashes(domains).items() if d in domains}


@dataclass(frozen=True)
class Panel:
    """One chart of the *Trajectories* page.

    Attributes:
        name: its identifier in the page.
        title: what it shows, for people.
        data: name of the page's data set.
        column: the statistic.
        table: the table that defines the statistic.
        axis: title of the y axis.
        log: whether the y axis is logarithmic.
        reference: value of a dashed line, and what it means.
        per_head: whether the head filter applies.
        per_layer: whether the layer filter applies.
        fitted: whether laws are fitted to the statistic.
    """

    name: str
    title: str
    data: str
    column: str
    table: Table
    axis: str
    log: bool = False
    reference: tuple[float, str] | None = None
    per_head: bool = True
    per_layer: bool = True
    fitted: bool = False

    @property
    def definition(self) -> str:
        """The statistic's one definition."""
        field = self.table.schema.field(self.column)
        return str((field.metadata or {})[b"definition"].decode())


PANELS = (
    Panel(
        "sink",
        "Attention sink",
        "heads",
        "sink_excess",
        HEADS,
        "sink weight above its uniform floor",
        reference=(0.0, "uniform attention"),
    ),
    Panel(
        "delta_logit",
        "Sink logit",
        "heads",
        "delta_logit",
        HEADS,
        "Δlogit (nats)",
        reference=(0.0, "no preference for the sink"),
        fitted=True,
    ),
    Panel(
        "value_ratio",
        "Value-state drain",
        "heads",
        "value_ratio",
        HEADS,
        "‖v‖ of the sink / median of the rest",
        log=True,
        reference=(1.0, "like any other value"),
        fitted=True,
    ),
    Panel(
        "residual_ratio",
        "Residual-state peak",
        "layers",
        "residual_ratio",
        LAYERS,
        "‖h‖ of the sink / median of the rest",
        log=True,
        reference=(1.0, "like any other residual"),
        fitted=True,
        per_head=False,
    ),
    Panel(
        "excess_risk",
        "Risk above the oracle (BB)",
        "checkpoints",
        "excess_risk",
        CHECKPOINTS,
        "excess risk (nats/token)",
        log=True,
        per_head=False,
        per_layer=False,
    ),
    Panel(
        "loss",
        "Loss",
        "checkpoints",
        "loss",
        CHECKPOINTS,
        "loss (nats/token)",
        per_head=False,
        per_layer=False,
    ),
)


def trajectory_panel(panel: Panel, groups: list[str], domains: list[str]) -> dict[str, Any]:
    """The Vega-Lite specification of one panel.

    Its parameters are set by the page: ``axis`` ("step" or "onset"), ``shown`` (trajectories),
    ``domains``, ``layer`` ("lead", "all" or a number), ``head`` (the same) and ``fits`` (whether
    the best laws are drawn).
    """
    base = _shown(alt.Chart(alt.NamedData(panel.data)), panel.column)
    patterns = dashes(domains)
    detail = ["trajectory:N", "domain:N"]
    tooltip = [
        alt.Tooltip("trajectory:N"),
        alt.Tooltip("domain:N"),
        alt.Tooltip("step:Q", format=",d"),
    ]
    if panel.per_layer:
        base = base.transform_filter(_choice("layer"))
        detail.append("layer:N")
        tooltip.append(alt.Tooltip("layer:Q", title="layer" if panel.per_head else "depth"))
    if panel.per_head:
        base = base.transform_filter(_choice("head"))
        detail.append("head:N")
        tooltip.append(alt.Tooltip("head:Q"))
    if panel.log:
        base = base.transform_filter(f"datum.{panel.column} > 0")
    tooltip += [alt.Tooltip(f"{name}:Q", format=".3~g") for name in _shown_columns(panel)]
    x = alt.X("x:Q", title=X_TITLES["step"]).scale(type="log", nice=False)
    y = alt.Y(f"{panel.column}:Q", title=panel.axis)
    y = y.scale(type="log", nice=False) if panel.log else y.scale(zero=False)
    colour = alt.Color("group:N", legend=None).scale(
        domain=groups, range=[PALETTE[i % len(PALETTE)] for i in range(len(groups))]
    )
    lines = base.mark_line(strokeWidth=1.6, opacity=0.85, interpolate="linear").encode(
        x=x,
        y=y,
        color=colour,
        strokeDash=alt.StrokeDash("domain:N", legend=None).scale(
            domain=list(patterns), range=list(patterns.values())
        ),
        detail=detail,
    )
    points = lines.mark_point(filled=True, size=28, opacity=0.85).encode(
        strokeDash=alt.Undefined, tooltip=tooltip
    )
    layers = [lines, points]
    if panel.fitted:
        curves = (
            _shown(alt.Chart(alt.NamedData("fits")), "fitted")
            .transform_filter(f"fits && datum.statistic == '{panel.column}'")
            .transform_filter("datum.fitted > 0" if panel.log else "true")
            .mark_line(strokeWidth=7, opacity=0.25, strokeCap="round")
            .encode(
                x=x,
                y=alt.Y("fitted:Q"),
                color=colour,
                detail=["trajectory:N", "domain:N"],
                tooltip=[
                    alt.Tooltip("trajectory:N"),
                    alt.Tooltip("domain:N"),
                    alt.Tooltip("formula:N", title="law"),
                    alt.Tooltip("r2:Q", title="R²", format=".3f"),
                ],
            )
        )
        layers.insert(0, curves)
    if panel.reference is not None:
        value, meaning = panel.reference
        rule = (
            alt.Chart(alt.InlineData(values=[{"y": value, "meaning": meaning}]))
            .mark_rule(strokeDash=[3, 3], color="#888888")
            .encode(y="y:Q", tooltip=alt.Tooltip("meaning:N", title="dashed line"))
        )
        layers.insert(0, rule)
    # On the layered chart: a parameter that two layers bring is a duplicate signal to Vega.
    chart = alt.layer(*layers).add_params(
        alt.param(name="axis", value="step"),
        alt.param(name="shown", value=[]),
        alt.param(name="domains", value=domains),
        alt.param(name="layer", value="lead"),
        alt.param(name="head", value="lead"),
        alt.param(name="fits", value=True),
    )
    specification: dict[str, Any] = chart.properties(width="container", height=240).to_dict()
    return specification


def _shown(chart: alt.Chart, column: str) -> alt.Chart:
    """Rows that the page's controls leave and that the axes can show."""
    return (
        chart.transform_calculate(x="axis == 'onset' ? datum.step / datum.onset : datum.step")
        .transform_filter("isValid(datum.x) && isFinite(datum.x) && datum.x > 0")
        .transform_filter(f"isValid(datum.{column})")
        .transform_filter(
            "indexof(shown, datum.trajectory) >= 0 && indexof(domains, datum.domain) >= 0"
        )
    )


def _choice(filtered: str) -> str:
    """Keep the leading rows, every row, or the rows of one number."""
    return (
        f"{filtered} == 'lead' ? datum.lead_{filtered} : "
        f"{filtered} == 'all' || datum.{filtered} == {filtered}"
    )


def _shown_columns(panel: Panel) -> list[str]:
    extra = {
        "sink_excess": ["sink_excess", "sink_weight", "sink_weight_floor"],
        "residual_ratio": ["residual_ratio", "residual_norm_sink", "residual_norm_rest"],
    }
    return extra.get(panel.column, [panel.column])
