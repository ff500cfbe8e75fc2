"""Collapsing trajectories onto one curve: how well do they agree once each has its own clock?

Every trajectory is interpolated on a common grid of the axis' logarithm. A trajectory's factor on
the axis shifts it along that grid; its curve is compared with the mean of the others' curves, in
turn, until no shift improves. What the others' curve explains of a trajectory it knows nothing of
is the score. Rising curves agree to some degree whatever they are, so the score is judged by
surrogates: the same trajectories with their increments shuffled in blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
Rescaling = Literal["none", "time", "time_and_amplitude"]

STEP = 0.05
"""Spacing of the grid, in units of the logarithm of the axis."""

SWEEPS = 6
"""Rounds over all trajectories."""

SHORTEST = 2 * STEP
"""Stretch of the logarithm of the axis that a curve has to cover: two points of the grid."""

BLOCK = 8
"""Points of the grid that surrogates and bootstraps keep together."""


@dataclass(frozen=True)
class Curve:
    """One trajectory: a statistic along the logarithm of an axis. Shapes (records,)."""

    axis: Array
    values: Array


@dataclass(frozen=True)
class Collapse:
    """Trajectories on one curve.

    Attributes:
        shifts: of each trajectory, to be subtracted from its log axis; their mean is 0.
        offsets, amplitudes: of each, so that (value − offset)/amplitude lies on the common curve.
        scores: share of each trajectory's variance that the others' curve explains.
        score: the same of all trajectories' variance together.
        grid: log axis of ``common``, after shifting.
        common: mean of the curves there.
    """

    shifts: Array
    offsets: Array
    amplitudes: Array
    scores: Array
    score: float
    grid: Array
    common: Array


def collapse(curves: Sequence[Curve], rescaling: Rescaling) -> Collapse:
    """Shift (and stretch) the curves onto one another.

    Raises ValueError with fewer than two curves, or a curve that hardly moves along the axis.
    """
    if len(curves) < 2 or any(np.ptp(c.axis) < SHORTEST for c in curves):
        raise ValueError(f"a collapse needs two trajectories that cover {SHORTEST:g} of ln axis")
    return _Grid(curves).collapse(rescaling)


class _Grid:
    """The curves on their common grid; outside its records a curve keeps its end values."""

    def __init__(self, curves: Sequence[Curve]) -> None:
        low = min(c.axis.min() for c in curves)
        high = max(c.axis.max() for c in curves)
        self.reach = int(np.ceil((high - low) / STEP)) + 1
        self.first = low - self.reach * STEP
        self.grid = self.first + STEP * np.arange(3 * self.reach)
        self.values = np.stack(
            [np.interp(self.grid, *_ascending(c.axis, c.values)) for c in curves]
        )
        self.spans = [
            (
                int(np.ceil((c.axis.min() - self.first) / STEP)),
                int(np.floor((c.axis.max() - self.first) / STEP)) + 1,
            )
            for c in curves
        ]

    def collapse(self, rescaling: Rescaling) -> Collapse:
        """Coordinate descent from the alignment of the middles of each curve's rise."""
        count = len(self.values)
        shifts = np.zeros(count, dtype=int)
        if rescaling != "none":
            middles = np.array([self._middle(i) for i in range(count)])
            shifts = np.round(middles - middles.mean()).astype(int)
        linear = rescaling == "time_and_amplitude"
        for _ in range(SWEEPS if rescaling != "none" else 0):
            before = shifts.copy()
            lain = self._lain(shifts, linear)
            total = lain.sum(0)
            for i in range(count):
                others = (total - lain[i]) / (count - 1)
                shifts[i] = int(self._losses(i, others, linear).argmin()) - self.reach
                total -= lain[i]
                lain[i] = self._laid(i, int(shifts[i]), linear)
                total += lain[i]
            shifts = np.clip(shifts - round(shifts.mean()), -self.reach, self.reach)
            if (shifts == before).all():
                break
        return self._describe(shifts, linear)

    def _middle(self, i: int) -> float:
        first, last = self.spans[i]
        seen = self.values[i, first:last]
        half = 0.5 * (seen.min() + seen.max())
        crossed = np.flatnonzero((seen[:-1] - half) * (seen[1:] - half) <= 0)
        return first + float(crossed[0] if len(crossed) else len(seen) / 2)

    def _moved(self, i: int, shift: int) -> Array:
        """Curve i after a shift of at most ``reach``; its end values stay."""
        values = self.values[i]
        kept = values[max(shift, 0) : len(values) + min(shift, 0)]
        filled = np.full(abs(shift), values[-1] if shift > 0 else values[0])
        return np.concatenate([kept, filled] if shift > 0 else [filled, kept])

    def _laid(self, i: int, shift: int, linear: bool) -> Array:
        """Curve i after its shift, standardised if amplitudes differ."""
        shifted = self._moved(i, shift)
        if linear:
            first, last = self.spans[i]
            seen = self.values[i, first:last]
            shifted = (shifted - seen.mean()) / (seen.std() + 1e-12)
        return shifted

    def _lain(self, shifts: NDArray[np.int64], linear: bool) -> Array:
        """All curves after their shifts, (curves, points of the grid)."""
        return np.stack([self._laid(j, int(shift), linear) for j, shift in enumerate(shifts)])

    def _others(self, i: int, shifts: NDArray[np.int64], linear: bool) -> Array:
        """Mean of the other curves after their shifts."""
        mean: Array = np.delete(self._lain(shifts, linear), i, axis=0).mean(0)
        return mean

    def _losses(self, i: int, common: Array, linear: bool, seen: Array | None = None) -> Array:
        """Unexplained variance of curve i at every shift from −reach to reach.

        Sums over windows are differences of running sums, which keep their digits because the
        curves are centred first.
        """
        first, last = self.spans[i]
        seen = self.values[i, first:last] if seen is None else seen
        size, centre = last - first, seen.mean()
        reach = self.reach
        ends = np.full(reach, common[0]), np.full(reach, common[-1])
        padded = np.concatenate([ends[0], common, ends[1]])[first : last + 2 * reach] - centre
        # At shift k the point g of curve i lies at g − k of the common curve, so windows run
        # backwards.
        product = np.correlate(padded, seen - centre, "valid")[::-1] / size
        squares = _window_sums(np.square(padded), size)[::-1] / size
        if not linear:
            losses: Array = seen.var() - 2 * product + squares
            return losses
        means = _window_sums(padded, size)[::-1] / size
        deviation = np.sqrt(np.maximum(squares - np.square(means), 0))
        moves = deviation > 1e-6 * (np.ptp(padded) + 1e-12)
        explained = np.where(moves, np.maximum(product, 0) / np.where(moves, deviation, 1), 0)
        return seen.var() - np.square(explained)

    def _at(self, i: int, common: Array, shift: int) -> Array:
        first, last = self.spans[i]
        places = np.clip(np.arange(first, last) - shift, 0, len(common) - 1)
        seen: Array = common[places]
        return seen

    def _describe(self, shifts: NDArray[np.int64], linear: bool) -> Collapse:
        count = len(self.values)
        offsets, amplitudes = np.zeros(count), np.ones(count)
        left, total = np.zeros(count), np.zeros(count)
        lain = self._lain(shifts, linear)
        summed = lain.sum(0)
        for i in range(count):
            first, last = self.spans[i]
            seen = self.values[i, first:last]
            others = (summed - lain[i]) / (count - 1)
            left[i] = self._losses(i, others, linear)[shifts[i] + self.reach]
            total[i] = seen.var() + 1e-12
            if linear:
                offsets[i], amplitudes[i] = seen.mean(), seen.std() + 1e-12
        shifted = self._lain(shifts, linear=False)
        places = np.arange(len(self.grid)) + shifts[:, None]
        starts, ends = np.array(self.spans).T[:, :, None]
        inside = (places >= starts) & (places < ends)
        scaled = (shifted - offsets[:, None]) / amplitudes[:, None]
        seen_by = inside.sum(0)
        common = np.where(inside, scaled, 0).sum(0) / np.maximum(seen_by, 1)
        kept = seen_by > 0
        scores = 1 - left / total
        unit = total if linear else np.ones(count)  # standardised curves count alike
        return Collapse(
            STEP * shifts.astype(np.float64), offsets, amplitudes, scores,
            float(1 - (left / unit).sum() / (total / unit).sum()),
            self.grid[kept], common[kept],
        )  # fmt: skip

    def surrogate(self, rng: np.random.Generator) -> _Grid:
        """The same trajectories with their increments shuffled in blocks, ends and spans kept."""
        twin = object.__new__(_Grid)
        twin.reach, twin.first, twin.grid, twin.spans = (
            self.reach, self.first, self.grid, self.spans,
        )  # fmt: skip
        twin.values = self.values.copy()
        for i, (first, last) in enumerate(self.spans):
            steps = np.diff(self.values[i, first:last])
            cut = np.arange(int(rng.integers(1, BLOCK + 1)), len(steps), BLOCK)
            blocks = np.split(steps, cut)
            shuffled = np.concatenate([blocks[k] for k in rng.permutation(len(blocks))])
            path = self.values[i, first] + np.concatenate([[0.0], shuffled.cumsum()])
            twin.values[i, first:last] = path
            twin.values[i, last:] = path[-1]
        return twin

    def shift_interval(
        self, i: int, found: Collapse, linear: bool, replicates: int, rng: np.random.Generator
    ) -> tuple[float, float]:
        """95 % interval of curve i's shift: residuals redrawn in blocks, the others' curve held."""
        shifts = np.round(found.shifts / STEP).astype(int)
        first, last = self.spans[i]
        seen = self.values[i, first:last]
        common = self._others(i, shifts, linear)
        under = self._at(i, common, int(shifts[i]))
        if linear:
            slope = max(float(np.cov(under, seen)[0, 1] / (under.var(ddof=1) + 1e-12)), 0.0)
            fitted = seen.mean() + slope * (under - under.mean())
        else:
            fitted = under
        residuals = seen - fitted
        size = min(BLOCK, len(seen))
        drawn = []
        for _ in range(replicates):
            starts = rng.integers(0, len(seen), -(-len(seen) // size))
            places = (starts[:, None] + np.arange(size)).ravel()[: len(seen)] % len(seen)
            losses = self._losses(i, common, linear, fitted + residuals[places])
            drawn.append(int(losses.argmin()) - self.reach)
        low, high = np.quantile(drawn, (0.025, 0.975))
        # The grid is the least that can be told apart.
        return (
            float(min(low, shifts[i]) - 0.5) * STEP,
            float(max(high, shifts[i]) + 0.5) * STEP,
        )


def _window_sums(values: Array, size: int) -> Array:
    """Sums of every ``size`` values in a row."""
    running = np.concatenate([[0.0], values.cumsum()])
    sums: Array = running[size:] - running[:-size]
    return sums


def _ascending(axis: Array, values: Array) -> tuple[Array, Array]:
    """Records in order of the axis; those at one place are averaged."""
    places, inverse = np.unique(axis, return_inverse=True)
    return places, np.bincount(inverse, values) / np.bincount(inverse)


@dataclass(frozen=True)
class Judged:
    """A collapse with what it is worth.

    Attributes:
        collapse: of all trajectories.
        low, high: 95 % jackknife interval of the score over trajectories; None with two.
        without: score of the collapse without each trajectory.
        null: scores of the surrogates.
        intervals: 95 % interval of each shift.
    """

    collapse: Collapse
    low: float | None
    high: float | None
    without: list[float]
    null: Array
    intervals: list[tuple[float, float]]

    @property
    def p_value(self) -> float:
        """Share of surrogates that collapse as well, this collapse counted among them."""
        better = int((self.null >= self.collapse.score).sum())
        return (1 + better) / (1 + len(self.null))


def judge(
    curves: Sequence[Curve],
    rescaling: Rescaling,
    surrogates: int,
    bootstraps: int,
    rng: np.random.Generator,
) -> Judged:
    """Collapse the curves and say how well, against what, and how sensitively.

    Raises ValueError as ``collapse`` does.
    """
    found = collapse(curves, rescaling)
    grid = _Grid(curves)
    without = []
    if len(curves) > 2:
        without = [collapse([c for c in curves if c is not one], rescaling).score for one in curves]
    low, high = None, None
    if without:
        n = len(without)
        error = np.sqrt((n - 1) / n * np.square(np.array(without) - np.mean(without)).sum())
        reach = float(stats.t.ppf(0.975, n - 1) * error)
        low, high = found.score - reach, min(found.score + reach, 1.0)
    null = np.array([grid.surrogate(rng).collapse(rescaling).score for _ in range(surrogates)])
    linear = rescaling == "time_and_amplitude"
    intervals = [(0.0, 0.0)] * len(curves)
    if rescaling != "none":
        intervals = [
            grid.shift_interval(i, found, linear, bootstraps, rng) for i in range(len(curves))
        ]
    return Judged(found, low, high, without, null, intervals)
