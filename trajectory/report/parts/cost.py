"""What removing a head costs against its weight on the sink, in both worlds."""

from __future__ import annotations

import math

import altair as alt
import polars as pl

from trajectory.dynamics.series import with_group
from trajectory.report import marks, words
from trajectory.report.missing import reason
from trajectory.report.names import Names
from trajectory.report.page import Figure, Missing
from trajectory.report.palette import KINDS
from trajectory.report.run import Run
from trajectory.schemas import BB_INTERVENTIONS, HEAD_EFFECTS

TITLE = "What removing a head costs"

RESTING = 0.5
"""Weight on the sink from which a head rests there."""

WORLDS = {"toy": KINDS[0], "language model": KINDS[1]}

SHAPES = dict(zip(WORLDS, ("circle", "square"), strict=True))

REMOVED = r"^zero_attention (\d+)$"
"""Intervention on a toy that zeroes one layer's attention: of one head, that head."""


def figure(
    run: Run, groups: list[str], names: Names, data: dict[str, pl.DataFrame]
) -> Figure | Missing:
    """A point per head and domain at the last record."""
    parts = [part for part in (_toys(run, groups, names), _models(run, groups)) if part.height]
    if not parts:
        return Missing(TITLE, reason("head_effects"), "cost")
    rows = pl.concat(parts)
    data["cost"] = rows
    low, high = float(rows["cost"].min()), float(rows["cost"].max())  # type: ignore[arg-type]
    turn = 10.0 ** math.floor(math.log10(max(abs(low), abs(high), 1e-3))) / 100
    ends = [min(1.4 * low, -turn), 1.5 * max(high, turn)]
    there = [world for world in WORLDS if world in set(rows["world"])]
    base = marks.named("cost")
    points = base.mark_point(filled=True, size=46, opacity=0.85).encode(
        x=alt.X("sink_weight:Q", title="its weight on the sink")
        .scale(domain=[0, 1])
        .axis(tickCount=5),
        y=alt.Y("cost:Q", title="loss without it − loss (nats/token)")
        .scale(type="symlog", constant=turn, domain=ends, nice=False)
        .axis(values=_ticks(turn, low, high), format="~g"),
        color=alt.Color("world:N", title=None)
        .scale(domain=there, range=[WORLDS[world] for world in there])
        .legend(orient="top"),
        shape=alt.Shape("world:N", title=None)
        .scale(domain=there, range=[SHAPES[world] for world in there])
        .legend(orient="top"),
        tooltip=[
            alt.Tooltip("label:N", title="model"),
            alt.Tooltip("domain:N"),
            *marks.tips(HEAD_EFFECTS, ["step", "layer", "head", "sink_weight"]),
            alt.Tooltip("cost:Q", title="cost (nats/token)", format=".3~g"),
        ],
    )
    return Figure(
        "cost",
        TITLE,
        alt.layer(marks.reference(0.0, "nothing lost"), points),
        _reading(rows),
        data="cost",
        table="head_effects",
        definition="At the last checkpoint, on each domain. Language models: "
        f"{marks.definition(HEAD_EFFECTS, 'loss_difference')}. Toys of one head per layer, with "
        f"that layer's attention zeroed: {marks.definition(BB_INTERVENTIONS, 'risk_change')}",
        narrow=True,
        height=300,
    )


def _ticks(turn: float, low: float, high: float) -> list[float]:
    """Zero and the decades to both sides."""
    decades = [turn * 10.0**k for k in range(4)]
    return [
        t for t in (*(-d for d in reversed(decades)), 0.0, *decades) if 1.3 * low <= t <= 1.3 * high
    ]


_COLUMNS = ("label", "world", "domain", "step", "layer", "head", "sink_weight", "cost")


def _models(run: Run, groups: list[str]) -> pl.DataFrame:
    if not run.has("head_effects"):
        return pl.DataFrame()
    rows = with_group(run.frame("head_effects")).filter(pl.col("group").is_in(groups))
    last = rows.filter(pl.col("step") == pl.col("step").max().over("trajectory"))
    return last.select(
        pl.col("trajectory").alias("label"),
        pl.lit("language model").alias("world"),
        "domain",
        pl.col("step").cast(pl.Int64),
        pl.col("layer").cast(pl.Int64),
        pl.col("head").cast(pl.Int64),
        "sink_weight",
        pl.col("loss_difference").alias("cost"),
    )


def _toys(run: Run, groups: list[str], names: Names) -> pl.DataFrame:
    """Toys of one head per layer: without the attention of a layer its head is gone."""
    if not run.has("bb_interventions"):
        return pl.DataFrame()
    single = [
        f"bb/{name}"
        for name, v in run.config.bb.variants.items()
        if v.heads == 1 and f"bb/{name}" in groups
    ]
    rows = with_group(run.frame("bb_interventions")).filter(pl.col("group").is_in(single))
    last = rows.filter(pl.col("step") == pl.col("step").max().over("trajectory")).with_columns(
        pl.col("intervention").str.extract(REMOVED).cast(pl.Int64).alias("layer")
    )
    zeroed = last.drop_nulls("layer")
    if zeroed.is_empty():
        return pl.DataFrame()
    place = ["trajectory", "domain", "step", "layer"]
    heads = run.frame("heads", *place, "head", "sink_weight").with_columns(
        pl.col("layer").cast(pl.Int64)
    )
    labels = {t: names.of(t) for t in zeroed["trajectory"].unique()}
    return zeroed.join(heads, on=place).select(
        pl.col("trajectory").replace_strict(labels, return_dtype=pl.String).alias("label"),
        pl.lit("toy").alias("world"),
        "domain",
        pl.col("step").cast(pl.Int64),
        "layer",
        pl.col("head").cast(pl.Int64),
        "sink_weight",
        pl.col("risk_change").alias("cost"),
    )


def _reading(rows: pl.DataFrame) -> str:
    """The mean cost of heads that rest and of heads that work, in each world."""
    told = []
    for world in WORLDS:
        own = rows.filter(world=world)
        parts = [
            f"{words.signed(float(part['cost'].mean() or 0))} {where} ({part.height})"  # type: ignore[arg-type]
            for part, where in (
                (own.filter(pl.col("sink_weight") >= RESTING), "where it rests on the sink"),
                (own.filter(pl.col("sink_weight") < RESTING), "where not"),
            )
            if part.height
        ]
        if parts:
            told.append(
                f"{'In toys' if world == 'toy' else 'in language models'} {words.listed(parts)}"
            )
    text = "; ".join(told)
    return f"Mean, in nats/token (heads × domains): {text[0].lower()}{text[1:]}."
