"""How large and how slow the deviations of the records are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trajectory.dynamics.coupling.problems import Array, Mask, Problems
from trajectory.dynamics.coupling.squares import Noise, Solution, memory, whiten

LENGTHS = np.array([0.0, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28])
"""Correlation lengths tried, in ln time; 0 is white noise."""


def estimate_noise(problems: Problems, solution: Solution, noise: Noise, free: Mask) -> Noise:
    """Restricted maximum likelihood, one variable's correlation length after the other's.

    Restricted, because eight parameters that bend with slow noise would make it look fast.
    """
    for variable in (0, 1):
        deviations, likelihood = _scan(problems, solution, noise, free, variable)
        best = likelihood.argmax(0)
        noise = _with_length(noise, variable, best, deviations)
    return noise


def generators(problems: Problems, seed: int) -> list[np.random.Generator]:
    """One generator per problem, from its own records: alone or among others it draws the same."""
    found = []
    for times, states, present in zip(
        problems.times, problems.states, problems.present, strict=True
    ):
        records = times[present].tobytes() + states[present].tobytes()
        own = int.from_bytes(hashlib.blake2b(records, digest_size=16).digest(), "little")
        found.append(np.random.default_rng([seed, own]))
    return found


def draw_estimates(
    problems: Problems,
    solution: Solution,
    noise: Noise,
    free: Mask,
    replicates: int,
    rngs: Sequence[np.random.Generator],
) -> Noise:
    """Noise that the residuals allow, ``replicates`` draws for each problem in turn, by its rng.

    Each variable's correlation length is drawn by its restricted likelihood, the other's held.
    """
    rows = np.repeat(np.arange(len(problems.times)), replicates)
    drawn = noise.take(rows)
    for variable in (0, 1):
        deviations, likelihood = _scan(problems, solution, noise, free, variable)
        weight = np.exp(likelihood - likelihood.max(0))
        shares = (weight / weight.sum(0)).cumsum(0)[:, rows]
        uniform = np.concatenate([rng.random(replicates) for rng in rngs])
        chosen = (shares < uniform).sum(0).clip(max=len(LENGTHS) - 1)
        drawn = _with_length(drawn, variable, chosen, deviations[:, rows])
    return drawn


def draw_noise(problems: Problems, noise: Noise, rngs: Sequence[np.random.Generator]) -> Array:
    """Correlated noise at every record. Shape (problems, members, records, 2).

    Each generator serves an equal share of the problems, and draws for their own records only:
    what a problem gets does not depend on how far others made it be padded.
    """
    kept, fresh = memory(problems, noise)
    drawn: Array = np.zeros(problems.states.shape)
    share = len(drawn) // len(rngs)
    for row, present in enumerate(problems.present):
        own = rngs[row // share]
        drawn[row][present] = own.standard_normal((int(present.sum()), 2))
    for record in range(1, drawn.shape[2]):
        here = fresh[:, :, record - 1] * drawn[:, :, record]
        drawn[:, :, record] = kept[:, :, record - 1] * drawn[:, :, record - 1] + here
    return drawn * noise.deviation[:, None, None, :]


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


def curvature(problems: Problems, solution: Solution, noise: Noise, free: Mask) -> Array:
    """JᵀV⁻¹J of both variables together, invertible. Shape (problems, P, P)."""
    total: Array = _information(problems, solution, noise, free).sum(0) + _held(free)
    return total


def _held(free: Mask) -> Array:
    held: Array = np.where(free, 1e-9, 1.0)[:, :, None] * np.eye(free.shape[1])
    return held


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
    second = curvature(problems, solution, noise, free)
    squares = np.square(whiten(problems, noise, solution.residuals)).sum((1, 2, 3))
    _, log_information = np.linalg.slogdet(second)
    likelihood: Array = -0.5 * (_log_determinant(problems, noise) + log_information + squares)
    return likelihood


def _log_determinant(problems: Problems, noise: Noise) -> Array:
    """ln det of the residuals' covariance. Shape (problems,)."""
    _, fresh = memory(problems, noise)
    counts = problems.present.sum((1, 2))[:, None]
    inner = np.where(problems.present[:, :, 1:, None], np.log(fresh), 0).sum((1, 2))
    total: Array = 2 * (inner + counts * np.log(noise.deviation)).sum(1)
    return total
