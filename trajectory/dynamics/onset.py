"""When a statistic reaches its threshold for good: between which two records, and how surely."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from trajectory.dynamics.laws import Array
from trajectory.dynamics.series import log_steps

CORRELATED = 12.0
"""Factor on the variance that differences of neighbouring records show: they show a third of that
of AR(1) noise with ρ = .6, and what contradicts a crossing comes in runs (1 + ρ)/(1 − ρ) long."""

GREATEST_LAG1 = 0.9
"""Beyond it the inflation by runs would be endless."""


@dataclass(frozen=True)
class Onset:
    """An interval-censored crossing.

    Attributes:
        status: "observed", "before_first" (above from the first record on), "lost" (reached, but
            short of the threshold at the last two records) or "not_reached".
        after_step: last record below the threshold before the crossing, if observed.
        by_step: first record of the crossing, if observed.
    """

    status: Literal["observed", "before_first", "lost", "not_reached"]
    after_step: int | None = None
    by_step: int | None = None

    @property
    def step(self) -> float | None:
        """Geometric midpoint of the interval (arithmetic if it starts at step 0)."""
        if self.after_step is None or self.by_step is None:
            return None
        if self.after_step == 0:
            return self.by_step / 2
        return math.sqrt(self.after_step * self.by_step)


def lasting_crossing(steps: ArrayLike, values: ArrayLike, threshold: float) -> Onset:
    """When ``values`` reached ``threshold`` and stayed: what rises and falls back is no onset.

    A record counts as reached if the next one holds it (the last needs no confirmation), and as
    fallen back if the next one is short of it too: so one noisy record decides nothing.

    Args:
        steps: ascending steps of the records.
        values: the statistic at each.
        threshold: what counts as reached.
    """
    steps, above = np.asarray(steps), np.asarray(values, dtype=float) >= threshold
    held = above & np.append(above[1:], True)
    if not held.any():
        return Onset("not_reached")
    fallen = np.flatnonzero(~above[:-1] & ~above[1:])
    after = int(fallen[-1]) + 2 if len(fallen) else 0
    if not held[after:].any():
        return Onset("lost")
    first = after + int(held[after:].argmax())
    if first == 0:
        return Onset("before_first")
    return Onset("observed", int(steps[first - 1]), int(steps[first]))


def crossing_intervals(
    steps: Array, values: Array, threshold: float, noise: Array, lag1: Array
) -> tuple[Array, Array]:
    """95 % interval of the step at which the noise-free series crosses ``threshold`` upwards.

    The curve is taken to lie below the threshold before the crossing and not below it after. For
    every pair of neighbouring records between which that may happen, the likelihood ratio adds up
    how far the records on the wrong side contradict it; pairs within the χ² limit of the best one
    are kept. Records above the threshold contradict nothing if the curve has surely fallen back
    since: two or more in a row lie further below it than noise would.

    The noise is that about a fitted ramp, or that between neighbouring records taken as strongly
    correlated, whichever is less: the first counts a curve that is no ramp as noise, the second
    takes independent noise for a sign of much more.

    Args:
        steps: (n,) ascending, at least three.
        values: (S, n).
        threshold: as in ``lasting_crossing``.
        noise: (S,) standard deviation about the ramp.
        lag1: (S,) its autocorrelation.

    Returns:
        ends (S,) each: NaN below where the first record may be past the crossing, above where the
        last may be short of it.
    """
    above = np.square(np.maximum(values - threshold, 0.0))
    below = np.square(np.maximum(threshold - values, 0.0))
    short = values < threshold
    fallen = short[:, :-1] & short[:, 1:]
    lasting = np.where(fallen.any(-1), len(steps) - fallen[:, ::-1].argmax(-1), 0)
    rho = np.clip(lag1, 0.0, GREATEST_LAG1)
    about_ramp = np.square(noise) * (1 + rho) / (1 - rho)
    between = CORRELATED * _variance(log_steps(steps), values, lasting)
    limit = stats.chi2.ppf(0.95, 1) * np.minimum(about_ramp, between)
    forgiven = np.arange(above.shape[1]) < _fallen_back(below, limit)[:, None]
    # Crossing before record k: the records before it should be below, the others not.
    zero = np.zeros((len(values), 1))
    before = np.concatenate([zero, np.where(forgiven, 0.0, above).cumsum(-1)], -1)
    wrong = before + np.concatenate([below[:, ::-1].cumsum(-1)[:, ::-1], zero], -1)
    kept = wrong - wrong.min(-1, keepdims=True) <= limit[:, None]
    first = kept.argmax(-1)
    last = kept.shape[-1] - 1 - kept[:, ::-1].argmax(-1)
    steps = np.asarray(steps, dtype=float)
    low = np.where(first > 0, steps[np.maximum(first - 1, 0)], np.nan)
    high = np.where(last < len(steps), steps[np.minimum(last, len(steps) - 1)], np.nan)
    return low, high


def _fallen_back(below: Array, limit: Array) -> np.ndarray:
    """(S,) records up to the last stretch that surely lies below the threshold, it included.

    Args:
        below: (S, n) squared distances below the threshold, 0 above it.
        limit: (S,) their sum over two or more records in a row that noise does not explain.
    """
    total, length = np.zeros(len(below)), np.zeros(len(below))
    end = np.zeros(len(below), dtype=int)
    for record, square in enumerate(below.T):
        short = square > 0
        total, length = np.where(short, total + square, 0.0), np.where(short, length + 1, 0)
        end[(length >= 2) & (total > limit)] = record + 1
    return end


def _variance(x: Array, values: Array, crossing: np.ndarray) -> Array:
    """(S,) variance about lines through each record's neighbours, over the nearer half of records.

    Gasser, Sroka and Jennen-Steinmetz 1986. The noise of a sink's weight grows with the weight:
    only records near the crossing speak for it.
    """
    left = (x[2:] - x[1:-1]) / (x[2:] - x[:-2])
    difference = values[:, 1:-1] - left * values[:, :-2] - (1 - left) * values[:, 2:]
    squares = np.square(difference) / (1 + left**2 + (1 - left) ** 2)
    away = np.abs(np.arange(1, len(x) - 1) + 0.5 - crossing[:, None])
    near = away <= np.sort(away, axis=-1)[:, [max(2, len(x) // 2) - 1]] if len(x) > 4 else away >= 0
    variance: Array = (squares * near).sum(-1) / near.sum(-1)
    return variance
