"""Least squares on residuals that are correlated in time."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from trajectory.dynamics.coupling.problems import Array, Mask, Problems


@dataclass(frozen=True)
class PerProblem:
    """Arrays with one entry per problem each."""

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Those of the problems at ``rows``, which may repeat."""
        return type(self)(*(getattr(self, f.name)[rows] for f in fields(self)))

    def put(self, rows: NDArray[np.int64], part: Self) -> Self:
        """These with ``part`` at ``rows``."""
        arrays = [getattr(self, f.name).copy() for f in fields(self)]
        for array, f in zip(arrays, fields(self), strict=True):
            array[rows] = getattr(part, f.name)
        return type(self)(*arrays)


@dataclass(frozen=True)
class Noise(PerProblem):
    """Standard deviation and correlation length of each variable. Shapes (problems, 2)."""

    deviation: Array
    length: Array


def whiten(problems: Problems, noise: Noise, residuals: Array) -> Array:
    """Residuals, or their derivatives, as independent numbers of variance 1.

    ``residuals`` has shape (problems, members, records, 2) or a further axis of parameters.
    """
    kept, fresh = memory(problems, noise)
    deviation = noise.deviation[:, None, None, :]
    if residuals.ndim == 5:
        kept, fresh, deviation = kept[..., None], fresh[..., None], deviation[..., None]
    white = np.empty_like(residuals)
    white[:, :, :1] = residuals[:, :, :1] / deviation
    white[:, :, 1:] = (residuals[:, :, 1:] - kept * residuals[:, :, :-1]) / (fresh * deviation)
    white[~problems.present] = 0.0
    return white


def memory(problems: Problems, noise: Noise) -> tuple[Array, Array]:
    """Between records: the share of the residual kept, and the standard deviation of the rest.

    Shapes (problems, members, records − 1, 2).
    """
    gaps = np.diff(np.log(problems.times), axis=2)[..., None]
    kept = np.exp(-gaps / np.maximum(noise.length, 1e-12)[:, None, None, :])
    return kept, np.sqrt(np.maximum(1 - kept**2, 1e-12))


@dataclass(frozen=True)
class Solution(PerProblem):
    """Least squares at given noise. ``cost`` is the sum of squared whitened residuals."""

    parameters: Array
    cost: Array
    jacobian: Array  # of the states, unwhitened
    residuals: Array


def solve(
    problems: Problems,
    noise: Noise,
    start: Array,
    free: Mask,
    iterations: int = 60,
    enough: float = 0.0,
) -> Solution:
    """Levenberg–Marquardt for all problems at once, within the bounds.

    Args:
        problems: the data.
        noise: held.
        start: shape (problems, parameters).
        free: which parameters may move. Shape (problems, parameters).
        iterations: at most; a problem that has converged is left alone.
        enough: a gain of cost, in noise variances, that need not be had.
    """
    low, high = problems.bounds()
    here = np.where(free, np.clip(start, low, high), start)
    total = len(here)
    shape = (*problems.states.shape, problems.size)
    cost, jacobian, residuals = np.empty(total), np.empty(shape), np.empty(shape[:-1])

    def evaluate(rows: NDArray[np.int64], parameters: Array) -> tuple[Array, Array]:
        some = problems.take(rows)
        found = some.predict(parameters) - some.states
        white = whiten(some, noise.take(rows), found)
        return found, np.square(white).sum((1, 2, 3))

    def differentiate(rows: NDArray[np.int64]) -> None:
        some = problems.take(rows)
        jacobian[rows] = some.jacobian(here[rows], residuals[rows] + some.states)

    active = np.arange(total)
    residuals[:], cost[:] = evaluate(active, here)
    differentiate(active)
    damping, calm = np.full(total, 1e-2), np.zeros(total, dtype=int)
    patience = 1 if enough else 2
    for _ in range(iterations):
        some = problems.take(active)
        white = whiten(some, noise.take(active), jacobian[active]).reshape(
            len(active), -1, problems.size
        )
        left = whiten(some, noise.take(active), residuals[active]).reshape(len(active), -1)
        slope = np.einsum("nrp,nr->np", white, left)
        second = np.einsum("nrp,nrq->npq", white, white)
        pinned = (here[active] <= low[active]) & (slope > 0)
        pinned |= (here[active] >= high[active]) & (slope < 0)
        moving = free[active] & ~pinned
        step = -_solve_damped(second, slope, moving, damping[active])
        trial = np.clip(here[active] + step, low[active], high[active])
        trial = np.where(free[active], trial, here[active])
        found, trial_cost = evaluate(active, trial)
        better = trial_cost < cost[active]
        gain = cost[active] - trial_cost
        small = np.abs(gain) < np.maximum(enough, 1e-6 * (1e-3 + cost[active]))
        rows: NDArray[np.int64] = active[better]
        here[rows], cost[rows], residuals[rows] = trial[better], trial_cost[better], found[better]
        damping[active] = np.where(better, damping[active] / 6, damping[active] * 5)
        calm[active] = np.where(small, calm[active] + 1, np.where(better, 0, calm[active]))
        if len(rows):
            differentiate(rows)
        active = active[(calm[active] < patience) & (damping[active] < 1e9)]
        if not len(active):
            break
    return Solution(here, cost, jacobian, residuals)


def _solve_damped(second: Array, slope: Array, moving: Mask, damping: Array) -> Array:
    """Marquardt's step in the parameters that move; 0 in the others."""
    both = moving[:, :, None] & moving[:, None, :]
    matrix = np.where(both, second, 0.0)
    diagonal = np.einsum("npp->np", matrix)
    diagonal += np.where(moving, damping[:, None] * diagonal + 1e-12, 1.0)
    step: Array = np.linalg.solve(matrix, np.where(moving, slope, 0.0)[..., None])[..., 0]
    return step
