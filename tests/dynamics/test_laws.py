from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from trajectory.dynamics.fitting import design, fit, least_points
from trajectory.dynamics.laws import BY_NAME, LAWS, Law, evaluate
from trajectory.dynamics.squares import orthonormal, solve
from trajectory.dynamics.uncertainty import closed, lag1_weights, profile
from trajectory.errors import TrajectoryError

TIMES = np.geomspace(20, 5000, 30)

TRUTHS = {
    "linear": {"a": 1.0, "b": 2e-3},
    "log": {"a": -3.0, "b": 0.7},
    "sqrt_log": {"a": -3.0, "b": 0.7},
    "shifted_log": {"a": -1.0, "b": 1.3, "τ": 250.0},
    "power": {"b": 30.0, "p": -0.44},
    "power_floor": {"a": 0.7, "b": 12.0, "p": -0.6},
    "logistic": {"a": -0.2, "b": 9.0, "τ": 300.0, "w": 0.4},
    "log_time": {"A": 3.0, "λ": 0.15, "γ": 0.01, "t0": 1.5, "K": 2.0},
}


def formula(law: Law, p: dict[str, float]) -> np.ndarray:
    """Each law written out once more, from its formula."""
    t = TIMES
    x = p.get("γ", 0) * t + p.get("t0", 0)
    return {
        "linear": lambda: p["a"] + p["b"] * t,
        "log": lambda: p["a"] + p["b"] * np.log(t),
        "sqrt_log": lambda: p["a"] + p["b"] * np.sqrt(np.log(t)),
        "shifted_log": lambda: p["a"] + p["b"] * np.log(1 + t / p["τ"]),
        "power": lambda: p["b"] * t ** p["p"],
        "power_floor": lambda: p["a"] + p["b"] * t ** p["p"],
        "logistic": lambda: p["a"] + p["b"] / (1 + (t / p["τ"]) ** (-1 / p["w"])),
        "log_time": lambda: p["A"] * np.exp(-p["λ"] * x) * np.log(x) + p["K"],
    }[law.name]()


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_each_law_recovers_its_own_parameters(law: Law) -> None:
    truth = TRUTHS[law.name]
    values = formula(law, truth)
    np.testing.assert_allclose(evaluate(law, truth, TIMES), values, rtol=1e-12)
    found = fit(law, TIMES, values[None])
    assert not found.at_bound[0]
    for parameter, value in truth.items():
        assert found.parameters[parameter][0] == pytest.approx(value, rel=1e-2), parameter
    np.testing.assert_allclose(found.fitted[0], values, rtol=1e-5, atol=1e-6)
    named = {name: found.parameters[name][0] for name in law.parameters}
    np.testing.assert_allclose(evaluate(law, named, TIMES), found.fitted[0], rtol=1e-6, atol=1e-8)


STARTS = {
    "power": ([25, -0.4], lambda t, b, p: b * t**p),
    "power_floor": ([0.7, 12, -0.6], lambda t, a, b, p: a + b * t**p),
    "shifted_log": ([-1, 1.3, 250], lambda t, a, b, tau: a + b * np.log1p(t / abs(tau))),
    "logistic": (
        [-0.2, 9, 300, 0.4],
        lambda t, a, b, tau, w: a + b / (1 + (t / abs(tau)) ** (-1 / w)),
    ),
}


@given(st.integers(0, 1000), st.sampled_from(sorted(STARTS)))
@settings(max_examples=20, deadline=None)
def test_without_autocorrelation_fits_are_no_worse_than_scipys_from_the_truth(
    seed: int, name: str
) -> None:
    """A second implementation, started where it must do well."""
    law = BY_NAME[name]
    truth = evaluate(law, TRUTHS[name], TIMES)
    noise = 0.02 * np.ptp(truth) * np.random.default_rng(seed).standard_normal(len(TIMES))
    found = fit(law, TIMES, (truth + noise)[None], np.zeros(1))
    start, curve = STARTS[name]
    best, _ = curve_fit(curve, TIMES, truth + noise, p0=start, maxfev=20_000)
    reference = float(np.square(truth + noise - curve(TIMES, *best)).sum())
    assert float(found.residual[0]) <= reference * (1 + 1e-5)


def test_quick_fits_agree_with_thorough_ones() -> None:
    rng = np.random.default_rng(0)
    for law in LAWS:
        truth = evaluate(law, TRUTHS[law.name], TIMES)
        values = truth + 0.03 * np.ptp(truth) * rng.standard_normal((20, len(TIMES)))
        lag1 = np.full(20, 0.5)
        slow, quick = (
            fit(law, TIMES, values, lag1, thorough=thorough) for thorough in (True, False)
        )
        assert np.median(quick.residual / slow.residual) < 1.0005, law.name
        assert (quick.residual / slow.residual).max() < 1.02, law.name


def test_the_likelihood_is_that_of_the_dense_covariance() -> None:
    """AR(1) written out as an n × n matrix, generalised least squares by its inverse."""
    rng = np.random.default_rng(1)
    values = 2 + 0.5 * np.log(TIMES) + 0.1 * rng.standard_normal(len(TIMES)).cumsum()
    found = fit(BY_NAME["log"], TIMES, values[None])
    x = np.column_stack([np.ones_like(TIMES), np.log(TIMES)])
    n = len(TIMES)

    def dense(rho: float) -> tuple[float, np.ndarray]:
        place = np.arange(n)
        covariance = rho ** np.abs(place[:, None] - place) / (1 - rho**2)
        inverse = np.linalg.inv(covariance)
        beta = np.linalg.solve(x.T @ inverse @ x, x.T @ inverse @ values)
        rest = values - x @ beta
        residual = float(rest @ inverse @ rest)
        return n * np.log(residual / n) + float(np.linalg.slogdet(covariance)[1]), beta

    deviance, beta = dense(float(found.lag1[0]))
    assert found.deviance[0] == pytest.approx(deviance)
    assert [found.parameters["a"][0], found.parameters["b"][0]] == pytest.approx(beta.tolist())
    assert deviance <= min(dense(rho)[0] for rho in np.linspace(0, 0.95, 20)) + 1e-9
    count = 4  # two coefficients, the noise's variance and autocorrelation
    expected = deviance + 2 * count + 2 * count * (count + 1) / (n - count - 1)
    assert found.aicc[0] == pytest.approx(expected)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_least_squares_against_numpy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = [rng.standard_normal((3, 12)) for _ in range(3)]
    values = rng.standard_normal((3, 12))
    residual, coefficients = solve(columns, values)
    for i in range(3):
        matrix = np.column_stack([column[i] for column in columns])
        best, rest, *_ = np.linalg.lstsq(matrix, values[i], rcond=None)
        assert residual[i] == pytest.approx(float(rest[0]))
        assert [c[i] for c in coefficients] == pytest.approx(best.tolist())


def test_a_column_without_a_direction_of_its_own_gets_no_coefficient() -> None:
    one = np.ones((1, 5))
    basis, _ = orthonormal([one, 2 * one])
    assert not basis[1].any()
    residual, coefficients = solve([one, 2 * one], np.arange(5.0)[None])
    assert residual[0] == pytest.approx(10)
    assert (coefficients[0][0], coefficients[1][0]) == (pytest.approx(2), 0)


def test_a_logistic_that_the_data_do_not_reach_is_not_identified() -> None:
    """Unsaturated data do not identify where a logistic saturates (a straight line in ln t)."""
    rng = np.random.default_rng(2)
    values = 0.2 * np.log(TIMES) + 0.01 * rng.standard_normal((5, len(TIMES)))
    found = fit(BY_NAME["logistic"], TIMES, values, np.zeros(5))
    assert not closed(*profile(found, values, lag1_weights(found, values)), 5).any()


def test_constant_series_do_not_break() -> None:
    for law in LAWS:
        flat = fit(law, TIMES, np.array([[0.0] * 30, [2.0] * 30]))
        assert np.isfinite(flat.aicc).all()
        np.testing.assert_allclose(flat.fitted, [[0.0] * 30, [2.0] * 30], atol=1e-6)


def nowhere(value: float) -> np.ndarray:
    """Two series, the second without a number at the fifth of seven steps."""
    values = np.ones((2, 7))
    values[1, 4] = value
    return values


@pytest.mark.parametrize(
    ("law", "times", "values", "told"),
    [
        ("log", np.arange(7.0), np.ones((1, 7)), "step 0"),
        ("log", np.array([1.0, 3, 2, 4, 5, 6, 7]), np.ones((1, 7)), "ascend"),
        ("logistic", np.arange(1.0, 7), np.ones((1, 6)), "6 records, and it needs at least 8"),
        ("log", np.array([]), np.ones((1, 0)), "0 records"),
        ("log", np.arange(1.0, 8), nowhere(np.nan), "series 1 has the value nan at step 5"),
        ("log", np.arange(1.0, 8), nowhere(np.inf), "series 1 has the value inf at step 5"),
        ("log", np.arange(1.0, 8), np.ones(7), "values[None]"),
    ],
)
def test_input_that_has_no_fit_is_refused_in_one_line(
    law: str, times: np.ndarray, values: np.ndarray, told: str
) -> None:
    with pytest.raises(TrajectoryError) as refused:
        fit(BY_NAME[law], times, values)
    assert law in str(refused.value) and told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_law_needs_two_records_more_than_its_and_the_noises_parameters() -> None:
    assert least_points(BY_NAME["log_time"]) == 9


def test_designs_of_a_grid_and_of_single_shapes_agree() -> None:
    shapes = np.array([[5.0, -1.0], [6.0, 0.5]])
    together = design(BY_NAME["logistic"], TIMES, shapes)[1]
    for i in range(2):
        np.testing.assert_allclose(design(BY_NAME["logistic"], TIMES, shapes[i])[1], together[i])
