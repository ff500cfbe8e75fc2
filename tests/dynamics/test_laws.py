from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from trajectory.dynamics.laws import BY_NAME, LAWS, evaluate, fit

TIMES = np.geomspace(20, 5000, 30)

TRUTHS = {
    "linear": {"a": 1.0, "b": 2e-3},
    "log": {"a": -3.0, "b": 0.7},
    "shifted_log": {"a": -1.0, "b": 1.3, "τ": 250.0},
    "power": {"b": 30.0, "p": -0.44},
    "power_floor": {"a": 0.7, "b": 12.0, "p": -0.6},
    "logistic": {"a": -0.2, "b": 9.0, "τ": 300.0, "w": 0.4},
}


@pytest.mark.parametrize("name", list(BY_NAME))
def test_each_law_recovers_its_own_parameters(name: str) -> None:
    truth = TRUTHS[name]
    found = fit(BY_NAME[name], TIMES, evaluate(BY_NAME[name], truth, TIMES))
    assert found.r2 == pytest.approx(1, abs=1e-7)
    assert not found.at_bound
    for parameter, value in truth.items():
        assert found.parameters[parameter] == pytest.approx(value, rel=1e-2), parameter
    np.testing.assert_allclose(
        evaluate(found.law, found.parameters, TIMES), found.fitted, rtol=1e-8, atol=1e-8
    )


@given(st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_fits_are_no_worse_than_scipys_from_the_truth(seed: int) -> None:
    rng = np.random.default_rng(seed)
    law = BY_NAME["power_floor"]
    y = evaluate(law, TRUTHS["power_floor"], TIMES) + 0.05 * rng.standard_normal(len(TIMES))
    found = fit(law, TIMES, y)
    best, _ = curve_fit(
        lambda t, a, b, p: a + b * t**p, TIMES, y, p0=[0.7, 12, -0.6], maxfev=20_000
    )
    reference = y - (best[0] + best[1] * TIMES ** best[2])
    assert np.square(y - found.fitted).sum() <= np.square(reference).sum() * (1 + 1e-5)


def test_r2_aicc_and_lag1_by_hand() -> None:
    y = np.array([1.0, 3.0, 2.0, 5.0, 4.0, 6.0, 8.0])
    t = np.arange(1.0, 8.0)
    slope, intercept = np.polyfit(t, y, 1)
    r = y - (slope * t + intercept)
    found = fit(BY_NAME["linear"], t, y)
    assert found.parameters == pytest.approx({"a": intercept, "b": slope})
    assert found.r2 == pytest.approx(np.corrcoef(t, y)[0, 1] ** 2)
    n, k = 7, 3  # intercept, slope, variance
    expected = n * np.log((r**2).sum() / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1)
    assert found.aicc == pytest.approx(expected)
    assert found.lag1 == pytest.approx((r[1:] * r[:-1]).sum() / (r**2).sum())


def test_a_logistic_that_the_data_do_not_reach_is_at_its_bound() -> None:
    """Unsaturated data do not identify where a logistic saturates (a straight line in ln t)."""
    y = 0.2 * np.log(TIMES)
    assert fit(BY_NAME["logistic"], TIMES, y).at_bound


def test_constant_and_exact_series_do_not_break() -> None:
    for law in LAWS:
        for level in (0.0, 2.0):
            flat = fit(law, TIMES, np.full(30, level))
            assert np.isnan(flat.r2)
            assert np.isfinite(flat.aicc)


def test_input_that_has_no_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        fit(BY_NAME["log"], [0, 1, 2, 3, 4, 5, 6], np.ones(7))
    with pytest.raises(ValueError, match="logistic needs at least 7 points, not 6"):
        fit(BY_NAME["logistic"], np.arange(1, 7), np.ones(6))
