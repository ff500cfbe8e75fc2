"""What every trajectory ends with: rows of the ``phenomena`` table, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import stats

from trajectory.config import Dynamics
from trajectory.dynamics import ar1
from trajectory.dynamics.laws import Array
from trajectory.dynamics.phases import inner, phenomena
from trajectory.dynamics.series import LAST_QUARTER, log_steps
from trajectory.dynamics.squares import orthonormal
from trajectory.dynamics.verdicts import inside
from trajectory.rows import Row
from trajectory.schemas.ranges import FREE, RANGES, Limits

LEAST_RECORDS = 5
"""Records that the line through the end of a series needs."""


def phenomenon_row(
    trajectory: str,
    domain: str,
    place: tuple[int, int],
    heads: pl.DataFrame,
    layers: pl.DataFrame,
    settings: Dynamics,
) -> Row:
    """What the trajectory shows at its end: the lead head, and the inner depth with the peak.

    A model of one layer has no such depth: what is said of the peak is None. Whether a phenomenon
    is there is decided on the interval of its statistic's end, and None where that holds the
    threshold or there is none.
    """
    here = (pl.col("trajectory") == trajectory) & (pl.col("domain") == domain)
    head = heads.filter(here & (pl.col("layer") == place[0]) & (pl.col("head") == place[1]))
    head = head.sort("step")
    last = head.row(-1, named=True)
    depths = inner(layers.filter(here))
    ends = depths.filter(pl.col("step") == last["step"]).drop_nulls("residual_ratio")
    greatest = ends.sort("residual_ratio", descending=True).to_dicts()
    peak = greatest[0] if greatest else {"layer": None, "residual_ratio": None}
    stream = depths.filter(pl.col("layer").is_in([peak["layer"]])).sort("step")
    first = stream["residual_ratio"].to_list()[:1]
    ratio = peak["residual_ratio"]
    intervals: Row = {}
    sequences = last.get("sequences")
    for frame, statistic in (
        *((head, name) for name in ("sink_excess", "delta_logit", "value_ratio")),
        (stream, "residual_ratio"),
    ):
        intervals |= _ends(frame, statistic, sequences)
    few = head.height < LEAST_RECORDS
    known = any(value is not None for name, value in intervals.items() if name.endswith("_low"))
    return {
        "trajectory": trajectory,
        "domain": domain,
        "layer": place[0],
        "head": place[1],
        "last_step": last["step"],
        **{
            name: last[name]
            for name in (
                "sink_weight",
                "sink_weight_floor",
                "sink_excess",
                "delta_logit",
                "value_ratio",
            )
        },
        "value_ratio_peak": head["value_ratio"].max(),
        "residual_ratio": ratio,
        "residual_ratio_first": first[0] if first else None,
        "residual_layer": peak["layer"],
        **{
            one.name: inside(
                intervals[f"{one.statistic}_low"], intervals[f"{one.statistic}_high"], *one.limits
            )
            for one in phenomena(settings)
        },
        "intervals_over": ("sequences" if few else "records") if known else None,
        **intervals,
    }


def _ends(frame: pl.DataFrame, statistic: str, sequences: int | None) -> Row:
    """``<statistic>_end``, ``_low`` and ``_high`` of a series; None where it has no record.

    Too few records for a line have the interval of the last one's mean over its sequences.
    """
    known = frame.drop_nulls(statistic)
    found: tuple[float | None, float | None, float | None] = (None, None, None)
    if known.height:
        steps, values = known["step"].to_numpy(), known[statistic].to_numpy()
        limits = RANGES.get(statistic, FREE)
        found = end_value(steps, values, limits)
        error = known.row(-1, named=True).get(f"{statistic}_se")
        if len(steps) < LEAST_RECORDS and error is not None and sequences is not None:
            found = found[0], *over_sequences(found[0], error, sequences, limits)
    names = (f"{statistic}_{end}" for end in ("end", "low", "high"))
    return dict(zip(names, found, strict=True))


def end_value(
    steps: Array, values: Array, limits: Limits = FREE
) -> tuple[float, float | None, float | None]:
    """The fitted end of a series: its noise-free value at the last record, with a 95 % interval.

    From a line in ln step through the last quarter of the records (five at least). A curve that
    flattens stays below a line through it: the value is none that lies beyond all these records.

    Args:
        steps: (n,) ascending.
        values: (n,).
        limits: values that the statistic cannot leave; estimate and interval end there.

    Returns:
        the line's value and both ends; the last record without ends for fewer than five records.
    """
    if len(steps) < LEAST_RECORDS:
        return float(values[-1]), None, None
    points = max(LEAST_RECORDS, len(steps) // LAST_QUARTER)
    late = np.asarray(values[-points:], dtype=float)
    level, low, high = line(log_steps(steps)[-points:], late).level
    value = float(np.clip(level, late.min(), late.max()))
    value, low, high = np.clip([value, min(low, value), max(high, value)], *limits).tolist()
    return value, low, high


def over_sequences(
    mean: float, error: float, sequences: int, limits: Limits = FREE
) -> tuple[float | None, float | None]:
    """The 95 % Student interval of a mean over sequences; None for both ends of fewer than two.

    Args:
        mean: over the sequences.
        error: its standard error, from their spread.
        sequences: how many there are, taken as independent.
        limits: values that the statistic cannot leave; the interval ends there.
    """
    if sequences < 2:
        return None, None
    reach = float(stats.t.ppf(0.975, sequences - 1)) * error
    low, high = np.clip([mean - reach, mean + reach], *limits).tolist()
    return low, high


@dataclass(frozen=True)
class FittedLine:
    """A straight line through records.

    Attributes:
        level: its value at the last record, with the ends of its 95 % interval.
        slope: likewise.
    """

    level: tuple[float, float, float]
    slope: tuple[float, float, float]


def line(x: Array, values: Array) -> FittedLine:
    """The line through records with AR(1) noise.

    The autocorrelation ρ is averaged over by its restricted likelihood times 1 − ρ²: so few records
    do not tell a drift from strongly correlated noise.

    Args:
        x: (n,) ascending, n ≥ 3.
        values: (n,).
    """
    y, points = np.asarray(values, dtype=float), len(x)
    columns = [np.ones(points), x - x[-1]]
    free = points - len(columns)
    means, variances, deviances = [], [], []
    for lag1 in ar1.GRID:
        basis, upper = orthonormal([ar1.whiten(column, lag1) for column in columns])
        whitened = ar1.whiten(y, lag1)
        inner_products = np.array([float(whitened @ direction) for direction in basis])
        rest = max(float(whitened @ whitened - inner_products @ inner_products), 0.0)
        rest = max(rest, points * float(np.square(1e-12 + 1e-12 * np.abs(y).max())))
        triangle = np.array([[upper[0][0], upper[1][0]], [0.0, upper[1][1]]], dtype=float)
        inverse = np.linalg.inv(triangle)
        means.append(inverse @ inner_products)
        variances.append(rest / free * np.square(inverse).sum(1))
        volume = 2 * np.log(np.abs(np.diag(triangle))).sum()
        deviances.append(free * np.log(rest) - np.log1p(-(lag1**2)) + volume)
    weights = np.exp(-(np.array(deviances) - min(deviances)) / 2) * (1 - np.square(ar1.GRID))
    weights /= weights.sum()
    mean = weights @ np.array(means)
    variance = weights @ (np.array(variances) + np.square(np.array(means) - mean))
    reach = stats.t.ppf(0.975, free) * np.sqrt(variance)
    level, slope = np.stack([mean, mean - reach, mean + reach], axis=1).tolist()
    return FittedLine(tuple(level), tuple(slope))
