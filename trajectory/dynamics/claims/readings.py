"""Numbers that several claims read off a trajectory."""

from __future__ import annotations

import math
from contextlib import suppress

import numpy as np
import polars as pl

from trajectory.dynamics.claims.evidence import (
    POSITIVE,
    Absent,
    Evidence,
    Value,
    last_value,
)
from trajectory.dynamics.claims.kinds import Of
from trajectory.dynamics.compare import MARGIN
from trajectory.dynamics.ending import line
from trajectory.dynamics.laws import Array
from trajectory.dynamics.series import DORMANT
from trajectory.schemas.ranges import Limits

TOGETHER = math.log(2)
"""Two events within a factor of two of each other's step count as together."""


def at_end(statistic: str, domain: str = DORMANT) -> Of:
    """A column of ``heads`` for the lead head, at the last record."""
    return lambda evidence, trajectory: last_value(
        *evidence.of_lead(trajectory, domain, statistic), statistic
    )


def at_step(statistic: str, step: int, domain: str = DORMANT) -> Of:
    """A column of ``heads`` for the lead head at ``step``, by the records up to it."""

    def of(evidence: Evidence, trajectory: str) -> Value:
        steps, values = evidence.of_lead(trajectory, domain, statistic)
        return last_value(steps[steps <= step], values[steps <= step], statistic)

    return of


def types_of_lead(evidence: Evidence, trajectory: str, trigger: bool) -> pl.DataFrame:
    """Rows of ``bb_types`` of the lead head, all records, of triggers or of the other types."""
    lead = evidence.phenomenon(trajectory, DORMANT)
    rows = evidence.frame("bb_types").filter(
        trajectory=trajectory, layer=lead["layer"], head=lead["head"], trigger=trigger
    )
    if not rows.height:
        raise Absent(f"'bb_types' has no row for {trajectory}")
    return rows


def over_types(
    rows: pl.DataFrame, column: str, number: pl.Expr, limits: Limits = POSITIVE
) -> Value:
    """``number``, computed over the token types of each record, at the last record; what it can be
    is within ``limits``."""
    found = (
        rows.drop_nulls(column)
        .group_by("step")
        .agg(number.alias("number"))
        .drop_nulls("number")
        .sort("step")
    )
    if not found.height:
        raise Absent(f"'bb_types' holds no {column}")
    steps = found["step"].to_numpy().astype(float)
    return last_value(steps, found["number"].to_numpy(), limits=limits)


def last_in_logs(steps: Array, values: Array, floor: float) -> Value:
    """As ``last_value``, of a statistic that falls by decades; less than ``floor`` counts as it."""
    return exponential(last_value(steps, np.log(np.maximum(values, floor))))


def exponential(value: Value) -> Value:
    """The exponential of a value and of its interval."""
    low, high = (None if end is None else math.exp(end) for end in (value.low, value.high))
    return Value(math.exp(value.value), low, high, value.interval, POSITIVE)


def weighted_mean(column: str) -> pl.Expr:
    """Mean over token types by their share of the queries."""
    return (pl.col(column) * pl.col("queries")).sum() / pl.col("queries").sum()


def weighted_spread(column: str) -> pl.Expr:
    """Standard deviation over token types by their share, over the mean; empty below zero."""
    mean = weighted_mean(column)
    square = (pl.col(column).pow(2) * pl.col("queries")).sum() / pl.col("queries").sum()
    variance = pl.max_horizontal(square - mean.pow(2), pl.lit(0.0))
    return pl.when(mean > 0).then(variance.sqrt() / mean)


def halves(steps: Array, values: Array) -> tuple[Value, Value]:
    """Slopes per step over the earlier and the later half (in ln step) of the rise.

    From the last least value on: before it the statistic has not begun to grow.
    """
    start = len(values) - 1 - int(values[::-1].argmin())
    steps, values = steps[start:], values[start:]
    if len(steps) < 5:
        raise Absent("fewer than five checkpoints after its least value")
    middle = math.sqrt(max(steps[0], 1.0) * steps[-1])
    early, later = steps <= middle, steps >= middle
    return fitted_slope(steps[early], values[early]), fitted_slope(steps[later], values[later])


def fitted_slope(steps: Array, values: Array) -> Value:
    """Slope per step of the line through records with AR(1) noise.

    Raises Absent for fewer than three records.
    """
    if len(steps) < 3:
        raise Absent("fewer than three checkpoints for a slope")
    return Value(*line(steps, values).slope, "records")


def scaled(value: Value, factor: float) -> Value:
    """The value and its interval times a positive factor."""
    low, high = (None if end is None else factor * end for end in (value.low, value.high))
    return Value(factor * value.value, low, high, value.interval)


def linear_over_log(
    evidence: Evidence, trajectories: list[str], domain: str, statistic: str
) -> tuple[str, Of]:
    """How much rather linear than logarithmic the residual stream grows at the depth with the peak.

    Args:
        evidence: the run's tables.
        trajectories: that are to be compared: one window for all.
        domain: of the trajectories.
        statistic: of the residual stream.

    Returns:
        the window, and from a trajectory to the AICc of the logarithmic law minus that of the
        linear one in it.
    """
    known = []
    for trajectory in trajectories:
        with suppress(Absent):
            known.append(_gains(evidence, trajectory, domain, statistic))
    window = next((w for w in WINDOWS if all(w in found for found in known)), WINDOWS[-1])

    def of(evidence: Evidence, trajectory: str) -> Value:
        gain = _gains(evidence, trajectory, domain, statistic).get(window)
        if gain is None:
            raise Absent(f"{trajectory} has too few checkpoints in the {window} window")
        return Value(gain, gain - MARGIN, gain + MARGIN, "evidence")

    return window, of


def growth(evidence: Evidence, trajectories: list[str], domain: str) -> tuple[str, Of]:
    """How fast the sink's residual norm leaves the other tokens' behind, at the depth with the peak.

    All norms may grow together: the excess tells what is the sink's own, and a line through a norm
    that falls fits as well as one through a norm that rises.

    Args:
        evidence: the run's tables.
        trajectories: that are to be compared: one window for all.
        domain: of the trajectories.

    Returns:
        the window, and from a trajectory to the slope of its excess per 1,000 steps in it.
    """
    window, _ = linear_over_log(evidence, trajectories, domain, "residual_excess")

    def of(evidence: Evidence, trajectory: str) -> Value:
        depth = evidence.peak_depth(trajectory, domain)
        where = {"trajectory": trajectory, "domain": domain, "layer": depth, "head": -1}
        fitted = evidence.rows("laws", **where, statistic="residual_excess", window=window)
        if not fitted:
            raise Absent(f"{trajectory} has too few checkpoints in the {window} window")
        steps, excess = evidence.of_peak(trajectory, domain, "residual_excess")
        part = steps >= fitted[0]["first_step"]
        return scaled(fitted_slope(steps[part], excess[part]), 1000)

    return window, of


WINDOWS = ("late", "onset")
"""Windows in which growth is judged, the preferred one first."""


def _gains(evidence: Evidence, trajectory: str, domain: str, statistic: str) -> dict[str, float]:
    """AICc of the logarithmic law minus that of the linear one, by window where both are fitted."""
    depth = evidence.peak_depth(trajectory, domain)
    where = {"trajectory": trajectory, "domain": domain, "layer": depth, "head": -1}
    found: dict[str, dict[str, float]] = {}
    for row in evidence.rows("laws", **where, statistic=statistic):
        if row["aicc"] is not None:
            found.setdefault(row["window"], {})[row["law"]] = row["aicc"]
    gains = {
        window: aicc["log"] - aicc["linear"]
        for window, aicc in found.items()
        if {"linear", "log"} <= aicc.keys()
    }
    if not gains:
        raise Absent(f"{trajectory} has too few checkpoints for the laws of {statistic}")
    return gains
