"""How far the cost must rise: small-sample factors and profile intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from trajectory.dynamics.coupling.noise import (
    curvature,
    draw_estimates,
    draw_noise,
    generators,
)
from trajectory.dynamics.coupling.problems import BOUNDS, OWN, Array, Mask, Problems
from trajectory.dynamics.coupling.search import BOTH, ENOUGH, Tested, fit_noise, holding, least
from trajectory.dynamics.coupling.squares import Noise, Solution, solve
from trajectory.dynamics.reduced import EXPONENT, SHARED

CONFIDENCE = 0.95


REPLICATES = 60
"""Simulated data sets per problem behind its small-sample factors."""


HELD = 100
"""Iterations with the tested parameters held: flat valleys of nearly saturated sinks take many."""


CHUNK = 1500
"""Simulated data sets fitted at once."""


def parameter_count(problems: Problems, free: Mask) -> NDArray[np.int64]:
    """Fitted parameters of each problem, without those of padded members."""
    members = problems.present.any(2)
    own = (free[:, SHARED:] & np.repeat(members, OWN, axis=1)).sum(1)
    count: NDArray[np.int64] = free[:, :SHARED].sum(1) + own
    return count


def f_statistic(
    restricted: Array, full: Array, tested: Tested, freedom: NDArray[np.int64]
) -> Array:
    """The F statistic of fixing the ``tested`` parameters."""
    excess: Array = np.maximum(restricted - full, 0) / len(tested)
    return excess / np.maximum(full / freedom, 1e-12)


def small_sample(
    problems: Problems,
    noise: Noise,
    full: Solution,
    free: Mask,
    replicates: int,
    seed: int,
) -> dict[Tested, Array]:
    """95 % quantile of each test's statistic at the truth in simulated data, over Fisher's F."""
    total = len(full.cost)
    rngs = generators(problems, seed)
    freedom = np.maximum(problems.points - parameter_count(problems, free), 1)
    predicted = full.residuals + problems.states
    at_once = max(1, CHUNK // replicates)
    tests: list[Tested] = [*((i,) for i in range(problems.reported)), BOTH]
    found: dict[Tested, list[Array]] = {tested: [] for tested in tests}
    for first in range(0, total, at_once):
        here = np.arange(first, min(first + at_once, total))
        own = rngs[first : first + at_once]
        rows = np.repeat(here, replicates)
        some, some_free = problems.take(rows), free[rows]
        allowed = draw_estimates(
            problems.take(here), full.take(here), noise.take(here), free[here], replicates, own
        )
        drawn = draw_noise(some, allowed, own)
        some = Problems(some.times, predicted[rows] + drawn, some.present, some.log_keys)
        truth = full.parameters[rows]
        refitted, renoise = fit_noise(some, truth, some_free, 2, noise.take(rows))
        for tested in tests:
            # Held parameters leave the refit in a poor valley where they are far off: the truth is
            # a second start, and no worse than itself.
            near = refitted.parameters.copy()
            near[:, list(tested)] = truth[:, list(tested)]
            held = holding(some_free, tested)
            fixed = least(some, renoise, [near, truth], held, HELD, ENOUGH)
            statistic = f_statistic(fixed.cost, refitted.cost, tested, freedom[rows])
            high = np.quantile(statistic.reshape(-1, replicates), CONFIDENCE, axis=1)
            found[tested].append(high)
    return {
        t: np.maximum(np.concatenate(high) / stats.f.ppf(CONFIDENCE, len(t), freedom), 1.0)
        for t, high in found.items()
    }


def profiles(  # noqa: PLR0915 (one search, all sides at once)
    problems: Problems,
    noise: Noise,
    full: Solution,
    free: Mask,
    freedom: NDArray[np.int64],
    factors: dict[Tested, Array],
) -> tuple[Array, Array]:
    """Where each shared parameter's profile rises by F times its factor: both sides at once."""
    total = len(full.cost)
    critical = stats.f.ppf(CONFIDENCE, 1, freedom) * np.maximum(full.cost / freedom, 1e-12)
    thresholds = np.stack([critical * factors[i,] for i in range(problems.reported)], axis=1)
    covariance = np.linalg.inv(curvature(problems, full, noise, free))
    wald = np.sqrt(np.maximum(np.einsum("npp->np", covariance), 1e-16))[:, : problems.reported]
    low_bound, high_bound = (b[:, : problems.reported] for b in problems.bounds())
    tasks = [
        (i, p, side)
        for i in range(total)
        for p in range(problems.reported)
        if free[i, p]
        for side in (-1, 1)
    ]
    rows = np.array([t[0] for t in tasks])
    which = np.array([t[1] for t in tasks])
    sides = np.array([t[2] for t in tasks], dtype=np.float64)
    threshold = thresholds[rows, which]
    some, some_noise = problems.take(rows), noise.take(rows)
    held = free[rows]
    held[np.arange(len(rows)), which] = False
    centre = full.parameters[rows, which]
    limit = np.where(sides < 0, low_bound[rows, which], high_bound[rows, which])
    reach = np.minimum(
        np.maximum(wald[rows, which] * np.sqrt(threshold), 1e-4),
        np.where(np.isfinite(limit), np.abs(limit - centre), 20.0),
    )
    inside, outside = np.zeros(len(rows)), np.full(len(rows), np.inf)
    inside_root, outside_root = np.zeros(len(rows)), np.full(len(rows), np.inf)
    start = full.parameters[rows].copy()
    done: Mask = np.less_equal(reach, 1e-9)  # the estimate lies on its bound
    open_ = done.copy()
    target = np.sqrt(threshold)
    largest = np.where(np.isfinite(limit), np.abs(limit - centre), 20.0)
    at = reach
    for _ in range(12):
        live = np.flatnonzero(~done)
        if not len(live):
            break
        begin = start[live]
        begin[np.arange(len(live)), which[live]] = centre[live] + sides[live] * at[live]
        found = solve(some.take(live), some_noise.take(live), begin, held[live], 15, ENOUGH)
        rise = np.sqrt(np.maximum(found.cost - full.cost[rows[live]], 0))
        within = rise < target[live]
        start[live[within]] = found.parameters[within]
        inside[live] = np.where(within, at[live], inside[live])
        inside_root[live] = np.where(within, rise, inside_root[live])
        outside[live] = np.where(within, outside[live], at[live])
        outside_root[live] = np.where(within, outside_root[live], rise)
        ended = within & (at[live] >= largest[live] * (1 - 1e-9))
        open_[live[ended]] = True
        width = outside[live] - inside[live]
        close = np.abs(rise - target[live]) < 0.01 * target[live]
        done[live] = ended | close | (width < 0.01 * outside[live])
        # Regula falsi on the root of the profile, which is nearly straight; doubling until outside.
        with np.errstate(invalid="ignore", divide="ignore"):
            share = (target[live] - inside_root[live]) / (outside_root[live] - inside_root[live])
            between = inside[live] + width * np.clip(share, 0.1, 0.9)
            doubling = inside[live] * np.clip(target[live] / np.maximum(rise, 1e-9) * 1.1, 1.5, 4)
        following = np.where(np.isfinite(outside[live]), between, doubling)
        at = at.copy()
        at[live] = np.where(done[live], at[live], np.minimum(following, largest[live]))
    finite = np.isfinite(outside)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (target - inside_root) / (outside_root - inside_root)
        cut = np.where(finite, inside + (outside - inside) * np.clip(share, 0, 1), at)
    ends = np.where(open_, sides * np.inf, centre + sides * cut)
    low = np.full((total, problems.reported), -np.inf)
    high = -low
    low[rows[sides < 0], which[sides < 0]] = ends[sides < 0]
    high[rows[sides > 0], which[sides > 0]] = ends[sides > 0]
    low[:, EXPONENT] = np.maximum(low[:, EXPONENT], BOUNDS[EXPONENT][0])
    known = ~free[:, : problems.reported]
    low[known] = high[known] = full.parameters[:, : problems.reported][known]
    return low, high
