"""Fitting the reduced system: estimates, intervals, and what happens without the arrows.

Residuals are correlated: records of one run that lie a log-time u apart share exp(−u/ℓ) of their
deviation (an Ornstein–Uhlenbeck process seen at irregular times), with a variance and an ℓ of its
own for each of the two variables. Those four are estimated by restricted maximum likelihood and
then held, so the rest is least squares on whitened residuals. How far the cost must rise to leave
a parameter's interval, or to reject a null, is Fisher's F times a small-sample factor: the 95 %
quantile of the same statistic in simulated data, over that of F. They are simulated from the fit
with correlation lengths that the residuals allow, and their noise is estimated anew each time:
twenty records do not tell slow noise from fast, and intervals that took the estimate for the truth
would hold a parameter only nine times in ten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from trajectory.dynamics.reduced import (
    DRAIN_TO_SINK,
    EXPONENT,
    LAG,
    LEVEL,
    PARAMETERS,
    SHARED,
    SINK_TO_DRAIN,
    SPEED,
    log_drive,
    simulate,
)

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

CONFIDENCE = 0.95

LENGTHS = np.array([0.0, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28])
"""Correlation lengths tried, in ln time; 0 is white noise."""

ROUNDS = 4
"""Rounds of least squares and noise estimation."""

ENOUGH = 3e-3
"""Gains of cost not sought where only its height matters: tests reject at about 4."""

REPLICATES = 60
"""Simulated data sets per problem behind its small-sample factors."""

CHUNK = 1500
"""Simulated data sets fitted at once."""

OWN = 5
"""Parameters of each trajectory: speed, lag, level and the first state (a, b)."""

BOUNDS = {
    EXPONENT: (0.0, 2.0),
    DRAIN_TO_SINK: (-8.0, 8.0),
    SINK_TO_DRAIN: (-2.0, 2.0),
    SPEED: (-30.0, 10.0),
    LEVEL: (-6.0, 3.0),
}
"""Where a parameter is searched; the lag from a tenth of the first gap between records to the
window's length. An interval that reaches its bound is open on that side, except that no exponent
lies below 0."""

NULLS = {
    "no_drain_to_sink": (DRAIN_TO_SINK,),
    "no_sink_to_drain": (SINK_TO_DRAIN,),
    "uncoupled": (DRAIN_TO_SINK, SINK_TO_DRAIN),
}
"""Which arrows each null has taken out."""


Tested = tuple[int, ...]
"""Parameters that a test sets to given values together."""

BOTH: Tested = (DRAIN_TO_SINK, SINK_TO_DRAIN)


@dataclass(frozen=True)
class Records:
    """One trajectory's records of one head.

    Attributes:
        times: ascending and positive. Shape (records,).
        sink: sink log-odds above the floor. Shape (records,).
        value: log value ratio. Shape (records,).
        log_keys: ln W, minus the floor's log-odds.
    """

    times: Array
    sink: Array
    value: Array
    log_keys: float


@dataclass
class Problems:
    """Many groups of trajectories, padded to one shape: (problems, members, records).

    Padding repeats the last time and has no weight.
    """

    times: Array
    states: Array  # (problems, members, records, 2)
    present: Mask
    log_keys: Array
    scale: Array = field(init=False)  # (problems, 2), for starting values and tolerances

    @classmethod
    def of(cls, groups: Sequence[Sequence[Records]]) -> Problems:
        """Pad the groups' series; ValueError for an empty group or a time that is not positive."""
        if not groups or not all(groups):
            raise ValueError("every group needs a trajectory")
        members = max(map(len, groups))
        records = max(len(s.times) for g in groups for s in g)
        times = np.ones((len(groups), members, records))
        states = np.zeros((*times.shape, 2))
        present = np.zeros(times.shape, dtype=bool)
        log_keys = np.zeros(times.shape[:2])
        for i, group in enumerate(groups):
            for j, series in enumerate(group):
                n = len(series.times)
                if n and series.times[0] <= 0:
                    raise ValueError("times must be positive")
                times[i, j, :n], times[i, j, n:] = series.times, series.times[-1]
                states[i, j, :n, 0], states[i, j, :n, 1] = series.sink, series.value
                present[i, j, :n] = True
                log_keys[i, j] = series.log_keys
        return cls(times, states, present, log_keys)

    def __post_init__(self) -> None:
        counts = self.present.sum((1, 2))[:, None]
        weight = self.present[..., None]
        mean = (self.states * weight).sum((1, 2)) / counts
        spread = ((self.states - mean[:, None, None]) ** 2 * weight).sum((1, 2)) / counts
        self.scale = np.sqrt(spread) + 1e-9

    @property
    def size(self) -> int:
        """Parameters of each problem, its members' first states included."""
        return SHARED + OWN * self.times.shape[1]

    @property
    def reported(self) -> int:
        """The first parameters, those with a meaning for the whole group."""
        return len(PARAMETERS) if self.times.shape[1] == 1 else SHARED

    @property
    def points(self) -> NDArray[np.int64]:
        """Residuals of each problem: two per record."""
        return 2 * self.present.sum((1, 2))

    def take(self, rows: NDArray[np.int64]) -> Problems:
        """The problems at ``rows``, which may repeat."""
        some = object.__new__(Problems)
        some.times, some.states = self.times[rows], self.states[rows]
        some.present, some.log_keys = self.present[rows], self.log_keys[rows]
        some.scale = self.scale[rows]
        return some

    def bounds(self) -> tuple[Array, Array]:
        """Lower and upper bounds. Shape (problems, parameters)."""
        low = np.full((len(self.times), self.size), -np.inf)
        high = -low
        ends = np.where(self.present, self.times, np.nan)
        gaps = np.where(self.present[:, :, 1:], np.diff(self.times, axis=2), np.nan)
        least, most = (
            np.nanmin(gaps, (1, 2)) / 10,
            np.nanmax(ends, (1, 2)) - np.nanmin(ends, (1, 2)),
        )
        for parameter in range(len(PARAMETERS)):
            own = parameter >= SHARED
            columns = slice(parameter, None, OWN) if own else slice(parameter, parameter + 1)
            if parameter == LAG:
                low[:, columns], high[:, columns] = np.log(least)[:, None], np.log(most)[:, None]
            else:
                low[:, columns], high[:, columns] = BOUNDS[parameter]
        return low, high

    def predict(self, parameters: Array, times: Array | None = None) -> Array:
        """States at the records, or at other ``times`` that start where the records do.

        Shape (problems, members, records, 2).
        """
        problems, members = self.times.shape[:2]
        times = self.times if times is None else times
        shared = np.repeat(parameters[:, :SHARED], members, axis=0)
        own = parameters[:, SHARED:].reshape(-1, OWN)
        system = np.concatenate([shared, own[:, : OWN - 2]], axis=1)
        flat = times.reshape(problems * members, -1)
        found = simulate(system, own[:, OWN - 2 :], flat, self.log_keys.reshape(-1))
        return found.reshape(*times.shape, 2)

    def jacobian(self, parameters: Array, base: Array, times: Array | None = None) -> Array:
        """Derivatives of ``predict`` by forward differences. Shape (..., 2, parameters).

        What is a member's own touches that member only, so all members' are moved at once; and
        all moved systems are integrated in one call, whose cost is hardly more than one's.
        """
        total, members = self.times.shape[:2]
        moves = SHARED + OWN
        moved = np.repeat(parameters[None], moves, axis=0)
        nudges = 1e-6 * (1 + np.abs(parameters[:, :SHARED]))
        for i in range(SHARED):
            moved[i, :, i] += nudges[:, i]
        for i in range(OWN):
            moved[SHARED + i, :, SHARED + i :: OWN] += 1e-6
        many = self.take(np.tile(np.arange(total), moves))
        states = many.predict(
            moved.reshape(moves * total, -1),
            None if times is None else np.tile(times, (moves, 1, 1)),
        )
        change = states.reshape(moves, *base.shape) - base
        found = np.zeros((*base.shape, self.size))
        for i in range(SHARED):
            found[..., i] = change[i] / nudges[:, i, None, None, None]
        for i in range(OWN):
            for member in range(members):
                own = SHARED + OWN * member + i
                found[:, member, ..., own] = change[SHARED + i, :, member] / 1e-6
        return found


@dataclass(frozen=True)
class Noise:
    """Standard deviation and correlation length of each variable. Shapes (problems, 2)."""

    deviation: Array
    length: Array

    def take(self, rows: NDArray[np.int64]) -> Noise:
        """The noise of the problems at ``rows``."""
        return Noise(self.deviation[rows], self.length[rows])


def whiten(problems: Problems, noise: Noise, residuals: Array) -> Array:
    """Residuals, or their derivatives, as independent numbers of variance 1.

    ``residuals`` has shape (problems, members, records, 2) or a further axis of parameters.
    """
    kept, fresh = _memory(problems, noise)
    deviation = noise.deviation[:, None, None, :]
    if residuals.ndim == 5:
        kept, fresh, deviation = kept[..., None], fresh[..., None], deviation[..., None]
    white = np.empty_like(residuals)
    white[:, :, :1] = residuals[:, :, :1] / deviation
    white[:, :, 1:] = (residuals[:, :, 1:] - kept * residuals[:, :, :-1]) / (fresh * deviation)
    white[~problems.present] = 0.0
    return white


def _memory(problems: Problems, noise: Noise) -> tuple[Array, Array]:
    """Between records: the share of the residual kept, and the standard deviation of the rest.

    Shapes (problems, members, records − 1, 2).
    """
    gaps = np.diff(np.log(problems.times), axis=2)[..., None]
    kept = np.exp(-gaps / np.maximum(noise.length, 1e-12)[:, None, None, :])
    return kept, np.sqrt(np.maximum(1 - kept**2, 1e-12))


def _log_determinant(problems: Problems, noise: Noise) -> Array:
    """ln det of the residuals' covariance. Shape (problems,)."""
    _, fresh = _memory(problems, noise)
    counts = problems.present.sum((1, 2))[:, None]
    inner = np.where(problems.present[:, :, 1:, None], np.log(fresh), 0).sum((1, 2))
    total: Array = 2 * (inner + counts * np.log(noise.deviation)).sum(1)
    return total


@dataclass(frozen=True)
class Solution:
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


def estimate_noise(problems: Problems, solution: Solution, noise: Noise, free: Mask) -> Noise:
    """Restricted maximum likelihood, one variable's correlation length after the other's.

    Restricted, because eight parameters that bend with slow noise would make it look fast.
    """
    for variable in (0, 1):
        deviations, likelihood = _scan(problems, solution, noise, free, variable)
        best = likelihood.argmax(0)
        noise = _with_length(noise, variable, best, deviations)
    return noise


def draw_estimates(
    problems: Problems,
    solution: Solution,
    noise: Noise,
    free: Mask,
    replicates: int,
    rng: np.random.Generator,
) -> Noise:
    """Noise that the residuals allow, ``replicates`` draws for each problem in turn.

    Each variable's correlation length is drawn by its restricted likelihood, the other's held.
    """
    rows = np.repeat(np.arange(len(problems.times)), replicates)
    drawn = noise.take(rows)
    for variable in (0, 1):
        deviations, likelihood = _scan(problems, solution, noise, free, variable)
        weight = np.exp(likelihood - likelihood.max(0))
        shares = (weight / weight.sum(0)).cumsum(0)[:, rows]
        chosen = (shares < rng.random(len(rows))).sum(0).clip(max=len(LENGTHS) - 1)
        drawn = _with_length(drawn, variable, chosen, deviations[:, rows])
    return drawn


def _scan(
    problems: Problems, solution: Solution, noise: Noise, free: Mask, variable: int
) -> tuple[Array, Array]:
    """Every length of one variable: deviations (lengths, problems, 2) and log-likelihoods."""
    deviations, likelihoods = [], []
    for length in LENGTHS:
        lengths = noise.length.copy()
        lengths[:, variable] = length
        trial = _deviations(problems, solution, Noise(noise.deviation, lengths), free)
        deviations.append(trial.deviation)
        likelihoods.append(_restricted(problems, solution, trial, free))
    return np.stack(deviations), np.stack(likelihoods)


def _with_length(
    noise: Noise, variable: int, chosen: NDArray[np.int64], deviations: Array
) -> Noise:
    lengths, deviation = noise.length.copy(), noise.deviation.copy()
    lengths[:, variable] = LENGTHS[chosen]
    deviation[:, variable] = deviations[chosen, np.arange(len(chosen)), variable]
    return Noise(deviation, lengths)


def _information(problems: Problems, solution: Solution, noise: Noise, free: Mask) -> Array:
    """JᵀV⁻¹J of each variable, identity where a parameter is held. (2, problems, P, P)."""
    white = whiten(problems, noise, solution.jacobian)
    white = np.where(free[:, None, None, None, :], white, 0.0)
    size = problems.size
    return np.stack(
        [
            np.einsum("nrp,nrq->npq", w, w)
            for w in (white[..., i, :].reshape(len(white), -1, size) for i in (0, 1))
        ]
    )


def _held(free: Mask) -> Array:
    return np.where(free, 1e-9, 1.0)[:, :, None] * np.eye(free.shape[1])


def _deviations(problems: Problems, solution: Solution, noise: Noise, free: Mask) -> Noise:
    """Standard deviations, per degree of freedom, at the correlation lengths of ``noise``."""
    counts = problems.present.sum((1, 2))
    deviation = noise.deviation
    for _ in range(2):
        now = Noise(deviation, noise.length)
        parts = _information(problems, solution, now, free)
        inverse = np.linalg.inv(parts.sum(0) + _held(free))
        squares = np.square(whiten(problems, now, solution.residuals)).sum((1, 2))
        used = np.stack([np.einsum("npq,nqp->n", inverse, part) for part in parts], axis=1)
        left = np.maximum(counts[:, None] - used, 1.0)
        deviation = np.maximum(deviation * np.sqrt(squares / left), 1e-6 * problems.scale)
    return Noise(deviation, noise.length)


def _restricted(problems: Problems, solution: Solution, noise: Noise, free: Mask) -> Array:
    """Restricted log-likelihood, up to a constant. Shape (problems,)."""
    information = _information(problems, solution, noise, free).sum(0) + _held(free)
    squares = np.square(whiten(problems, noise, solution.residuals)).sum((1, 2, 3))
    _, log_information = np.linalg.slogdet(information)
    likelihood: Array = -0.5 * (_log_determinant(problems, noise) + log_information + squares)
    return likelihood


@dataclass(frozen=True)
class Fits:
    """The reduced system fitted to every problem.

    Attributes:
        problems: the data.
        free: which parameters were fitted. Shape (problems, parameters).
        noise: of the full system, held for intervals and nulls.
        full: the full system.
        low, high: 95 % profile intervals of the reported parameters; infinite where open.
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
        return np.maximum(self.problems.points - _parameters(self.problems, self.free), 1)

    def determination(self) -> Array:
        """R² of the two variables. Shape (problems, 2)."""
        present = self.problems.present[..., None]
        left = (np.square(self.full.residuals) * present).sum((1, 2))
        counts = self.problems.present.sum((1, 2))[:, None]
        r2: Array = 1 - left / (counts * self.problems.scale**2)
        return r2


def _parameters(problems: Problems, free: Mask) -> NDArray[np.int64]:
    """Fitted parameters of each problem, without those of padded members."""
    members = problems.present.any(2)
    own = (free[:, SHARED:] & np.repeat(members, OWN, axis=1)).sum(1)
    count: NDArray[np.int64] = free[:, :SHARED].sum(1) + own
    return count


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
    full, noise = _fit_noise(problems, _first_fit(problems, free, exponent), free, ROUNDS)
    freedom = np.maximum(problems.points - _parameters(problems, free), 1)
    factors = _small_sample(problems, noise, full, free, replicates, np.random.default_rng(seed))
    nulls, p_values = {}, {}
    for name, arrows in NULLS.items():
        nulls[name] = _null(problems, noise, full, free, arrows)
        statistic = _statistic(nulls[name].cost, full.cost, arrows, freedom) / factors[arrows]
        p_values[name] = stats.f.sf(statistic, len(arrows), freedom)
    low, high = _profiles(problems, noise, full, free, freedom, factors)
    return Fits(problems, free, noise, full, low, high, factors, nulls, p_values)


def _statistic(restricted: Array, full: Array, tested: Tested, freedom: NDArray[np.int64]) -> Array:
    """The F statistic of fixing the ``tested`` parameters."""
    excess: Array = np.maximum(restricted - full, 0) / len(tested)
    return excess / np.maximum(full / freedom, 1e-12)


def _small_sample(
    problems: Problems,
    noise: Noise,
    full: Solution,
    free: Mask,
    replicates: int,
    rng: np.random.Generator,
) -> dict[Tested, Array]:
    """95 % quantile of each test's statistic at the truth in simulated data, over Fisher's F."""
    total = len(full.cost)
    freedom = np.maximum(problems.points - _parameters(problems, free), 1)
    predicted = full.residuals + problems.states
    at_once = max(1, CHUNK // replicates)
    tests: list[Tested] = [*((i,) for i in range(problems.reported)), BOTH]
    found: dict[Tested, list[Array]] = {tested: [] for tested in tests}
    for first in range(0, total, at_once):
        rows = np.repeat(np.arange(first, min(first + at_once, total)), replicates)
        some, some_free = problems.take(rows), free[rows]
        here = np.arange(first, min(first + at_once, total))
        part = Solution(
            full.parameters[here], full.cost[here], full.jacobian[here], full.residuals[here]
        )
        allowed = draw_estimates(
            problems.take(here), part, noise.take(here), free[here], replicates, rng
        )
        drawn = draw_noise(some, allowed, rng)
        some = Problems(some.times, predicted[rows] + drawn, some.present, some.log_keys)
        truth = full.parameters[rows]
        refitted, renoise = _fit_noise(some, truth, some_free, 2, noise.take(rows))
        for tested in tests:
            held = some_free.copy()
            held[:, list(tested)] = False
            start = refitted.parameters.copy()
            start[:, list(tested)] = truth[:, list(tested)]
            fixed = solve(some, renoise, start, held, 20, ENOUGH)
            statistic = _statistic(fixed.cost, refitted.cost, tested, freedom[rows])
            high = np.quantile(statistic.reshape(-1, replicates), CONFIDENCE, axis=1)
            found[tested].append(high)
    return {
        t: np.maximum(np.concatenate(high) / stats.f.ppf(CONFIDENCE, len(t), freedom), 1.0)
        for t, high in found.items()
    }


def draw_noise(problems: Problems, noise: Noise, rng: np.random.Generator) -> Array:
    """Correlated noise at every record. Shape (problems, members, records, 2)."""
    kept, fresh = _memory(problems, noise)
    drawn = rng.standard_normal(problems.states.shape)
    for record in range(1, drawn.shape[2]):
        here = fresh[:, :, record - 1] * drawn[:, :, record]
        drawn[:, :, record] = kept[:, :, record - 1] * drawn[:, :, record - 1] + here
    return drawn * noise.deviation[:, None, None, :]


def _starts(problems: Problems, exponent: float | None) -> Array:
    """Starting values from the records: slow and fast values, weak and strong exponents.

    Shape (starts, problems, parameters).
    """
    problems_, members = problems.times.shape[:2]
    weight = problems.present / np.maximum(problems.present.sum(2, keepdims=True), 1)
    mean = (problems.states * weight[..., None]).sum(2)  # (problems, members, 2)
    centred = problems.states - mean[:, :, None]
    across = (centred[..., 0] * centred[..., 1] * weight).sum((1, 2))
    within = (centred[..., 0] ** 2 * weight).sum((1, 2)) + 1e-12
    gain = np.clip(-across / within, -1.0, 1.0)
    level = mean[..., 1] + gain[:, None] * mean[..., 0]
    spans = np.diff(problems.times, axis=2)
    rises = np.diff(problems.states[..., 0], axis=2) * problems.present[:, :, 1:]
    rise = np.maximum(rises.sum(2), 0.1 * problems.scale[:, :1])
    middle = 0.5 * (problems.states[:, :, 1:, 0] + problems.states[:, :, :-1, 0])
    length = problems.times[:, :, -1] - problems.times[:, :, 0] + 1e-12
    starts = []
    for p in (0.1, 0.4, 1.0) if exponent is None else (exponent,):
        driven = np.exp(p * np.maximum(log_drive(middle, problems.log_keys[..., None]), -30))
        speed = np.log(rise / np.maximum((driven * spans).sum(2), 1e-12))
        for lag in (0.02, 0.3):
            law = np.stack([np.full(problems_, p), np.zeros(problems_), gain], axis=1)
            own = np.stack([speed, np.log(lag * length), level], axis=2)
            own = np.concatenate([own, problems.states[:, :, 0]], axis=2)
            starts.append(np.concatenate([law, own.reshape(problems_, members * OWN)], axis=1))
    return np.stack(starts)


def _first_fit(problems: Problems, free: Mask, exponent: float | None) -> Array:
    """The best of several searches, with white noise in proportion to each variable's spread."""
    starts = _starts(problems, exponent)
    count, total = starts.shape[:2]
    rows = np.tile(np.arange(total), count)
    plain = Noise(problems.scale, np.zeros_like(problems.scale))
    found = solve(
        problems.take(rows), plain.take(rows), starts.reshape(count * total, -1), free[rows], 25
    )
    best = found.cost.reshape(count, total).argmin(0)
    return found.parameters.reshape(count, total, -1)[best, np.arange(total)]


def _fit_noise(
    problems: Problems, start: Array, free: Mask, rounds: int, noise: Noise | None = None
) -> tuple[Solution, Noise]:
    """Least squares and noise in turn, from ``noise`` or from white noise."""
    if noise is None:
        noise = Noise(problems.scale, np.zeros_like(problems.scale))
    enough = 0.0 if rounds == ROUNDS else ENOUGH
    solution = solve(problems, noise, start, free, 40, enough)
    for _ in range(rounds):
        noise = estimate_noise(problems, solution, noise, free)
        solution = solve(problems, noise, solution.parameters, free, 40, enough)
    return solution, noise


def _null(
    problems: Problems, noise: Noise, full: Solution, free: Mask, arrows: tuple[int, ...]
) -> Solution:
    """The best system without ``arrows``, searched from the full one and from rest."""
    held = free.copy()
    held[:, list(arrows)] = False
    near = full.parameters.copy()
    near[:, list(arrows)] = 0
    if SINK_TO_DRAIN in arrows:  # the attractor no longer moves: let it stand where the value ends
        last = np.maximum(problems.present.sum(2) - 1, 0)
        ends = np.take_along_axis(problems.states[..., 1], last[..., None], 2)[..., 0]
        near[:, LEVEL::OWN] = ends
    far = near.copy()
    length = problems.times[:, :, -1] - problems.times[:, :, 0] + 1e-12
    far[:, LAG::OWN] = np.log(0.3 * length)
    rows = np.tile(np.arange(len(near)), 2)
    found = solve(
        problems.take(rows), noise.take(rows), np.concatenate([near, far]), held[rows], 40
    )
    pick = found.cost.reshape(2, -1).argmin(0) * len(near) + np.arange(len(near))
    return Solution(
        found.parameters[pick], found.cost[pick], found.jacobian[pick], found.residuals[pick]
    )


def _profiles(  # noqa: PLR0915 (one search, all sides at once)
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
    covariance = np.linalg.inv(_information(problems, full, noise, free).sum(0) + _held(free))
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
    covariance = np.linalg.pinv(
        _information(problems, solution, noise, free).sum(0) + _held(free), hermitian=True
    )
    variance = np.einsum("nmkvp,npq,nmkvq->nmkv", slope, covariance, slope)
    return states, np.sqrt(np.maximum(variance, 0))
