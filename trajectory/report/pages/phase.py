"""*Phase portraits*: sink log-odds against value ratio, with the theory's field behind."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from trajectory.dynamics.mean_field import MeanField
from trajectory.dynamics.portraits import floor_log_odds
from trajectory.report import charts, marks, series, words
from trajectory.report.controls import Choice, Control
from trajectory.report.page import Block, Chart, Figure, Missing, Page
from trajectory.report.parts import flows
from trajectory.report.run import Run, dormant
from trajectory.schemas import HEADS

SQUARE = 1.35
"""Width of a portrait over its height: arrows point along the field as it is drawn."""

FIELD = (13, 11)
"""Arrows of the theory's field, along the sink and along the value."""

THEORY = "theory"
"""Name of the theory's field among what may stand behind."""

ARROWS = "Arrows behind: where the gradient flow of the simplified model goes from there."


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
    controls = _behind(run, frame, data)
    blocks: list[Block] = [
        Figure(
            name,
            title,
            _portrait(run, name, frame, flowing="flow" in data),
            _told(run, part, f"{called} line"),
            data=name,
            definition=marks.definition(HEADS, "sink_log_odds"),
            height=380,
        )
        for name, (title, called, part) in worlds.items()
        if part.height
    ]
    if not blocks:
        why = "no run on a dormant domain has log-odds and a value ratio after step 0"
        blocks.append(Missing("Portraits", why))
    return Page(
        "phase",
        "Phase portraits",
        "Do the sink and the drain come together?",
        "A line is the lead head of a run: right is a stronger sink, down a deeper drain. A common "
        "cause moves both as well: two curves show no arrow from one to the other.",
        blocks,
        [
            *controls,
            replace(
                marks.domain_checks(run, [d for d in run.domains if d in set(frame["domain"])]),
                value=run.shown_domains,
            ),
            marks.legend(
                run, [t for t in run.trajectories if t in set(frame["trajectory"])], every=True
            ),
        ],
        data,
        note="A line's colour is its run; a point's fill is its time, from dark (first "
        "checkpoints) to bright (last). The dashed lines are a value like any other's and uniform "
        f"attention. {ARROWS}{flows.TOLD if 'flow' in data else ''}{_without_line(run, frame)}",
    )


def _behind(run: Run, frame: pl.DataFrame, data: dict[str, pl.DataFrame]) -> list[Control]:
    """The theory's field and the measured arrows among the data; the choice of what is behind."""
    if frame.is_empty():
        return []
    data["field"] = _field(frame)
    flow = flows.measured(run, frame, _span(frame))
    if flow.height:
        data["flow"] = flow
    options = [(n, n) for n in (THEORY, "none")]
    return [Choice("chosen_field", "behind", options, THEORY, "Field")]


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


def _field(frame: pl.DataFrame) -> pl.DataFrame:
    """The gradient flow's own field over the portraits, its arrows turned as they are seen there.

    The value is on the side that cancels the context.
    """
    left, right, bottom, top = _span(frame)
    axes = (np.linspace(left, right, FIELD[0]), np.linspace(bottom, top, FIELD[1]))
    sink, value = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
    floors = [floor_log_odds(floor) for floor in frame["sink_weight_floor"].unique()]
    flow = MeanField(keys=float(np.exp(-np.median(floors))))
    sink_speed, value_speed = flow.speed(sink, -np.exp(value))
    value_speed = -value_speed * np.exp(-value)
    across, up = sink_speed / (right - left) * SQUARE, value_speed / (top - bottom)
    return pl.DataFrame(
        {
            "label": THEORY,
            "sink": sink,
            "ratio": np.exp(value),
            "turn": np.degrees(np.arctan2(across, up)),
            "sink_speed": sink_speed,
            "value_speed": value_speed,
        }
    )


def _portrait(run: Run, data: str, frame: pl.DataFrame, *, flowing: bool) -> Chart:
    # The axes are the same for both worlds: arrows point the way they are seen.
    left, right, bottom, top = _span(frame)
    across: dict[str, Any] = {"domain": [left, right], "nice": False}
    along: dict[str, Any] = {"domain": [math.exp(bottom), math.exp(top)]}
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
    tips = [
        *marks.tips(HEADS, ["trajectory", "domain", "step", "layer", "head"]),
        *marks.tips(HEADS, ["sink_log_odds", "value_ratio", "sink_weight"]),
    ]
    told = {"color": marks.colour(run), "strokeDash": marks.dash(run)}
    arrows = (
        marks.named("field")
        .transform_filter("datum.label == chosen_field")
        .mark_point(shape="arrow", size=140, filled=True, color=marks.GREY, opacity=0.4, clip=True)
        .encode(
            x=alt.X("sink:Q").scale(alt.Scale(**across)),
            y=alt.Y("ratio:Q").scale(alt.Scale(type="log", nice=False, **along)),
            angle=alt.Angle("turn:Q").scale(domain=[-180, 180], range=[-180, 180]),
        )
    )
    layers: list[alt.Chart] = [arrows, *charts.balance()]
    if flowing:
        world = "" if data == "bb" else "!"
        layers += [
            layer.transform_filter(f"{world}datum.toy")
            for layer in flows.layers(
                x, y, alt.Scale(**across), alt.Scale(type="log", nice=False, **along)
            )
        ]
    layers += charts.course(base, told, tips)
    return alt.layer(*layers).resolve_scale(fill="independent", color="independent")


def _told(run: Run, part: pl.DataFrame, line: str) -> str:
    """The reading of the lines that the chart shows at first."""
    rows = part.filter(pl.col("domain").is_in(run.shown_domains))
    return words.over(rows, _reading(rows, line), "All runs")


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
        return "No run on a dormant domain has both statistics."
    return (
        f"{both} of {words.count(ends.height, line)} "
        f"{words.agree(both, ends.height, 'moves', 'move')} to a stronger sink with a "
        f"smaller value; furthest goes {top['trajectory']} on {top['domain']}: "
        f"{words.signed(top['sink'])} nats, value ratio × {words.number(top['drain'])}."
    )
