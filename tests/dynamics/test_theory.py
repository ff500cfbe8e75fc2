"""The simplified model against closed forms, finite differences and a second solver."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import approx_fprime

from trajectory.dynamics.flow import Descent, descend, gradient_flow, integrate
from trajectory.dynamics.mean_field import MeanField
from trajectory.dynamics.theory import (
    Array,
    SimplifiedModel,
    late_sink_logit,
    residual_spread,
    spread,
    stationary_value,
)

KEYS = 16


def plateaus(model: SimplifiedModel) -> Array:
    """W³ / (π_v Var_v): how long the sink logit waits with an empty value. Shape (queries,)."""
    with np.errstate(divide="ignore"):
        return np.asarray(model.keys**3 / (model.frequencies * spread(model)))


def drained_sink_logit(model: SimplifiedModel, time: float) -> Array:
    """½ ln t + ½ ln(2 π_v κ_v), the value having cancelled the mean context. Shape (queries,)."""
    return np.asarray(0.5 * np.log(2 * time * model.frequencies * residual_spread(model)))


def flow_of(field: MeanField, a: float, beta: float, times: Array) -> Array:
    """(a, β) at ``times`` from time 0, shape (2, times)."""
    return integrate(
        lambda _, z: np.stack(field.speed(z[0], z[1])), None, np.array([a, beta]), times, 1e-9
    ).T


def make(seed: int, queries: int = 6, tokens: int = 6, contexts: int = 1) -> SimplifiedModel:
    """Random laws with full support; contexts of ``KEYS`` drawn tokens with random values."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(2, 8, tokens)
    if contexts == 1:
        drawn = KEYS * rng.dirichlet(np.full(tokens, 4.0))[None]
    else:
        drawn = rng.multinomial(KEYS, np.full(tokens, 1 / tokens), contexts).astype(float)
    return SimplifiedModel(
        rng.dirichlet(np.ones(tokens), queries),
        rng.dirichlet(np.full(queries, 5.0)),
        drawn * values,
        np.full(contexts, 1 / contexts),
        KEYS,
    )


def slope(y: np.ndarray, x: np.ndarray) -> float:
    return float(np.polyfit(x, y, 1)[0])


def direct_loss(model: SimplifiedModel, alpha: np.ndarray, beta: np.ndarray) -> float:
    """The definition, one query and context at a time."""
    total = 0.0
    for pi, law, a in zip(model.frequencies, model.laws, alpha, strict=True):
        for weight, context in zip(model.weights, model.contexts, strict=True):
            attention = np.exp(a) / (np.exp(a) + model.keys)
            tilted = law * np.exp(attention * beta + context / (np.exp(a) + model.keys))
            tilted /= tilted.sum()
            total += pi * weight * (law * np.log(law / tilted)).sum()
    return total


@given(st.integers(0, 500), st.sampled_from([1, 4]))
@settings(max_examples=10, deadline=None)
def test_loss_gradient_and_hessian(seed: int, contexts: int) -> None:
    model = make(seed, 4, 5, contexts)
    rng = np.random.default_rng(seed)
    state = rng.normal(0, 1.5, 9)
    assert model.loss(state[:4], state[4:]) == pytest.approx(
        direct_loss(model, state[:4], state[4:]), rel=1e-9
    )
    expected = approx_fprime(state, lambda z: model.loss(z[:4], z[4:]), 1e-6)
    found = np.concatenate(model.gradient(state[:4], state[4:]))
    np.testing.assert_allclose(found, expected, atol=2e-5)
    second = model.hessian(state[:4], state[4:])
    np.testing.assert_allclose(second, second.T, atol=1e-12)
    for i in range(9):
        nudge = 1e-5 * np.eye(9)[i]
        ahead, behind = (np.concatenate(model.gradient(z[:4], z[4:]))
                         for z in (state + nudge, state - nudge))  # fmt: skip
        np.testing.assert_allclose(second[i], (ahead - behind) / 2e-5, atol=1e-6)


def test_a_law_with_zeros_has_no_infinite_loss() -> None:
    model = SimplifiedModel(np.eye(3), np.full(3, 1 / 3), np.ones((1, 3)), np.ones(1), 4.0)
    assert model.loss(np.zeros(3), np.array([5.0, -5, 0])) == 0
    assert np.isinf(plateaus(model)).all()


def test_held_value_grows_the_sink_by_half_a_logarithm() -> None:
    """Theorem (a): slope ½ and the offset, after the plateau."""
    model = make(0)
    times = np.geomspace(1e9, 1e12, 20)
    found = gradient_flow(model, np.zeros(6), np.zeros(6), times, "value")
    for v in range(6):
        assert slope(found.alpha[:, v], np.log(times)) == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(found.alpha[-1], late_sink_logit(model, times)[-1], atol=0.01)


def test_plateau_times_say_when_the_sink_takes_off() -> None:
    """Small contexts: α' = π Var e^α/(e^α+W)³ exactly, which integrates in closed form."""
    large = make(1)
    model = replace(large, contexts=large.contexts / 50)
    waits = plateaus(model)
    times = np.geomspace(waits.min() / 100, waits.max() * 100, 4000)
    start = -2.0
    found = gradient_flow(model, np.full(6, start), np.zeros(6), times, "value")

    def waited(u: float) -> float:
        return u**2 / 2 + 3 * KEYS * u + 3 * KEYS**2 * np.log(u) - KEYS**3 / u

    expected = waits * (waited(KEYS) - waited(np.exp(start))) / KEYS**3
    for v in range(6):
        crossing = np.exp(np.interp(np.log(KEYS), found.alpha[:, v], np.log(times)))
        assert crossing == pytest.approx(expected[v], rel=0.03)


def test_held_sink_drains_the_value_by_its_exponential() -> None:
    """Theorem (b): β → c − e^−a E X, zero loss, and the drain exponent −1."""
    model = make(2)
    norms, sinks = [], np.array([3.0, 5.0, 7.0])
    start = np.random.default_rng(0).normal(0, 1, 6)
    for sink in sinks:
        alpha = np.full(6, sink)
        found = gradient_flow(model, alpha, start, [1e4], "sink")
        expected = stationary_value(model, sink, start.mean())
        np.testing.assert_allclose(found.beta[-1], expected, atol=1e-5)
        assert model.loss(alpha, found.beta[-1]) < 1e-10
        norms.append(found.value_norm()[-1])
    assert slope(np.log(norms), sinks) == pytest.approx(-1, abs=0.002)


@given(st.integers(0, 500), st.floats(-2, 6), st.floats(-3, 3))
@settings(max_examples=20, deadline=None)
def test_stationary_points_have_zero_loss_and_no_slope(
    seed: int, alpha: float, level: float
) -> None:
    model = make(seed)
    beta = stationary_value(model, alpha, level)
    assert beta.mean() == pytest.approx(level, abs=1e-9)
    everywhere = np.full(6, alpha)
    assert model.loss(everywhere, beta) == pytest.approx(0, abs=1e-12)
    for part in model.gradient(everywhere, beta):
        np.testing.assert_allclose(part, 0, atol=1e-10)


def test_one_context_stops_the_sink_and_makes_the_logits_equal() -> None:
    """Both flow, every context the same: α converges to one finite value and the loss to zero."""
    model = make(3)
    rng = np.random.default_rng(3)
    times = np.geomspace(1, 1e9, 60)
    found = gradient_flow(model, rng.normal(0, 1, 6), rng.normal(0, 1, 6), times)
    losses = found.losses(model)
    assert losses[-1] < 1e-8
    assert (np.diff(losses) <= 1e-12).all(), "a gradient flow descends"
    assert found.alpha[-1].std() < 1e-3 < found.alpha[0].std()
    late = times > 1e7
    assert slope(found.sink(model)[late], np.log(times[late])) == pytest.approx(0, abs=1e-3)


def test_random_contexts_bring_the_half_powers_back() -> None:
    """½, −½ and −1, and the offset ½ ln(2 π_v κ_v): no value cancels every context."""
    model = make(4, contexts=24)
    times = np.geomspace(1e7, 1e10, 30)
    rng = np.random.default_rng(4)
    found = gradient_flow(model, rng.normal(0, 1, 6), rng.normal(0, 0.1, 6), times)
    sink, value = found.sink(model), np.log(found.value_norm())
    assert slope(sink, np.log(times)) == pytest.approx(0.5, abs=0.02)
    assert slope(value, np.log(times)) == pytest.approx(-0.5, abs=0.02)
    assert slope(value, sink) == pytest.approx(-1, abs=0.02)
    np.testing.assert_allclose(found.alpha[-1], drained_sink_logit(model, times[-1]), atol=0.1)


def test_spreads_are_variances() -> None:
    model = make(5, contexts=7)
    for v, law in enumerate(model.laws):
        mean = model.mean_context
        assert spread(model)[v] == pytest.approx(np.cov(mean, aweights=law, ddof=0))
        rest = [np.cov(x - mean, aweights=law, ddof=0) for x in model.contexts]
        assert residual_spread(model)[v] == pytest.approx(np.mean(rest))


def test_descent_with_a_small_step_follows_the_flow() -> None:
    model = make(6, contexts=3)
    start = np.full(6, 1.0), np.linspace(-1, 1, 6)
    steps = np.array([0, 50, 200])
    taken = descend(model, *start, steps, Descent("gd", 0.01), np.random.default_rng(0))
    flow = gradient_flow(model, *start, np.maximum(steps, 1e-9) * 0.01)
    np.testing.assert_allclose(taken.alpha, flow.alpha, atol=2e-3)
    np.testing.assert_allclose(taken.beta, flow.beta, atol=2e-3)


def test_drawn_gradients_average_to_the_gradient() -> None:
    model = make(7, contexts=3)
    alpha, beta = np.full(6, 1.0), np.linspace(-1, 1, 6)
    one = descend(model, alpha, beta, [0, 1], Descent("gd", 1.0, 400_000), np.random.default_rng(1))
    along, toward = model.gradient(alpha, beta)
    np.testing.assert_allclose(one.alpha[0] - one.alpha[1], along, atol=1e-3)
    np.testing.assert_allclose(one.beta[0] - one.beta[1], toward, atol=5e-3)


def test_adam_outruns_the_flow_and_drains_the_value() -> None:
    """Adam's slope exceeds the gradient flow's ½ per ln t, and its first step is the rate."""
    model = make(8, contexts=16)
    rng = np.random.default_rng(0)
    start = rng.normal(0, 1, 6), rng.normal(0, 1, 6)
    steps = np.unique(np.geomspace(1, 1500, 40).round().astype(int))
    found = descend(model, *start, np.append(0, steps), Descent("adam", 0.01, 256), rng)
    np.testing.assert_allclose(np.abs(found.alpha[1] - found.alpha[0]), 0.01, rtol=1e-3)
    late = steps > 300
    assert slope(found.sink(model)[1:][late], np.log(steps[late])) > 0.6
    assert found.value_norm()[-1] < 0.5 * found.value_norm()[0]


def test_the_mean_field_is_the_model_to_second_order() -> None:
    """Two tokens, one query type: m = p(1−p) for the difference of the two values."""
    law, difference, spread_of = 0.3, 0.02, 0.01
    contexts = KEYS * np.array([[difference + spread_of, 0], [difference - spread_of, 0]])
    model = SimplifiedModel(np.array([[law, 1 - law]]), np.ones(1), contexts, np.full(2, 0.5), KEYS)
    curvature = law * (1 - law)
    field = MeanField(curvature, difference, spread_of * np.sqrt(curvature), KEYS)
    for a, beta in ((0.0, 0.03), (3.0, -0.01), (6.0, 0.001)):
        exact = model.loss(np.array([a]), np.array([beta, 0.0]))
        assert field.loss(a, beta) == pytest.approx(exact, rel=0.02)
        along, toward = model.gradient(np.array([a]), np.array([beta, 0.0]))
        sink, value = field.speed(a, beta)
        assert sink == pytest.approx(-along[0], rel=0.03)
        assert value == pytest.approx(-toward[0], rel=0.03)


def test_the_mean_fields_limit_and_a_second_solver() -> None:
    field = MeanField(stiffness=0.7, mean=0.4, residual=0.5, keys=32)
    times = np.geomspace(1e6, 1e10, 12)
    a, beta = flow_of(field, 0.0, 0.5, times)
    # The value follows the sink: a = ½ ln(2σ²t) + ln W, β = −μ W e^−a.
    late_a = 0.5 * np.log(2 * times * field.residual**2) + np.log(field.keys)
    late_beta = -field.mean * field.keys * np.exp(-late_a)
    np.testing.assert_allclose(a, late_a, atol=0.01)
    np.testing.assert_allclose(beta / late_beta, 1, atol=0.01)
    early = np.linspace(1, 200, 9)
    reference = solve_ivp(
        lambda _, z: field.speed(z[0], z[1]), (0, 200), [0.0, 0.5],
        method="DOP853", t_eval=early, rtol=1e-10, atol=1e-12,
    )  # fmt: skip
    np.testing.assert_allclose(flow_of(field, 0.0, 0.5, early), reference.y, atol=1e-6)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit together"):
        SimplifiedModel(np.eye(3), np.ones(2) / 2, np.ones((1, 3)), np.ones(1), 4.0)
    with pytest.raises(ValueError, match="sum to 1"):
        SimplifiedModel(np.eye(2), np.ones(2), np.ones((1, 2)), np.ones(1), 4.0)
