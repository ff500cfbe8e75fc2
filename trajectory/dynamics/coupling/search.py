"""Searching the best system, whole or without arrows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trajectory.dynamics.coupling.noise import estimate_noise
from trajectory.dynamics.coupling.problems import OWN, Array, Mask, Problems
from trajectory.dynamics.coupling.squares import Noise, Solution, solve
from trajectory.dynamics.reduced import DRAIN_TO_SINK, LAG, LEVEL, SHARED, SINK_TO_DRAIN, log_drive

Tested = tuple[int, ...]
"""Parameters that are held at given values together."""


BOTH: Tested = (DRAIN_TO_SINK, SINK_TO_DRAIN)


NULLS: dict[str, Tested] = {
    "no_drain_to_sink": (DRAIN_TO_SINK,),
    "no_sink_to_drain": (SINK_TO_DRAIN,),
    "uncoupled": BOTH,
}
"""Which arrows each null has taken out."""


SINGLE = ("no_drain_to_sink", "no_sink_to_drain")
"""Nulls of one arrow each."""


FIRST_VALUE = SHARED + OWN - 1
"""The first member's first log value ratio."""


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


def fit_all(
    problems: Problems, free: Mask, exponent: float | None
) -> tuple[Solution, Noise, dict[str, Solution]]:
    """The full system, its noise and its nulls; where a null fits better, the search goes on there.

    So the full system, too, is never worse than any null.
    """
    full, noise = fit_noise(problems, first_fit(problems, free, exponent), free, ROUNDS)
    for left in reversed(range(ROUNDS)):
        nulls = without_arrows(problems, noise, full, free)
        starts = [full.parameters, *(nulls[name].parameters for name in SINGLE)]
        better = least(problems, noise, starts, free)
        rows = np.flatnonzero(better.cost < full.cost - ENOUGH)
        if not (left and len(rows)):
            break
        part, renoise = fit_noise(
            problems.take(rows), better.parameters[rows], free[rows], ROUNDS, noise.take(rows)
        )
        full, noise = full.put(rows, part), noise.put(rows, renoise)
    return better, noise, nulls


def least(
    problems: Problems,
    noise: Noise,
    starts: Sequence[Array],
    free: Mask,
    iterations: int = 40,
    enough: float = 0.0,
) -> Solution:
    """The best of the searches from each of ``starts``, so never worse than any of them."""
    total = len(problems.times)
    rows = np.tile(np.arange(total), len(starts))
    found = solve(
        problems.take(rows),
        noise.take(rows),
        np.concatenate(starts),
        free[rows],
        iterations,
        enough,
    )
    best = found.cost.reshape(len(starts), total).argmin(0)
    return found.take(best * total + np.arange(total))


def without_arrows(
    problems: Problems, noise: Noise, full: Solution, free: Mask
) -> dict[str, Solution]:
    """The best system of each null.

    Each is searched from the full one and from rest, and from the others where they bear on it:
    without arrows the two equations separate, so the sink's is taken from the null without the one
    and the value's from that without the other; and what fits without both fits without one. So no
    null fits worse than one with less.
    """
    first = {name: _without(problems, noise, full, free, name) for name in NULLS}
    apart = first["no_drain_to_sink"].parameters.copy()
    apart[:, SINK_TO_DRAIN] = 0
    for own in (LAG, LEVEL, FIRST_VALUE):
        apart[:, own::OWN] = first["no_sink_to_drain"].parameters[:, own::OWN]

    def again(null: str, start: Array) -> Solution:
        starts = [first[null].parameters, start]
        return least(problems, noise, starts, holding(free, NULLS[null]))

    uncoupled = again("uncoupled", apart)
    single = {name: again(name, uncoupled.parameters) for name in SINGLE}
    return {**single, "uncoupled": uncoupled}


def holding(free: Mask, tested: Tested) -> Mask:
    """What may move while ``tested`` are held."""
    held = free.copy()
    held[:, list(tested)] = False
    return held


def _without(problems: Problems, noise: Noise, full: Solution, free: Mask, null: str) -> Solution:
    """The system of a null, searched from the full one and from rest."""
    arrows = NULLS[null]
    near = full.parameters.copy()
    near[:, list(arrows)] = 0
    if SINK_TO_DRAIN in arrows:  # the attractor no longer moves: let it stand where the value ends
        last = np.maximum(problems.present.sum(2) - 1, 0)
        ends = np.take_along_axis(problems.states[..., 1], last[..., None], 2)[..., 0]
        near[:, LEVEL::OWN] = ends
    far = near.copy()
    length = problems.times[:, :, -1] - problems.times[:, :, 0] + 1e-12
    far[:, LAG::OWN] = np.log(0.3 * length)
    return least(problems, noise, [near, far], holding(free, arrows))
