"""Numbers that several claims read off a trajectory."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from trajectory.dynamics.claims.evidence import DORMANT, Absent, Evidence, Value, last_value
from trajectory.dynamics.claims.kinds import Of
from trajectory.dynamics.compare import MARGIN
from trajectory.dynamics.laws import Array

TOGETHER = math.log(2)
"""Two events within a factor of two of each other's step count as together."""


def at_end(statistic: str, domain: str = DORMANT) -> Of:
    """A column of ``heads`` for the lead head, at the last record."""
    return lambda evidence, trajectory: last_value(
        *evidence.of_lead(trajectory, domain, statistic), statistic
    )


def types_at_end(evidence: Evidence, trajectory: str) -> pl.DataFrame:
    """Rows of ``bb_types`` of the lead head at the last record."""
    lead = evidence.phenomenon(trajectory, DORMANT)
    rows = evidence.frame("bb_types").filter(
        trajectory=trajectory, layer=lead["layer"], head=lead["head"]
    )
    if not rows.height:
        raise Absent(f"'bb_types' has no row for {trajectory}")
    return rows.filter(pl.col("step") == pl.col("step").max())


def halves(steps: Array, values: Array) -> tuple[float, float]:
    """Slopes per step over the earlier and the later half (in ln step) of the rise.

    From the last least value on: before it the statistic has not begun to grow.
    """
    start = len(values) - 1 - int(values[::-1].argmin())
    steps, values = steps[start:], values[start:]
    if len(steps) < 5:
        raise Absent("fewer than five records after its least value")
    middle = math.sqrt(max(steps[0], 1.0) * steps[-1])
    early, late = steps <= middle, steps >= middle
    slopes = [np.polyfit(steps[part], values[part], 1)[0] for part in (early, late)]
    return float(slopes[0]), float(slopes[1])


def linear_over_log(evidence: Evidence, trajectory: str, domain: str, statistic: str) -> Value:
    """AICc of the logarithmic law minus that of the linear one, at the depth with the peak."""
    depth = evidence.phenomenon(trajectory, domain)["residual_layer"]
    where = {"trajectory": trajectory, "domain": domain, "layer": depth, "head": -1}
    rows = evidence.rows("laws", **where, statistic=statistic)
    for window in ("late", "onset"):
        aicc = {row["law"]: row["aicc"] for row in rows if row["window"] == window}
        if {"linear", "log"} <= aicc.keys():
            gain = aicc["log"] - aicc["linear"]
            return Value(gain, gain - MARGIN, gain + MARGIN, "evidence")
    raise Absent(f"{trajectory} has too few records for the laws of {statistic}")
