"""*Mitigations*: which change of attention or optimiser removes which phenomenon."""

from __future__ import annotations

from dataclasses import replace

import altair as alt
import polars as pl

from trajectory.dynamics.phases import Phenomenon, phenomena
from trajectory.dynamics.series import with_group
from trajectory.report import marks, words
from trajectory.report.controls import Control
from trajectory.report.findings import NO, UNDECIDED, UNDEFINED, YES, Ending, endings
from trajectory.report.missing import reason
from trajectory.report.page import Block, Cell, Figure, Folded, Grid, Missing, Page
from trajectory.report.parts.comparisons import forest, measured, table
from trajectory.report.run import Run, dormant, is_bb
from trajectory.schemas import BB_SCALARS, PHENOMENA

SECTIONS = {
    "mitigations": "Mitigations",
    "structures": "Structures",
    "tasks": "Tasks",
}
"""Sections of experiments, in the order of the page."""


AXES = {
    "sink": ("sink excess", (-0.2, 1.0)),
    "drain": ("value ratio, sink / rest", (0.0, 1.25)),
    "peak": ("residual ratio, sink / rest", (0.0, 3.0)),
}
"""Phenomenon → title of its axis, and how far that reaches at least."""


def make(run: Run) -> Page:
    """The page."""
    title = "Which change of attention or optimiser removes which phenomenon?"
    lead = "Where every toy variant ends: a point is a seed's fitted end with its 95 % interval."
    if not any(map(is_bb, run.trajectories)):
        missing = Missing("Mitigations", "its config names no Bigram-Backcopy variant")
        return Page("mitigations", "Mitigations", title, lead, [missing])
    rows = dormant(run.phenomena).filter(pl.col("trajectory").str.starts_with("bb/"))
    ends = with_group(rows).with_columns(seed=pl.col("trajectory").str.extract(r"seed(\d+)$"))
    found = [end for end in endings(run) if is_bb(end.group)]
    blocks: list[Block] = [
        _strip(run, ends, one, *AXES[one.name], found) for one in phenomena(run.config.dynamics)
    ]
    data: dict[str, pl.DataFrame] = {"ends": ends}
    blocks.append(Folded("The verdict on every variant", [_verdicts(found)]))
    compared_table = table(run, SECTIONS)
    blocks.append(
        Folded(compared_table.title, [replace(compared_table, title="")])
        if isinstance(compared_table, Grid)
        else compared_table
    )
    compared = [forest(run, section, section, called) for section, called in SECTIONS.items()]
    drawn = [(figure, rows) for figure, rows in compared if rows]
    for figure, frames in drawn or compared[:1]:
        blocks.append(figure)
        data |= frames
    if run.has("bb_scalars"):
        data["prices"] = _prices(run)
        blocks.append(_price(run, data["prices"]))
    else:
        blocks.append(Missing("The price in risk", reason("bb_scalars"), "price"))
    own = [t for t in run.trajectories if is_bb(t)]
    controls: list[Control] = [*measured(run), marks.legend(run, own, every=True)]
    return Page("mitigations", "Mitigations", title, lead, blocks, controls, data)


def _verdicts(found: list[Ending]) -> Grid:
    """What the seeds of every variant decide together."""
    looks = {YES: Cell("yes", "yes"), NO: Cell("no", "no"), UNDECIDED: Cell("undecided", "open"),
             UNDEFINED: Cell("not defined")}  # fmt: skip
    rows: list[list[str | Cell]] = [
        [end.group, *(looks[end.cells[name].verdict] for name in AXES)] for end in found
    ]
    note = (
        "In the mean over seeds. Undecided: the interval holds the threshold. One layer has no "
        "peak."
    )
    return Grid("variants", ["variant", *AXES], rows, note, fold=12)


def _prices(run: Run) -> pl.DataFrame:
    """What each trajectory's risk has above its own task's oracle at its last record, over all
    positions: losses themselves differ with the length and the rule of the task."""
    rows = run.frame("checkpoints", "trajectory", "step", "excess_risk", "predictions").filter(
        pl.col("trajectory").str.starts_with("bb/")
        & (pl.col("step") == pl.col("step").max().over("trajectory"))
    )
    weighed = (pl.col("excess_risk") * pl.col("predictions")).sum() / pl.col("predictions").sum()
    excess = rows.group_by("trajectory").agg(weighed.alias("excess"))
    scalars = run.frame("bb_scalars").filter(pl.col("match") == "step")
    return with_group(scalars.join(excess, on="trajectory").sort("excess", "trajectory"))


def _price(run: Run, prices: pl.DataFrame) -> Figure:
    title = "excess risk over the task's oracle (nats/token)"
    points = (
        marks.shown(marks.named("prices"), domain=False)
        .transform_filter("isValid(datum.sink_excess) && datum.excess > 0")
        .mark_point(filled=True, size=70, opacity=0.85)
        .encode(
            x=marks.log_axis(alt.X("excess:Q", title=title), padding=10),
            y=alt.Y("sink_excess:Q", title="sink excess over the uniform floor"),
            color=marks.colour(run),
            tooltip=[
                *marks.tips(BB_SCALARS, ["trajectory", "step"]),
                alt.Tooltip("excess:Q", title=title, format=".4~g"),
                *marks.tips(BB_SCALARS, ["backcopy_excess", "bigram_excess", "sink_excess"]),
                *marks.tips(BB_SCALARS, ["value_ratio", "residual_ratio"]),
            ],
        )
    )
    least, most = prices.row(0, named=True), prices.row(-1, named=True)
    told = [
        f"{words.number(row['excess'])} nats/token with a sink excess of "
        f"{words.number(row['sink_excess'])} ({row['trajectory']})"
        for row in (least, most)
    ]
    return Figure(
        "price",
        "The price in risk",
        points,
        f"The least excess risk is {told[0]}, the greatest {told[1]}.",
        data="prices",
        table="bb_scalars",
        definition="excess_risk of checkpoints, mean over all positions of both domains: 0 is the "
        "best that any model can do on the variant's own task",
        height=280,
    )


def _strip(
    run: Run, ends: pl.DataFrame, one: Phenomenon, axis: str, room: tuple[float, float],
    found: list[Ending],
) -> Figure:  # fmt: skip
    """Where every variant ends, from the one to the other end of the axis at least."""
    phenomenon = one.name
    column, (low, high) = one.statistic, room
    most = max([high, *(1.05 * end for end in ends[f"{column}_end"].drop_nulls())])
    points = marks.forest(
        marks.shown(marks.named("ends"), domain=False),
        PHENOMENA,
        f"{column}_end",
        (f"{column}_low", f"{column}_high"),
        f"{axis}, at the end",
        y=alt.Y("group:N", title=None, sort=run.groups).axis(**marks.rows_axis(150)),
        tooltip=marks.tips(PHENOMENA, ["trajectory", "last_step", "layer", "head"]),
        domain=(low, most),
        color=marks.colour(run),
        yOffset=alt.YOffset("seed:N"),
    )
    told = {YES: f"with a {phenomenon}", NO: "without", UNDECIDED: "undecided",
            UNDEFINED: "too shallow for one"}  # fmt: skip
    verdicts = [end.cells[phenomenon].verdict for end in found]
    parts = [f"{verdicts.count(v)} {text}" for v, text in told.items() if v in verdicts]
    reading = f"Of {words.count(len(found), 'variant')}: {words.listed(parts)}."
    return Figure(
        phenomenon,
        f"{phenomenon.capitalize()} at the end",
        alt.layer(
            marks.reference(one.threshold, f"threshold of a {phenomenon}", vertical=True), *points
        ),
        reading,
        data="ends",
        table="phenomena",
        definition=marks.definition(PHENOMENA, f"{column}_end"),
        narrow=True,
        height=max(120, 30 * ends["group"].n_unique()),
    )
