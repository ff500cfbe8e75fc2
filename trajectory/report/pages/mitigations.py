"""*Mitigations*: which change of attention or optimiser removes which phenomenon."""

from __future__ import annotations

import altair as alt
import polars as pl

from trajectory.report import marks, words
from trajectory.report.page import Block, Figure, Missing, Page
from trajectory.report.run import Run, dormant, is_bb, with_group
from trajectory.schemas import PHENOMENA


def make(run: Run) -> Page:
    """The page."""
    title = "Which change of attention or optimiser removes which phenomenon?"
    lead = "Every Bigram-Backcopy variant at its last record, a point per seed."
    if not any(map(is_bb, run.trajectories)):
        missing = Missing("Mitigations", "its config names no Bigram-Backcopy variant")
        return Page("mitigations", "Mitigations", title, lead, [missing])
    rows = dormant(run.phenomena).filter(pl.col("trajectory").str.starts_with("bb/"))
    ends = with_group(rows)
    blocks: list[Block] = [
        _strip(run, ends, "sink_excess", "sink excess over the uniform floor", "sink", False),
        _strip(run, ends, "value_ratio", "value ratio, sink / rest", "drain", True),
        _strip(run, ends, "residual_ratio", "residual ratio, sink / rest", "peak", True),
    ]
    return Page(
        "mitigations", "Mitigations", title, lead, blocks, [marks.legend(run)], {"ends": ends}
    )


def _strip(
    run: Run, ends: pl.DataFrame, column: str, axis: str, phenomenon: str, log: bool
) -> Figure:
    x = alt.X(f"{column}:Q", title=axis)
    x = x.scale(type="log", nice=True) if log else x.scale(zero=True)
    points = (
        marks.shown(marks.named("ends"), domain=False)
        .mark_point(filled=True, size=70, opacity=0.85)
        .encode(
            x=x,
            y=alt.Y("group:N", title=None, sort=run.groups).axis(labelLimit=180),
            color=marks.colour(run),
            tooltip=marks.tips(PHENOMENA, ["trajectory", "last_step", "layer", "head", column]),
        )
    )
    there = sorted(ends.filter(pl.col(phenomenon))["group"].unique())
    absent = sorted(set(ends["group"]) - set(there))
    name = {"sink": "a sink", "drain": "a drain", "peak": "a peak"}[phenomenon]
    reading = (
        f"{words.listed(there) if there else 'No variant'} "
        f"{'end' if len(there) > 1 else 'ends'} with {name}"
        + (f"; {words.listed(absent)} without." if there and absent else ".")
    )
    line = {
        "sink": (run.config.dynamics.sink_threshold, "threshold of a sink"),
        "drain": (run.config.dynamics.drain_threshold, "threshold of a drain"),
        "peak": (run.config.dynamics.peak_threshold, "threshold of a peak"),
    }[phenomenon]
    return Figure(
        phenomenon,
        {"sink": "Sink", "drain": "Drain", "peak": "Peak"}[phenomenon] + " at the end",
        alt.layer(marks.reference(*line, vertical=True), points),
        reading,
        data="ends",
        table="phenomena",
        definition=marks.definition(PHENOMENA, column),
        height=max(120, 26 * ends["group"].n_unique()),
    )
