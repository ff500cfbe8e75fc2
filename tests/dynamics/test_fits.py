from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from typer.testing import CliRunner

from trajectory.cli import app
from trajectory.dynamics import ar1
from trajectory.dynamics.compare import MARGIN, holdout_errors, verdicts
from trajectory.dynamics.fits import law_rows, windows
from trajectory.dynamics.fitting import fit
from trajectory.dynamics.laws import BY_NAME, LAWS, evaluate
from trajectory.dynamics.seeds import seed_rows
from trajectory.dynamics.series import Series
from trajectory.dynamics.uncertainty import (
    bootstrap,
    lag1_weights,
    profile,
    quantiles,
    stationary_indices,
)
from trajectory.errors import TrajectoryError
from trajectory.schemas import CHECKPOINTS, CLAIMS
from trajectory.schemas import LAWS as TABLE
from trajectory.tables import from_rows, read, validate, write

TIMES = np.geomspace(20, 20_000, 40)
NAMES = [law.name for law in LAWS]


def simulated(name: str, truth: dict[str, float], count: int, noise: float) -> np.ndarray:
    curve = evaluate(BY_NAME[name], truth, TIMES)
    rng = np.random.default_rng(len(name))
    shape = (count, len(TIMES))
    found: np.ndarray = curve + ar1.simulate(rng, shape, 0.6, noise * float(np.ptp(curve)))
    return found


def test_verdicts_by_hand() -> None:
    far = MARGIN + 1
    laws = ["log", "shifted_log", "power"]
    aicc = np.array(
        [
            [0, 2, far],  # shifted_log holds log as a limit: it cannot exclude it
            [2, 0, far],  # but log is a rival of the richer law
            [far, 0, far],
            [0, 2, 1],  # power is another law
            [0, 2, far],
        ]
    )
    errors = np.full((5, 3), 1.0)
    errors[4, 2] = 0.3  # predicts late records much better than the best fit does
    assert verdicts(laws, aicc, errors).tolist() == [
        ["named", "plausible", "excluded"],
        ["plausible", "plausible", "excluded"],
        ["excluded", "named", "excluded"],
        ["plausible", "plausible", "plausible"],
        ["plausible", "plausible", "excluded"],
    ]


@pytest.mark.parametrize(
    ("name", "truth"),
    [
        ("log", {"a": 1.0, "b": 0.5}),
        ("logistic", {"a": 0.3, "b": 1.0, "τ": 700.0, "w": 0.35}),
        ("power_floor", {"a": 0.4, "b": 9.0, "p": -0.7}),
    ],
)
def test_the_true_family_is_named_or_none_is(name: str, truth: dict[str, float]) -> None:
    values = simulated(name, truth, 60, 0.005)
    aicc = np.stack([fit(law, TIMES, values).aicc for law in LAWS], -1)
    held = np.stack([holdout_errors(n, TIMES, values) for n in NAMES], -1)
    named = verdicts(NAMES, aicc, held) == "named"
    right = named[:, NAMES.index(name)].mean()
    assert right >= 0.6
    assert named.any(-1).mean() - right <= 0.05


def test_holdout_errors_are_those_of_the_last_quarter() -> None:
    values = 2 + 0.5 * np.log(TIMES)
    values[-10:] += 0.3
    assert holdout_errors("log", TIMES, values[None])[0] == pytest.approx(0.3, abs=1e-6)
    assert np.isnan(holdout_errors("log_time", TIMES[:10], values[None, :10]))[0]


@pytest.mark.parametrize("name", ["log", "power"])
def test_bootstrap_intervals_hold_the_truth(name: str) -> None:
    truth = {"log": {"a": 1.0, "b": 0.5}, "power": {"b": 30.0, "p": -0.4}}[name]
    values = simulated(name, truth, 150, 0.03)
    free = fit(BY_NAME[name], TIMES, values)
    weights = lag1_weights(free, values)
    fits = fit(BY_NAME[name], TIMES, values, ar1.GRID[weights.argmax(-1)])
    low, high = bootstrap(fits, values, weights, 100, np.random.default_rng(0))
    for parameter, value in truth.items():
        covered = ((low[parameter] <= value) & (value <= high[parameter])).mean()
        assert 0.89 <= covered <= 0.995, (parameter, covered)


def test_profile_intervals_are_those_of_a_dense_scan() -> None:
    """With a known autocorrelation; the noise's two parameters cost degrees of freedom."""
    law = BY_NAME["shifted_log"]
    values = simulated("shifted_log", {"a": 0.0, "b": 1.0, "τ": 500.0}, 5, 0.02)
    fits = fit(law, TIMES, values, np.full(5, ar1.GRID[12]))
    low, high = profile(fits, values, np.tile(np.arange(len(ar1.GRID)) == 12, (5, 1)).astype(float))
    scan = np.geomspace(TIMES[0] / 10, TIMES[-1] * 10, 20_000)
    rho = ar1.GRID[12]
    for i in range(5):
        y = ar1.whiten(values[i], rho)
        one = ar1.whiten(np.ones_like(TIMES), rho)
        g = ar1.whiten(np.log1p(TIMES / scan[:, None]), rho)
        # Residual of y on (1, g) for every τ at once, by the 2 × 2 normal equations.
        a, b, c = one @ one, g @ one, np.square(g).sum(-1)
        p, q = one @ y, g @ y
        rest = y @ y - (c * p**2 - 2 * b * p * q + a * q**2) / (a * c - b**2)
        kept = scan[rest <= rest.min() * (1 + stats.f.ppf(0.95, 1, 35) / 37)]
        assert low["τ"][i] == pytest.approx(kept[0], rel=0.03)
        assert high["τ"][i] == pytest.approx(kept[-1], rel=0.03)


@pytest.mark.parametrize(("name", "shape"), [("shifted_log", "τ"), ("power_floor", "p")])
def test_profile_intervals_hold_the_truth_where_the_noise_is_correlated(
    name: str, shape: str
) -> None:
    """At the likeliest autocorrelation alone they held it in 83 to 90 % of such short series."""
    truth = {
        "shifted_log": {"a": -1.0, "b": 1.3, "τ": 250.0},
        "power_floor": {"a": 0.7, "b": 12.0, "p": -0.6},
    }[name]
    times = np.geomspace(20, 5000, 16)
    curve = evaluate(BY_NAME[name], truth, times)
    noise = ar1.simulate(np.random.default_rng(0), (400, 16), 0.6, 0.03 * float(np.ptp(curve)))
    free = fit(BY_NAME[name], times, curve + noise)
    weights = lag1_weights(free, curve + noise)
    fits = fit(BY_NAME[name], times, curve + noise, ar1.GRID[weights.argmax(-1)])
    low, high = profile(fits, curve + noise, weights)
    held = ~(low[shape] > truth[shape]) & ~(high[shape] < truth[shape])
    assert 0.92 <= held.mean() <= 0.995


@given(st.integers(2, 400), st.floats(0.001, 0.999))
def test_a_quantile_of_few_replicates_leaves_its_share_outside(count: int, level: float) -> None:
    """The k-th of n uniform numbers has mean k/(n + 1): so much lies below it on average."""
    mean = np.arange(1, count + 1) / (count + 1)
    found = quantiles(mean[None], np.array([level]))[0]
    assert found == pytest.approx(np.clip(level, mean[0], mean[-1]), abs=1e-12)


@given(st.integers(5, 60), st.floats(1.5, 8), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_blocks_of_the_stationary_bootstrap(points: int, block: float, seed: int) -> None:
    chosen = stationary_indices(np.random.default_rng(seed), points, 400, block)
    assert chosen.shape == (400, points)
    assert chosen.min() >= 0
    assert chosen.max() < points
    followed = (np.diff(chosen, axis=1) % points == 1).mean()
    # A block goes on with probability 1 − 1/block; a new one may start there by chance.
    expected = (1 - 1 / block) + 1 / block / points
    assert followed == pytest.approx(expected, abs=0.06)
    counts = np.bincount(chosen.ravel(), minlength=points) / chosen.size
    np.testing.assert_allclose(counts, 1 / points, atol=5 / np.sqrt(400 * points / block))


def series(values: np.ndarray) -> list[Series]:
    steps = np.concatenate([[0.0], TIMES.round()])
    return [
        Series("bb/x/seed0", "d", 0, i, "delta_logit", steps, np.append(row[0], row))
        for i, row in enumerate(values)
    ]


def test_windows_start_where_they_say() -> None:
    (one,) = series(np.arange(40.0)[None])
    found = windows(one, TIMES.round()[9])
    assert {name: part.steps[0] for name, part in found.items()} == {
        "onset": TIMES.round()[9],
        "all": 20,
        "late": TIMES.round()[24],
    }
    assert "all" not in windows(one, None)


def test_rows_of_the_laws_table() -> None:
    values = simulated("logistic", {"a": 0.3, "b": 1.0, "τ": 700.0, "w": 0.35}, 3, 0.01)
    values = np.concatenate([values, np.ones((1, len(TIMES)))])
    rows = list(law_rows(series(values), {}, 8, 50, 0))
    validate(from_rows(rows, TABLE), TABLE, "rows")
    assert rows == list(law_rows(series(values), {}, 8, 50, 0))
    declared = [row for row in rows if row["window"] == "onset"]
    assert {row["law"] for row in declared} == set(NAMES)
    for row in declared:
        constant = row["head"] == 3
        assert (row["verdict"] == "constant") == constant
        assert (row["r2"] is None) == constant
        if row["verdict"] in ("named", "plausible"):
            low, high = dict(row["low"]), dict(row["high"])
            assert low.keys() == set(BY_NAME[row["law"]].parameters)
            for name, value in low.items():
                assert value <= high[name]
        if row["verdict"] == "excluded":
            assert row["low"] == []
    for head in range(4):
        assert sum(row["best"] for row in declared if row["head"] == head) == 1
    late = [row for row in rows if row["window"] == "late"]
    assert all(row["low"] == [] and row["holdout_error"] is None for row in late)


def test_a_head_is_fitted_alone_as_among_others() -> None:
    values = simulated("power_floor", {"a": 0.4, "b": 9.0, "p": -0.7}, 6, 0.02)
    for name in ("shifted_log", "logistic", "log_time"):
        together = fit(BY_NAME[name], TIMES, values)
        alone = fit(BY_NAME[name], TIMES, values[2:3])
        assert alone.deviance[0] == pytest.approx(together.deviance[2], rel=1e-9)
        np.testing.assert_allclose(alone.fitted[0], together.fitted[2], rtol=1e-7)


def test_seeds_of_a_group_are_pooled() -> None:
    def phenomenon(seed: int, excess: float) -> dict:
        return {
            "trajectory": f"bb/x/seed{seed}",
            "domain": "d",
            "layer": 0,
            "head": 0,
            "residual_layer": 1,
            "sink_excess_end": excess,
            "delta_logit_end": None,
            "value_ratio_end": 0.5,
            "residual_ratio_end": 1.0,
        }

    def onset(seed: int, step: float) -> dict:
        return {
            "trajectory": f"bb/x/seed{seed}",
            "domain": "d",
            "layer": 0,
            "head": 0,
            "phenomenon": "sink",
            "onset": step,
        }

    rows = seed_rows(
        [phenomenon(0, 0.49), phenomenon(1, 0.51)], [onset(0, 100.0), onset(1, 400.0)], [], []
    )
    found = {(row["quantity"], row["statistic"]): row for row in rows}
    excess = found["final", "sink_excess"]
    assert (excess["seeds"], excess["mean"]) == (2, pytest.approx(0.5))
    assert excess["high"] - 0.5 == pytest.approx(12.706 * 0.01, rel=1e-3)  # t with one degree
    assert found["onset", "sink"]["mean"] == pytest.approx(200)  # geometric
    assert ("final", "delta_logit") not in found


def test_the_command_tells_and_writes_the_ledger(tmp_path: Path, root: Path) -> None:
    output = tmp_path / "claims.parquet"
    common = ["claims", "--results", str(tmp_path), "--config", str(root / "config.yaml")]
    nothing = CliRunner().invoke(app, common)
    assert isinstance(nothing.exception, TrajectoryError)
    empty = tmp_path / "tables" / "checkpoints.parquet"
    write(from_rows([], CHECKPOINTS), CHECKPOINTS, empty, {})
    done = CliRunner().invoke(app, [*common, "--output", str(output)])
    assert done.exit_code == 0
    assert "value-drain: not measurable" in done.output
    assert set(read(output, CLAIMS)["verdict"].to_pylist()) == {"not measurable"}
    one = CliRunner().invoke(app, [*common, "--claim", "value-drain"])
    assert "drained" in one.output
    unknown = CliRunner().invoke(app, [*common, "--claim", "value-drains"])
    assert isinstance(unknown.exception, TrajectoryError)
    assert str(unknown.exception).startswith("unknown claim 'value-drains'; there are: task, ")
