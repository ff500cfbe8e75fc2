"""Measured arrows of the gradient flow on the phase portraits."""

from __future__ import annotations

import altair as alt
import polars as pl

from trajectory.dynamics.courses import WHOLE
from trajectory.report import marks
from trajectory.report.run import TOYS, Run
from trajectory.schemas import ARROWS

LONGEST = 0.12
"""Length of a trajectory's longest arrow, as a part of the portraits' width or height."""

TOLD = (
    " Thin arrows on a line: where the gradient flow of the loss moves this head's sink and value "
    "from there, measured in the model; one scale for each run."
)


def measured(
    run: Run, lines: pl.DataFrame, span: tuple[float, float, float, float]
) -> pl.DataFrame:
    """The flow's own motion at records of the drawn heads; no rows where none is measured.

    Args:
        run: the run.
        lines: records of the portraits, with ``above`` and ``value_ratio``.
        span: least and greatest log-odds and log value ratio of all portraits.
    """
    place = ["trajectory", "step", "layer", "head"]
    empty = pl.DataFrame()
    if not run.has("arrows"):
        return empty
    rows = run.frame("arrows").filter((pl.col("key") == "sink") & (pl.col("readers") == "late"))
    rows = rows.drop_nulls(["sink_motion", "drain_motion"])
    # All queries of a Bigram-Backcopy run together stand for its dormant domain.
    own = rows.select(*place, pl.col("domain").alias("of"), "sink_motion", "drain_motion")
    found = lines.join(own, on=place).filter(
        (pl.col("of") == pl.col("domain")) | (pl.col("of") == WHOLE)
    )
    if found.is_empty():
        return empty
    left, right, bottom, top = span
    across = pl.col("sink_motion") / (right - left)
    up = pl.col("drain_motion") / (top - bottom)
    longest = (across**2 + up**2).sqrt().max().over("trajectory")
    found = found.with_columns((LONGEST / longest).alias("scale")).filter(longest > 0)
    scale = pl.col("scale")
    return found.with_columns(
        (pl.col("above") + scale * pl.col("sink_motion")).alias("above_ahead"),
        (pl.col("value_ratio") * (-scale * pl.col("drain_motion")).exp()).alias("ratio_ahead"),
        pl.col("trajectory").str.starts_with(TOYS).alias("toy"),
    )


def layers(x: alt.X, y: alt.Y, across: alt.Scale, along: alt.Scale) -> list[alt.Chart]:
    """Arrows as rules with a ring at their end, on the portraits' axes."""
    base = marks.shown(marks.named("flow"))
    tips = [
        *marks.tips(ARROWS, ["trajectory", "domain", "step"]),
        *marks.tips(ARROWS, ["sink_motion", "drain_motion"]),
    ]
    ends = base.encode(tooltip=tips)
    return [
        ends.mark_rule(strokeWidth=1.6, color=marks.GREY, clip=True).encode(
            x=x, y=y, x2="above_ahead:Q", y2="ratio_ahead:Q"
        ),
        ends.mark_point(size=16, color=marks.GREY, filled=False, clip=True).encode(
            x=alt.X("above_ahead:Q").scale(across),
            y=alt.Y("ratio_ahead:Q").scale(along),
        ),
    ]
