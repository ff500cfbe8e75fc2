"""The coupled system against a second solver, dense covariances and simulated truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import least_squares
from scipy.stats import f as fisher

from trajectory.dynamics.calibration import calibrate
from trajectory.dynamics.coupling.fits import NULLS, Fits, fit, verdict
from trajectory.dynamics.coupling.noise import draw_noise, estimate_noise
from trajectory.dynamics.coupling.problems import Problems, Records
from trajectory.dynamics.coupling.squares import Noise, solve, whiten
from trajectory.dynamics.reduced import (
    DRAIN_TO_SINK,
    EXPONENT,
    LAG,
    LEVEL,
    PARAMETERS,
    SINK_TO_DRAIN,
    SPEED,
    SUBSTEPS,
    simulate,
    speeds,
)
from trajectory.dynamics.theory import MeanField

KEYS = 3.5
TRUTH = np.array([0.5, 1.0, 0.35, np.log(0.03), np.log(80.0), 0.1])
FIRST = np.array([0.0, 0.2])


def records(
    noise: float, seed: int = 0, times: np.ndarray | None = None, truth: np.ndarray = TRUTH
) -> Records:
    """One run of the system with white noise; the value's is a fifth of the sink's."""
    times = np.geomspace(50, 600, 20) if times is None else times
    states = simulate(truth[None], FIRST[None], times[None], np.array([KEYS]), 32)[0]
    states = states + np.random.default_rng(seed).normal(0, [noise, noise / 5], states.shape)
    return Records(times, states[:, 0], states[:, 1], KEYS)


@given(
    st.floats(0.2, 1.5), st.floats(-1, 1), st.floats(-0.2, 0.3), st.floats(0.005, 0.05),
    st.floats(2, 500),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_the_integrator_against_scipys(
    p: float, drain: float, sink: float, speed: float, lag: float
) -> None:
    truth = np.array([p, drain, sink, np.log(speed), np.log(lag), 0.1])
    times = np.geomspace(50, 600, 20)
    found = simulate(truth[None], FIRST[None], times[None], np.array([KEYS]), 64)[0]
    reference = solve_ivp(
        lambda _, z: speeds(truth, z[0], z[1], np.array(KEYS)), (50, 600), FIRST,
        method="LSODA", t_eval=times, rtol=1e-9, atol=1e-10,
    )  # fmt: skip
    np.testing.assert_allclose(found, reference.y.T, atol=2e-3)


def test_few_substeps_are_enough_for_fitted_curves() -> None:
    times = np.geomspace(50, 600, 20)[None]
    coarse, fine = (
        simulate(TRUTH[None], FIRST[None], times, np.array([KEYS]), n) for n in (SUBSTEPS, 64)
    )
    assert np.abs(coarse - fine).max() < 0.015


def test_the_value_relaxes_exactly_where_the_sink_stands_still() -> None:
    truth = np.array([0.0, 0.0, 0.5, -30.0, np.log(40.0), -1.0])
    times = np.array([[10.0, 25.0, 100.0]])
    found = simulate(truth[None], np.array([[2.0, 0.3]]), times, np.array([KEYS]), 1)[0]
    rest = -1.0 - 0.5 * 2.0
    np.testing.assert_allclose(found[:, 1], rest + (0.3 - rest) * np.exp(-(times[0] - 10) / 40))


def test_the_theory_is_one_of_these_systems() -> None:
    """Late in the gradient flow of random contexts p = 1 and the value's attractor falls by C = 1.

    With the value cancelled, a' = s(1−s)²σ² is the drive itself, and the value rests where
    β = −(1−s)μ/s, which is b = ln(Wμ) − a.
    """
    field = MeanField(stiffness=1.0, mean=0.3, residual=0.4, keys=32)
    for a in (2.0, 4.0, 6.0):
        rest = np.log(field.keys * field.mean) - a
        sink, value = field.speed(a, -np.exp(rest))
        truth = np.array([1.0, 0.0, 1.0, np.log(4 / 27 * 0.4**2), 0.0, np.log(32 * 0.3)])
        rise, fall = speeds(truth, np.array(a), np.array(rest), np.array(np.log(32)))
        assert rise == pytest.approx(float(sink))
        assert fall == pytest.approx(0, abs=1e-12)
        assert value == pytest.approx(0, abs=1e-12)


def dense(series: Records, deviation: float, length: float) -> np.ndarray:
    u = np.log(series.times)
    return deviation**2 * np.exp(-np.abs(u[:, None] - u) / length)


def test_whitening_is_the_inverse_covariance() -> None:
    """With gaps of any size, padding, and a length and deviation of each variable's own."""
    series = [records(0.1, times=t) for t in (np.array([3.0, 4, 9, 50]), np.array([2.0, 7]))]
    problems = Problems.of([series])
    noise = Noise(np.array([[0.2, 0.5]]), np.array([[0.3, 1.1]]))
    residuals = np.random.default_rng(0).normal(size=problems.states.shape)
    found = np.square(whiten(problems, noise, residuals)).sum()
    expected = 0.0
    for j, one in enumerate(series):
        for v in (0, 1):
            r = residuals[0, j, : len(one.times), v]
            matrix = dense(one, noise.deviation[0, v], noise.length[0, v])
            expected += r @ np.linalg.solve(matrix, r)
    assert found == pytest.approx(expected)


def test_drawn_noise_has_the_covariance() -> None:
    series = records(0.1, times=np.array([3.0, 4, 9, 50]))
    problems = Problems.of([[series]]).take(np.zeros(40_000, dtype=np.int64))
    noise = Noise(np.full((40_000, 2), 0.5), np.full((40_000, 2), 0.7))
    drawn = draw_noise(problems, noise, [np.random.default_rng(0)])[:, 0, :, 0]
    np.testing.assert_allclose(np.cov(drawn.T), dense(series, 0.5, 0.7), atol=0.01)


def test_noise_is_estimated_without_bias() -> None:
    clean = Problems.of([[records(0.0)]]).take(np.zeros(100, dtype=np.int64))
    noise = Noise(np.full((100, 2), 0.1), np.full((100, 2), 0.16))
    noisy = Problems(
        clean.times, clean.states + draw_noise(clean, noise, [np.random.default_rng(1)]),
        clean.present, clean.log_keys,
    )  # fmt: skip
    free = np.ones((100, noisy.size), dtype=bool)
    start = np.tile(np.concatenate([TRUTH, FIRST]), (100, 1))
    found = solve(noisy, noise, start, free, 20)
    for _ in range(3):
        noise = estimate_noise(noisy, found, noise, free)
    assert np.sqrt(np.square(noise.deviation).mean(0)) == pytest.approx(0.1, rel=0.15)


def test_exact_records_give_their_parameters_back() -> None:
    found = fit([[records(1e-4)]], replicates=8)
    np.testing.assert_allclose(found.full.parameters[0, :6], TRUTH, atol=0.02)
    assert (found.determination() > 0.9999).all()
    assert verdict(found, 0) == "mutual"
    assert (found.low[0] <= found.full.parameters[0, :6]).all()
    assert (found.full.parameters[0, :6] <= found.high[0]).all()


def test_an_interval_ends_where_the_profile_says() -> None:
    """SciPy's least squares with the parameter held at the end: the cost is up by F × factor."""
    series = records(0.1, 3)
    found = fit([[series]], replicates=8)
    noise, start = found.noise, found.full.parameters[0]
    freedom = int(found.freedom[0])

    def residuals(parameters: np.ndarray) -> np.ndarray:
        error = found.problems.predict(parameters[None]) - found.problems.states
        return whiten(found.problems, noise, error).ravel()

    least = least_squares(residuals, start, x_scale="jac")
    assert 2 * least.cost == pytest.approx(found.full.cost[0], rel=1e-3)
    for parameter in (EXPONENT, SINK_TO_DRAIN, SPEED):
        for end in (found.low[0, parameter], found.high[0, parameter]):
            others = np.delete(np.arange(len(start)), parameter)

            def held(
                z: np.ndarray, others: np.ndarray = others, p: int = parameter, end: float = end
            ) -> np.ndarray:
                full = start.copy()
                full[others], full[p] = z, end
                return residuals(full)

            best = least_squares(held, start[others], x_scale="jac")
            rise = (2 * best.cost - found.full.cost[0]) / (found.full.cost[0] / freedom)
            factor = found.factors[parameter,][0]
            assert rise == pytest.approx(fisher.ppf(0.95, 1, freedom) * factor, rel=0.06)


def test_a_given_exponent_is_kept() -> None:
    found = fit([[records(0.05)]], exponent=1.0, replicates=8)
    assert found.full.parameters[0, EXPONENT] == 1.0
    assert found.low[0, EXPONENT] == found.high[0, EXPONENT] == 1.0


def test_seeds_together_know_more_than_one() -> None:
    """Three runs with speeds of their own share the law."""
    runs = []
    for k, speed in enumerate((0.02, 0.03, 0.05)):
        truth = TRUTH.copy()
        truth[SPEED] = np.log(speed)
        runs.append(records(0.15, k, truth=truth))
    together, alone = fit([runs], replicates=8), fit([[r] for r in runs], replicates=8)
    for arrow in (DRAIN_TO_SINK, SINK_TO_DRAIN):
        width = together.high[0, arrow] - together.low[0, arrow]
        assert width < np.median(alone.high[:, arrow] - alone.low[:, arrow])
        assert together.low[0, arrow] <= TRUTH[arrow] <= together.high[0, arrow]
    mixed = fit([runs, runs[:2]], replicates=8)  # of different sizes: padded
    np.testing.assert_allclose(
        mixed.full.parameters[0, :3], together.full.parameters[0, :3], atol=2e-3
    )


def test_what_is_not_there_is_not_declared() -> None:
    """In small what ``benchmarks/coupling_calibration.py`` shows in full."""
    null = calibrate(12, coupled=False, seed=2, replicates=20)
    assert null.declared <= 2 / 12
    assert np.mean(list(null.coverage.values())) >= 0.85
    coupled = calibrate(12, coupled=True, seed=2, replicates=20)
    assert coupled.declared >= 0.6
    assert np.mean(list(coupled.coverage.values())) >= 0.85
    assert set(coupled.coverage) == {p.name for p in PARAMETERS}


@pytest.fixture(scope="module")
def few() -> Fits:
    """Sixty runs of nine records each: their least squares have several valleys."""
    times = np.geomspace(50, 600, 9)
    return fit([[records(1.0, seed, times)] for seed in range(60)], replicates=8)


def test_nulls_hold_their_arrows_at_nothing_and_fit_no_better_than_with_them(few: Fits) -> None:
    for name, arrows in NULLS.items():
        assert (few.nulls[name].parameters[:, list(arrows)] == 0).all()
        assert ((few.p_values[name] >= 0) & (few.p_values[name] <= 1)).all()
    for name in ("no_drain_to_sink", "no_sink_to_drain"):
        assert (few.full.cost <= few.nulls[name].cost).all()
        assert (few.nulls[name].cost <= few.nulls["uncoupled"].cost).all()


def jumping(seed: int) -> Records:
    """A sink that is there within one record, its value falling on."""
    rng, times = np.random.default_rng(seed), np.geomspace(100, 2000, 18)
    sink = np.where(times < 125, 0, 3.0) + rng.normal(0, 0.8, 18)
    value = -2 + 1.5 * np.exp(-(times - 100) / 300) + rng.normal(0, 0.08, 18)
    return Records(times, sink, value, 2.85)


def test_without_arrows_the_curves_are_fitted_as_if_alone() -> None:
    """The two equations then separate: SciPy finds the same least squares curve by curve."""
    found = fit([[jumping(8)]], replicates=2)
    low, high = (bound[0] for bound in found.problems.bounds())
    total = 0.0
    for variable, own in ((0, (EXPONENT, SPEED, 6)), (1, (LAG, LEVEL, 7))):
        costs = []
        for lag in (10.0, 100.0, 1000.0):
            start = np.array([0.5, 0, 0, np.log(3 / lag), np.log(lag), -2, 0, -0.5])

            def left(z: np.ndarray, start: np.ndarray = start, own: tuple = own,
                     variable: int = variable) -> np.ndarray:  # fmt: skip
                moved = start.copy()
                moved[list(own)] = z
                error = found.problems.predict(moved[None]) - found.problems.states
                return whiten(found.problems, found.noise, error)[..., variable].ravel()

            ends = low[list(own)], high[list(own)]
            costs.append(2 * least_squares(left, start[list(own)], bounds=ends, x_scale="jac").cost)
        total += min(costs)
    assert found.nulls["uncoupled"].cost[0] == pytest.approx(total, rel=0.01)


def test_small_samples_need_no_more_than_a_small_factor(few: Fits) -> None:
    """Where a search with a parameter held at the truth got stuck, factors reached hundreds."""
    assert max(factor.max() for factor in few.factors.values()) < 10


def test_what_a_group_gets_does_not_depend_on_the_groups_beside_it() -> None:
    """A p-value near the level must not turn with what else was measured."""
    group = [records(0.1, seed=4)]
    others = [records(0.1, seed=5, times=np.geomspace(50, 600, 27)), records(0.1, seed=6)]
    alone = fit([group], replicates=8)
    among = fit([others, group], replicates=8)
    for tested, factor in among.factors.items():
        assert factor[1] == pytest.approx(alone.factors[tested][0], rel=1e-3), tested
    for name, p_value in alone.p_values.items():
        assert among.p_values[name][1] == pytest.approx(p_value[0], rel=1e-2, abs=1e-12), name
    for end in ("low", "high"):
        np.testing.assert_allclose(
            getattr(among, end)[1], getattr(alone, end)[0, : among.problems.reported],
            rtol=1e-2, atol=1e-3,
        )  # fmt: skip


def test_intervals_agree_with_the_tests_of_nothing(few: Fits) -> None:
    """Few, noisy records have several valleys; a profile searched from one may miss the others."""
    for name, (arrow,) in (pair for pair in NULLS.items() if len(pair[1]) == 1):
        kept = few.p_values[name] >= 0.05
        assert kept.any()
        assert (few.low[kept, arrow] < 0).all(), "an end at 0 would count as an arrow"
        assert (few.high[kept, arrow] > 0).all()


def test_parameters_keep_to_their_bounds() -> None:
    """A sink that gets ever faster asks for a negative exponent."""
    times = np.geomspace(50, 600, 20)
    found = fit([[Records(times, 1e-7 * times**3, -0.001 * times, KEYS)]], replicates=8)
    low, high = found.problems.bounds()
    assert (found.full.parameters >= low).all()
    assert (found.full.parameters <= high).all()
    assert found.full.parameters[0, EXPONENT] < 0.1
    assert 0 <= found.low[0, EXPONENT] <= found.high[0, EXPONENT]
    assert np.isfinite(found.full.parameters[0, [LAG, LEVEL]]).all()


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a trajectory"):
        fit([])
    with pytest.raises(ValueError, match="positive"):
        fit([[Records(np.array([0.0, 1, 2]), np.zeros(3), np.zeros(3), KEYS)]])
