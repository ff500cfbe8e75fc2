"""The coupling of the loss against the arrows of the flow, in both worlds: a part of *Do sink and
drain drive each other?*"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from trajectory.dynamics import levels
from trajectory.dynamics.reinforcement import NORMAL, OF_PARTS, RESOLVED
from trajectory.report import marks, words
from trajectory.report.page import Chart, Figure
from trajectory.report.palette import INK, KINDS, QUIET
from trajectory.report.run import TOYS, is_bb
from trajectory.schemas import ARROWS, FORCES

MOST = 6000
"""Points that the chart draws; of a run with more it draws the lead heads' layers."""

ARROW_NAMES = {"sink_arrow": "drain drives the sink", "drain_arrow": "sink drives the drain"}

ARROW_SHAPES = {"sink_arrow": "triangle-up", "drain_arrow": "triangle-down"}

SYMBOLS = {"sink_arrow": "R_a", "drain_arrow": "R_d"}

DRIVES = {"sink_arrow": "drive of drain on sink", "drain_arrow": "drive of sink on drain"}

RATIOS = {"sink_arrow": "sink_ratio", "drain_arrow": "drain_ratio"}
"""Arrow → its column among ``levels.sinks_and_shams``: the arrow over the coupling."""

SHAMS = {"position": "another position", "token": "all places of a token",
         "constant": "a constant value"}  # fmt: skip
"""Kinds of shams: what they are called."""

WORLDS = ("Bigram-Backcopy", "language model")

KEYS = {
    "sink of a toy": KINDS[1],
    "sink of a language model": INK,
    "sham: another position": QUIET,
    "sham: all places of a token": KINDS[0],
    "sham: a constant value": KINDS[2],
}
"""Keys in the legend → their colours, which sinks and shams have in other charts too."""

POWERS = "format(datum.value, '~g')"
"""Labels of an axis of powers of ten with a zero."""

UNIT = "nats per nat and e-fold"

STEPS = 120
"""Places between which a line is straight."""


def rows(placed: pl.DataFrame) -> pl.DataFrame:
    """A row per key, record and arrow: of a run those of sinks that have begun, which are judged.

    Columns beside the keys': ``key_told`` as the legend has it, ``told``: whether the coupling is
    told from zero, ``value`` of the arrow, ends of the intervals.
    """
    known = placed.drop_nulls(["coupling", "sink_arrow", "drain_arrow"])
    if "begun" in known.columns:
        known = known.filter("begun")
    if 2 * known.height > MOST:
        known = known.filter("lead")
    if 2 * known.height > MOST:
        known = known.gather_every(-(-2 * known.height // MOST))
    shared = known.select(
        *("group", "trajectory", "domain", "step", "readers", "layer", "head", "key", "key_kind"),
        *("weight", "coupling", "coupling_se", "fisher"),
    )
    worlds = {name: WORLDS[not is_bb(name)] for name in shared["trajectory"].unique()}
    shared = shared.with_columns(
        pl.col("trajectory").replace_strict(worlds, return_dtype=pl.String).alias("world"),
        (pl.col("coupling") - NORMAL * pl.col("coupling_se")).alias("coupling_low"),
        (pl.col("coupling") + NORMAL * pl.col("coupling_se")).alias("coupling_high"),
        (pl.col("coupling").abs() > RESOLVED * pl.col("coupling_se"))
        .fill_null(False)
        .alias("told"),
    )
    sink = pl.when(pl.col("world") == WORLDS[0]).then(pl.lit("toy")).otherwise(pl.lit(WORLDS[1]))
    sham = pl.format("sham: {}", pl.col("key_kind").replace(SHAMS))
    at_sink = pl.col("key_kind") == "sink"
    shared = shared.with_columns(
        pl.when(at_sink).then(pl.format("sink of a {}", sink)).otherwise(sham).alias("key_told")
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
    """Both arrows in one chart: on its diagonal the loss's one number is both."""
    return Figure(
        "agreement",
        "The loss's coupling and the flow's two arrows, in both worlds",
        chart(points),
        reading(levels.sinks_and_shams(placed), brief),
        data="agreement",
        table="arrows",
        definition=_defined(list(ARROW_NAMES)),
        wide=True,
        height=420,
    )


def figures(points: pl.DataFrame, placed: pl.DataFrame) -> list[Figure]:
    """A chart for each arrow, on the same axes."""
    known = levels.sinks_and_shams(placed)
    return [
        Figure(
            name,
            title,
            chart(points, arrow),
            reading_of(known, arrow),
            data="agreement",
            table="arrows",
            definition=_defined([arrow]),
            height=360,
        )
        for name, title, arrow in (
            ("agreement", "Does the drain drive the sink?", "sink_arrow"),
            ("agreement-drain", "Does the sink drive the drain?", "drain_arrow"),
        )
    ]


def _defined(arrows: Sequence[str]) -> str:
    told = ". ".join(marks.definition(ARROWS, arrow) for arrow in arrows)
    return (
        f"{marks.definition(FORCES, 'coupling')}. {told}. A mark is one key of one head at one "
        f"checkpoint. Hollow: R within {RESOLVED:g} of its standard errors of zero; such keys are "
        "not judged"
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


def chart(points: pl.DataFrame, arrow: str = "") -> Chart:
    """R across, an arrow along, on one symmetric logarithmic scale.

    Args:
        points: from ``rows``.
        arrow: of ``ARROW_NAMES``; '' draws both, told apart by their shape.
    """
    constant, ends, ticks = _scale(points)

    def axis(channel: Any, column: str, title: str | list[str]) -> Any:
        return (
            channel(f"{column}:Q", title=title)
            .scale(type="symlog", constant=constant, domain=ends, nice=False, clamp=True)
            .axis(values=ticks, labelExpr=POWERS, labelOverlap="parity", labelSeparation=8)
        )

    across = ["R, drive that the loss asks for", f"({UNIT})"]
    along = f"{SYMBOLS[arrow]}, {DRIVES[arrow]}" if arrow else "R_a and R_d, drive of the flow"
    along = f"{along} ({UNIT})"
    x, y = axis(alt.X, "coupling", across), axis(alt.Y, "value", along)
    own = marks.shown(marks.named("agreement"), domain=False)
    if arrow:
        own = own.transform_filter(f"datum.arrow == '{arrow}'")
    # The mark pointed at, and its errors.
    near = alt.selection_point(
        name="near", on="pointerover", clear="pointerout", fields=["row"], empty=False
    )
    bars = own.transform_filter(near).mark_rule(color=marks.GREY)
    return alt.layer(
        *_diagonal(constant, ends, partial(axis, title=across), partial(axis, title=along)),
        bars.encode(x="coupling_low:Q", x2="coupling_high:Q", y="value:Q"),
        bars.encode(x="coupling:Q", y="low:Q", y2="high:Q"),
        *_points(own.encode(x=x, y=y, tooltip=_tips()), near, set(points["key_told"]), not arrow),
        *_meant(),
    )


def _diagonal(
    turn: float, ends: Sequence[float], across: Callable[..., alt.X], along: Callable[..., alt.Y]
) -> list[alt.Chart]:
    """Where an arrow is the coupling itself, and the edges of where it is so within
    ``levels.WITHIN``."""
    low, high = (math.copysign(math.log1p(abs(end) / turn), end) for end in ends)
    places = [*np.linspace(low, high, STEPS), 0.0]
    values = sorted(math.copysign(turn * math.expm1(abs(p)), p) for p in places)
    edges = [
        [
            e if ends[0] <= e <= ends[1] else None
            for e in sorted((v / levels.WITHIN, v * levels.WITHIN))
        ]
        for v in values
    ]
    band = alt.InlineData(
        values=[
            {"at": v, "low": a, "high": b, "meaning": "as the loss asks"}
            for v, (a, b) in zip(values, edges, strict=True)
        ]
    )
    base = alt.Chart(band).encode(x=across(alt.X, "at"))
    # Edges alone: on a shade shams would have less than the least contrast.
    return [
        *(
            base.mark_line(color=marks.GREY, strokeWidth=1, clip=True).encode(y=along(alt.Y, edge))
            for edge in ("low", "high")
        ),
        base.mark_line(color=marks.GREY, strokeDash=[3, 3]).encode(y=along(alt.Y, "at")),
    ]


def _meant() -> list[alt.Chart]:
    """What the line, the band and hollow marks mean, in corners far from the line."""
    line = f"dashed: as the loss asks\nthin: a factor of {levels.WITHIN:g} off"
    hollow = "hollow: R not told from 0"
    return [
        _text(line, 6, 6).mark_text(align="left", baseline="top", fontSize=11, lineBreak="\n"),
        _text(hollow, "width", alt.ExprRef("height - 6")).mark_text(
            align="right", baseline="bottom", fontSize=11
        ),
    ]


def _text(text: str, x: Any, y: Any) -> alt.Chart:
    data = alt.InlineData(values=[{"meaning": text}])
    return alt.Chart(data).encode(x=alt.value(x), y=alt.value(y), text="meaning:N")


def _points(
    base: alt.Chart, near: alt.Parameter, there: Collection[str], both: bool
) -> list[alt.Chart]:
    """Shams below sinks, in the colours of their kinds; hollow where the coupling is not told from
    zero. The legend names the kinds that are there."""
    kinds = [name for name in KEYS if name in there]
    colour = (
        alt.Color("key_told:N", title=None)
        .scale(domain=kinds, range=[KEYS[name] for name in kinds])
        .legend(orient="top", columns=2, symbolType="circle", symbolOpacity=1, labelLimit=0)
    )
    found = []
    shape: dict[str, Any] = {}
    if both:
        shape["shape"] = (
            alt.Shape("means:N", title=None)
            .scale(domain=list(ARROW_NAMES.values()), range=list(ARROW_SHAPES.values()))
            .legend(orient="bottom", columns=2, symbolFillColor=marks.GREY,
                    symbolStrokeColor=marks.GREY, labelLimit=0)
        )  # fmt: skip
    for of, size in (("!=", 40), ("==", 70)):
        for filled in (False, True):
            own = base.transform_filter(
                f"datum.key_kind {of} 'sink' && {'' if filled else '!'}datum.told"
            )
            own = own.mark_point(filled=filled, size=size, opacity=1, strokeWidth=1.4)
            found.append(own.encode(color=colour, **shape))
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
    for kind, called in SHAMS.items():
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


def reading_of(known: pl.DataFrame, arrow: str) -> str:
    """How often one arrow is as the loss asks, at sinks and at shams."""
    sinks = known.filter(pl.col("key_kind") == "sink")
    if sinks.is_empty():
        return reading(known)
    if not sinks["resolved"].any():
        return "At no sink that has begun is R told from 0: nothing can be compared with it."
    parts: list[str] = []
    for kind, called in {"sink": "sinks", **SHAMS}.items():
        own = known.filter((pl.col("key_kind") == kind) & pl.col("resolved"))
        near = own[RATIOS[arrow]].is_between(1 / levels.WITHIN, levels.WITHIN)
        of = "" if kind == "sink" else "shams at " if len(parts) < 2 else "at "
        if own.height:
            parts.append(f"{near.sum()} of {own.height} {of}{called}")
    blind = [w for w in WORLDS if not sinks.filter(_of_world(w) & pl.col("resolved")).height]
    blind = [w for w in blind if sinks.filter(_of_world(w)).height]
    told = [f"Between the thin lines, where the {ARROW_NAMES[arrow]} as the loss asks, lie "
            f"{words.listed(parts)}."]  # fmt: skip
    told += [f"In {'toys' if w == WORLDS[0] else 'language models'} no sink's R is told from 0."
             for w in blind]  # fmt: skip
    return " ".join([*told, "Shams are keys that are no sinks."])


def _of_world(world: str) -> pl.Expr:
    toy = pl.col("trajectory").str.starts_with(TOYS)
    return toy if world == WORLDS[0] else ~toy
