"""*Phase portraits*: sink log-odds against value ratio, with time as colour."""

from __future__ import annotations

import altair as alt
import polars as pl

from trajectory.report import marks, series, words
from trajectory.report.page import Block, Chart, Figure, Page
from trajectory.report.run import Run, dormant, is_bb
from trajectory.schemas import HEADS


def make(run: Run) -> Page:
    """The page."""
    frame = series.lead_heads(run, ["sink_log_odds", "value_ratio", "sink_weight"])
    frame = (
        frame.filter(pl.col("value_ratio") > 0)
        .drop_nulls("sink_log_odds")
        .filter(pl.col("step") > 0)
    )
    worlds = {
        "bb": ("Bigram-Backcopy", frame.filter(pl.col("trajectory").str.starts_with("bb/"))),
        "lm": ("Language models", frame.filter(~pl.col("trajectory").str.starts_with("bb/"))),
    }
    present = {name: part for name, (_, part) in worlds.items() if part.height}
    blocks: list[Block] = []
    for name, part in present.items():
        blocks.append(
            Figure(
                name,
                worlds[name][0],
                _portrait(run, name),
                _reading(part, run),
                data=name,
                definition=marks.definition(HEADS, "sink_log_odds"),
                height=380,
            )
        )
    return Page(
        "phase",
        "Phase portraits",
        "Do the sink and the drain drive each other?",
        "Each line is the lead head of one trajectory: right is a stronger sink, down a deeper "
        "drain. Where each drives the other, lines run to the lower right.",
        blocks,
        marks.filters(run),
        present,
        note="A line's colour is its trajectory; a point's fill is its time, from dark (first "
        "records) to bright (last). The dashed lines are a value like any other's and even odds.",
    )


def _portrait(run: Run, data: str) -> Chart:
    base = marks.shown(marks.named(data)).encode(
        x=alt.X("sink_log_odds:Q", title="sink log-odds (nats)").scale(zero=False),
        y=marks.value_axis("value_ratio", "value ratio, sink / rest", log=True),
        detail=["trajectory:N", "domain:N"],
        order="step:Q",
    )
    line = base.mark_line(strokeWidth=1.8, opacity=0.8).encode(
        color=marks.colour(run), strokeDash=marks.dash(run)
    )
    points = base.mark_point(filled=True, size=34, opacity=1).encode(
        fill=alt.Fill("step:Q", title="training step")
        .scale(type="log", scheme="inferno")
        .legend(orient="top", gradientLength=180, format="~s"),
        tooltip=marks.tips(
            HEADS,
            ["trajectory", "domain", "step", "layer", "head", "sink_log_odds", "value_ratio",
             "sink_weight"],
        ),
    )  # fmt: skip
    return alt.layer(
        marks.reference(1.0, "a value like any other"),
        marks.reference(0.0, "even odds", vertical=True),
        line,
        points,
    ).resolve_scale(fill="independent", color="independent")


def _reading(part: pl.DataFrame, run: Run) -> str:
    """How many lines end further right and further down than they began."""
    ends = (
        dormant(part)
        .sort("step")
        .group_by("trajectory", "domain")
        .agg(
            (pl.col("sink_log_odds").last() - pl.col("sink_log_odds").first()).alias("sink"),
            (pl.col("value_ratio").last() / pl.col("value_ratio").first()).alias("drain"),
        )
        .sort("trajectory", "domain")
    )
    both = ends.filter((pl.col("sink") > 0) & (pl.col("drain") < 1)).height
    top = ends.sort("sink", descending=True).row(0, named=True) if ends.height else None
    if top is None:
        return "No series on a dormant domain has both statistics."
    world = "Bigram-Backcopy" if is_bb(top["trajectory"]) else "language-model"
    return (
        f"{both} of {words.count(ends.height, world + ' line')} end at stronger sinks with smaller "
        f"values than they began; the longest way is {top['trajectory']}'s on {top['domain']}, by "
        f"{top['sink']:+.1f} nats while its value ratio changed by a factor of {top['drain']:.2f}."
    )
