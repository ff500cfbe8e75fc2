"""*Dynamics*: onsets, laws and coupling, with their intervals."""

from __future__ import annotations

import altair as alt
import polars as pl

from trajectory.report import marks, series, words
from trajectory.report.missing import reason
from trajectory.report.page import Block, Cell, Figure, Grid, Heading, Missing, Page
from trajectory.report.run import Run, dormant
from trajectory.schemas import ONSETS


def make(run: Run) -> Page:
    """The page."""
    onsets = _onsets(run)
    blocks: list[Block] = [Heading("When sinks appear"), _intervals(run, onsets)]
    blocks += [Heading("First laws", _LAWS_TEXT), *_laws(run)]
    return Page(
        "dynamics",
        "Dynamics",
        "What laws do the three phenomena follow, and which comes first?",
        "Onsets, curves and couplings fitted to both worlds, each with its interval.",
        blocks,
        marks.filters(run),
        {"onsets": onsets},
        part="Explained",
    )


_LAWS_TEXT = (
    "The curve with the least AICc for each lead head (Δlogit, value ratio) and for the depth with "
    "the peak (residual ratio), from the last record before the sink's onset, or from the first "
    "step where none appears. Records of one run are autocorrelated: read these as descriptions, "
    "not as tests."
)


def _onsets(run: Run) -> pl.DataFrame:
    rows = run.sink_onsets.filter(pl.col("leads_layer")).collect()
    found = series.described(rows.drop("onset"), run)
    return found.with_columns(
        pl.concat_str("trajectory", pl.lit(" · "), "domain", pl.lit(" · L"), "layer").alias("row")
    )


def _intervals(run: Run, onsets: pl.DataFrame) -> Figure:
    base = (
        marks.shown(marks.named("onsets"))
        .transform_filter("datum.status == 'observed' && datum.by_step > 0")
        .transform_calculate(low="max(datum.after_step, 1)")
    )
    y = alt.Y("layer:O", title="layer", sort="descending")
    bars = base.mark_bar(height=7, opacity=0.6, cornerRadius=3).encode(
        x=alt.X("low:Q", title="training step").scale(type="log", nice=False).axis(format="~s"),
        x2="by_step:Q",
        y=y,
        yOffset=alt.YOffset("group:N", sort=run.groups),
        color=marks.colour(run),
        tooltip=marks.tips(
            ONSETS, ["trajectory", "domain", "layer", "head", "after_step", "by_step", "onset"]
        ),
    )
    rows = dormant(run.leads.with_columns(pl.col("onset")))
    seen = rows.filter(pl.col("status") == "observed")
    return Figure(
        "onsets",
        "Between which records each layer's lead head becomes a sink",
        bars,
        f"{seen.height} of {words.count(rows.height, 'lead head')} cross the threshold between two "
        f"records; the onset lies near step {words.per_group(seen, 'onset', 0)}."
        if seen.height
        else "No lead head crosses the threshold between two records.",
        data="onsets",
        table="onsets",
        definition=marks.definition(ONSETS, "by_step"),
        wide=True,
        height=320,
    )


def _laws(run: Run) -> list[Block]:
    laws = dormant(series.best_laws(run)).to_dicts() if run.has("laws") else []
    if not laws:
        return [Missing("Laws", reason("laws"))]
    rows = [
        [
            row["statistic"],
            row["trajectory"],
            row["domain"],
            Cell(f"{row['first_step']}–{row['last_step']}", "number"),
            row["formula"],
            ", ".join(f"{name} = {value:.3g}" for name, value in row["parameters"].items()),
            Cell("—" if row["r2"] is None else f"{row['r2']:.3f}", "number"),
        ]
        for row in laws
    ]
    head = ["statistic", "trajectory", "domain", "steps", "curve", "parameters", "R²"]
    return [Grid("laws", head, rows, fold=20)]
