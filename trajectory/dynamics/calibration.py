"""Whether the coupled system's intervals and verdicts hold what they promise, on simulated runs.

Truths are drawn over what trained heads show; records lie where the default run has them after a
window has been cut; residuals are Ornstein–Uhlenbeck, as the fit assumes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trajectory.dynamics.coupling.fits import fit, verdict
from trajectory.dynamics.coupling.noise import draw_noise
from trajectory.dynamics.coupling.problems import Problems, Records
from trajectory.dynamics.coupling.squares import Noise
from trajectory.dynamics.reduced import DRAIN_TO_SINK, PARAMETERS, SINK_TO_DRAIN, simulate

Array = NDArray[np.float64]

RECORDS = 20
FIRST, LAST = 50.0, 600.0
"""Steps of a window in the default run's one-layer trajectories."""

LOG_KEYS = 3.5
DEVIATION = (0.15, 0.03)
LENGTH = 0.1
"""Noise: standard deviations of the two variables, correlation length in ln time."""


@dataclass(frozen=True)
class Calibration:
    """What simulated runs showed.

    Attributes:
        runs: how many.
        coverage: share of 95 % intervals that held the truth, by parameter.
        closed: share of intervals closed on both sides, by parameter.
        declared: share in which the null without arrows was rejected.
        verdicts: how often each was given.
    """

    runs: int
    coverage: dict[str, float]
    closed: dict[str, float]
    declared: float
    verdicts: dict[str, int]


def draw(runs: int, coupled: bool, rng: np.random.Generator) -> tuple[list[list[Records]], Array]:
    """Simulated runs and their parameters, shape (runs, 6).

    Args:
        runs: how many.
        coupled: whether the arrows are there.
        rng: draws truths and noise.
    """
    exponent, drop = rng.uniform(0.1, 1.0, runs), rng.uniform(0.0, 0.6, runs)
    # A loop gain A·C of 2p and more runs away in finite time.
    most = np.minimum(2.0, 1.5 * exponent / np.maximum(drop, 0.01))
    truths = np.stack(
        [
            exponent,
            rng.uniform(-0.5, most) if coupled else np.zeros(runs),
            drop if coupled else np.zeros(runs),
            np.log(rng.uniform(0.01, 0.05, runs)),
            np.log(rng.uniform(20, 300, runs)),
            rng.uniform(-0.5, 0.5, runs) if coupled else rng.uniform(-2.0, -0.5, runs),
        ],
        axis=1,
    )
    return _runs(truths, rng), truths


def _runs(truths: Array, rng: np.random.Generator) -> list[list[Records]]:
    """One noisy run of each system, from a first state of its own."""
    runs = len(truths)
    first = np.stack([rng.uniform(-0.5, 1.0, runs), rng.uniform(0.0, 0.4, runs)], axis=1)
    times = np.tile(np.geomspace(FIRST, LAST, RECORDS), (runs, 1))
    states = simulate(truths, first, times, np.full(runs, LOG_KEYS), 16)
    noise = Noise(np.tile(DEVIATION, (runs, 1)), np.full((runs, 2), LENGTH))
    states = states + draw_noise(Problems.of(_records(times, states)), noise, [rng])[:, 0]
    return _records(times, states)


def _records(times: Array, states: Array) -> list[list[Records]]:
    return [[Records(t, s[:, 0], s[:, 1], LOG_KEYS)] for t, s in zip(times, states, strict=True)]


def calibrate(runs: int, coupled: bool, seed: int, replicates: int) -> Calibration:
    """Fit simulated runs and count.

    Args:
        runs: how many.
        coupled: whether the arrows are there.
        seed: of truths, noise and the fits' own simulations.
        replicates: as in ``fit``.
    """
    groups, truths = draw(runs, coupled, np.random.default_rng(seed))
    fits = fit(groups, None, replicates, seed)
    held = (fits.low <= truths) & (truths <= fits.high)
    closed = np.isfinite(fits.low) & np.isfinite(fits.high)
    names = [p.name for p in PARAMETERS]
    return Calibration(
        runs,
        dict(zip(names, held.mean(0).tolist(), strict=True)),
        dict(zip(names, closed.mean(0).tolist(), strict=True)),
        float((fits.p_values["uncoupled"] < 0.05).mean()),
        dict(Counter(verdict(fits, i) for i in range(runs))),
    )


def power(
    runs: int, drain_to_sink: float, sink_to_drain: float, seed: int, replicates: int
) -> float:
    """Share of simulated runs with these arrows in which the null without any is rejected."""
    rng = np.random.default_rng(seed)
    _, truths = draw(runs, True, rng)
    truths[:, DRAIN_TO_SINK], truths[:, SINK_TO_DRAIN] = drain_to_sink, sink_to_drain
    fits = fit(_runs(truths, rng), None, replicates, seed)
    return float((fits.p_values["uncoupled"] < 0.05).mean())
