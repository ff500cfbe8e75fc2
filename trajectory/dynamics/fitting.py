"""Laws fitted to many series at once: a search over shape parameters, least squares for the rest.

All series of one call share their times. For every value of the autocorrelation and every cell of
a grid over the shape parameters' bounds, the best coefficients follow from one matrix product for
all series together; the best cell is then refined for each series. The noise is AR(1) along the
records (``ar1``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from trajectory.dynamics import ar1
from trajectory.dynamics.laws import BY_NAME, Array, Law, unit_of
from trajectory.dynamics.squares import inner, orthonormal, solve
from trajectory.errors import TrajectoryError

CELLS = {0: (), 1: (96,), 2: (40, 24)}
"""Cells of the grid per shape parameter, by the number of shape parameters."""

REFINEMENTS = 10
"""Halvings of the cell in which the best shape lies, before Gauss–Newton steps."""

SECOND_LOOKS = 3
"""Rounds of choosing the autocorrelation at the refined shape and the shape at that."""

POLISHES = 4
"""Gauss–Newton steps where a fit is one of many replicates."""

NEAR_BOUND = 1e-3
"""A shape parameter this close to its bound, relative to the bound's range, counts as on it."""

AT_ONCE = 4_000_000
"""Numbers held at once per step of the search."""


@dataclass(frozen=True)
class Fits:
    """One law fitted to S series of n records.

    Attributes:
        law: which.
        times: (n,) positive steps.
        shape: (S, shape parameters) as searched: logarithms where the law says so.
        coefficients: of the design's columns, each (S,).
        parameters: the formula's, each (S,).
        fitted: (S, n) the curves.
        lag1: (S,) autocorrelation of the noise.
        residual: (S,) sum of squares of the whitened residuals.
        deviance: (S,) −2 ln likelihood up to a constant.
        at_bound: (S,) whether a shape parameter ended on its bound.
    """

    law: Law
    times: Array
    shape: Array
    coefficients: list[Array]
    parameters: dict[str, Array]
    fitted: Array
    lag1: Array
    residual: Array
    deviance: Array
    at_bound: np.ndarray

    @property
    def aicc(self) -> Array:
        """Corrected Akaike criterion; two more parameters than the curve's: the noise's."""
        count, points = self.law.size + 2, len(self.times)
        correction = 2 * count * (count + 1) / (points - count - 1)
        return self.deviance + 2 * count + correction

    def part(self, places: np.ndarray) -> Fits:
        """The series at ``places`` alone."""
        return Fits(
            self.law,
            self.times,
            self.shape[places],
            [column[places] for column in self.coefficients],
            {name: values[places] for name, values in self.parameters.items()},
            self.fitted[places],
            self.lag1[places],
            self.residual[places],
            self.deviance[places],
            self.at_bound[places],
        )


def least_points(law: Law) -> int:
    """Records that the law's criterion needs: two more than its and the noise's parameters."""
    return law.size + 4


def search_bounds(law: Law, times: Array) -> Array:
    """(shape parameters, 2): bounds of the search, in logarithms where the law says so."""
    bounds = np.array(law.bounds(times), dtype=float).reshape(-1, 2)
    logs = np.array(law.logarithmic, dtype=bool)
    bounds[logs] = np.log(bounds[logs])
    return bounds


def shape_values(law: Law, shape: Array) -> list[Array]:
    """Shape parameters in the law's own units, from those searched (…, shape parameters)."""
    return [
        np.exp(shape[..., j]) if logarithmic else shape[..., j]
        for j, logarithmic in enumerate(law.logarithmic)
    ]


def design(law: Law, times: Array, shape: Array, unit: float | None = None) -> list[Array]:
    """Columns of the law's design matrix at shapes (…, shape parameters): (…, n), or (n,).

    ``unit`` is that of the times a fit was made at, for columns at others; theirs if None.
    """
    unit = unit_of(times) if unit is None else unit
    return law.columns(times, unit, *(value[..., None] for value in shape_values(law, shape)))


@dataclass(frozen=True)
class Grid:
    """The cells of a law's search: shapes (K, shape parameters) and the axes' spacings."""

    law: Law
    times: Array
    shapes: Array
    spacing: Array
    bounds: Array
    known: dict[float, list[Array]]

    def basis(self, lag1: float) -> list[Array]:
        """Orthonormal whitened designs, one (K, n) or (n,) per column."""
        if lag1 not in self.known:
            columns = design(self.law, self.times, self.shapes)
            self.known[lag1] = orthonormal([ar1.whiten(column, lag1) for column in columns])[0]
        return self.known[lag1]


def grid(law: Law, times: Array) -> Grid:
    """The cells over the law's bounds for these times."""
    return _grid(law.name, tuple(times.tolist()))


@lru_cache(maxsize=2 * len(BY_NAME))
def _grid(name: str, steps: tuple[float, ...]) -> Grid:
    law, times = BY_NAME[name], np.array(steps)
    bounds = search_bounds(law, times)
    counts = CELLS[len(law.shape)]
    axes = [np.linspace(low, high, k) for (low, high), k in zip(bounds, counts, strict=True)]
    cells = np.array(list(product(*axes)), dtype=float).reshape(math.prod(counts), len(axes))
    spacing = np.array([axis[1] - axis[0] for axis in axes])
    return Grid(law, times, cells, spacing, bounds, {})


def residuals(whitened: Array, basis: list[Array]) -> Array:
    """(S, K): residual sums of squares of S whitened series against K designs."""
    rest = inner(whitened, whitened)[:, None]
    for direction in basis:
        rest = rest - np.square(whitened @ np.atleast_2d(direction).T)
    return np.maximum(rest, 0.0)


def _floor(values: Array) -> Array:
    """Residuals below rounding of the data carry no information: without it an exact fit is −∞."""
    rounding = np.maximum(np.finfo(float).eps * np.abs(values).max(-1), 1e-150)
    floor: Array = values.shape[-1] * np.square(rounding)
    return floor


def fit(
    law: Law, times: Array, values: Array, lag1: Array | None = None, *, thorough: bool = True
) -> Fits:
    """Fit ``law`` to every series by maximum likelihood.

    Args:
        law: the curve.
        times: (n,) ascending positive steps.
        values: (S, n) finite.
        lag1: (S,) the noise's autocorrelation, from ``ar1.GRID``; searched there if None.
        thorough: refine the best cell by a search that cannot fail, rather than by a few
            Gauss–Newton steps.

    Raises:
        TrajectoryError: for fewer records than ``least_points``, steps that do not ascend from
            above 0, values of another shape, or a number that is not finite.
    """
    times, values = np.asarray(times, dtype=float), np.asarray(values, dtype=float)
    _refuse(law, times, values)
    cells = grid(law, times)
    found, best = _search(cells, values, lag1)
    refine = _refine if thorough else polish
    shape = refine(cells, values, found, cells.shapes[best])
    # The distance to the nearest cell looks like correlated noise: look again at the refined shape.
    if thorough:
        shape = polish(cells, values, found, shape)
    for _ in range(SECOND_LOOKS if lag1 is None and law.shape else 0):
        again = _likeliest_lag1(law, times, values, shape)
        changed = np.flatnonzero(again != found)
        if not len(changed):
            break
        found = again
        shape[changed] = polish(cells, values[changed], found[changed], shape[changed])
    return _finish(law, times, values, found, shape, cells.bounds)


def _refuse(law: Law, times: Array, values: Array) -> None:
    """Raise TrajectoryError for series to which the law cannot be fitted."""
    start = f"fit of the law '{law.name}'"
    least = least_points(law)
    if times.ndim != 1 or values.ndim != 2 or values.shape[1] != len(times):
        raise TrajectoryError(
            f"{start}: values have the shape {values.shape} at {times.shape} steps; give "
            "(series, steps) values, a single series as values[None]"
        )
    if len(times) < least:
        raise TrajectoryError(
            f"{start}: {len(times)} records, and it needs at least {least}; leave the series out"
        )
    if not np.isfinite(times).all() or times[0] <= 0 or (np.diff(times) <= 0).any():
        raise TrajectoryError(
            f"{start}: steps must ascend from above 0; leave out step 0 and sort the records"
        )
    if not np.isfinite(values).all():
        series, record = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise TrajectoryError(
            f"{start}: series {series} has the value {values[series, record]} at step "
            f"{times[record]:g}; leave out records without a finite value"
        )


def _search(cells: Grid, values: Array, lag1: Array | None) -> tuple[Array, np.ndarray]:
    """The best autocorrelation and cell of every series."""
    series, points = values.shape
    floor = _floor(values)
    least = np.full(series, np.inf)
    where = np.zeros(series, dtype=int)
    chosen = np.zeros(series)
    candidates = ar1.GRID if lag1 is None else np.unique(lag1)
    block = max(1, AT_ONCE // len(cells.shapes))
    for candidate in candidates:
        basis = cells.basis(float(candidate))
        members = np.arange(series) if lag1 is None else np.flatnonzero(lag1 == candidate)
        for start in range(0, len(members), block):
            part = members[start : start + block]
            rest = residuals(ar1.whiten(values[part], float(candidate)), basis)
            cell = rest.argmin(-1)
            low = np.maximum(rest[np.arange(len(part)), cell], floor[part])
            value = ar1.deviance(low, float(candidate), points)
            better = value < least[part]
            least[part[better]] = value[better]
            where[part[better]] = cell[better]
            chosen[part[better]] = candidate
    return chosen, where


def _likeliest_lag1(law: Law, times: Array, values: Array, shape: Array) -> Array:
    """(S,) the autocorrelation of greatest likelihood at these shapes."""
    columns = design(law, times, shape)
    floor = _floor(values)
    least = np.full(len(values), np.inf)
    chosen = np.zeros(len(values))
    for lag1 in ar1.GRID:
        rest, _ = solve([ar1.whiten(c, lag1) for c in columns], ar1.whiten(values, lag1))
        deviance = ar1.deviance(np.maximum(rest, floor), lag1, len(times))
        chosen = np.where(deviance < least, lag1, chosen)
        least = np.minimum(least, deviance)
    return chosen


def _refine(cells: Grid, values: Array, lag1: Array, start: Array) -> Array:
    """Search ever smaller neighbourhoods of each series' best cell, inside the bounds."""
    dimensions = start.shape[-1]
    if not dimensions:
        return start
    offsets = np.array(list(product((-1.0, -0.5, 0.0, 0.5, 1.0), repeat=dimensions)))
    block = max(1, AT_ONCE // (len(offsets) * values.shape[-1]))
    parts = [
        _zoom(cells, values[i : i + block], lag1[i : i + block], start[i : i + block], offsets)
        for i in range(0, len(values), block)
    ]
    return np.concatenate(parts)


def _zoom(cells: Grid, values: Array, lag1: Array, centre: Array, offsets: Array) -> Array:
    rho = lag1[:, None, None]
    whitened = ar1.whiten(values, lag1[:, None])[:, None]
    reach = np.tile(cells.spacing, (len(values), 1))
    low, high = cells.bounds.T
    rows = np.arange(len(values))
    for _ in range(REFINEMENTS):
        shapes = np.clip(centre[:, None] + offsets * reach[:, None], low, high)
        columns = design(cells.law, cells.times, shapes)
        rest, _ = solve([ar1.whiten(column, rho) for column in columns], whitened)
        best = rest.argmin(-1)
        centre = shapes[rows, best]
        # On the neighbourhood's edge the optimum may lie outside: move on before shrinking.
        inside = np.abs(offsets[best]).max(-1) < 1
        reach = np.where(inside[:, None], reach / 2, reach)
    return centre


def derivatives(
    law: Law,
    times: Array,
    shape: Array,
    coefficients: list[Array],
    unit: float | None = None,
) -> list[Array]:
    """(S, n) each: the curves' derivatives by the searched shape parameters."""
    found = []
    for j in range(shape.shape[-1]):
        step = np.zeros(shape.shape[-1])
        step[j] = 1e-5
        above, below = (design(law, times, shape + sign * step, unit) for sign in (1, -1))
        slope = np.zeros(1)
        for c, a, b in zip(coefficients, above, below, strict=True):
            slope = slope + c[:, None] * (a - b) / 2e-5
        found.append(slope)
    return found


def polish(
    cells: Grid, values: Array, lag1: Array, start: Array, fixed: int | None = None
) -> Array:
    """Gauss–Newton steps of variable projection, kept where they lower the residual.

    Args:
        cells: of the law.
        values: (S, n).
        lag1: (S,).
        start: (S, shape parameters).
        fixed: a shape parameter that stays where it starts.
    """
    if start.shape[-1] == (fixed is not None):
        return start
    law, times, rho = cells.law, cells.times, lag1[:, None]
    low, high = cells.bounds.T
    whitened = ar1.whiten(values, rho)

    def project(shape: Array) -> tuple[Array, list[Array], list[Array]]:
        columns = [ar1.whiten(column, rho) for column in design(law, times, shape)]
        return *solve(columns, whitened), columns

    shape = start
    residual, coefficients, columns = project(shape)
    for _ in range(POLISHES):
        slopes = [ar1.whiten(d, rho) for d in derivatives(law, times, shape, coefficients)]
        if fixed is not None:
            slopes[fixed] = np.zeros_like(slopes[fixed])
        _, steps = solve([*columns, *slopes], whitened)
        step = np.stack(steps[len(columns) :], -1)
        if fixed is not None:
            step[:, fixed] = 0.0
        trial = np.clip(shape + np.clip(step, -cells.spacing, cells.spacing), low, high)
        rest, new, built = project(trial)
        better = rest < residual
        shape = np.where(better[:, None], trial, shape)
        residual = np.where(better, rest, residual)
        coefficients = [np.where(better, a, b) for a, b in zip(new, coefficients, strict=True)]
        columns = [np.where(better[:, None], a, b) for a, b in zip(built, columns, strict=True)]
    return shape


def _finish(
    law: Law, times: Array, values: Array, lag1: Array, shape: Array, bounds: Array
) -> Fits:
    columns = design(law, times, shape)
    rho = lag1[:, None]
    residual, coefficients = solve(
        [ar1.whiten(column, rho) for column in columns], ar1.whiten(values, rho)
    )
    fitted = np.zeros_like(values)
    for coefficient, column in zip(coefficients, columns, strict=True):
        fitted += coefficient[:, None] * column
    residual = np.maximum(residual, _floor(values))
    near = np.zeros(len(values), dtype=bool)
    for j, (low, high) in enumerate(bounds):
        distance = np.minimum(shape[:, j] - low, high - shape[:, j])
        near |= distance < NEAR_BOUND * (high - low)
    return Fits(
        law,
        times,
        shape,
        coefficients,
        law.named(coefficients, shape_values(law, shape), unit_of(times)),
        fitted,
        lag1,
        residual,
        ar1.deviance(residual, lag1, len(times)),
        near,
    )
