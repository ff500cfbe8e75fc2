"""Collapses whose scales and quality are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajectory.dynamics.alignment import STEP, Curve, _Grid, collapse, judge


def rise(x: np.ndarray) -> np.ndarray:
    """A shape with features at three scales: a dip, a jump, a slow rise."""
    return 1 / (1 + np.exp(-4 * x)) + 0.15 * x - 0.4 * np.exp(-((x + 1.5) ** 2) * 4)


def curves(shifts: list[float], stretch: list[float], noise: float, seed: int) -> list[Curve]:
    rng = np.random.default_rng(seed)
    made = []
    for shift, size in zip(shifts, stretch, strict=True):
        axis = shift + np.sort(rng.uniform(-4, 4, 40))
        made.append(Curve(axis, size * rise(axis - shift) + rng.normal(0, noise, 40)))
    return made


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=6), st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_known_shifts_are_found(shifts: list[float], seed: int) -> None:
    found = collapse(curves(shifts, [1.0] * len(shifts), 0.01, seed), "time")
    centred = np.array(shifts) - np.mean(shifts)
    np.testing.assert_allclose(found.shifts - found.shifts.mean(), centred, atol=0.2)
    assert found.score > 0.97


def test_amplitudes_need_their_own_rescaling() -> None:
    made = curves([0, 1, 2], [1.0, 3.0, 0.5], 0.01, 0)
    time, both = collapse(made, "time"), collapse(made, "time_and_amplitude")
    assert time.score < 0.7
    assert both.score > 0.95
    ratio = both.amplitudes / both.amplitudes[0]
    np.testing.assert_allclose(ratio, [1, 3, 0.5], rtol=0.1)
    for i, curve in enumerate(made):
        scaled = (curve.values - both.offsets[i]) / both.amplitudes[i]
        on = np.interp(curve.axis - both.shifts[i], both.grid, both.common)
        assert np.abs(scaled - on).mean() < 0.1


def test_without_rescaling_nothing_is_moved() -> None:
    made = curves([0, 1, 2], [1.0] * 3, 0.01, 0)
    found = collapse(made, "none")
    assert (found.shifts == 0).all()
    assert found.score < collapse(made, "time").score
    same = collapse(curves([0, 0, 0], [1.0] * 3, 0.0, 1), "none")
    assert same.score > 0.98


def test_the_null_tells_a_common_shape_from_any_rise() -> None:
    rng = np.random.default_rng(0)
    common = judge(curves([0, 1, 2, 3], [1.0] * 4, 0.03, 3), "time_and_amplitude", 39, 20, rng)
    assert common.p_value <= 0.05
    assert common.low is not None and common.high is not None
    assert common.low <= common.collapse.score <= common.high
    shapes = [np.cumsum(rng.exponential(1, 40) ** 3) for _ in range(4)]
    own = [Curve(np.linspace(0, 5, 40), s / s[-1]) for s in shapes]
    assert judge(own, "time", 39, 20, rng).p_value > 0.05


def test_scale_intervals_hold_the_truth() -> None:
    held = []
    for seed in range(6):
        shifts = [0.0, 0.7, -0.9, 0.2]
        made = curves(shifts, [1.0] * 4, 0.1, seed)
        found = judge(made, "time", 19, 60, np.random.default_rng(seed))
        centre = found.collapse.shifts.mean() - np.mean(shifts)
        held += [
            low <= true + centre <= high
            for (low, high), true in zip(found.intervals, shifts, strict=True)
        ]
        assert all(high - low >= STEP * 0.99 for low, high in found.intervals)
    assert np.mean(held) >= 0.8


def test_two_trajectories_have_no_jackknife() -> None:
    found = judge(curves([0, 1], [1, 1], 0.01, 0), "time", 19, 20, np.random.default_rng(0))
    assert found.low is None
    assert found.without == []


def test_what_cannot_be_collapsed_is_refused() -> None:
    with pytest.raises(ValueError, match="two trajectories"):
        collapse([Curve(np.arange(3.0), np.arange(3.0))], "time")
    flat = Curve(np.ones(3), np.arange(3.0))
    with pytest.raises(ValueError, match="cover 0.1 of ln axis"):
        collapse([flat, flat], "time")
    short = Curve(np.linspace(0, STEP / 2, 3), np.arange(3.0))
    with pytest.raises(ValueError, match="cover 0.1 of ln axis"):
        collapse([short, short], "time")


@pytest.mark.parametrize("linear", [False, True])
def test_losses_at_every_shift_are_the_unexplained_variances(linear: bool) -> None:
    """Against one shift after the other, computed as defined."""
    rng = np.random.default_rng(4)
    curves = [Curve(np.linspace(0, 3, 20) + k, 50 + rng.normal(size=20).cumsum()) for k in (0, 2)]
    grid = _Grid(curves)
    common = grid.values[1]
    first, last = grid.spans[0]
    seen = grid.values[0, first:last]
    found = grid._losses(0, common, linear)
    for k, shift in enumerate(range(-grid.reach, grid.reach + 1)):
        places = np.clip(np.arange(first, last) - shift, 0, len(common) - 1)
        under = common[places]
        if linear:
            slope = max(np.cov(under, seen, bias=True)[0, 1], 0) / max(under.var(), 1e-12)
            under = seen.mean() + slope * (under - under.mean())
        assert found[k] == pytest.approx(np.square(seen - under).mean(), abs=1e-9), shift
