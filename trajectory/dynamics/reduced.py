"""The reduced system: sink log-odds and log value ratio, each in the other's equation.

With a the sink's log-odds above the floor of uniform attention, b the log value ratio, s = 1/(1 +
W e^−a) the weight on the sink and τ the time of the training run:

    da/dτ = e^k · g(a)^p · e^(−A b),   g = (27/4) s (1−s)²
    db/dτ = (B − C a − b) / e^T

``docs/coupling.md`` derives it from the gradient flow of the simplified model. A and C are the two
arrows. Everything here works on many systems at once, one per row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Parameter:
    """A parameter of the reduced system.

    Attributes:
        name: its column in the tables.
        symbol: as in the equations.
        meaning: what it is.
        unit: its unit; "time" is the system's own.
        theory: its value in the gradient flow of random contexts, where there is one.
    """

    name: str
    symbol: str
    meaning: str
    unit: str
    theory: float | None = None


PARAMETERS = (
    Parameter("exponent", "p", "optimiser exponent on the sink's drive", "", 1.0),
    Parameter("drain_to_sink", "A", "e-folds of the sink's speed per e-fold of drained value", ""),
    Parameter(
        "sink_to_drain",
        "C",
        "e-folds by which the value's attractor falls per nat of sink log-odds",
        "1/nats",
        1.0,
    ),
    Parameter(
        "log_speed", "k", "log of the sink's greatest speed at an undrained value", "ln(nats/time)"
    ),
    Parameter("log_lag", "T", "log of the time by which the value lags its attractor", "ln(time)"),
    Parameter("level", "B", "log value ratio at which the value rests without a sink", ""),
)

EXPONENT, DRAIN_TO_SINK, SINK_TO_DRAIN, SPEED, LAG, LEVEL = range(len(PARAMETERS))

SHARED = 3
"""The first three are the law, which trajectories of a group share; speeds are each one's own."""

SUBSTEPS = 3
"""Steps of the integrator between two records. More would move a curve of twenty records over a
decade by a tenth of the noise that trained heads show, or less."""

_LOG_PEAK = float(np.log(27 / 4))
_FARTHEST = 200.0
"""Nats below even odds at which the drive is as good as none."""

_FASTEST = 6.0
"""Nats the sink may gain in one substep: a search that strays must stay finite."""


def log_drive(a: Array, log_keys: Array) -> Array:
    """ln g(a): 0 where s = 1/3, −∞ at both ends."""
    x = np.maximum(a - log_keys, -_FARTHEST)
    return _LOG_PEAK - 2 * x - 3 * np.log1p(np.exp(-x))


def speeds(parameters: Array, a: Array, b: Array, log_keys: Array) -> tuple[Array, Array]:
    """(da/dτ, db/dτ).

    Args:
        parameters: shape (..., 6), in the order of ``PARAMETERS``.
        a, b: the state, broadcastable against parameters' leading shape.
        log_keys: ln W.
    """
    p, drain, sink, k, lag, level = np.moveaxis(parameters, -1, 0)
    rise = np.exp(k + p * log_drive(a, log_keys) - drain * b)
    return rise, (level - sink * a - b) * np.exp(-lag)


def simulate(
    parameters: Array,
    first: Array,
    times: Array,
    log_keys: Array,
    substeps: int = SUBSTEPS,
) -> Array:
    """States of many systems at irregular times.

    The sink takes steps of Heun's method; the value, linear in itself, is solved exactly for an
    attractor that moves linearly within the step, so that a value with no lag costs nothing.

    Args:
        parameters: shape (systems, 6).
        first: (a, b) at the first time. Shape (systems, 2).
        times: ascending along each row. Shape (systems, records).
        log_keys: ln W. Shape (systems,).
        substeps: steps between two records.

    Returns:
        shape (systems, records, 2).
    """
    p, drain, sink, k, lag, level = parameters.T
    a, b = first[:, 0], first[:, 1]
    states = np.empty((*times.shape, 2))
    states[:, 0] = first
    spans = np.diff(times, axis=1) / substeps
    decays = np.clip(spans * np.exp(-lag)[:, None], 1e-12, 700.0)
    kept = np.exp(-decays)
    mean = -np.expm1(-decays) / decays
    longest = np.log(_FASTEST / np.maximum(spans, 1e-300))

    def rise(a: Array, b: Array, cap: Array) -> Array:
        return np.exp(np.minimum(k + p * log_drive(a, log_keys) - drain * b, cap))

    for record in range(times.shape[1] - 1):
        h, cap = spans[:, record], longest[:, record]
        keep, flat, ramp = kept[:, record], mean[:, record] - kept[:, record], 1 - mean[:, record]
        for _ in range(substeps):
            target = level - sink * a
            start = rise(a, b, cap)
            ahead = a + h * start
            b_ahead = b * keep + target * flat + (level - sink * ahead) * ramp
            a = a + 0.5 * h * (start + rise(ahead, b_ahead, cap))
            b = b * keep + target * flat + (level - sink * a) * ramp
        states[:, record + 1, 0] = a
        states[:, record + 1, 1] = b
    return states
