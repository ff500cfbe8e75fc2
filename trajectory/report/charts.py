"""Charts that pages and notebooks share: what they draw is handed to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl

from trajectory.report import axes, marks
from trajectory.report.palette import dashes, kinds, scheme
from trajectory.report.run import Run, domain_rank
from trajectory.schemas import Table

BULK = (0.005, 0.995)
"""Quantiles of all records between which colours change, so that no single head takes the scale."""

MOST_SIZES = 8
"""Numbers of a scale of colours that its legend names."""

PICKED = "#D55E00"
"""Around the head that is chosen."""


def head_map(
    base: alt.Chart,
    column: str,
    title: str,
    scale: Mapping[str, Any],
    tooltip: Sequence[alt.Tooltip],
    **mark: Any,
) -> alt.Chart:
    """Layer × head, a cell each, coloured by a statistic.

    Args:
        base: rows with ``layer``, ``head``, ``column`` and ``picked``.
        column: of the statistic.
        title: of the colours' legend.
        scale: of the colours, as ``head_scale`` makes it.
        tooltip: of a cell.
        mark: how cells are drawn.
    """
    return base.mark_rect(**mark).encode(
        x=alt.X("head:O", title="head").axis(labelAngle=0, labelOverlap=True, labelSeparation=5),
        y=alt.Y("layer:O", title="layer", sort="descending"),
        color=alt.Color(f"{column}:Q", title=title)
        .scale(**scale)
        .legend(orient="top", gradientLength=180, titleLimit=400),
        stroke=alt.condition("datum.picked", alt.value(PICKED), alt.value("transparent")),
        strokeWidth=alt.condition("datum.picked", alt.value(3), alt.value(0)),
        tooltip=list(tooltip),
    )


def balance() -> list[alt.Chart]:
    """Where a phase portrait's axes mean nothing special: no drain, and uniform attention."""
    return [
        marks.reference(1.0, "a value like any other"),
        marks.reference(0.0, "uniform attention", vertical=True),
    ]


def course(
    base: alt.Chart, told: Mapping[str, Any], tooltip: Sequence[alt.Tooltip]
) -> list[alt.Chart]:
    """A line through each head's records, and its records from dark to bright.

    Args:
        base: rows with ``step``, and their place.
        told: colours and patterns of lines.
        tooltip: of a record.
    """
    line = base.mark_line(strokeWidth=1.8, clip=True).encode(**told)
    points = base.mark_point(
        filled=True, size=34, opacity=1, clip=True, stroke=marks.GREY, strokeWidth=0.6
    ).encode(
        fill=alt.Fill("step:Q", title="training step")
        .scale(type="log", scheme="inferno")
        .legend(orient="top", gradientLength=180, format="~s"),
        tooltip=list(tooltip),
    )
    return [line, points]


LINE = {"opacity": 1}
"""How lines over training are drawn: see-through, a third of the colours would have less than the
least contrast to the paper."""

POINT = {"size": 26, "opacity": 1}
"""How their records are drawn."""


def over_training(
    base: alt.Chart,
    y: alt.Y,
    tooltip: Sequence[alt.Tooltip],
    *,
    x: alt.X | None = None,
    line: Mapping[str, Any] = LINE,
    point: Mapping[str, Any] = POINT,
    look: Mapping[str, Any] | None = None,
    **channels: Any,
) -> list[alt.Chart]:
    """Lines of a statistic over training, and a point for each record.

    Args:
        base: rows with a step, or what ``x`` is of.
        y: the statistic's axis.
        tooltip: of a record.
        x: log steps if None.
        line, point: how the marks are drawn.
        look: channels of the lines alone: patterns, widths.
        channels: of both: colours, and what tells lines apart.
    """
    encoded = base.encode(x=x or marks.step_axis(), y=y, **channels)
    return [
        encoded.mark_line(**line).encode(**(look or {})),
        encoded.mark_point(filled=True, **point).encode(tooltip=list(tooltip)),
    ]


def lines(
    run: Run,
    data: str,
    column: str,
    table: Table,
    *,
    title: str | None = None,
    log: bool | None = None,
    detail: Sequence[str] = (),
    extra: Sequence[str] = (),
    line: Mapping[str, Any] | None = None,
    x: alt.X | None = None,
) -> list[alt.Chart]:
    """``over_training`` of one statistic of a page's data set, filtered by the page's controls."""
    log = column in marks.LOGARITHMIC if log is None else log
    return over_training(
        marks.drawable(marks.shown(marks.named(data)), column, log=log),
        marks.value_axis(column, title or marks.titled(table, column), log=log),
        marks.tips(table, ["trajectory", "domain", "step", *detail, column, *extra]),
        x=x,
        line={**LINE, **(line or {})},
        look=marks.look(run),
        color=marks.colour(run),
        detail=["trajectory:N", "domain:N", *(f"{name}:N" for name in detail)],
    )


def depth_axis(title: str, ticks: Sequence[int] = ()) -> alt.X:
    """Layers in the order of their numbers, whole ones; ``ticks`` where what is drawn is known."""
    given = {"values": list(ticks)} if ticks else {}
    axis = alt.X("layer:Q", title=title).axis(**axes.whole("x") | given)
    found: alt.X = axis.scale(zero=False, nice=False, padding=6)
    return found


def by_depth(
    base: alt.Chart,
    of: str,
    y: alt.Y,
    tooltip: Sequence[alt.Tooltip],
    *,
    strokeDash: alt.StrokeDash,
    ticks: Sequence[int] = (),
    **channels: Any,
) -> list[alt.Chart]:
    """Lines of a statistic by depth, and a point for each layer.

    Args:
        base: rows with ``layer``.
        of: what layers are called: "layer", or "depth" of the residual stream.
        y: the statistic's axis.
        tooltip: of a point.
        strokeDash: patterns of the lines.
        ticks: layers that the axis names; where the scale would have them if there are none.
        channels: of lines and points: colours, and what tells lines apart.
    """
    encoded = base.encode(x=depth_axis(of, ticks), y=y, **channels)
    return [
        encoded.mark_line(strokeWidth=1.8).encode(strokeDash=strokeDash),
        encoded.mark_point(filled=True, size=22, opacity=1).encode(tooltip=list(tooltip)),
    ]


def of_family(rows: pl.DataFrame, statistic: str, title: str, colour: str, axis: str) -> Any:
    """A line of each run and domain over training, coloured by what tells the runs apart.

    Args:
        rows: what is drawn; the chart's data are handed to it afterwards.
        statistic, axis, colour: columns; numbers have a logarithmic scale of colours.
        title: of the statistic's axis.
    """
    if rows[colour].dtype.is_numeric():
        shade = alt.Color(f"{colour}:Q", title=colour).scale(type="log", scheme=scheme("viridis"))
        told = rows[colour].drop_nulls().unique().sort().to_list()
        told = told[:: -(-len(told) // MOST_SIZES)] if told else told
        shade = shade.legend(orient="top", type="symbol", values=told, format=".3~s")
    else:
        looks = kinds(rows[colour].drop_nulls().unique().sort().to_list())
        shade = alt.Color(f"{colour}:N", title=colour).legend(orient="top", columns=4)
        shade = shade.scale(domain=list(looks), range=list(looks.values()))
    called = "training step" if axis == "step" else "training tokens"
    domains = sorted(rows["domain"].unique(), key=domain_rank)
    patterns = dashes(domains)
    pattern = alt.StrokeDash(
        "domain:N", legend=alt.Legend(orient="top") if len(domains) > 1 else None
    ).scale(domain=domains, range=[patterns[name] for name in domains])
    drawn = over_training(
        alt.Chart(),
        marks.value_axis(statistic, title, log=statistic in marks.LOGARITHMIC),
        marks.tips(None, ["trajectory", "domain", "step", statistic]),
        x=marks.step_axis(called, axis),
        line={"strokeWidth": 2},
        point={"size": 24, "opacity": 1},
        look={"strokeDash": pattern},
        detail=["trajectory:N", "domain:N"],
        color=shade,
    )
    return alt.layer(*drawn)


def head_scale(values: pl.Series, name: str) -> dict[str, Any]:
    """The statistic's colour scale, one for all of its values: bright is more of it."""
    if name == "sink_excess":
        return {"scheme": "viridis", "domain": [0, 1], "clamp": True, "type": "linear"}
    log = name in marks.LOGARITHMIC
    usable = values.drop_nulls()
    usable = usable.filter(usable > 0) if log else usable
    low, high = (usable.quantile(q) for q in BULK) if usable.len() else (None, None)
    if low is None or high is None or low == high:
        low, high = (0.5, 2.0) if log else (-1.0, 1.0)
    kind = "log" if log else "linear"
    return {
        "scheme": "viridis", "domain": [low, high], "clamp": True, "type": kind, "reverse": log,
    }  # fmt: skip
