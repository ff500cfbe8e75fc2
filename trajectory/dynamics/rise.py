"""When a sink rises: the one window in which forces on it are judged, by claims and by the report.

A sink *begins* after the last record with less than a tenth of its rise, and its *midpoint* is
where half of it is there.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import polars as pl

from trajectory.dynamics.laws import Array
from trajectory.dynamics.series import ACTIVE, late, log_steps

AHEAD = 4.0
"""The force on a sink comes before its weight: it is looked for from this part of the last step at
which there is none. Earlier records tell how the task begins, not how the sink does."""

BEGUN = 0.1
"""A sink has begun once this part of its rise is done for good."""

RISING = (
    "from a quarter of the last step with less than a tenth of the sink's rise up to its midpoint"
)
"""The window of what makes a sink, in words."""

SINCE = "from a tenth of the sink's rise on"
"""The window of what holds of a sink that has begun, in words."""


@dataclass(frozen=True)
class Rise:
    """The rise of one sink.

    Attributes:
        before: last recorded step at which less than ``BEGUN`` of it is there.
        midway: step at which half of it is.
    """

    before: float
    midway: float


def passing(steps: Array, values: Array, part: float) -> tuple[float, float, float] | None:
    """When the series has come ``part`` of the way from its first to its late values.

    Linear in ln step between records, at the first record beyond.

    Returns:
        the step and the records around it; None for a series that stays.
    """
    first, end = float(values[0]), float(late(values).mean())
    if abs(end - first) <= 1e-9 * abs(values).max():
        return None
    along = (values - first) / (end - first)
    i = int((along >= part).argmax())
    x = log_steps(steps)
    within = (part - along[i - 1]) / (along[i] - along[i - 1])
    step = math.exp(x[i - 1] + within * (x[i] - x[i - 1]))
    return step, float(steps[i - 1]), float(steps[i])


def rise_of(steps: Array, excess: Array) -> Rise | None:
    """The rise of a sink whose excess follows the series; None for one that stays."""
    found = passing(steps, excess, 1 / 2)
    if found is None:
        return None
    short = excess < excess[0] + BEGUN * (late(excess).mean() - excess[0])
    return Rise(float(steps[short].max(initial=steps[0])), found[0])


def rising(step: pl.Expr, before: Any, midway: Any) -> pl.Expr:
    """Records before the sink and while it rises."""
    return (step >= before / AHEAD) & (step <= midway)


def begun(step: pl.Expr, before: Any) -> pl.Expr:
    """Records from its beginning on."""
    return step > before


def risen(step: pl.Expr, midway: Any) -> pl.Expr:
    """Records from its midpoint on."""
    return step >= midway


@dataclass(frozen=True)
class Sink:
    """A sink whose onset was observed.

    Attributes:
        layer: of its head.
        onset: step.
        rise: None for an excess that stays.
    """

    layer: int
    onset: float
    rise: Rise | None


Sinks = dict[tuple[Hashable, str], Sink]
"""By domain, of (trajectory, layer, head) each head's, and of a trajectory its lead head's; with ''
for the domain the one whose onset is the earliest."""


def sinks(heads: pl.DataFrame, onsets: pl.DataFrame) -> Sinks:
    """The sinks of all heads, on the domains on which sinks are looked for.

    Args:
        heads: the measurement table.
        onsets: that table.
    """
    place = ["trajectory", "domain", "layer", "head"]
    rows = onsets.filter(
        (pl.col("phenomenon") == "sink")
        & (pl.col("level") == "head")
        & (pl.col("domain") != ACTIVE)
        & pl.col("onset").is_not_null()
    ).sort("onset", *place)
    series = heads.select(*place, "step", "sink_excess").drop_nulls()
    series = series.join(rows, on=place, how="semi").sort(*place, "step")
    rises = {
        names: rise_of(
            part["step"].to_numpy().astype(float), part["sink_excess"].to_numpy().astype(float)
        )
        for names, part in series.group_by(place, maintain_order=True)
    }
    found: Sinks = {}
    for row in rows.iter_rows(named=True):
        trajectory, domain, layer, head = (row[name] for name in place)
        sink = Sink(layer, row["onset"], rises.get((trajectory, domain, layer, head)))
        keys: list[Hashable] = [(trajectory, layer, head), *([trajectory] if row["lead"] else [])]
        for key in keys:
            found[key, domain] = sink
            found.setdefault((key, ""), sink)
    return found


def sink_of(found: Sinks, key: Hashable, domain: str) -> Sink | None:
    """The sink on this domain, or the earliest where the domain has none of its own."""
    return found.get((key, domain), found.get((key, "")))
