"""Intervals of fitted laws: block bootstrap, profile likelihood, and what is not identified."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from trajectory.dynamics import ar1
from trajectory.dynamics.fitting import (
    AT_ONCE,
    Fits,
    derivatives,
    design,
    fit,
    grid,
    polish,
    residuals,
)
from trajectory.dynamics.laws import Array, Law
from trajectory.dynamics.squares import orthonormal, solve

LEVEL = 0.95
"""Of every interval in the tables."""


@dataclass(frozen=True)
class Intervals:
    """95 % intervals of the parameters of one law fitted to S series.

    Attributes:
        lower, upper: by the formula's parameters, each (S,).
        profile_lower, profile_upper: by shape parameter, each (S,); NaN where the profile is flat
            up to the bound of the search.
        identified: (S,) whether every profile is closed on both sides.
    """

    lower: dict[str, Array]
    upper: dict[str, Array]
    profile_lower: dict[str, Array]
    profile_upper: dict[str, Array]
    identified: np.ndarray


def lag1_weights(fits: Fits, values: Array) -> Array:
    """(S, len(ar1.GRID)) restricted likelihood of each autocorrelation of the noise, summing to 1.

    Ordinary maximum likelihood is biased towards zero by the curve's own parameters: with thirty
    records and four parameters intervals would be far too short.
    """
    errors = values - fits.fitted
    columns = [
        *design(fits.law, fits.times, fits.shape),
        *derivatives(fits.law, fits.times, fits.shape, fits.coefficients),
    ]
    free = max(1, len(fits.times) - len(columns))
    deviance = np.empty((len(values), len(ar1.GRID)))
    for k, lag1 in enumerate(ar1.GRID):
        whitened = [ar1.whiten(column, lag1) for column in columns]
        _, upper = orthonormal(whitened)
        # The curve's best fit moves with lag1: what the columns explain of the errors goes too.
        rest, _ = solve(whitened, ar1.whiten(errors, lag1))
        volume = sum(np.log(np.where(row[-1] > 0, row[-1], 1.0)) for row in upper)
        rest = np.maximum(rest, fits.residual * 1e-6)
        deviance[:, k] = free * np.log(rest) - np.log1p(-(lag1**2)) + 2 * volume
    weights = np.exp(-(deviance - deviance.min(-1, keepdims=True)) / 2)
    total: Array = weights / weights.sum(-1, keepdims=True)
    return total


def stationary_indices(
    rng: np.random.Generator, points: int, replicates: int, block: float
) -> np.ndarray:
    """(replicates, points) indices of Politis and Romano's stationary bootstrap.

    Blocks start anywhere, wrap around, and have geometric lengths of mean ``block``.
    """
    starts = rng.integers(points, size=(replicates, points))
    new = rng.random((replicates, points)) < 1 / block
    new[:, 0] = True
    place = np.arange(points)
    opened = np.maximum.accumulate(np.where(new, place, 0), axis=1)
    indices: np.ndarray = (np.take_along_axis(starts, opened, 1) + place - opened) % points
    return indices


def bootstrap(
    fits: Fits, values: Array, weights: Array, replicates: int, rng: np.random.Generator
) -> tuple[dict[str, Array], dict[str, Array]]:
    """95 % intervals of every parameter: stationary block bootstrap of the whitened residuals.

    For each replicate an autocorrelation is drawn by its likelihood (thirty records do not
    determine it); the residuals are whitened by it, resampled in blocks, coloured again, added to
    the fitted curve and fitted again. The percentiles are those of a Student quantile, since plain
    ones are too short for few records (Hesterberg 2015). All series share the blocks.

    Args:
        fits: of S series.
        values: (S, n) the series.
        weights: (S, len(ar1.GRID)) likelihood of each autocorrelation.
        replicates: per series.
        rng: source of the blocks.
    """
    series, points = values.shape
    degrees = max(1, points - fits.law.size - 2)  # the noise's two parameters cost as well
    errors = (values - fits.fitted) * np.sqrt(points / degrees)
    chosen = stationary_indices(rng, points, replicates, points ** (1 / 3))
    levels = rng.random((1, replicates))
    # Correlated records leave fewer degrees of freedom for the noise than there are records.
    student = stats.t.ppf(0.5 + LEVEL / 2, np.maximum(1.0, degrees * (1 - fits.lag1)))
    tail = stats.norm.cdf(-np.sqrt(points / (points - 1)) * student)
    lower = {name: np.empty(series) for name in fits.parameters}
    upper = {name: np.empty(series) for name in fits.parameters}
    block = max(1, AT_ONCE // (replicates * points * 4))
    for start in range(0, series, block):
        part = slice(start, min(series, start + block))
        cumulated = weights[part].cumsum(-1)[:, None]
        drawn = ar1.GRID[(levels[..., None] > cumulated[..., :-1]).sum(-1)][..., None]
        innovations = ar1.whiten(errors[part][:, None], drawn)
        innovations = innovations - innovations.mean(-1, keepdims=True)
        noise = ar1.colour(np.take_along_axis(innovations, chosen[None], -1), drawn)
        copies = (fits.fitted[part][:, None] + noise).reshape(-1, points)
        again = fit(
            fits.law, fits.times, copies, np.repeat(fits.lag1[part], replicates), thorough=False
        )
        for name, found in again.parameters.items():
            ordered = np.sort(found.reshape(-1, replicates), axis=1)
            lower[name][part] = quantiles(ordered, tail[part])
            upper[name][part] = quantiles(ordered, 1 - tail[part])
    return lower, upper


def quantiles(ordered: Array, levels: Array) -> Array:
    """(S,) quantile of each ascending row of B numbers at its own level, linear between them.

    The k-th of B numbers is the quantile at k/(B + 1), since a further one falls below it with that
    probability (Davison and Hinkley 1997, section 5.2); k/B would cut both tails short.
    """
    place = np.clip(levels * (ordered.shape[1] + 1) - 1, 0, ordered.shape[1] - 1)
    below = np.floor(place).astype(int)
    above = np.minimum(below + 1, ordered.shape[1] - 1)
    rows = np.arange(len(ordered))
    part = place - below
    with np.errstate(invalid="ignore"):
        found: Array = (1 - part) * ordered[rows, below] + part * ordered[rows, above]
    return found


DRAWS = 5
"""Autocorrelations that stand for their likelihood in a profile."""

HALVINGS = 40
"""Of the range in which an end of an interval lies."""


def profile(fits: Fits, values: Array, weights: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    """95 % profile-likelihood intervals of the shape parameters.

    With the autocorrelation known, the signed root of what a profile rises by is a Student
    variable. It is not known: the probabilities are averaged over it by its likelihood.

    Args:
        fits: of S series.
        values: (S, n) the series.
        weights: (S, len(ar1.GRID)) likelihood of each autocorrelation.

    Returns:
        lower and upper ends by shape parameter, in the law's units, NaN where the likelihood does
        not fall off before the bound of the search.
    """
    law = fits.law
    lower: dict[str, Array] = {}
    upper: dict[str, Array] = {}
    if not law.shape:
        return lower, upper
    cells = grid(law, fits.times)
    axes = [np.unique(cells.shapes[:, j]) for j in range(len(law.shape))]
    sides: list[list[_Side]] = [[] for _ in law.shape]
    for level in (np.arange(DRAWS) + 0.5) / DRAWS:
        lag1 = ar1.GRID[(level > weights.cumsum(-1)[:, :-1]).sum(-1)]
        known = fit(law, fits.times, values, lag1, thorough=False)
        rest = _on_grid(law, fits.times, values, lag1, [len(axis) for axis in axes])
        for j, axis in enumerate(axes):
            least = _least_along(law, fits.times, values, lag1, axes, rest, j)
            sides[j].append(_Side.of(known, axis, least, j))
    for j, name in enumerate(law.shape):
        ends = (_end(axes[j], sides[j], tail) for tail in (0.5 - LEVEL / 2, 0.5 + LEVEL / 2))
        low, high = (np.exp(end) if law.logarithmic[j] else end for end in ends)
        lower[name], upper[name] = low, high
    return lower, upper


@dataclass(frozen=True)
class _Side:
    """The profile of one shape parameter at one autocorrelation of each series.

    Attributes:
        best: (S,) where it is least.
        root: (S, A) signed root of its rise at the axis, ascending.
        degrees: of freedom of that root.
    """

    best: Array
    root: Array
    degrees: int

    @classmethod
    def of(cls, known: Fits, axis: Array, least: Array, j: int) -> _Side:
        """From the least residuals (S, A) along the axis, and the fit at these autocorrelations."""
        rows = np.arange(len(least))
        cell = least.argmin(-1)
        lower = least[rows, cell] < known.residual
        best = np.where(lower, axis[cell], known.shape[:, j])
        floor = np.clip(least[rows, cell], known.residual * 1e-6, known.residual)
        free = max(1, len(known.times) - known.law.size)
        rise = np.sqrt(np.maximum(least / floor[:, None] - 1, 0.0) * free)
        beyond = axis - best[:, None]
        # Only the nearest valley counts.
        right = np.maximum.accumulate(np.where(beyond > 0, rise, 0.0), axis=1)
        left = np.maximum.accumulate(np.where(beyond < 0, rise, 0.0)[:, ::-1], axis=1)[:, ::-1]
        return cls(best, right - left, max(1, free - 2))  # the noise's parameters cost as well

    def probability(self, axis: Array, at: Array) -> Array:
        """(S,) that the parameter lies below ``at``."""
        rows = np.arange(len(at))
        cell = np.clip(np.searchsorted(axis, at, side="right") - 1, 0, len(axis) - 2)
        x0, x1 = axis[cell], axis[cell + 1]
        y0, y1 = self.root[rows, cell], self.root[rows, cell + 1]
        # The root is straight where the residual is quadratic: from the best point on, not across.
        inside = (x0 < self.best) & (self.best < x1)
        x0, y0 = (np.where(inside & (at >= self.best), b, a) for a, b in ((x0, self.best), (y0, 0)))
        x1, y1 = (np.where(inside & (at < self.best), b, a) for a, b in ((x1, self.best), (y1, 0)))
        root = y0 + (y1 - y0) * (at - x0) / np.where(x1 > x0, x1 - x0, 1.0)
        probability: Array = stats.t.cdf(root, self.degrees)
        return probability


def _end(axis: Array, sides: list[_Side], tail: float) -> Array:
    """(S,) where the mean probability over the sides is ``tail``; NaN if not on the axis."""

    def probability(at: Array) -> Array:
        mean: Array = np.mean([side.probability(axis, at) for side in sides], axis=0)
        return mean

    low = np.full(len(sides[0].best), axis[0])
    high = np.full(len(sides[0].best), axis[-1])
    closed = (probability(low) <= tail) & (probability(high) >= tail)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        below = probability(middle) < tail
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.where(closed, 0.5 * (low + high), np.nan)


def _on_grid(law: Law, times: Array, values: Array, lag1: Array, counts: list[int]) -> Array:
    """(S, cells of each axis) residual sums of squares, each series at its own autocorrelation."""
    cells = grid(law, times)
    rest = np.empty((len(values), len(cells.shapes)))
    for one in np.unique(lag1):
        members = lag1 == one
        basis = cells.basis(float(one))
        rest[members] = residuals(ar1.whiten(values[members], float(one)), basis)
    return rest.reshape(-1, *counts)


def _least_along(
    law: Law,
    times: Array,
    values: Array,
    lag1: Array,
    axes: list[Array],
    rest: Array,
    j: int,
) -> Array:
    """(S, cells of axis j) the least residual at each value of one shape parameter."""
    if len(axes) == 1:
        return rest
    other = 1 - j
    series, count = len(values), len(axes[j])
    start = np.empty((series, count, 2))
    start[..., j] = axes[j]
    start[..., other] = axes[other][rest.argmin(axis=other + 1)]
    cells = grid(law, times)
    least = np.empty((series, count))
    block = max(1, AT_ONCE // (count * len(times) * 8))
    for begin in range(0, series, block):
        part = slice(begin, begin + block)
        copies = np.repeat(values[part], count, axis=0)
        rho = np.repeat(lag1[part], count)
        shapes = polish(cells, copies, rho, start[part].reshape(-1, 2), fixed=j)
        columns = design(law, times, shapes)
        whitened = [ar1.whiten(column, rho[:, None]) for column in columns]
        found, _ = solve(whitened, ar1.whiten(copies, rho[:, None]))
        least[part] = found.reshape(-1, count)
    return least


def intervals(
    fits: Fits, values: Array, weights: Array, replicates: int, rng: np.random.Generator
) -> Intervals:
    """Bootstrap and profile intervals of ``fits``."""
    lower, upper = bootstrap(fits, values, weights, replicates, rng)
    below, above = profile(fits, values, weights)
    return Intervals(lower, upper, below, above, closed(below, above, len(values)))


def closed(lower: dict[str, Array], upper: dict[str, Array], series: int) -> np.ndarray:
    """(S,) whether every profile interval is closed on both sides."""
    whole = np.ones(series, dtype=bool)
    for ends in (*lower.values(), *upper.values()):
        whole &= np.isfinite(ends)
    return whole
