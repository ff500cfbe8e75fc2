"""*Mitigations*: which change of attention or optimiser removes which phenomenon."""

from __future__ import annotations

import altair as alt
import polars as pl

from trajectory.report import marks, words
from trajectory.report.missing import reason
from trajectory.report.page import Block, Control, Figure, Heading, Missing, Page
from trajectory.report.parts.comparisons import forest, measured
from trajectory.report.run import Run, dormant, is_bb, with_group
from trajectory.schemas import BB_SCALARS, PHENOMENA

SECTIONS = {
    "mitigations": "Mitigations",
    "structures": "Structures",
    "tasks": "Tasks",
}
"""Sections of experiments, in the order of the page."""


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
    data = {"ends": ends}
    blocks.append(Heading("Against the control, seed by seed"))
    for section, called in SECTIONS.items():
        figure, compared = forest(run, section, section, called)
        blocks.append(figure)
        data |= compared
    if run.has("bb_scalars"):
        data["scalars"] = with_group(run.frame("bb_scalars"))
        blocks.append(_price(run, data["scalars"]))
    else:
        blocks.append(Missing("The price in loss", reason("bb_scalars"), "price"))
    own = [t for t in run.trajectories if is_bb(t)]
    controls: list[Control] = [*measured(run), marks.legend(run, own)]
    return Page(
        "mitigations", "Mitigations", title, lead, blocks, controls, data, answer=_answer(ends)
    )


def _answer(ends: pl.DataFrame) -> str:
    """Which variants end without each phenomenon in any of their seeds."""
    parts = []
    for phenomenon in ("sink", "drain", "peak"):
        there = set(ends.filter(pl.col(phenomenon))["group"])
        absent = sorted(set(ends["group"]) - there)
        few = absent if len(absent) <= words.LISTED_GROUPS else [f"{len(absent)} variants"]
        parts.append(f"without a {phenomenon}: {words.listed(few) if few else 'none'}")
    return f"Of {words.count(ends['group'].n_unique(), 'variant')} these end {'; '.join(parts)}."


def _price(run: Run, scalars: pl.DataFrame) -> Figure:
    points = (
        marks.shown(marks.named("scalars"), domain=False)
        .transform_filter("isValid(datum.sink_excess) && datum.match == 'step'")
        .mark_point(filled=True, size=70, opacity=0.85)
        .encode(
            x=alt.X("loss:Q", title=marks.titled(BB_SCALARS, "loss")).scale(zero=False, padding=10),
            y=alt.Y("sink_excess:Q", title="sink excess over the uniform floor"),
            color=marks.colour(run),
            tooltip=[
                *marks.tips(BB_SCALARS, ["trajectory", "step", "loss", "backcopy_excess"]),
                *marks.tips(BB_SCALARS, ["bigram_excess", "sink_excess", "value_ratio"]),
                *marks.tips(BB_SCALARS, ["residual_ratio"]),
            ],
        )
    )
    rows = scalars.filter(pl.col("match") == "step").sort("loss", "trajectory")
    best = rows.row(0, named=True)
    excess = words.number(best["sink_excess"])
    return Figure(
        "price",
        "The price in loss",
        points,
        f"The least loss at the last record is {best['trajectory']}'s, {best['loss']:.3f} "
        f"nats/token, with a sink excess of {excess}.",
        data="scalars",
        table="bb_scalars",
        definition=marks.definition(BB_SCALARS, "sink_excess"),
        height=280,
    )


def _strip(
    run: Run, ends: pl.DataFrame, column: str, axis: str, phenomenon: str, log: bool
) -> Figure:
    x = alt.X(f"{column}:Q", title=axis)
    x = x.scale(type="log", nice=False, padding=12) if log else x.scale(zero=True)
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
        narrow=True,
        height=max(120, 26 * ends["group"].n_unique()),
    )
