"""The curves that statistics follow: the second part of *Dynamics*."""

from __future__ import annotations

import altair as alt
import polars as pl

from trajectory.report import marks, series, words
from trajectory.report.missing import reason
from trajectory.report.page import Block, Cell, Choice, Figure, Grid, Missing, Part
from trajectory.report.run import Run, dormant, world_rank
from trajectory.schemas import LAWS

VERDICTS = ("named", "plausible", "excluded", "constant")
VERDICT_COLOURS = ("#009E73", "#56B4E9", "#D5DBE1", "#999999")

MAIN = ("delta_logit", "value_ratio", "residual_ratio")
"""Statistics that the table shows first."""

TEXT = (
    "Competing curves fitted with correlated noise from the last record before the sink's onset, "
    "or from the first step where none appears. A law is named only where likelihood and hold-out "
    "tell it apart from all others."
)


def make(run: Run) -> Part:
    """The part."""
    if not run.has("laws"):
        return Part("law", "Laws", TEXT, [Missing("Laws", reason("laws"))])
    counted = (
        run.scan("laws")
        .filter(pl.col("window") == "onset")
        .group_by("statistic", "law", "formula", "verdict")
        .agg(pl.len().alias("series"))
        .collect()
        .with_columns(
            pl.col("verdict")
            .replace_strict({v: i for i, v in enumerate(VERDICTS)}, default=9)
            .alias("place")
        )
        .sort("statistic", "law", "place")
    )
    statistics = sorted(counted["statistic"].unique(), key=_statistic_rank)
    options = [(name, marks.called(name)) for name in statistics]
    controls = [Choice("fitted_statistic", "of", options, statistics[0], "Laws")]
    blocks: list[Block] = [_verdicts(counted), _table(run)]
    return Part("law", "Laws", TEXT, blocks, controls, {"verdicts": counted})


def _statistic_rank(name: str) -> tuple[int, str]:
    return (MAIN.index(name) if name in MAIN else len(MAIN)), name


def _verdicts(counted: pl.DataFrame) -> Figure:
    chart = (
        marks.named("verdicts")
        .transform_filter("datum.statistic == fitted_statistic")
        .mark_bar()
        .encode(
            x=alt.X("series:Q", title="share of the series", stack="normalize").axis(format="%"),
            y=alt.Y("law:N", title=None),
            color=alt.Color("verdict:N", title=None)
            .scale(domain=list(VERDICTS), range=list(VERDICT_COLOURS))
            .legend(orient="top"),
            order="place:Q",
            tooltip=["statistic:N", "law:N", "formula:N", "verdict:N", "series:Q"],
        )
    )
    named = int(counted.filter(pl.col("verdict") == "named")["series"].sum())
    per_statistic = counted.group_by("statistic", "law").agg(pl.col("series").sum())
    total = int(per_statistic.group_by("statistic").agg(pl.col("series").max())["series"].sum())
    return Figure(
        "verdicts",
        "Which curves the records leave",
        chart,
        f"{named} of {total} series of a head or a depth have one named law; the others are "
        "undecided between the curves that are not excluded.",
        data="verdicts",
        table="laws",
        definition=marks.definition(LAWS, "verdict"),
        wide=True,
        height=260,
    )


def _table(run: Run) -> Grid:
    rows = [
        [
            row["statistic"],
            row["trajectory"],
            row["domain"],
            Cell(f"{row['first_step']}–{row['last_step']}", "number"),
            row["formula"],
            Cell(_parameters(row), "long"),
            Cell("—" if row["r2"] is None else f"{row['r2']:.3f}", "number"),
            Cell(row["verdict"], "yes" if row["verdict"] == "named" else "no"),
        ]
        for row in sorted(
            dormant(series.best_laws(run)).to_dicts(),
            key=lambda row: (_statistic_rank(row["statistic"]), world_rank(row["trajectory"])),
        )
    ]
    head = ["statistic", "trajectory", "domain", "steps", "curve", "parameters, 95 % interval",
            "R²", "verdict"]  # fmt: skip
    note = (
        "The curve with the least AICc of each lead head (Δlogit, value ratio) and of the depth "
        "with the peak (residual ratio). Intervals: block bootstrap of the whitened residuals."
    )
    return Grid("laws", head, rows, note, fold=12)


def _parameters(row: dict[str, object]) -> str:
    values, low, high = (dict(row[name] or {}) for name in ("parameters", "low", "high"))  # type: ignore[call-overload]
    parts = []
    for name, value in values.items():
        ends = words.interval(low.get(name), high.get(name))
        parts.append(f"{name} = {words.number(value)}" + (f" {ends}" if ends else ""))
    return ", ".join(parts)
