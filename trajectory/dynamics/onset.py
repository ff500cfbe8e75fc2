"""When a statistic reaches its threshold: between which two records, and how surely."""

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
        status: "observed", "before_first" (above at the first record) or "not_reached".
        after_step: last record below the threshold before the crossing, if observed.
        by_step: first record of the crossing, if observed.
    """

    status: Literal["observed", "before_first", "not_reached"]
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


def first_crossing(steps: ArrayLike, values: ArrayLike, threshold: float) -> Onset:
    """When ``values`` first reached ``threshold`` and still held it at the next record.

    The confirmation keeps one noisy record from counting; the last record needs none.

    Args:
        steps: ascending steps of the records.
        values: the statistic at each.
        threshold: what counts as reached.
    """
    steps, above = np.asarray(steps), np.asarray(values, dtype=float) >= threshold
    held = above & np.append(above[1:], True)
    if not held.any():
        return Onset("not_reached")
    first = int(held.argmax())
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
    are kept. The noise is that about a fitted ramp, or that between neighbouring records taken as
    strongly correlated, whichever is less: the first counts a curve that is no ramp as noise, the
    second takes independent noise for a sign of much more.

    Args:
        steps: (n,) ascending, at least three.
        values: (S, n).
        threshold: as in ``first_crossing``.
        noise: (S,) standard deviation about the ramp.
        lag1: (S,) its autocorrelation.

    Returns:
        ends (S,) each: NaN below where the first record may be past the crossing, above where the
        last may be short of it.
    """
    above = np.square(np.maximum(values - threshold, 0.0))
    below = np.square(np.maximum(threshold - values, 0.0))
    zero = np.zeros((len(values), 1))
    # Crossing before record k: the records before it should be below, the others not.
    before = np.concatenate([zero, above.cumsum(-1)], -1)
    after = np.concatenate([below[:, ::-1].cumsum(-1)[:, ::-1], zero], -1)
    wrong = before + after
    rho = np.clip(lag1, 0.0, GREATEST_LAG1)
    about_ramp = np.square(noise) * (1 + rho) / (1 - rho)
    between = CORRELATED * _variance(log_steps(steps), values, wrong.argmin(-1))
    limit = stats.chi2.ppf(0.95, 1) * np.minimum(about_ramp, between)
    kept = wrong - wrong.min(-1, keepdims=True) <= limit[:, None]
    first = kept.argmax(-1)
    last = kept.shape[-1] - 1 - kept[:, ::-1].argmax(-1)
    steps = np.asarray(steps, dtype=float)
    low = np.where(first > 0, steps[np.maximum(first - 1, 0)], np.nan)
    high = np.where(last < len(steps), steps[np.minimum(last, len(steps) - 1)], np.nan)
    return low, high


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
