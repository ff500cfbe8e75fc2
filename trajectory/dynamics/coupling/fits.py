"""The fit of every group, its nulls and what they say of the arrows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from trajectory.dynamics.coupling.intervals import (
    CONFIDENCE,
    REPLICATES,
    f_statistic,
    parameter_count,
    profiles,
    small_sample,
)
from trajectory.dynamics.coupling.noise import curvature
from trajectory.dynamics.coupling.problems import OWN, Array, Mask, Problems, Records
from trajectory.dynamics.coupling.search import NULLS, SINGLE, Tested, fit_all
from trajectory.dynamics.coupling.squares import Noise, Solution
from trajectory.dynamics.reduced import DRAIN_TO_SINK, EXPONENT, SHARED, SINK_TO_DRAIN


@dataclass(frozen=True)
class Fits:
    """The reduced system fitted to every problem.

    Attributes:
        problems: the data.
        free: which parameters were fitted. Shape (problems, parameters).
        noise: of the full system, held for intervals and nulls.
        full: the full system.
        low, high: 95 % profile intervals of the reported parameters; infinite where open. They
            hold 0 where the arrow's null is not rejected, and are open there if the profile ended
            before it.
        factors: small-sample factor of each test: a parameter's index, or both arrows'.
            Values of shape (problems,), at least 1.
        nulls: each null's solution.
        p_values: each null's, from its F test. Shapes (problems,).
    """

    problems: Problems
    free: Mask
    noise: Noise
    full: Solution
    low: Array
    high: Array
    factors: dict[Tested, Array]
    nulls: dict[str, Solution]
    p_values: dict[str, Array]

    @property
    def freedom(self) -> NDArray[np.int64]:
        """Residual degrees of freedom. Shape (problems,)."""
        return np.maximum(self.problems.points - parameter_count(self.problems, self.free), 1)

    def determination(self) -> Array:
        """R² of the two variables. Shape (problems, 2)."""
        present = self.problems.present[..., None]
        left = (np.square(self.full.residuals) * present).sum((1, 2))
        counts = self.problems.present.sum((1, 2))[:, None]
        r2: Array = 1 - left / (counts * self.problems.scale**2)
        return r2


def fit(
    groups: Sequence[Sequence[Records]],
    exponent: float | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Fits:
    """Fit the reduced system to each group of trajectories.

    Args:
        groups: each fitted on its own; its trajectories share the parameters of the system.
        exponent: the optimiser exponent, where it is known; None fits it.
        replicates: simulated data sets per group behind its small-sample factors.
        seed: of those simulations.

    Raises:
        ValueError: for an empty group or a time that is not positive.
    """
    problems = Problems.of(groups)
    free = np.ones((len(problems.times), problems.size), dtype=bool)
    free[:, SHARED:] = np.repeat(problems.present.any(2), OWN, axis=1)
    if exponent is not None:
        free[:, EXPONENT] = False
    full, noise, nulls = fit_all(problems, free, exponent)
    freedom = np.maximum(problems.points - parameter_count(problems, free), 1)
    factors = small_sample(problems, noise, full, free, replicates, seed)
    p_values = {}
    for name, arrows in NULLS.items():
        statistic = f_statistic(nulls[name].cost, full.cost, arrows, freedom) / factors[arrows]
        p_values[name] = stats.f.sf(statistic, len(arrows), freedom)
    low, high = profiles(problems, noise, full, free, freedom, factors)
    for name in SINGLE:  # a search from the estimate may end at a hill before another valley
        (arrow,) = NULLS[name]
        kept = p_values[name] >= 1 - CONFIDENCE
        low[kept & (low[:, arrow] >= 0), arrow] = -np.inf
        high[kept & (high[:, arrow] <= 0), arrow] = np.inf
    return Fits(problems, free, noise, full, low, high, factors, nulls, p_values)


EQUIVALENT = {DRAIN_TO_SINK: 0.25, SINK_TO_DRAIN: 0.05}
"""An arrow whose whole interval lies within this of 0 counts as absent."""


def verdict(fits: Fits, row: int) -> str:
    """What the data say about the arrows of problem ``row``; the words are those of the table.

    The single arrows are looked at only where the model without any is rejected, so that an
    uncoupled pair is called coupled in at most 1 − CONFIDENCE of cases.
    """
    level = 1 - CONFIDENCE
    if fits.p_values["uncoupled"][row] >= level:
        absent = all(
            -bound < fits.low[row, arrow] and fits.high[row, arrow] < bound
            for arrow, bound in EQUIVALENT.items()
        )
        return "uncoupled" if absent else "not_identified"
    found = {
        name: fits.full.parameters[row, NULLS[f"no_{name}"][0]] > 0
        for name in ("drain_to_sink", "sink_to_drain")
        if fits.p_values[f"no_{name}"][row] < level
    }
    if not all(found.values()):
        return "opposing"
    if len(found) == 2:
        return "mutual"
    return next(iter(found), "undirected")


def curve_deviation(
    problems: Problems, noise: Noise, solution: Solution, free: Mask, times: Array
) -> tuple[Array, Array]:
    """The curves of ``solution`` at ``times`` and their standard errors, to first order.

    Shapes (problems, members, times, 2).
    """
    states = problems.predict(solution.parameters, times)
    slope = np.where(
        free[:, None, None, None, :], problems.jacobian(solution.parameters, states, times), 0.0
    )
    covariance = np.linalg.pinv(curvature(problems, solution, noise, free), hermitian=True)
    variance = np.einsum("nmkvp,npq,nmkvq->nmkv", slope, covariance, slope)
    return states, np.sqrt(np.maximum(variance, 0))
