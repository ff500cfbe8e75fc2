"""Change points: a level, a ramp in ln step, another level, with AR(1) noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

from trajectory.dynamics import ar1
from trajectory.dynamics.fitting import AT_ONCE, residuals
from trajectory.dynamics.laws import Array
from trajectory.dynamics.series import log_steps
from trajectory.dynamics.squares import orthonormal

FINE = 3
"""Candidate starts and ends of the ramp between two records."""

LAG1: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9)
"""Autocorrelations that are tried."""

SIMULATIONS = 199
"""Series simulated without a change, per autocorrelation."""

WIDER = 1.3
"""Factor on the profile's limit: the start of a ramp is no regular parameter, and its interval was
too short by this much in simulations with strongly correlated noise."""

PARAMETERS = 5
"""Two levels, start and end of the ramp, autocorrelation."""


@dataclass(frozen=True)
class Changes:
    """Ramps fitted to S series.

    Attributes:
        start, low, high: (S,) step at which the ramp starts, and its 95 % profile interval.
        end: (S,) step at which it ends.
        height: (S,) second level minus first.
        noise: (S,) stationary standard deviation about the ramp.
        lag1: (S,) autocorrelation of the noise.
        p_value: (S,) of a straight line in ln step.
    """

    start: Array
    low: Array
    high: Array
    end: Array
    height: Array
    noise: Array
    lag1: Array
    p_value: Array


def change_points(steps: Array, values: Array, rng: np.random.Generator) -> Changes:
    """The ramp of every series, with its interval and the null of no change.

    Args:
        steps: (n,) ascending, at least six.
        values: (S, n).
        rng: source of the simulated null.

    Raises:
        ValueError: for fewer than six records.
    """
    if len(steps) < PARAMETERS + 1:
        raise ValueError(f"a ramp needs at least {PARAMETERS + 1} records, not {len(steps)}")
    x = log_steps(steps)
    series, points = values.shape
    ramps = _Ramps(tuple(x), FINE)
    count = len(ramps.places)
    deviance = np.full((series, count), np.inf)
    best = np.full((series, 3), np.inf)  # deviance, cell, autocorrelation
    block = max(1, AT_ONCE // len(ramps.cells))
    floor = points * np.square(1e-12 + 1e-9 * np.abs(values).max(-1))
    for lag1 in LAG1:
        basis = ramps.basis(lag1)
        for begin in range(0, series, block):
            part = slice(begin, begin + block)
            rest = residuals(ar1.whiten(values[part], lag1), basis)
            rest = np.maximum(rest, floor[part, None])
            value = ar1.deviance(rest, lag1, points)
            deviance[part] = np.minimum(deviance[part], ramps.least_by_start(value))
            cell = value.argmin(-1)
            least = value[np.arange(len(cell)), cell]
            better = least < best[part, 0]
            best[part] = np.where(
                better[:, None],
                np.stack([least, cell, np.full(len(cell), lag1)], -1),
                best[part],
            )
    cell, likeliest = best[:, 1].astype(int), best[:, 2]
    free = points - PARAMETERS
    limit = WIDER * points * np.log1p(stats.f.ppf(0.95, 1, free) / free)
    kept = deviance - deviance.min(-1, keepdims=True) <= limit
    starts = np.exp(ramps.places)
    first = kept.argmax(-1)
    last = count - 1 - kept[:, ::-1].argmax(-1)
    height, noise = ramps.heights(values, cell, likeliest)
    return Changes(
        starts[ramps.cells[cell, 0]],
        starts[np.maximum(first - 1, 0)],
        starts[np.minimum(last + 1, count - 1)],
        np.exp(ramps.ends[ramps.cells[cell, 1]]),
        height,
        noise,
        likeliest,
        _against_line(x, values, rng),
    )


class _Ramps:
    """All candidate ramps for one set of records."""

    def __init__(self, x: tuple[float, ...], fine: int) -> None:
        self.x = np.array(x)
        places = np.concatenate(
            [
                np.linspace(a, b, fine, endpoint=False)
                for a, b in zip(self.x[:-1], self.x[1:], strict=True)
            ]
        )
        self.places = places
        self.ends = np.append(places[1:], self.x[-1])
        i, j = np.meshgrid(np.arange(len(places)), np.arange(len(places)), indexing="ij")
        # Two records must lie beyond the start, or the ramp would fit the last record alone.
        some = (i <= j) & (places[i] < self.x[-2])
        self.cells = np.stack([i[some], j[some]], -1)
        self.first = np.unique(self.cells[:, 0], return_index=True)[1]

    def columns(self) -> Array:
        start, end = self.places[self.cells[:, 0]], self.ends[self.cells[:, 1]]
        width = np.maximum(end - start, 1e-12)
        ramp: Array = np.clip((self.x - start[:, None]) / width[:, None], 0.0, 1.0)
        return ramp

    def basis(self, lag1: float) -> list[Array]:
        columns = [np.ones_like(self.x), self.columns()]
        return orthonormal([ar1.whiten(column, lag1) for column in columns])[0]

    def least_by_start(self, values: Array) -> Array:
        """(S, starts) least over the ends; starts without a cell are infinite."""
        least = np.full((len(values), len(self.places)), np.inf)
        least[:, self.cells[self.first, 0]] = np.minimum.reduceat(values, self.first, axis=-1)
        return least

    def heights(self, values: Array, cell: np.ndarray, lag1: Array) -> tuple[Array, Array]:
        ramp = ar1.whiten(self.columns()[cell], lag1[:, None])
        ones = ar1.whiten(np.ones_like(ramp), lag1[:, None])
        whitened = ar1.whiten(values, lag1[:, None])
        basis, upper = orthonormal([ones, ramp])
        inner = [(whitened * direction).sum(-1) for direction in basis]
        rest = np.maximum(np.square(whitened).sum(-1) - sum(np.square(i) for i in inner), 0.0)
        size = upper[1][-1]
        height = np.where(size > 0, inner[1] / np.where(size > 0, size, 1.0), 0.0)
        free = max(1, values.shape[-1] - PARAMETERS)
        return height, np.sqrt(rest / free / (1 - np.square(lag1)))


def _against_line(x: Array, values: Array, rng: np.random.Generator) -> Array:
    """(S,) probability of the ramp's gain over a line, simulated without a ramp or a slope."""
    gain, lag1 = _gains(x, values)
    # Two fitted coefficients bias the autocorrelation towards zero by about (2 + 4ρ)/n.
    unbiased = lag1 + (2 + 4 * lag1) / len(x)
    lag1 = np.array(LAG1)[np.abs(unbiased[:, None] - LAG1).argmin(-1)]
    p_value = np.empty(len(values))
    for level in np.unique(lag1):
        noise = ar1.simulate(rng, (SIMULATIONS, len(x)), float(level))
        null = np.sort(_gains(x, noise)[0])
        same = lag1 == level
        beyond = SIMULATIONS - np.searchsorted(null, gain[same] - 1e-9)
        p_value[same] = (1 + beyond) / (1 + SIMULATIONS)
    return p_value


def _gains(x: Array, values: Array) -> tuple[Array, Array]:
    """Deviance of a line minus that of the best coarse ramp, and the line's autocorrelation."""
    points = len(x)
    floor = points * np.square(1e-12 + 1e-9 * np.abs(values).max(-1))
    line = np.full(len(values), np.inf)
    ramp = np.full(len(values), np.inf)
    chosen = np.zeros(len(values))
    for lag1, (flat, steep) in zip(LAG1, _coarse(tuple(x)), strict=True):
        whitened = ar1.whiten(values, lag1)
        rest = np.maximum(residuals(whitened, flat)[:, 0], floor)
        value = ar1.deviance(rest, lag1, points)
        chosen = np.where(value < line, lag1, chosen)
        line = np.minimum(line, value)
        rest = np.maximum(residuals(whitened, steep).min(-1), floor)
        ramp = np.minimum(ramp, ar1.deviance(rest, lag1, points))
    return line - ramp, chosen


@lru_cache(maxsize=64)
def _coarse(x: tuple[float, ...]) -> list[tuple[list[Array], list[Array]]]:
    ramps = _Ramps(x, 1)
    found = []
    for lag1 in LAG1:
        line = orthonormal([ar1.whiten(c, lag1) for c in (np.ones(len(x)), np.array(x))])[0]
        found.append((line, ramps.basis(lag1)))
    return found


def shuffled_p(values: Array, rng: np.random.Generator, shuffles: int = 99) -> Array:
    """(S,) share of shuffled series with as large a step change, each series itself counted.

    Heads are permuted at every record, which destroys their identity over time and keeps what
    they do together. A series' change is the greatest standardised difference of means before and
    after a record.

    Args:
        values: (S, n) the heads of one layer, at least two.
        rng: source of the permutations.
        shuffles: permutations of each record.
    """
    own = step_change(values)
    rows = np.arange(values.shape[1])
    null = np.concatenate(
        [
            step_change(values[rng.permuted(order, axis=0), rows])
            for order in [np.tile(np.arange(len(values))[:, None], values.shape[1])] * shuffles
        ]
    )
    beyond = len(null) - np.searchsorted(np.sort(null), own - 1e-12)
    p_value: Array = (1 + beyond) / (1 + len(null))
    return p_value


def step_change(values: Array) -> Array:
    """(S,) greatest |difference of means before and after a record|, weighted by √(k(n−k)/n)."""
    points = values.shape[-1]
    k = np.arange(1, points)
    before = values.cumsum(-1)[:, :-1]
    total = values.sum(-1, keepdims=True)
    difference = np.abs(before / k - (total - before) / (points - k))
    change: Array = (difference * np.sqrt(k * (points - k) / points)).max(-1)
    return change
