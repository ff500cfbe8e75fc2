"""Which of a head's events comes first: a part of *Careers*."""

from __future__ import annotations

import altair as alt
import polars as pl

from trajectory.report import marks, words
from trajectory.report.page import Figure
from trajectory.report.run import Run
from trajectory.schemas import ROLE_ORDER

MOST_HEIGHT = 900
"""Of the chart, in pixels."""


def ordered(order: pl.DataFrame) -> pl.DataFrame:
    """The orders with a pair's and a series' name."""
    return order.with_columns(
        pl.format("{} → {}", "first", "second").alias("pair"),
        pl.format("{} · {}", "group", "domain").alias("label"),
    )


def figure(run: Run, order: pl.DataFrame) -> Figure:
    """The chart; ``order`` as ``ordered`` gives it."""
    pairs = list(dict.fromkeys(order["pair"]))
    layers = marks.forest(
        marks.named("order"),
        ROLE_ORDER,
        "log_lag",
        ("low", "high"),
        marks.LAG,
        ticks=marks.ratio_ticks(),
        y=alt.Y("pair:N", title=None, sort=pairs).axis(labelLimit=180),
        tooltip=[
            *marks.tips(ROLE_ORDER, ["group", "domain"]),
            *(alt.Tooltip(f"{n}:N") for n in ("pair", "order")),
            alt.Tooltip("intervals_over:N", title="intervals over"),
            *marks.tips(ROLE_ORDER, ["seeds", "first_heads", "second_heads", "p_shuffled"]),
        ],
        color=marks.colour(run).legend(
            orient="top",
            title=None,
            columns=3,  # names of models are long, and the domains stand beside them
            values=[g for g in run.groups if g in set(order["group"])],
        ),
        shape=alt.Shape("domain:N", title=None)
        .scale(domain=[d for d in run.domains if d in set(order["domain"])])
        .legend(orient="top", columns=2, symbolFillColor=marks.GREY, symbolStrokeColor=marks.GREY),
        yOffset=alt.YOffset("label:N"),
    )
    labels = order["label"].n_unique()
    return Figure(
        "order",
        "Which comes first",
        alt.layer(marks.reference(0.0, "at the same time", vertical=True), *layers),
        _reading(order),
        data="order",
        table="role_order",
        definition=marks.definition(ROLE_ORDER, "log_lag"),
        wide=True,
        height=max(160, min(len(pairs) * (8 + 7 * labels), MOST_HEIGHT)),
    )


def _reading(order: pl.DataFrame) -> str:
    """Which event leads in how many groups, pair by pair."""
    parts = []
    for (first, second), rows in order.group_by("first", "second", maintain_order=True):
        leads = dict(rows.group_by("order").len().rows())
        told = [f"{name} first in {leads[name]}" for name in (first, second) if name in leads]
        rest = rows.height - sum(leads.get(name, 0) for name in (first, second))
        told += [f"{rest} not decided"] if rest else []
        parts.append(f"{first} and {second}: {words.listed(told)}")
    return f"Of models and domains, {'; '.join(parts)}."
