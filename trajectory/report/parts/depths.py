"""Norms, weights and value ratios by depth at the last record, for *Overview* and *Circuit*."""

from __future__ import annotations

import altair as alt
import polars as pl

from trajectory.dynamics.circuit import last_records
from trajectory.dynamics.series import with_group
from trajectory.report import charts, marks, words
from trajectory.report.page import Figure
from trajectory.report.run import Run, domain_rank

BY_DEPTH = (
    ("norms", "residual_norm_sink", "Residual norm of the sink", "layers", "‖h‖ of the sink", True),
    ("weights", "sink_weight", "Weight on the sink", "heads", "mean over heads", False),
    ("values", "value_ratio", "Value ratio", "heads", "‖v‖ of the sink / rest, mean", True),
)
"""Charts by depth: name, column, title, table, axis, and whether that is logarithmic."""


def profiles(run: Run, names: list[str]) -> pl.DataFrame:
    """One row per trajectory, domain and depth at the last record: norms, weights, value ratios."""
    place = ["trajectory", "domain", "step", "layer"]
    heads = last_records(
        run.frame("heads", *place, "head", "sink_weight", "value_ratio").filter(
            pl.col("trajectory").is_in(names)
        )
    )
    of_layers = heads.group_by(place).agg(
        pl.col("sink_weight").mean(),
        pl.col("sink_weight").max().alias("greatest"),
        pl.col("value_ratio").mean(),
    )
    norms = ("residual_norm_sink", "residual_norm_rest", "residual_norm_rest_max")
    streams = last_records(
        run.frame("layers", *place, *norms).filter(pl.col("trajectory").is_in(names))
    )
    joined = streams.join(of_layers, on=place, how="left")
    return with_group(joined.sort("trajectory", "domain", "layer"))


def by_depth(
    run: Run,
    profile: pl.DataFrame,
    name: str,
    column: str,
    title: str,
    table: str,
    axis: str,
    log: bool,
    *,
    domain: bool = True,
) -> Figure:
    """A statistic by depth, a line per trajectory and domain.

    Args:
        run, profile: as ``profiles`` makes it, the page's data set of that name.
        name, column, title, table, axis, log: as in ``BY_DEPTH``.
        domain: whether the page has a list of domains that filters it, and one of runs, which is
            the legend; else several models have a legend of their own.
    """
    base = marks.shown(marks.named("profile"), domain=domain).transform_filter(
        f"isValid(datum.{column})"
    )
    if log:
        base = base.transform_filter(f"datum.{column} > 0")
    told = ["residual_norm_rest", "residual_norm_rest_max"] if table == "layers" else ["greatest"]
    tips = [
        *marks.tips(None, ["trajectory", "domain", "layer", column]),
        *marks.tips(None, told, greatest="greatest of a head"),
    ]
    domains = sorted(profile["domain"].unique(), key=domain_rank)
    pattern = marks.dashed_domain(run, domains) if len(domains) > 1 else marks.dash(run)
    layers = charts.by_depth(
        base,
        "depth" if table == "layers" else "layer",
        marks.value_axis(column, axis, log=log),
        tips,
        color=marks.colour(run) if domain else _named(run, profile),
        strokeDash=pattern,
        detail=["trajectory:N", "domain:N"],
    )
    if column == "value_ratio":
        layers.insert(0, marks.reference(1.0, "like any other value"))
    return Figure(
        name,
        title,
        alt.layer(*layers),
        _depth_reading(profile, column, log, "at depth" if table == "layers" else "in layer"),
        data="profile",
        table=table,
        definition=f"by depth at the last checkpoint; {axis}",
        narrow=True,
        height=220,
    )


def _depth_reading(profile: pl.DataFrame, column: str, least_too: bool, where: str) -> str:
    """Where each trajectory has the most of it, and the least."""
    told = []
    for (trajectory,), part in profile.drop_nulls(column).group_by(
        "trajectory", maintain_order=True
    ):
        first = min(part["domain"].unique(), key=domain_rank)
        own = part.filter(domain=first).sort(column, "layer")
        low, high = own.row(0, named=True), own.row(-1, named=True)
        text = f"{words.number(high[column])} {where} {high['layer']}"
        if least_too:
            text += f" and {words.number(low[column])} {where} {low['layer']}"
        told.append(f"{text} ({trajectory} on {first})")
        if len(told) == words.LISTED_GROUPS:
            break
    what = "Most and least" if least_too else "Most"
    return f"{what}: {words.listed(told)}."


def _named(run: Run, profile: pl.DataFrame) -> alt.Color:
    """The colour of each model, with a legend of those that are drawn if they are several."""
    drawn = [group for group in run.colours if group in set(profile["group"])]
    if len(drawn) < 2:
        return marks.colour(run)
    legend = alt.Legend(
        orient="top", values=drawn, symbolType="circle", symbolOpacity=1, symbolStrokeWidth=2
    )
    return marks.colour(run).title(None).legend(legend)
