"""The coupling of the loss against the arrows of the flow, in both worlds: a part of *Do sink and
drain drive each other?*"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from trajectory.dynamics import levels
from trajectory.dynamics.reinforcement import NORMAL, OF_PARTS
from trajectory.report import marks, words
from trajectory.report.page import Chart, Figure
from trajectory.report.palette import KINDS, QUIET, scheme
from trajectory.report.run import is_bb
from trajectory.schemas import ARROWS, FORCES

MOST = 6000
"""Points that the chart draws; of a run with more it draws the lead heads' layers."""

ARROW_NAMES = {"sink_arrow": "R_a: drain drives the sink", "drain_arrow": "R_d: sink drives drain"}

SHAMS = {
    "position": ("another position", QUIET),
    "token": ("all places of a token", KINDS[0]),
    "constant": ("a constant value", KINDS[1]),
}
"""Kinds of shams: what they are called, their colours."""

WORLDS = ("Bigram-Backcopy", "language model")
SHAPES = {"Bigram-Backcopy": "circle", "language model": "square"}

POWERS = "datum.value == 0 ? '0' : format(datum.value, '~e')"
"""Labels of an axis of powers of ten with a zero."""

UNIT = "nats per nat and e-fold"


def rows(placed: pl.DataFrame) -> pl.DataFrame:
    """A row per key, record and arrow."""
    known = placed.drop_nulls(["coupling", "sink_arrow", "drain_arrow"])
    if 2 * known.height > MOST:
        known = known.filter("lead")
    if 2 * known.height > MOST:
        known = known.gather_every(-(-2 * known.height // MOST))
    shared = known.select(
        *("group", "trajectory", "domain", "step", "readers", "layer", "head", "key", "key_kind"),
        *("weight", "coupling", "coupling_se", "fisher"),
        pl.col("key_kind").replace({k: name for k, (name, _) in SHAMS.items()}).alias("kind"),
    )
    worlds = {name: WORLDS[not is_bb(name)] for name in shared["trajectory"].unique()}
    shared = shared.with_columns(
        pl.col("trajectory").replace_strict(worlds, return_dtype=pl.String).alias("world"),
        (pl.col("coupling") - NORMAL * pl.col("coupling_se")).alias("coupling_low"),
        (pl.col("coupling") + NORMAL * pl.col("coupling_se")).alias("coupling_high"),
    )
    return pl.concat(
        [
            shared.with_columns(
                pl.lit(name).alias("arrow"),
                known[name].alias("value"),
                known[f"{name}_se"].alias("value_se"),
                (known[name] - OF_PARTS * known[f"{name}_se"]).alias("low"),
                (known[name] + OF_PARTS * known[f"{name}_se"]).alias("high"),
                pl.lit(called).alias("means"),
            )
            for name, called in ARROW_NAMES.items()
        ]
    ).with_row_index("row")


def figure(points: pl.DataFrame, placed: pl.DataFrame, brief: bool = False) -> Figure:
    """The chart: on its diagonal the loss's one number is both arrows of the flow."""
    return Figure(
        "agreement",
        "The loss's coupling and the flow's two arrows, in both worlds",
        chart(points),
        reading(levels.sinks_and_shams(placed), brief),
        data="agreement",
        table="arrows",
        definition=f"{marks.definition(FORCES, 'coupling')}. "
        f"{marks.definition(ARROWS, 'sink_arrow')}. {marks.definition(ARROWS, 'drain_arrow')}. "
        "Filled: R_a; open: R_d; the line is R itself",
        wide=True,
        height=420,
    )


def _scale(points: pl.DataFrame) -> tuple[float, list[float], list[float]]:
    """Where the axes turn logarithmic, their ends and their ticks."""
    values = np.concatenate([points["coupling"].to_numpy(), points["value"].to_numpy()])
    least = words.median(points["coupling_se"]) or float(np.abs(values).max()) / 100 or 1e-4
    turn = 10.0 ** math.floor(math.log10(least))
    ends = [1.3 * min(float(values.min()), -turn), 1.3 * max(float(values.max()), 10 * turn)]
    most = math.ceil(math.log10(max(-ends[0], ends[1]) / turn))
    decades = [turn * 10.0**k for k in range(most + 1)]
    ticks = [*(-d for d in reversed(decades)), 0.0, *decades]
    return turn, ends, [tick for tick in ticks if ends[0] <= tick <= ends[1]]


def chart(points: pl.DataFrame) -> Chart:
    """R across, both arrows along, on one symmetric logarithmic scale."""
    constant, ends, ticks = _scale(points)

    def axis(channel: Any, column: str, title: str) -> Any:
        return (
            channel(f"{column}:Q", title=title)
            .scale(type="symlog", constant=constant, domain=ends, nice=False, clamp=True)
            .axis(values=ticks, labelExpr=POWERS, labelOverlap="parity", labelSeparation=8)
        )

    worlds = [world for world in WORLDS if world in set(points["world"])]
    across, along = f"R, coupling of the loss ({UNIT})", f"R_a (filled), R_d (open) ({UNIT})"
    base = marks.shown(marks.named("agreement"), domain=False).encode(
        x=axis(alt.X, "coupling", across),
        y=axis(alt.Y, "value", along),
        shape=alt.Shape("world:N", title="world")
        .scale(domain=worlds, range=[SHAPES[world] for world in worlds])
        .legend(orient="top", symbolFillColor=marks.GREY, symbolStrokeColor=marks.GREY),
        tooltip=_tips(),
    )
    # The mark pointed at, and its errors.
    near = alt.selection_point(
        name="near", on="pointerover", clear="pointerout", fields=["row"], empty=False
    )
    bars = marks.shown(marks.named("agreement"), domain=False).transform_filter(near)
    bars = bars.mark_rule(color=marks.GREY)
    line = alt.Chart(alt.InlineData(values=[{"at": end} for end in (ends[0], 0, ends[1])]))
    return alt.layer(
        line.mark_line(color=marks.GREY, strokeDash=[3, 3]).encode(
            x=axis(alt.X, "at", across), y=axis(alt.Y, "at", along)
        ),
        bars.encode(x="coupling_low:Q", x2="coupling_high:Q", y="value:Q"),
        bars.encode(x="coupling:Q", y="low:Q", y2="high:Q"),
        *_points(base, near, set(points["key_kind"])),
    )


def _points(base: alt.Chart, near: alt.Parameter, there: Collection[str]) -> list[alt.Chart]:
    """Shams by their kind, sinks above them by their weight; R_a filled, R_d open. The legend
    names the kinds that are there."""
    found = []
    shams = [look for key_kind, look in SHAMS.items() if key_kind in there]
    kind = alt.Color("kind:N", title="sham (no sink)").scale(
        domain=[name for name, _ in shams], range=[colour for _, colour in shams]
    )
    shades = alt.Scale(scheme=scheme("oranges"), domain=[0, 1])

    def shade(channel: Any) -> Any:
        weight = channel("weight:Q", title="sink, by its weight").scale(shades)
        return weight.legend(orient="top", gradientLength=110, format="~g")

    for of, size in (("!=", 34), ("==", 60)):
        for arrow, filled in (("sink_arrow", True), ("drain_arrow", False)):
            own = base.transform_filter(f"datum.key_kind {of} 'sink' && datum.arrow == '{arrow}'")
            own = own.mark_point(filled=filled, size=size, opacity=0.85, strokeWidth=1.4)
            if of == "!=":
                found.append(own.encode(color=kind.legend(orient="top")))
            elif filled:
                found.append(own.encode(fill=shade(alt.Fill)))
            else:
                found.append(own.encode(stroke=shade(alt.Stroke)))
    return [*found[:-1], found[-1].add_params(near)]


def _tips() -> list[alt.Tooltip]:
    told = [
        alt.Tooltip(f"{name}:N") for name in ("trajectory", "domain", "readers", "key", "means")
    ]
    return [
        *told,
        *marks.tips(FORCES, ["step", "layer", "head", "weight"]),
        *marks.tips(None, ["coupling", "coupling_se", "fisher"], coupling=f"R ({UNIT})",
                    coupling_se="standard error of R", fisher="its Fisher part"),
        *marks.tips(None, ["value", "value_se"], value=f"arrow ({UNIT})",
                    value_se="standard error of the arrow"),
    ]  # fmt: skip


def reading(known: pl.DataFrame, brief: bool = False) -> str:
    """How often the three numbers are one, at sinks and at shams; briefly, without their ratios."""
    sinks = known.filter(pl.col("key_kind") == "sink")
    if sinks.is_empty():
        return (
            "No head with an observed onset of its sink has all three numbers: there is no sink "
            "whose arrows could be compared with its coupling."
        )
    told = [_agreement(sinks, "sinks that have begun", brief)]
    for kind, (called, _) in SHAMS.items():
        own = known.filter(pl.col("key_kind") == kind)
        if own.filter("resolved").height:
            told.append(_agreement(own, f"shams at {called}", brief))
    factor = f"within a factor of {levels.WITHIN:g}"
    if brief:
        return (
            "On the line, each of sink and drain drives the other as strongly as the loss asks "
            f"for. Both arrows lie on it, {factor}, in {words.listed(told)}. A sham is a key that "
            "is no sink."
        )
    return (
        f"Both arrows agree with R, {factor}, in {words.listed(told)}. "
        "In brackets: medians of R_a/R and R_d/R."
    )


def _agreement(part: pl.DataFrame, called: str, brief: bool) -> str:
    resolved = part.filter("resolved")
    of = f"{int(resolved['agree'].sum())} of {resolved.height} {called}"
    if resolved.is_empty() or brief:
        return of
    medians = (words.number(words.median(resolved[n])) for n in ("sink_ratio", "drain_ratio"))
    return f"{of} ({', '.join(medians)})"
