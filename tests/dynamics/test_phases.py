from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from scipy import stats

from trajectory.config import Dynamics
from trajectory.dynamics import ar1
from trajectory.dynamics.change import change_points, shuffled_p, step_change
from trajectory.dynamics.ending import end_value, line
from trajectory.dynamics.gates import gate_rows
from trajectory.dynamics.onset import crossing_intervals
from trajectory.dynamics.phases import difference, inner, lead_rows, onset_rows, order
from trajectory.dynamics.seeds import student
from trajectory.dynamics.series import Series, head_series, log_steps, strongest
from trajectory.dynamics.verdicts import inside

STEPS = np.array([0, *np.unique(np.geomspace(10, 3000, 30).round())])
X = log_steps(STEPS)


def covered(low: np.ndarray, truth: np.ndarray, high: np.ndarray) -> float:
    """Share of intervals with the truth inside; open ends hold everything."""
    return float((~(low > truth) & ~(high < truth)).mean())


@pytest.mark.parametrize("lag1", [0.0, 0.6])
def test_crossing_intervals_hold_the_true_crossing(lag1: float) -> None:
    rng = np.random.default_rng(1)
    at, width = rng.uniform(X[3], X[-5], 150), rng.uniform(0.1, 0.6, 150)
    mean = 0.8 / (1 + np.exp(-(X - at[:, None]) / width[:, None]))
    values = mean + ar1.simulate(rng, mean.shape, lag1, 0.03)
    truth = np.exp(at + width * math.log(0.2 / 0.6))
    changes = change_points(STEPS, values, rng)
    low, high = crossing_intervals(STEPS, values, 0.2, changes.noise, changes.lag1)
    assert covered(low, truth, high) >= 0.93
    assert np.nanmedian(high / np.maximum(low, 1)) < 4


def test_a_transient_does_not_hide_the_lasting_crossing() -> None:
    rng = np.random.default_rng(1)
    at = rng.uniform(X[14], X[-5], 150)
    mean = 0.8 / (1 + np.exp(-(X - at[:, None]) / 0.3))
    mean[:, 1:6] += np.array([1.0, 3.0, 2.0, 1.0, 0.5])
    values = mean + ar1.simulate(rng, mean.shape, 0.6, 0.03)
    truth = np.exp(at + 0.3 * math.log(0.2 / 0.6))
    changes = change_points(STEPS, values, rng)
    low, high = crossing_intervals(STEPS, values, 0.2, changes.noise, changes.lag1)
    assert covered(low, truth, high) >= 0.93
    assert np.nanmedian(high / np.maximum(low, 1)) < 4


@pytest.mark.parametrize("lag1", [0.0, 0.6])
def test_change_intervals_hold_the_start_of_a_ramp(lag1: float) -> None:
    rng = np.random.default_rng(2)
    start, width = rng.uniform(X[3], X[-10], 150), rng.uniform(0.3, 2, 150)
    mean = 0.6 * np.clip((X - start[:, None]) / width[:, None], 0, 1)
    values = mean + ar1.simulate(rng, mean.shape, lag1, 0.03)
    found = change_points(STEPS, values, rng)
    assert covered(found.low, np.exp(start), found.high) >= 0.93
    assert np.median(np.abs(found.height - 0.6)) < 0.06
    assert (found.p_value <= 0.05).mean() > 0.6


def test_a_straight_line_is_seldom_called_a_change() -> None:
    rng = np.random.default_rng(3)
    line = 0.1 * X + ar1.simulate(rng, (300, len(X)), 0.6, 0.05)
    assert (change_points(STEPS, line, rng).p_value <= 0.05).mean() <= 0.08


def test_a_noiseless_ramp_is_found_where_it_is() -> None:
    rng = np.random.default_rng(4)
    ramp = np.clip((X - X[10]) / (X[16] - X[10]), 0, 1)
    found = change_points(STEPS, ramp[None], rng)
    assert found.start[0] == pytest.approx(STEPS[10])
    assert found.end[0] == pytest.approx(STEPS[16])
    assert found.height[0] == pytest.approx(1)
    with pytest.raises(ValueError, match="at least 6 records"):
        change_points(STEPS[:5], ramp[None, :5], rng)


def test_shuffled_heads_tell_one_heads_change_from_all_heads() -> None:
    rng = np.random.default_rng(5)
    noise = 0.02 * rng.standard_normal((8, len(X)))
    alone = noise.copy()
    alone[0] += X[15] < X
    assert shuffled_p(alone, rng)[0] < 0.02
    together = noise + (X[15] < X)
    assert shuffled_p(together, rng).min() > 0.05


def test_step_change_by_hand() -> None:
    values = np.array([[0.0, 0, 1, 1], [0, 0, 0, 0]])
    np.testing.assert_allclose(step_change(values), [1.0, 0.0])  # |0 − 1|·√(2·2/4)


def onset(phenomenon: str, when: float | None, low: float | None, high: float | None) -> dict:
    return {
        "trajectory": "t",
        "domain": "d",
        "layer": 0,
        "head": 0,
        "level": "head",
        "phenomenon": phenomenon,
        "status": "not_reached" if when is None else "observed",
        "onset": when,
        "low": low,
        "high": high,
        "change_point": when,
        "change_low": low,
        "change_high": high,
        "p_change": 0.5,
    }


def test_a_null_without_an_untrained_model_is_missing_and_counted_as_none() -> None:
    """Of two suites only one has step 0; a value that no untrained head has is beyond all eight."""
    places = [(t, step, head) for t in ("with", "without") for step in (0, 10, 100, 1000)
              for head in range(8) if t == "with" or step > 0]  # fmt: skip
    frame = pl.DataFrame(
        {
            "trajectory": [t for t, _, _ in places],
            "domain": "prose",
            "step": [step for _, step, _ in places],
            "layer": 1,
            "head": [head for _, _, head in places],
            "sink_excess": [0.9 if step == 1000 else 0.001 * head for _, step, head in places],
            "value_ratio": 1.0,
            "residual_ratio": 1.0,
        }
    )
    rows = onset_rows(frame, frame.drop("head"), {}, set(), Dynamics(), np.random.default_rng(0))
    sinks = [row for row in rows if (row["phenomenon"], row["level"]) == ("sink", "head")]
    found = {(row["trajectory"], row["untrained"], row["p_initial"]) for row in sinks}
    assert found == {("with", 8, 1 / 9), ("without", 0, None)}


def test_leads_and_lags() -> None:
    rows = lead_rows([onset("sink", 100, 80, 120), onset("drain", 400, 300, 500)], 1.5)
    assert [row["event"] for row in rows] == ["crossing"]  # no change without evidence of one
    assert rows[0]["log_lag"] == pytest.approx(math.log(4))
    below, above = (math.log(400 / 300), math.log(120 / 100)), (math.log(500 / 400), math.log(0.8))
    assert rows[0]["low"] == pytest.approx(math.log(4) - math.hypot(*below))
    assert rows[0]["high"] == pytest.approx(math.log(4) + math.hypot(*above))
    assert rows[0]["order"] == "sink"
    assert lead_rows([onset("sink", 100, 80, 120), onset("drain", None, None, None)], 1.5) == []


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((100.0, 90.0, 110.0), (300.0, 250.0, 350.0), "sink"),
        ((300.0, 250.0, 350.0), (100.0, 90.0, 110.0), "drain"),
        ((100.0, 95.0, 105.0), (110.0, 100.0, 120.0), "together"),
        ((100.0, 50.0, 200.0), (110.0, 60.0, 220.0), "undecided"),
        ((100.0, None, 110.0), (300.0, 250.0, 350.0), "sink"),
        ((100.0, 90.0, None), (300.0, 250.0, 350.0), "undecided"),
        ((5.0, 0.0, 10.0), (300.0, 250.0, 350.0), "sink"),
    ],
)
def test_order_needs_the_interval(first: tuple, second: tuple, expected: str) -> None:
    assert order(*difference(first, second), "sink", "drain", 1.5) == expected


def test_gates_are_dated_against_their_sinks() -> None:
    steps = [0, 10, 20, 40, 80]
    gated = [False, False, False, True, True]
    contrasts = pl.DataFrame(
        {
            "trajectory": "m",
            "step": steps,
            "layer": 0,
            "head": 1,
            "domain": "code",
            "other_domain": "prose",
            "gated": gated,
            "log_odds_difference": [-3.0] * 5,
        }
    )
    sink = {**onset("sink", 14.1, 30.0, 70.0), "trajectory": "m", "domain": "prose", "head": 1}
    sink |= {"after_step": 10, "by_step": 20}
    (row,) = gate_rows(contrasts, [sink], 1.5)
    assert (row["status"], row["after_step"], row["by_step"]) == ("observed", 20, 40)
    assert (row["dormant_domain"], row["gated_records"], row["gated_at_end"]) == ("prose", 2, True)
    assert row["log_lag"] == pytest.approx(math.log(math.sqrt(800) / 14.1))
    assert row["low"] == pytest.approx(0)
    assert row["order"] == "undecided"
    (row,) = gate_rows(contrasts, [{**sink, "onset": 28.3, "after_step": 20, "by_step": 40}], 3)
    assert row["log_lag"] == pytest.approx(0, abs=1e-3)
    assert (row["low"], row["high"]) == (pytest.approx(-math.log(2)), pytest.approx(math.log(2)))
    assert row["order"] == "together", "both appear between the same two records"
    never = contrasts.with_columns(gated=pl.lit(False))
    (row,) = gate_rows(never, [sink], 1.5)
    assert (row["status"], row["order"], row["dormant_domain"]) == ("not_reached", "never", None)


def test_the_strongest_head_at_each_record() -> None:
    def one(head: int, steps: list[float], values: list[float]) -> Series:
        return Series("t", "d", 0, head, "x", np.array(steps), np.array(values))

    series = [one(0, [0, 1, 2], [5, 1, 1]), one(1, [1, 2], [0, 3])]
    (greatest,) = strongest(series, 1, "layer")
    assert (greatest.steps.tolist(), greatest.values.tolist()) == ([0, 1, 2], [5, 1, 3])
    (least,) = strongest(series, -1, "trajectory")
    assert least.values.tolist() == [5, 0, 1]
    assert (least.layer, least.head) == (-1, -1)


def test_series_leave_out_empty_records() -> None:
    frame = pl.DataFrame(
        {
            "trajectory": "t",
            "domain": "d",
            "layer": 0,
            "head": 0,
            "step": [2, 0, 1],
            "x": [3.0, None, 1.0],
        }
    )
    (one,) = head_series(frame, "x")
    assert (one.steps.tolist(), one.values.tolist()) == ([1, 2], [1, 3])


def test_the_end_of_a_line_with_noise_lies_in_its_interval() -> None:
    rng = np.random.default_rng(6)
    mean = 0.3 * X
    hits = 0
    for _ in range(150):
        value, low, high = end_value(STEPS, mean + ar1.simulate(rng, mean.shape, 0.6, 0.05))
        assert low is not None and high is not None
        assert low < value < high
        hits += low <= mean[-1] <= high
    assert hits / 150 >= 0.88
    assert end_value(STEPS, np.ones(len(STEPS)), (0.0, 1.0)) == pytest.approx((1, 1, 1))
    assert end_value(STEPS[:4], mean[:4]) == (mean[3], None, None)


def test_a_limit_cuts_the_interval_and_leaves_the_estimate() -> None:
    values = 0.9 + 0.1 * np.sin(5 * X)
    value, low, high = end_value(STEPS, values)
    assert high is not None and high > 1
    assert end_value(STEPS, values, (0.0, 1.0)) == (value, low, 1.0)


def test_a_fitted_end_is_none_that_no_record_came_near() -> None:
    """A curve that flattens: the straight line through its rise ends above all that it reached."""
    steps = np.geomspace(100, 1000, 20)
    late = np.array([0.3, 0.6, 0.85, 0.94, 0.94])
    values = np.concatenate([np.full(15, 0.1), late])
    assert line(np.log(steps)[-5:], late).level[0] > 1
    value, low, high = end_value(steps, values, (0.0, 1.0))
    assert low is not None and low < value == 0.94 and high == 1.0


def test_a_phenomenon_is_there_where_its_whole_interval_is() -> None:
    """The table's verdict is that of pages and claims: the last record alone decides nothing."""
    assert inside(0.3, 0.5, 0.2, None) is True
    assert inside(0.0, 0.1, 0.2, None) is False
    assert inside(0.1, 0.5, 0.2, None) is inside(None, None, 0.2, None) is None
    assert inside(0.1, 0.4, None, 0.5) is True and inside(0.6, 0.9, None, 0.5) is False


def test_a_line_without_autocorrelation_is_scipys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ar1, "GRID", np.zeros(1))
    rng = np.random.default_rng(0)
    x, y = np.arange(12.0), rng.standard_normal(12)
    slope, low, high = line(x, y).slope
    reference = stats.linregress(x, y)
    assert slope == pytest.approx(reference.slope)
    reach = stats.t.ppf(0.975, 10) * reference.stderr
    assert (low, high) == pytest.approx((slope - reach, slope + reach))


@pytest.mark.parametrize(("lag1", "least"), [(0.0, 0.93), (0.6, 0.88), (0.8, 0.76)])
@pytest.mark.parametrize("points", [8, 16])
def test_slopes_of_correlated_records_hold_the_true_one(
    points: int, lag1: float, least: float
) -> None:
    rng = np.random.default_rng(2)
    x = np.geomspace(2000, 10000, points)
    hits = 0
    for _ in range(200):
        _, low, high = line(x, 3e-3 * x + ar1.simulate(rng, x.shape, lag1)).slope
        hits += low <= 3e-3 <= high
    assert hits / 200 >= least


def test_peaks_are_looked_for_between_two_blocks() -> None:
    lasts = {"one": 1, "two": 2, "three": 3}
    rows = [(name, depth) for name, last in lasts.items() for depth in range(last + 1)]
    found = inner(pl.DataFrame(rows, schema=["trajectory", "layer"], orient="row"))
    assert found.rows() == [("two", 1), ("three", 1), ("three", 2)]


def test_student_by_hand() -> None:
    mean, low, high = student([1.0, 2.0, 3.0])
    assert (mean, low, high) == (
        2,
        pytest.approx(2 - 4.3027 / 3**0.5, abs=1e-3),
        pytest.approx(2 + 4.3027 / 3**0.5, abs=1e-3),
    )
    assert student([1.0]) == (1.0, None, None)
