"""The curves that statistics follow: the second part of *Dynamics*."""

from __future__ import annotations

import altair as alt
import polars as pl

from trajectory.report import marks, palette, series, words
from trajectory.report.controls import Choice
from trajectory.report.missing import reason
from trajectory.report.page import Block, Captions, Cell, Figure, Folded, Grid, Missing, Part
from trajectory.report.run import Run, dormant, world_rank
from trajectory.schemas import LAWS

VERDICTS = ("named", "plausible", "excluded", "constant")
VERDICT_COLOURS = (palette.KINDS[0], palette.QUIET, palette.KINDS[1], palette.KINDS[4])

MAIN = ("delta_logit", "value_ratio", "residual_ratio")
"""Statistics that the table shows first."""

TEXT = (
    "Competing curves, fitted from just before the sink's onset (from the first step where there "
    "is none). A law is named where likelihood and hold-out single it out. A case is "
    "one head that leads its layer, or one depth, on one domain of one run."
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
    blocks: list[Block] = [_verdicts(counted, statistics), Folded("Every fit", [_table(run)])]
    answer = _answer(counted)
    return Part("law", "Laws", TEXT, blocks, controls, {"verdicts": counted}, answer)


def _statistic_rank(name: str) -> tuple[int, str]:
    return (MAIN.index(name) if name in MAIN else len(MAIN)), name


def _verdicts(counted: pl.DataFrame, statistics: list[str]) -> Figure:
    there = set(counted["verdict"])
    looks = {v: c for v, c in zip(VERDICTS, VERDICT_COLOURS, strict=True) if v in there}
    chart = (
        marks.named("verdicts")
        .transform_filter("datum.statistic == fitted_statistic")
        .mark_bar()
        .encode(
            x=alt.X("series:Q", title="share of the cases", stack="normalize").axis(format="%"),
            y=alt.Y("law:N", title=None).axis(labelExpr=marks.SPOKEN),
            color=alt.Color("verdict:N", title=None)
            .scale(domain=list(looks), range=list(looks.values()))
            .legend(orient="top"),
            order="place:Q",
            tooltip=["statistic:N", "law:N", "formula:N", "verdict:N", "series:Q"],
        )
    )
    captions = Captions.of("fitted_statistic", statistics, lambda s: _verdicts_reading(counted, s))
    return Figure(
        "verdicts",
        "Which curves the data leave",
        chart,
        captions.readings[(statistics[0],)],
        captions=captions,
        data="verdicts",
        table="laws",
        definition=marks.definition(LAWS, "verdict"),
        wide=True,
        height=260,
    )


def _named(counted: pl.DataFrame, statistic: str) -> tuple[pl.DataFrame, int]:
    """The named laws of a statistic, the most frequent first, and its number of series."""
    own = counted.filter(pl.col("statistic") == statistic)
    total = int(own.group_by("law").agg(pl.col("series").sum())["series"].max())  # type: ignore[arg-type]
    named = own.filter(pl.col("verdict") == "named")
    return named.sort("series", "law", descending=[True, False]), total


def _answer(counted: pl.DataFrame) -> str:
    """How many series of the main statistics have a named law."""
    told = []
    for statistic in MAIN:
        if (counted["statistic"] == statistic).any():
            named, total = _named(counted, statistic)
            told.append(f"{named['series'].sum()} of {total} cases of {marks.called(statistic)}")
    return f"One law is named for {words.listed(told)}." if told else ""


def _verdicts_reading(counted: pl.DataFrame, statistic: str) -> str:
    """How many series of the statistic have a named law, and which curves most of them exclude."""
    own = counted.filter(pl.col("statistic") == statistic)
    named, total = _named(counted, statistic)
    told = words.listed(
        [f"{row['series']} × {row['law'].replace('_', ' ')}" for row in named.to_dicts()]
    )
    excluded = own.filter((pl.col("verdict") == "excluded") & (2 * pl.col("series") > total))
    laws = words.listed([law.replace("_", " ") for law in sorted(excluded["law"])])
    return (
        f"{int(named['series'].sum())} of {total} cases have one "
        f"named law{f' ({told})' if told else ''}; "
        + (f"more than half exclude {laws}." if laws else "no curve is excluded by more than half.")
    )


def _table(run: Run) -> Grid:
    rows = [
        [
            marks.called(row["statistic"]),
            row["trajectory"],
            row["domain"],
            Cell(f"{row['first_step']}–{row['last_step']}", "number"),
            row["formula"],
            Cell(_parameters(row), "long"),
            Cell(words.number(row["r2"], 3), "number"),
            Cell(row["verdict"], "yes" if row["verdict"] == "named" else "no"),
        ]
        for row in sorted(
            dormant(series.best_laws(run)).to_dicts(),
            key=lambda row: (_statistic_rank(row["statistic"]), world_rank(row["trajectory"])),
        )
    ]
    head = ["statistic", "run", "domain", "steps", "curve", "parameters, 95 % interval",
            "R²", "verdict"]  # fmt: skip
    note = (
        "The identified curve with the least AICc; excluded where one whose parameters the "
        "checkpoints leave open fits better by far. Intervals: block bootstrap of residuals."
    )
    return Grid("laws", head, rows, note, fold=6)


def _parameters(row: dict[str, object]) -> str:
    values, low, high = (dict(row[name] or {}) for name in ("parameters", "low", "high"))  # type: ignore[call-overload]
    parts = []
    for name, value in values.items():
        ends = words.interval(low.get(name), high.get(name))
        parts.append(f"{name} = {words.number(value)}" + (f" {ends}" if ends else ""))
    return ", ".join(parts)
