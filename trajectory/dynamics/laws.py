"""Competing curves for one statistic over training steps, fitted by least squares.

Each curve is linear in two coefficients once its one or two shape parameters are fixed, so only
those are searched (variable projection): a grid over their bounds, then a bounded local search
from the best cells. This is a description of curves; uncertainty and autocorrelation-aware
comparison are separate concerns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

Array = NDArray[np.float64]

GRID = 9
"""Starting values per shape parameter."""

STARTS = 3
"""Grid cells from which the local search starts."""

NEAR_BOUND = 1e-3
"""A shape parameter this close to its bound, relative to the bound's range, counts as on it."""


@dataclass(frozen=True)
class Law:
    """y = a + b·g(t; shape), or y = b·g(t; shape) where ``offset`` is False.

    Attributes:
        name: the curve's name.
        formula: for people.
        shape: g, from times and shape parameters to values.
        parameters: names of the shape parameters.
        bounds: bounds of each, from the times fitted.
        logarithmic: whether the shape parameters are positive and searched by their logarithm.
        offset: whether a is free.
    """

    name: str
    formula: str
    shape: Callable[..., Array]
    parameters: tuple[str, ...] = ()
    bounds: Callable[[Array], list[tuple[float, float]]] = lambda t: []
    logarithmic: bool = False
    offset: bool = True

    @property
    def size(self) -> int:
        """Number of free parameters."""
        return 1 + self.offset + len(self.parameters)


def _exponents(_: Array) -> list[tuple[float, float]]:
    return [(-3.0, 3.0)]


def _times(t: Array) -> tuple[float, float]:
    """A time scale lies between a tenth of the first time and ten times the last."""
    return float(t[0] / 10), float(t[-1] * 10)


LAWS: tuple[Law, ...] = (
    Law("linear", "a + b·t", lambda t: t),
    Law("log", "a + b·ln t", np.log),
    Law(
        "shifted_log",
        "a + b·ln(1 + t/τ)",
        lambda t, tau: np.log1p(t / tau),
        ("τ",),
        lambda t: [_times(t)],
        logarithmic=True,
    ),
    Law("power", "b·t^p", lambda t, p: t**p, ("p",), _exponents, offset=False),
    Law("power_floor", "a + b·t^p", lambda t, p: t**p, ("p",), _exponents),
    Law(
        "logistic",
        "a + b/(1 + (t/τ)^(−1/w))",
        lambda t, tau, w: 1 / (1 + np.exp(-np.clip(np.log(t / tau) / w, -500, 500))),
        ("τ", "w"),
        lambda t: [_times(t), (0.02, 3.0)],
        logarithmic=True,
    ),
)


BY_NAME = {law.name: law for law in LAWS}


@dataclass(frozen=True)
class Fit:
    """One law fitted to one series.

    Attributes:
        law: which.
        parameters: a (if free), b and the shape parameters by name.
        fitted: the curve at the fitted times.
        r2: 1 − residual / total sum of squares; NaN for a constant series.
        aicc: corrected Akaike criterion, residuals taken as independent Gaussian.
        lag1: lag-1 autocorrelation of the residuals; NaN if they vanish.
        at_bound: a shape parameter ended on its bound.
    """

    law: Law
    parameters: dict[str, float]
    fitted: Array
    r2: float
    aicc: float
    lag1: float
    at_bound: bool


def fit(law: Law, times: ArrayLike, values: ArrayLike) -> Fit:
    """Fit ``law`` by least squares.

    Args:
        law: the curve.
        times: ascending positive times.
        values: the statistic at each.

    Raises:
        ValueError: if a time is not positive, or there are no more points than the AICc of this
            law needs (its parameters, the noise's variance, and two).
    """
    t, y = np.asarray(times, dtype=float), np.asarray(values, dtype=float)
    if len(t) == 0 or t[0] <= 0:
        raise ValueError("times must be positive")
    if len(t) < law.size + 3:
        raise ValueError(f"{law.name} needs at least {law.size + 3} points, not {len(t)}")
    forward, backward = (np.log, np.exp) if law.logarithmic else (np.asarray, np.asarray)
    bounds = [(float(forward(low)), float(forward(high))) for low, high in law.bounds(t)]
    scale = float(np.sqrt(t[0] * t[-1]))
    # Powers of raw steps span twenty decades; the coefficient b is rescaled at the end.
    unit = t / scale if "p" in law.parameters else t

    def project(shape: ArrayLike) -> tuple[float, Array, Array]:
        """Residual sum of squares, coefficients and curve for fixed shape parameters."""
        g = law.shape(unit, *backward(np.atleast_1d(shape)))
        design = np.column_stack([np.ones_like(g), g]) if law.offset else g[:, None]
        coefficients, *_ = np.linalg.lstsq(design, y, rcond=None)
        curve = design @ coefficients
        return float(np.square(y - curve).sum()), coefficients, curve

    shape = np.array([])
    if bounds:
        axes = [np.linspace(low, high, GRID) for low, high in bounds]
        cells = sorted(product(*axes), key=lambda cell: project(cell)[0])[:STARTS]
        runs = [
            minimize(lambda s: project(s)[0], cell, method="L-BFGS-B", bounds=bounds)
            for cell in cells
        ]
        shape = min((run for run in runs), key=lambda run: run.fun).x
    residual, coefficients, curve = project(shape)
    b = float(coefficients[-1])
    named = dict(zip(law.parameters, map(float, backward(shape)), strict=True))
    if "p" in named:
        b *= scale ** -named["p"]
    parameters = ({"a": float(coefficients[0])} if law.offset else {}) | {"b": b} | named
    total = float(np.square(y - y.mean()).sum())
    return Fit(
        law,
        parameters,
        curve,
        1 - residual / total if total > 0 else float("nan"),
        _aicc(residual, len(y), law.size + 1, y),
        _lag1(y - curve),
        any(
            min(value - low, high - value) < NEAR_BOUND * (high - low)
            for value, (low, high) in zip(shape, bounds, strict=True)
        ),
    )


def evaluate(law: Law, parameters: dict[str, float], times: ArrayLike) -> Array:
    """The curve with these parameters at ``times``."""
    t = np.asarray(times, dtype=float)
    g = law.shape(t, *(parameters[name] for name in law.parameters))
    curve: Array = parameters.get("a", 0.0) + parameters["b"] * g
    return curve


def _aicc(residual: float, points: int, parameters: int, y: Array) -> float:
    # An exact fit would give −∞: residuals below rounding of the data carry no information.
    rounding = max(float(np.finfo(float).eps * np.abs(y).max()), 1e-150)
    floor = points * rounding**2
    likelihood = points * np.log(max(residual, floor) / points)
    correction = 2 * parameters * (parameters + 1) / (points - parameters - 1)
    return float(likelihood + 2 * parameters + correction)


def _lag1(residuals: Array) -> float:
    centred = residuals - residuals.mean()
    power = float(np.square(centred).sum())
    return float((centred[1:] * centred[:-1]).sum() / power) if power > 0 else float("nan")
