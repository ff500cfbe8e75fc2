"""First-order autoregressive noise along the records of a trajectory.

The correlation is between neighbouring records whatever the steps between them: records are taken
where the curve moves (log-spaced, or dense at the onset), and what correlates neighbours is chiefly
that the curve is not exactly the law.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

GRID: Array = np.linspace(0.0, 0.95, 20)
"""Lag-1 autocorrelations that are tried; negative ones come from overfitting, not from training."""


def whiten(values: Array, lag1: Array | float) -> Array:
    """Turn AR(1) noise of unit innovations into independent noise of unit variance.

    Args:
        values: (…, n).
        lag1: autocorrelation, a scalar or (…, 1).
    """
    lag1 = np.asarray(lag1, dtype=float)
    first = np.sqrt(1 - lag1**2) * values[..., :1]
    return np.concatenate([first, values[..., 1:] - lag1 * values[..., :-1]], axis=-1)


def colour(innovations: Array, lag1: Array | float) -> Array:
    """The inverse of ``whiten``."""
    lag1 = np.broadcast_to(np.asarray(lag1, dtype=float), (*innovations.shape[:-1], 1))[..., 0]
    values = np.empty_like(innovations)
    values[..., 0] = innovations[..., 0] / np.sqrt(1 - lag1**2)
    for i in range(1, innovations.shape[-1]):
        values[..., i] = lag1 * values[..., i - 1] + innovations[..., i]
    return values


def simulate(
    rng: np.random.Generator, shape: tuple[int, ...], lag1: Array | float, sd: Array | float = 1.0
) -> Array:
    """Stationary Gaussian AR(1) noise of standard deviation ``sd``, records along the last axis."""
    lag1 = np.asarray(lag1, dtype=float)
    noise = colour(rng.standard_normal(shape) * np.sqrt(1 - lag1**2), lag1)
    scaled: Array = noise * sd
    return scaled


def deviance(residual: Array, lag1: Array | float, points: int) -> Array:
    """−2 ln likelihood, up to a constant, with the noise's variance at its maximum.

    Args:
        residual: sum of squares of the whitened residuals.
        lag1: autocorrelation, broadcast against ``residual``.
        points: records.
    """
    value: Array = points * np.log(residual / points) - np.log1p(-np.square(lag1))
    return value
