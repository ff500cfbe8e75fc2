"""Searching the best system, whole or without arrows."""

from __future__ import annotations

import numpy as np

from trajectory.dynamics.coupling.noise import estimate_noise
from trajectory.dynamics.coupling.problems import OWN, Array, Mask, Problems
from trajectory.dynamics.coupling.squares import Noise, Solution, solve
from trajectory.dynamics.reduced import LAG, LEVEL, SINK_TO_DRAIN, log_drive

ROUNDS = 4
"""Rounds of least squares and noise estimation."""


ENOUGH = 3e-3
"""Gains of cost not sought where only its height matters: tests reject at about 4."""


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


def first_fit(problems: Problems, free: Mask, exponent: float | None) -> Array:
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


def fit_noise(
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


def without(
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
