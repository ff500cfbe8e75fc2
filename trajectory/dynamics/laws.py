"""Competing curves for one statistic over training steps.

Every curve is linear in one to three coefficients once its at most two shape parameters are fixed,
so only those are searched (variable projection, ``fitting``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

LARGEST_LOG_SCALE = 300.0
"""ln γ of the five-parameter law is kept within ± this, so that its factors stay finite."""


@dataclass(frozen=True)
class Law:
    """One curve.

    Attributes:
        name: the curve's name.
        formula: for people.
        parameters: names in the formula.
        shape: names of those that enter non-linearly in the form that is fitted; all of them are
            positive and searched by their logarithm, except an exponent ``p``.
        columns: from times (n,), the unit of time that powers are taken in, and shape parameters
            (…, 1) each to the columns of the design matrix, (…, n) or (n,).
        named: from coefficients (one array (…) per column), shape parameters (…) and that unit to
            the formula's parameters.
        curve: the formula.
        bounds: of each shape parameter, from the ascending times.
    """

    name: str
    formula: str
    parameters: tuple[str, ...]
    shape: tuple[str, ...]
    columns: Callable[..., list[Array]]
    named: Callable[[list[Array], list[Array], float], dict[str, Array]]
    curve: Callable[..., Array]
    bounds: Callable[[Array], list[tuple[float, float]]]

    @property
    def size(self) -> int:
        """Number of free parameters of the curve."""
        return len(self.parameters)

    @property
    def logarithmic(self) -> tuple[bool, ...]:
        """Which shape parameters are searched by their logarithm."""
        return tuple(name != "p" for name in self.shape)


def _ones(t: Array) -> Array:
    return np.ones_like(t)


def unit_of(times: Array) -> float:
    """Geometric mean of the times: powers of raw steps would span twenty decades."""
    return float(np.exp(np.log(times).mean()))


def _times(t: Array) -> tuple[float, float]:
    """A time scale lies between a tenth of the first time and ten times the last."""
    return float(t[0] / 10), float(t[-1] * 10)


def _line(name: str, formula: str, g: Callable[[Array], Array]) -> Law:
    """y = a + b·g(t)."""
    return Law(
        name,
        formula,
        ("a", "b"),
        (),
        lambda t, unit: [_ones(t), g(t)],
        lambda c, s, unit: {"a": c[0], "b": c[1]},
        lambda t, a, b: a + b * g(t),
        lambda t: [],
    )


def _box_cox(t: Array, unit: float, p: Array) -> Array:
    """(u^p − 1)/p with u = t/unit: passes smoothly through ln u at p = 0."""
    u = np.log(t / unit)
    return np.where(np.abs(p) < 1e-9, u, np.expm1(p * u) / np.where(p == 0, 1.0, p))


def _power_floor(c: list[Array], s: list[Array], unit: float) -> dict[str, Array]:
    p = np.where(np.abs(s[0]) < 1e-9, 1e-9, s[0])
    return {"a": c[0] - c[1] / p, "b": c[1] / p * unit**-p, "p": p}


def _sigmoid(t: Array, tau: Array, w: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(np.log(t / tau) / w, -500, 500)))


def _log_time(c: list[Array], s: list[Array], unit: float) -> dict[str, Array]:
    """From K + e^{−κt}(c₁ + c₂ ln(t + σ)) to the published form."""
    kappa, shift = s
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.nan_to_num(c[1] / c[2], nan=LARGEST_LOG_SCALE, posinf=np.inf, neginf=-np.inf)
    gamma = np.exp(np.clip(ratio, -LARGEST_LOG_SCALE, LARGEST_LOG_SCALE))
    decay = np.exp(np.minimum(kappa * shift, 2 * LARGEST_LOG_SCALE))
    return {
        "A": c[2] * decay,
        "λ": kappa / gamma,
        "γ": gamma,
        "t0": gamma * shift,
        "K": c[0],
    }


def _log_time_curve(
    t: Array, height: Array, decay: Array, rate: Array, shift: Array, level: Array
) -> Array:
    x = rate * t + shift
    return level + height * np.exp(-decay * x) * np.log(x)


LAWS: tuple[Law, ...] = (
    _line("linear", "a + b·t", lambda t: t),
    _line("log", "a + b·ln t", np.log),
    _line("sqrt_log", "a + b·√(ln t)", lambda t: np.sqrt(np.log(np.maximum(t, 1.0)))),
    Law(
        "shifted_log",
        "a + b·ln(1 + t/τ)",
        ("a", "b", "τ"),
        ("τ",),
        lambda t, unit, tau: [_ones(t), np.log1p(t / tau)],
        lambda c, s, unit: {"a": c[0], "b": c[1], "τ": s[0]},
        lambda t, a, b, tau: a + b * np.log1p(t / tau),
        lambda t: [_times(t)],
    ),
    Law(
        "power",
        "b·t^p",
        ("b", "p"),
        ("p",),
        lambda t, unit, p: [np.exp(p * np.log(t / unit))],
        lambda c, s, unit: {"b": c[0] * unit ** -s[0], "p": s[0]},
        lambda t, b, p: b * t**p,
        lambda t: [(-3.0, 3.0)],
    ),
    Law(
        "power_floor",
        "a + b·t^p",
        ("a", "b", "p"),
        ("p",),
        lambda t, unit, p: [_ones(t), _box_cox(t, unit, p)],
        _power_floor,
        lambda t, a, b, p: a + b * t**p,
        lambda t: [(-3.0, 3.0)],
    ),
    Law(
        "logistic",
        "a + b/(1 + (t/τ)^(−1/w))",
        ("a", "b", "τ", "w"),
        ("τ", "w"),
        lambda t, unit, tau, w: [_ones(t), _sigmoid(t, tau, w)],
        lambda c, s, unit: {"a": c[0], "b": c[1], "τ": s[0], "w": s[1]},
        lambda t, a, b, tau, w: a + b * _sigmoid(t, tau, w),
        lambda t: [_times(t), (0.02, 3.0)],
    ),
    Law(
        "log_time",
        "K + A·e^(−λx)·ln x, x = γt + t0",
        ("A", "λ", "γ", "t0", "K"),
        ("κ", "σ"),
        lambda t, unit, kappa, shift: [
            _ones(t),
            np.exp(-kappa * t),
            np.exp(-kappa * t) * np.log(t + shift),
        ],
        _log_time,
        _log_time_curve,
        lambda t: [(float(0.01 / t[-1]), float(3 / t[0])), _times(t)],
    ),
)

BY_NAME = {law.name: law for law in LAWS}

CONTAINED: Mapping[str, frozenset[str]] = {
    "shifted_log": frozenset({"log", "linear"}),
    "power_floor": frozenset({"power", "log", "linear"}),
    "logistic": frozenset({"log", "power", "power_floor", "linear"}),
    "log_time": frozenset({"log", "shifted_log", "linear"}),
}
"""Simpler laws that a law holds as a special or limiting case: a fit cannot exclude it by them."""


def evaluate(law: Law, parameters: Mapping[str, ArrayLike], times: ArrayLike) -> Array:
    """The curve with these parameters at positive ``times``."""
    t = np.asarray(times, dtype=float)
    values: Array = np.asarray(law.curve(t, *(parameters[name] for name in law.parameters)))
    return values
