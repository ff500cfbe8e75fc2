"""When a statistic reaches its threshold: between which two records, and how surely."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from trajectory.dynamics.laws import Array

GREATEST_LAG1 = 0.9
"""Beyond it the inflation of the crossing's criterion would be endless."""


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
    are kept. The limit is inflated by (1 + ρ)/(1 − ρ), since contradictions come in runs.

    Args:
        steps: (n,) ascending.
        values: (S, n).
        threshold: as in ``first_crossing``.
        noise: (S,) standard deviation of the series about its curve.
        lag1: (S,) autocorrelation of the noise.

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
    scale = np.maximum(np.square(noise), np.square(1e-12 + 1e-9 * np.abs(values).max(-1)))
    ratio = (before + after) / scale[:, None]
    rho = np.clip(lag1, 0.0, GREATEST_LAG1)
    limit = stats.chi2.ppf(0.95, 1) * (1 + rho) / (1 - rho)
    kept = ratio - ratio.min(-1, keepdims=True) <= limit[:, None]
    first = kept.argmax(-1)
    last = kept.shape[-1] - 1 - kept[:, ::-1].argmax(-1)
    steps = np.asarray(steps, dtype=float)
    low = np.where(first > 0, steps[np.maximum(first - 1, 0)], np.nan)
    high = np.where(last < len(steps), steps[np.minimum(last, len(steps) - 1)], np.nan)
    return low, high
