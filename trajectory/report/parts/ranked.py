"""Heads ranked by what tells domains apart and by what the model loses: a part of *Circuit*."""

from __future__ import annotations

from functools import partial

import altair as alt
import polars as pl

from trajectory.dynamics.circuit import last_records
from trajectory.dynamics.series import with_group
from trajectory.report import marks, words
from trajectory.report.page import Block, Captions, Figure, Part
from trajectory.report.run import Run, domain_rank, is_bb
from trajectory.schemas import HEAD_EFFECTS

MOST = 24
"""Heads that a ranking shows; the table holds all."""

RANKINGS = (
    ("gap", "sink_weight", "weight on the sink", "Heads by the gap between domains"),
    ("loss", "loss_difference", "loss without the head − loss (nats/token)", "Heads by their loss"),
)


def make(run: Run, first: tuple[str, str]) -> Part:
    """The part; ``first`` names the trajectory that the page shows at first."""
    rows = last_records(run.frame("head_effects"))
    blocks: list[Block] = []
    data: dict[str, pl.DataFrame] = {}
    for name, column, axis, title in RANKINGS:
        found = ranking(rows, name)
        if found.height:
            data[f"ranked-{name}"] = with_group(found)
            blocks.append(_figure(run, found, first[0], name, column, axis, title))
    return Part("ranked", "Heads, ranked", "", blocks, (), data)


def ranking(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    """The first heads of each trajectory in a ranking, with their rows on every domain.

    Args:
        rows: of ``head_effects``, one record per trajectory.
        name: gap: by the greatest |domain_gap| on any domain; loss: by the greatest
            loss_difference on any domain.
    """
    by = pl.col("domain_gap").abs() if name == "gap" else pl.col("loss_difference")
    place = ["trajectory", "layer", "head"]
    best = rows.drop_nulls("domain_gap" if name == "gap" else "loss_difference").group_by(place)
    first = (
        best.agg(by.max().alias("most"))
        .sort("trajectory", "most", "layer", "head", descending=[False, True, False, False])
        .with_columns(pl.int_range(1, pl.len() + 1).over("trajectory").alias("place"))
        .filter(pl.col("place") <= MOST)
    )
    return (
        rows.join(first, on=place)
        .with_columns(pl.format("L{}H{}", "layer", "head").alias("name"))
        .sort("trajectory", "place", "domain")
    )


def _figure(
    run: Run, found: pl.DataFrame, trajectory: str, name: str, column: str, axis: str, title: str
) -> Figure:
    domains = sorted(found["domain"].unique(), key=domain_rank)
    base = (
        marks.named(f"ranked-{name}")
        .transform_filter("datum.trajectory == chosen_trajectory")
        .encode(
            x=alt.X("name:N", title=None, sort={"field": "place"}).axis(
                labelAngle=-60, labelOverlap=False
            ),
            y=alt.Y(f"{column}:Q", title=axis).scale(zero=True),
        )
    )
    tips = [
        *marks.tips(HEAD_EFFECTS, ["trajectory", "domain", "layer", "head"]),
        *marks.tips(HEAD_EFFECTS, ["sink_weight", "domain_gap", "loss_difference"]),
        *marks.tips(HEAD_EFFECTS, ["loss_difference_se", "rank_gap", "rank_loss"]),
    ]
    points = base.mark_point(filled=True, size=60, opacity=1).encode(
        color=marks.by_domain(run, domains)["color"], tooltip=tips
    )
    joined = base.mark_line(strokeWidth=1, color=marks.GREY).encode(detail="name:N")
    models = [t for t in run.trajectories if not is_bb(t)]
    captions = Captions.of("chosen_trajectory", models, partial(_reading, found, name, column))
    return Figure(
        f"ranked-{name}",
        title,
        alt.layer(joined, points),
        captions.readings[(trajectory,)],
        captions=captions,
        data=f"ranked-{name}",
        table="head_effects",
        definition=marks.definition(
            HEAD_EFFECTS, "domain_gap" if name == "gap" else "loss_difference"
        ),
        height=260,
    )


def _reading(found: pl.DataFrame, name: str, column: str, trajectory: str) -> str:
    own = found.filter(trajectory=trajectory)
    if own.is_empty():
        return f"No head of {trajectory} was zeroed."
    first = own.filter(pl.col("place") == 1)
    told = [f"{words.number(row[column], 3)} on {row['domain']}" for row in first.to_dicts()]
    what = "differs most between domains" if name == "gap" else "costs most"
    number = "weight on the sink" if name == "gap" else "in nats/token"
    return f"Of the heads of {trajectory} {first['name'][0]} {what}: {number} {words.listed(told)}."
