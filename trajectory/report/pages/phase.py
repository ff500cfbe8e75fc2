"""*Phase portraits*: sink log-odds against value ratio, with the theory's field behind."""

from __future__ import annotations

import math
from typing import Any

import altair as alt
import polars as pl

from trajectory.report import marks, series, words
from trajectory.report.missing import reason
from trajectory.report.page import (
    Block,
    Chart,
    Checks,
    Choice,
    Control,
    Figure,
    Missing,
    Page,
)
from trajectory.report.run import Run, dormant, world_rank
from trajectory.schemas import HEADS

SQUARE = 1.35
"""Width of a portrait over its height: arrows point along the field as it is drawn."""


def make(run: Run) -> Page:
    """The page."""
    frame = dormant(_portraits(run))
    worlds = {
        "bb": (
            "Bigram-Backcopy",
            "Bigram-Backcopy",
            frame.filter(pl.col("trajectory").str.starts_with("bb/")),
        ),
        "lm": (
            "Language models",
            "language-model",
            frame.filter(~pl.col("trajectory").str.starts_with("bb/")),
        ),
    }
    data = {name: part for name, (_, _, part) in worlds.items() if part.height}
    controls: list[Control] = []
    field = run.has("phase_fields") and frame.height > 0
    if field:
        span = _span(frame)
        data["field"] = _field(run, span)
        names = sorted(
            data["field"]["label"].unique(), key=lambda n: (n != "theory", world_rank(n))
        )
        options = [(n, n) for n in (*names, "none")]
        controls = [Choice("chosen_field", "behind", options, names[0], "Field")]
    blocks: list[Block] = [
        Figure(
            name,
            title,
            _portrait(run, name, frame, field),
            _told(run, part, f"{called} line"),
            data=name,
            definition=marks.definition(HEADS, "sink_log_odds"),
            height=380,
        )
        for name, (title, called, part) in worlds.items()
        if part.height
    ]
    if not blocks:
        why = "no series on a dormant domain has log-odds and a value ratio after step 0"
        blocks.append(Missing("Portraits", why))
    return Page(
        "phase",
        "Phase portraits",
        "Do the sink and the drain drive each other?",
        "Each line is the lead head of one trajectory: right is a stronger sink, down a deeper "
        "drain. Lines to the lower right say that both change together, as under a common cause; "
        "which drives which is what the coupled systems on Dynamics are fitted for.",
        blocks,
        [
            *controls,
            Checks(
                "shown_domains",
                "domain",
                [(d, d) for d in run.domains if d in set(frame["domain"])],
                run.shown_domains,
                "Domain",
            ),
            marks.legend(run, [t for t in run.trajectories if t in set(frame["trajectory"])]),
        ],
        data,
        note="A line's colour is its trajectory; a point's fill is its time, from dark (first "
        "records) to bright (last). The dashed lines are a value like any other's and uniform "
        f"attention. {_arrows(field)}{_without_line(run, frame)}",
        answer=f"{_reading(frame, 'line')} {_drives(run)}",
    )


def _arrows(field: bool) -> str:
    """What stands behind the lines."""
    if not field:
        return f"No arrows behind, because {reason('phase_fields')}."
    return (
        "Arrows behind: where the theory's gradient flow, or a group's fitted system, goes from "
        "there."
    )


def _without_line(run: Run, frame: pl.DataFrame) -> str:
    """Which groups have no line, and why."""
    absent = [g for g in run.groups if g not in set(frame["group"])]
    if not absent:
        return ""
    few = absent if len(absent) <= words.LISTED_GROUPS else [f"{len(absent)} groups"]
    return (
        f" No line: {words.listed(few)}; attention weights that need not sum to one have no "
        "log-odds."
    )


def _drives(run: Run) -> str:
    """What the fitted systems say on which drives which."""
    if not run.has("couplings"):
        return "Which drives which was not fitted in this run."
    lead = dormant(run.frame("couplings").filter("lead"))
    verdicts = dict(lead.group_by("verdict").len().sort("len", "verdict", descending=True).rows())
    mutual = verdicts.pop("mutual", 0)
    told = words.listed([f"{n} {name.replace('_', ' ')}" for name, n in verdicts.items()])
    return (
        f"That alone names no cause: each drives the other in {mutual} of "
        f"{words.count(lead.height, 'fitted system')}{f' ({told})' if told else ''}."
    )


def _portraits(run: Run) -> pl.DataFrame:
    """Lead heads by their log-odds above uniform attention and their value ratio."""
    frame = series.lead_heads(
        run, ["sink_log_odds", "value_ratio", "sink_weight", "sink_weight_floor"]
    )
    frame = frame.drop_nulls("sink_log_odds").filter(
        (pl.col("value_ratio") > 0) & (pl.col("step") > 0)
    )
    return frame.with_columns(series.above_uniform(frame).alias("above"))


def _span(frame: pl.DataFrame) -> tuple[float, float, float, float]:
    """Least and greatest log-odds and log value ratio of all lines, with a margin."""
    ends = []
    for column in (pl.col("above"), pl.col("value_ratio").log()):
        low, high = frame.select(column.min().alias("low"), column.max().alias("high")).row(0)
        margin = 0.05 * (high - low) or 0.5
        ends += [low - margin, high + margin]
    return ends[0], ends[1], ends[2], ends[3]


def _field(run: Run, span: tuple[float, float, float, float]) -> pl.DataFrame:
    """Arrows of each field inside the portraits, turned as they are seen there."""
    left, right, bottom, top = span
    rows = run.frame("phase_fields").filter(
        pl.col("sink").is_between(left, right) & pl.col("value").is_between(bottom, top)
    )
    across = pl.col("sink_speed") / (right - left) * SQUARE
    up = pl.col("value_speed") / (top - bottom)
    label = pl.when(pl.col("source") == "theory").then(pl.lit("theory"))
    return rows.with_columns(
        label.otherwise(pl.format("{} · {}", "group", "domain")).alias("label"),
        (pl.arctan2(across, up) * 180 / math.pi).alias("turn"),
        pl.col("value").exp().alias("ratio"),
    ).select("label", "sink", "ratio", "turn", "sink_speed", "value_speed")


def _portrait(run: Run, data: str, frame: pl.DataFrame, field: bool) -> Chart:
    # With a field the axes are the same for both worlds: arrows point the way they are seen.
    left, right, bottom, top = _span(frame)
    across: dict[str, Any] = {"domain": [left, right], "nice": False} if field else {"zero": False}
    along: dict[str, Any] = {"domain": [math.exp(bottom), math.exp(top)]} if field else {}
    x = alt.X("above:Q", title="sink log-odds above uniform attention (nats)").scale(
        alt.Scale(**across)
    )
    y = (
        alt.Y("value_ratio:Q", title="value ratio, sink / rest")
        .scale(alt.Scale(type="log", nice=False, **along))
        .axis(**marks.log_ticks("y"))
    )
    base = marks.shown(marks.named(data)).encode(
        x=x, y=y, detail=["trajectory:N", "domain:N"], order="step:Q"
    )
    line = base.mark_line(strokeWidth=1.8, opacity=0.8, clip=True).encode(
        color=marks.colour(run), strokeDash=marks.dash(run)
    )
    points = base.mark_point(
        filled=True, size=34, opacity=1, clip=True, stroke=marks.GREY, strokeWidth=0.6
    ).encode(
        fill=alt.Fill("step:Q", title="training step")
        .scale(type="log", scheme="inferno")
        .legend(orient="top", gradientLength=180, format="~s"),
        tooltip=[
            *marks.tips(HEADS, ["trajectory", "domain", "step", "layer", "head"]),
            *marks.tips(HEADS, ["sink_log_odds", "value_ratio", "sink_weight"]),
        ],
    )
    layers: list[alt.Chart] = [
        marks.reference(1.0, "a value like any other"),
        marks.reference(0.0, "uniform attention", vertical=True),
    ]
    if field:
        arrows = (
            marks.named("field")
            .transform_filter("datum.label == chosen_field")
            .mark_point(
                shape="arrow", size=140, filled=True, color=marks.GREY, opacity=0.4, clip=True
            )
            .encode(
                x=alt.X("sink:Q").scale(alt.Scale(**across)),
                y=alt.Y("ratio:Q").scale(alt.Scale(type="log", nice=False, **along)),
                angle=alt.Angle("turn:Q").scale(domain=[-180, 180], range=[-180, 180]),
            )
        )
        layers.insert(0, arrows)
    return alt.layer(*layers, line, points).resolve_scale(fill="independent", color="independent")


def _told(run: Run, part: pl.DataFrame, line: str) -> str:
    """The reading of the lines that the chart shows at first."""
    rows = run.first_shown(part)
    return words.over(rows, _reading(rows, line))


def _reading(part: pl.DataFrame, line: str) -> str:
    """How many lines end further right and further down than they began."""
    ends = (
        dormant(part)
        .sort("step")
        .group_by("trajectory", "domain")
        .agg(
            (pl.col("above").last() - pl.col("above").first()).alias("sink"),
            (pl.col("value_ratio").last() / pl.col("value_ratio").first()).alias("drain"),
        )
        .sort("trajectory", "domain")
    )
    both = ends.filter((pl.col("sink") > 0) & (pl.col("drain") < 1)).height
    top = ends.sort("sink", descending=True).row(0, named=True) if ends.height else None
    if top is None:
        return "No series on a dormant domain has both statistics."
    return (
        f"{both} of {words.count(ends.height, line)} end at stronger sinks with smaller "
        f"values than they began; the longest way is {top['trajectory']}'s on {top['domain']}, by "
        f"{top['sink']:+.1f} nats while its value ratio changed by a factor of {top['drain']:.2f}."
    )
