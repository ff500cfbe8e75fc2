"""What all charts share: axes, colours, tooltips, filters, reference lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl

from trajectory.dynamics.series import group_of
from trajectory.report.controls import Checks, Control, Legend, Value
from trajectory.report.page import Captions
from trajectory.report.palette import dashes, kinds
from trajectory.report.run import Run
from trajectory.schemas import Table

GREY = "#888888"
"""Of reference lines: seen on white and on black."""

NAMES = {
    "trajectory": "run",
    "group": "model",
    "delta_logit": "Δlogit",
    "delta_logit_sd": "spread of Δlogit",
    "delta_logit_bb": "Δlogit, BB code's definition",
    "delta_logit_lm": "Δlogit, OLMo notebook's definition",
    "sink_log_odds": "sink log-odds",
    "sink_weight_floor": "uniform floor",
    "sink_rate": "share of sequences with a sink",
    "r2": "R²",
}
"""Columns whose name alone does not say enough."""

RATIOS = {"value_ratio", "output_value_ratio", "residual_ratio"}
"""Statistics of the sink over those of the rest, as axes say."""

LOGARITHMIC = {
    "value_ratio",
    "output_value_ratio",
    "residual_ratio",
    "residual_norm_sink",
    "residual_norm_rest",
    "residual_norm_rest_max",
    "massive_top",
    "massive_ratio",
    "kurtosis",
    "excess_risk",
}
"""Statistics that are positive and span decades."""


SPOKEN = "datum.label == 'delta_logit' ? 'Δlogit' : replace(datum.label, /[_-]/g, ' ')"
"""The same for the labels of an axis or a legend, as an expression of Vega."""


def called(column: str) -> str:
    """A column's name for people."""
    return NAMES.get(column, column.replace("_", " "))


def unit(table: Table, column: str) -> str:
    """A column's unit, '' if it has none."""
    return _fact(table, column, b"unit")


def definition(table: Table, column: str) -> str:
    """A column's one definition."""
    return _fact(table, column, b"definition")


def _fact(table: Table, column: str, fact: bytes) -> str:
    return ((table.schema.field(column).metadata or {}).get(fact) or b"").decode()


def titled(table: Table, column: str) -> str:
    """A column's name with its unit: the title of an axis."""
    name = f"{called(column)}, sink / rest" if column in RATIOS else called(column)
    return _with_unit(name, table, column)


def spoken(table: Table, column: str) -> str:
    """A column's name with its unit, inside a sentence."""
    return _with_unit(called(column), table, column)


def _with_unit(name: str, table: Table, column: str) -> str:
    found = unit(table, column)
    said = found.removesuffix("s") == name.removesuffix("s")  # steps of a step
    return f"{name} ({found})" if found and not said else name


def tips(table: Table | None, names: Sequence[str], **titles: str) -> list[alt.Tooltip]:
    """Tooltips with units, from the table's own metadata."""
    known = set(table.schema.names) if table else set()
    found = []
    for name in names:
        title = titles.get(name) or (
            titled(table, name) if table and name in known else called(name)
        )
        text = name in ("trajectory", "domain", "group", "fitted", "verdict") or name.endswith(
            "token"
        )
        kind = "N" if text else "Q"
        shape = ",d" if name in ("step", "tokens", "by_step", "after_step") else ".4~g"
        found.append(
            alt.Tooltip(f"{name}:{kind}", title=title)
            if kind == "N"
            else alt.Tooltip(f"{name}:{kind}", title=title, format=shape)
        )
    return found


def colour(run: Run) -> alt.Color:
    """One colour per group; the page's legend is its list of trajectories."""
    found = run.colours
    return alt.Color("group:N", legend=None).scale(domain=list(found), range=list(found.values()))


def dash(run: Run) -> alt.StrokeDash:
    """One line pattern per domain."""
    found = dashes(run.domains)
    return alt.StrokeDash("domain:N", legend=None).scale(
        domain=list(found), range=list(found.values())
    )


def look(run: Run) -> dict[str, Any]:
    """Of lines of ``series.described``: a pattern per domain; thin for toys, thick for language
    models."""
    width = alt.condition("datum.toy", alt.value(1.4), alt.value(3))
    return {"strokeDash": dash(run), "strokeWidth": width}


def by_domain(run: Run, told: Sequence[str], *, lines: bool = False) -> dict[str, Any]:
    """A colour and a line pattern per domain, the same for all trajectories; ``told`` are in the
    legend, as pieces of their lines if the chart draws lines."""
    found = kinds(run.domains)
    legend = alt.Legend(orient="top", values=list(told), symbolStrokeWidth=2)
    if lines:
        legend = alt.Legend(
            **legend.to_dict(), symbolType="stroke", symbolSize=400, symbolOpacity=1
        )
    return {
        "color": alt.Color("domain:N", title="domain", legend=legend).scale(
            domain=list(found), range=list(found.values())
        ),
        "strokeDash": dash(run).legend(legend).title("domain"),
    }


def domains_told(run: Run, trajectories: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Patches that leave each trajectory its own domains in the legend of ``by_domain``: a legend
    whose entries change while it stands is laid out with the old ones' widths."""
    return {
        t: {
            channel: {"legend": {"values": [d for own, d in run.series if own == t]}}
            for channel in ("color", "strokeDash")
        }
        for t in trajectories
    }


DECADES = range(-9, 15)
"""Powers of ten that logarithmic axes name; those outside an axis are not drawn."""


def log_ticks(channel: str) -> dict[str, Any]:
    """Ticks at 1, 2 and 5 of every decade, or where that is too narrow at every decade. (Of its own
    ticks Vega names every other one, and leaves decades out.) An axis so short that it may hold two
    of these or fewer has ticks at even distances, and one of a single value has that."""
    ends, span = f"range('{channel}')", f"domain('{channel}')"
    decade = f"abs({ends}[1] - {ends}[0]) * LN10 / log({span}[1] / {span}[0])"
    room = 110 if channel == "x" else 60
    few = [10.0**k for k in DECADES]
    many = [m * ten for ten in few for m in (1, 2, 5)]
    length = f"({span}[1] - {span}[0])"
    ten = f"pow(10, floor(log({length} / 2) / LN10))"  # 2 to 20 of these are the length
    apart = f"{ten} * ({length} / {ten} > 10 ? 5 : {length} / {ten} > 4 ? 2 : 1)"
    even = f"sequence(ceil({span}[0] / ({apart})) * {apart}, {span}[1] + {apart} / 1000, {apart})"
    short = f"{length} > 0 ? {even} : [{span}[0]]"
    values = f"{span}[1] < 6 * {span}[0] ? ({short}) : {decade} > {room} ? {many} : {few}"
    text = "format(datum.value, datum.value < 1000 ? '~r' : '~s')"
    return {"values": {"expr": values}, "labelExpr": text}


def log_axis(axis: Any, **scale: Any) -> Any:
    """The axis, logarithmic."""
    channel = "x" if isinstance(axis, alt.X) else "y"
    return axis.scale(type="log", nice=False, **scale).axis(grid=True, **log_ticks(channel))


def step_axis(title: str = "training step", column: str = "step") -> Any:
    """Log steps."""
    return log_axis(alt.X(f"{column}:Q", title=title))


def drawn_zero(steps: pl.Series) -> float:
    """Where log axes draw step 0: at half the first step beyond it, at least at 1."""
    beyond = steps.filter(steps > 0)
    return max(1.0, float(beyond.min()) / 2) if beyond.len() else 1.0  # type: ignore[arg-type]


LAG = ["step of the second / first", "(right of 1: as named)"]
"""Title of an axis of ``ratio_ticks`` on which a pair's order can be read, in lines."""


def ratio_ticks() -> dict[str, Any]:
    """Ticks of an axis of ln(ratio) at the ratios themselves, at 1, 2 and 5 of every decade."""
    ratios = sorted(m * 10.0**k for k in range(-4, 5) for m in (1, 2, 5))
    text = "'×' + format(exp(datum.value), '~r')"
    return {"values": [math.log(r) for r in ratios], "labelExpr": text}


def value_axis(column: str, title: str, *, log: bool = False, zero: bool = False) -> Any:
    """The axis of a statistic."""
    axis = alt.Y(f"{column}:Q", title=title)
    return log_axis(axis) if log else axis.scale(zero=zero)


def patched_axis(channel: str, title: str, *, log: bool, **scale: Any) -> dict[str, Any]:
    """What a choice of the axis's column changes of it."""
    if not log:
        return {"title": title, "scale": {"type": "linear", "zero": False, **scale}}
    return {"title": title, "scale": {"type": "log", "nice": False}, "axis": log_ticks(channel)}


def rows_axis(limit: int) -> dict[str, Any]:
    """What an axis of names needs that none of them is cut: they go on in a second line.

    Args:
        limit: pixels of a line; on a phone the page's script takes fewer.
    """
    # A letter of eleven pixels is six wide in the mean.
    line = f"regexp('(.{{1,{limit // 6}}})( |$)', 'g')"
    broken = f"split(trim(replace(datum.label, {line}, '$1\\n')), '\\n')"
    return {"labelLimit": limit, "labelExpr": broken, "labelFontSize": 10, "labelLineHeight": 11}


def named(data: str) -> alt.Chart:
    """A chart of one of the page's data sets."""
    return alt.Chart(alt.NamedData(data))


def shown(chart: alt.Chart, *, domain: bool = True) -> alt.Chart:
    """Rows that the page's list of trajectories and domains leaves."""
    chart = chart.transform_filter("indexof(shown, datum.trajectory) >= 0")
    return chart.transform_filter("indexof(shown_domains, datum.domain) >= 0") if domain else chart


def drawable(chart: alt.Chart, column: str, *, log: bool) -> alt.Chart:
    """Rows that log steps and the statistic's axis can show."""
    chart = chart.transform_filter(f"datum.step > 0 && isValid(datum['{column}'])")
    return chart.transform_filter(f"datum['{column}'] > 0") if log else chart


def reference(value: float, meaning: str, *, vertical: bool = False) -> alt.Chart:
    """A dashed line across the chart, with what it means as its tooltip."""
    data = alt.InlineData(values=[{"at": value, "meaning": meaning}])
    tip = alt.Tooltip("meaning:N", title="dashed line")
    rule = alt.Chart(data).mark_rule(strokeDash=[3, 3], color=GREY, clip=True)
    return rule.encode(x="at:Q", tooltip=tip) if vertical else rule.encode(y="at:Q", tooltip=tip)


def legend(run: Run, trajectories: Sequence[str] | None = None, *, every: bool = False) -> Legend:
    """The list of the run's trajectories, or of some; of those that trained freely, and of all if
    ``every``, the boxes are ticked at first."""
    found = run.colours
    own = run.trajectories if trajectories is None else trajectories
    groups = [(g, found[g], [t for t in own if group_of(t) == g]) for g in run.groups]
    hidden = [] if every else [g for g in run.groups if g not in run.free]
    return Legend([group for group in groups if group[2]], hidden)


def domain_checks(run: Run, domains: Sequence[str] | None = None) -> Checks:
    """The list of the run's domains; of some of them, with all shown at first."""
    options = [(d, d) for d in (run.domains if domains is None else domains)]
    first = run.shown_domains if domains is None else domains
    patterns: dict[Value, Sequence[int]] = {}
    if len(options) > 1:
        patterns.update(dashes(run.domains))
    return Checks("shown_domains", "domain", options, first, "Domain", patterns)


def filters(run: Run, *more: Control) -> list[Control]:
    """The controls that most pages have, after their own."""
    return [*more, domain_checks(run), legend(run)]


def dashed_domain(run: Run, told: Sequence[str]) -> alt.StrokeDash:
    """The line pattern of each domain, of which ``told`` are in the legend: one that takes them
    from the data is laid out wrongly where there are none."""
    return (
        dash(run)
        .title(None)
        .legend(
            orient="top",
            values=list(told),
            symbolType="stroke",
            symbolStrokeColor=GREY,
            symbolStrokeWidth=2,
            symbolSize=300,
        )
    )


def by_series(
    run: Run, read: Callable[[str, str], str], first: tuple[str, str]
) -> tuple[str, Captions]:
    """The reading of every trajectory on every domain, and the first one to stand there."""
    found: dict[tuple[Value, ...], str] = {(t, d): read(t, d) for t, d in run.series}
    return found[first], Captions(("chosen_trajectory", "chosen_domain"), found)


def forest(
    base: alt.Chart,
    table: Table,
    value: str,
    bounds: tuple[str, str],
    title: str | list[str],
    *,
    y: alt.Y,
    tooltip: Sequence[alt.Tooltip],
    log: bool = False,
    domain: Sequence[float] | None = None,
    shape: Any = alt.Undefined,
    ticks: Mapping[str, Any] | None = None,
    **channels: Any,
) -> list[alt.Chart]:
    """Estimates with their intervals, a row each; a point whose interval has an open end is hollow,
    with an arrow to the open side where the other end is known.

    Args:
        base: the rows.
        table: defines the columns.
        value, bounds: columns of the estimate and of the interval's ends.
        title: of the x axis; a list is lines of it.
        y: the rows' axis.
        tooltip: what hovering tells before the numbers.
        log: whether the x axis is logarithmic.
        domain: ends of the x axis, at which what lies beyond is drawn; None shows all.
        shape: of the points.
        ticks: of a linear x axis; None leaves them to Vega.
        channels: colour and offset of all marks.
    """
    low, high = bounds
    told = [*tooltip, *tips(table, [value, low, high])]
    shared = base.encode(y=y, tooltip=told, **channels)

    def on(column: str) -> alt.X:
        axis = alt.X(f"{column}:Q", title=title)
        if domain is not None:
            return axis.scale(domain=list(domain), clamp=True)
        if log:
            return log_axis(axis, padding=8)
        plain = axis.scale(zero=True, padding=8)
        return plain.axis(**ticks) if ticks else plain

    there = shared.transform_filter(f"isValid(datum['{value}'])")
    closed = f"isValid(datum['{low}']) && isValid(datum['{high}'])"
    # To the end that there is: an end that is open begins and ends at the estimate.
    near = there.transform_calculate(
        least=f"isValid(datum['{low}']) ? datum['{low}'] : datum['{value}']",
        most=f"isValid(datum['{high}']) ? datum['{high}'] : datum['{value}']",
    )
    rules = near.mark_rule(strokeWidth=2.5).encode(x=on("least"), x2="most:Q")
    points = there.transform_filter(closed).mark_point(filled=True, size=70, opacity=1)
    hollow = there.transform_filter(f"!({closed})").mark_point(filled=False, size=70, opacity=1)
    layers = [rules, *(drawn.encode(x=on(value), shape=shape) for drawn in (points, hollow))]
    for bound, known, side, offset in ((low, high, "left", -11), (high, low, "right", 11)):
        one_sided = f"!isValid(datum['{bound}']) && isValid(datum['{known}'])"
        arrow = there.transform_filter(one_sided).mark_point(
            shape=f"triangle-{side}", filled=True, size=55, xOffset=offset, opacity=1
        )
        layers.append(arrow.encode(x=on(value)))
    return layers
