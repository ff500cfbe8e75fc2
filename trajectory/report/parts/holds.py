"""Trainings with a value held or a sink forced: what changed against what was predicted."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import polars as pl

from trajectory.dynamics import levels
from trajectory.dynamics.levels import NO, OPEN, YES
from trajectory.report import marks, words
from trajectory.report.missing import reason
from trajectory.report.page import Block, Cell, Chart, Figure, Folded, Grid, Missing
from trajectory.report.palette import KINDS, QUIET
from trajectory.report.run import Run, is_bb
from trajectory.schemas import HOLDS

TITLE = "Holds: measured against predicted"

KINDS_OF_HOLDS = {
    "hold_value": ("value held", "nats of the sink"),
    "force_attention": ("sink forced", "e-folds of drain"),
}
"""Kind of change → what it is called, what answers."""

COLOURS = {"Bigram-Backcopy": KINDS[1], "language model": KINDS[0], "sham": QUIET}

VERDICTS = {YES: "as predicted", NO: "the reverse", OPEN: "undecided"}

TURN = 0.1
"""Where the axes turn logarithmic: predictions of a flat loss reach far."""


def blocks(run: Run, data: dict[str, pl.DataFrame]) -> list[Block]:
    """The chart and the table of all changes."""
    if not run.has("holds"):
        return [Missing(TITLE, reason("holds"), "holds")]
    rows = named(levels.held(run.frame("holds")))
    return [_figure(rows, data), Folded("What holds change", [_grid(rows)])]


def named(rows: pl.DataFrame) -> pl.DataFrame:
    """With what the chart and its sentences call things."""
    worlds = ["Bigram-Backcopy" if is_bb(name) else "language model" for name in rows["experiment"]]
    kinds = pl.col("kind").replace_strict({k: name for k, (name, _) in KINDS_OF_HOLDS.items()})
    return rows.with_columns(
        pl.Series("world", worlds, pl.String),
        kinds.alias("change"),
        pl.col("kind").replace_strict({k: u for k, (_, u) in KINDS_OF_HOLDS.items()}).alias("unit"),
        pl.col("verdict").replace(VERDICTS).fill_null("nothing predicted"),
    ).with_columns(pl.when("sham").then(pl.lit("sham")).otherwise("world").alias("colour"))


def reading(rows: pl.DataFrame) -> str:
    """How many changes are as predicted, in each world, and what the shams do."""
    predicted = rows.filter(~pl.col("sham")).drop_nulls("predicted")
    told = []
    for world in COLOURS:
        own = predicted.filter(pl.col("world") == world)
        if own.is_empty():
            continue
        counts = dict(own.group_by("verdict").len().rows())
        parts = [
            f"{counts.get(VERDICTS[YES], 0)} of {words.count(own.height, 'change')} "
            f"{words.agree(counts.get(VERDICTS[YES], 0), own.height, 'is', 'are')} as predicted"
        ]
        if there := counts.get(VERDICTS[NO]):
            parts.append(f"{there} the reverse")
        if there := counts.get(VERDICTS[OPEN]):
            parts.append(f"{there} undecided")
        told.append(f"{_where(world)} {', '.join(parts)}.")
    if not told:
        told = ["No change has a prediction: the loss's curvature was not measured, or vanishes."]
    return " ".join([*told, *_shams(rows)])


def _where(world: str) -> str:
    return f"In {world if world == 'Bigram-Backcopy' else 'language models'}"


def _shams(rows: pl.DataFrame) -> list[str]:
    shams = rows.filter("sham")
    if shams.is_empty():
        return []
    moved = shams.filter(pl.col("moved") != 0).height
    return [f"Shams that change, though none should: {moved} of {shams.height}."]


def _figure(rows: pl.DataFrame, data: dict[str, pl.DataFrame]) -> Figure | Missing:
    drawn = rows.drop_nulls("predicted")
    if drawn.is_empty():
        why = "the loss's curvature, from which changes are predicted, was not measured or vanishes"
        return Missing(TITLE, why, "holds")
    data["holds"] = drawn
    return Figure(
        "holds",
        TITLE,
        _chart(drawn),
        reading(rows),
        data="holds",
        table="holds",
        definition=f"Measured: {marks.definition(HOLDS, 'observed')}. Predicted: "
        f"{marks.definition(HOLDS, 'predicted')}. Bars: 95 % intervals over seeds. Hollow: the "
        "interval includes zero, or one seed has none. The line is the prediction",
        height=320,
    )


def _chart(rows: pl.DataFrame) -> Chart:
    names = ("predicted", "observed", "observed_low", "observed_high")
    values = np.concatenate([rows[name].drop_nulls().to_numpy() for name in names])
    there = [name for name in COLOURS if name in set(rows["colour"])]
    ends = [1.2 * min(float(values.min()), -TURN), 1.2 * max(float(values.max()), TURN)]

    def axis(channel: Any, column: str, title: str) -> Any:
        scaled = channel(f"{column}:Q", title=title).scale(
            type="symlog", constant=TURN, domain=ends, nice=False
        )
        return scaled.axis(values=ticks, format=",.4~f", labelOverlap="parity")

    decades = [digit * 10.0**k for k in range(-1, 6) for digit in (1, 3)]
    ticks = [t for t in (*(-d for d in reversed(decades)), 0, *decades) if ends[0] <= t <= ends[1]]
    x, y = "predicted (nats or e-folds)", "measured"
    line = alt.Chart(alt.InlineData(values=[{"at": end} for end in (ends[0], 0, ends[1])]))
    base = marks.named("holds").encode(
        x=axis(alt.X, "predicted", x),
        color=alt.Color("colour:N", title="world")
        .scale(domain=there, range=[COLOURS[name] for name in there])
        .legend(orient="top", symbolOpacity=1),
        tooltip=[
            *(alt.Tooltip(f"{n}:N") for n in ("experiment", "about", "domain", "change", "unit")),
            *marks.tips(HOLDS, ["layer", "from_step", "step", "seeds", "cause", "gain"]),
            *marks.tips(HOLDS, ["predicted", "observed", "observed_low", "observed_high"]),
            alt.Tooltip("verdict:N"),
        ],
    )
    shape = (
        alt.Shape("change:N", title="change")
        .scale(domain=[n for n, _ in KINDS_OF_HOLDS.values()], range=["circle", "square"])
        .legend(orient="top", symbolFillColor=marks.GREY, symbolStrokeColor=marks.GREY)
    )
    points = [
        base.transform_filter(f"datum.moved {sign} 0")
        .mark_point(filled=filled, size=70, opacity=0.9, strokeWidth=1.6)
        .encode(y=axis(alt.Y, "observed", y), shape=shape)
        for sign, filled in (("!=", True), ("==", False))
    ]
    return alt.layer(
        marks.reference(0.0, "no change"),
        line.mark_line(color=marks.GREY, strokeDash=[3, 3]).encode(
            x=axis(alt.X, "at", x), y=axis(alt.Y, "at", y)
        ),
        base.transform_filter("isValid(datum.observed_low)")
        .mark_rule()
        .encode(y=axis(alt.Y, "observed_low", y), y2="observed_high:Q"),
        *points,
    )


def _grid(rows: pl.DataFrame) -> Grid:
    found: list[list[str | Cell]] = []
    several = rows["layer"].n_unique() > 1
    for row in rows.sort("world", "experiment", "layer", "domain").to_dicts():
        measured = f"{words.number(row['observed'])} "
        measured += words.interval(row["observed_low"], row["observed_high"])
        place = f"{row['domain']}, layer {row['layer']}" if several else row["domain"]
        found.append(
            [
                Cell(row["experiment"]),
                place,
                f"sham: {row['change']}" if row["sham"] else row["change"],
                Cell(str(row["seeds"]), "number"),
                Cell(words.number(row["predicted"]), "number"),
                Cell(measured.strip(), "number"),
                row["unit"],
                row["verdict"] if not row["sham"] else ("moved" if row["moved"] else "at rest"),
            ]
        )
    return Grid(
        "held",
        ["experiment", "queries", "change", "seeds", "predicted", "measured", "unit", "verdict"],
        found,
        "The experiment minus its control at the last checkpoint: means over seeds, 95 % "
        "intervals. As predicted: the whole interval has the predicted sign. At rest: a sham's "
        "holds zero.",
        fold=12,
    )
