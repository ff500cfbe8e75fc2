from __future__ import annotations

import numpy as np
import pytest

from trajectory.dynamics import ar1
from trajectory.dynamics.forecast import forecast_rows, predict
from trajectory.dynamics.laws import BY_NAME, evaluate
from trajectory.dynamics.series import Series

STEPS = np.unique(np.geomspace(10, 4000, 40).round())


def series(values: np.ndarray, statistic: str = "sink_excess") -> list[Series]:
    return [Series("t", "d", 0, i, statistic, STEPS, row) for i, row in enumerate(values)]


def logistic(rng: np.random.Generator, count: int, noise: float) -> np.ndarray:
    curves = [
        evaluate(
            BY_NAME["logistic"],
            {"a": 0, "b": 0.8, "τ": np.exp(rng.uniform(4, 6)), "w": rng.uniform(0.3, 0.6)},
            STEPS,
        )
        for _ in range(count)
    ]
    return np.stack(curves) + ar1.simulate(rng, (count, len(STEPS)), 0.6, noise)


def test_a_law_without_noise_is_continued() -> None:
    curve = evaluate(BY_NAME["power_floor"], {"a": 0.3, "b": 5.0, "p": -0.5}, STEPS)
    told = predict(STEPS[:25], curve[None, :25], STEPS[25:])
    np.testing.assert_allclose(told.centre[0], curve[25:], rtol=2e-3)


def test_intervals_hold_what_comes() -> None:
    rng = np.random.default_rng(0)
    rows, scores = forecast_rows(series(logistic(rng, 60, 0.02)), [0.25, 0.5])
    assert {row["share"] for row in rows} == {0.25, 0.5}
    for share in (0.25, 0.5):
        inside = [r["low"] <= r["observed"] <= r["high"] for r in rows if r["share"] == share]
        assert np.mean(inside) >= 0.88, share
    points = sum(score["points"] for score in scores)
    covered = sum(score["points"] * score["coverage"] for score in scores)
    assert points == len(rows)
    assert covered / points == pytest.approx(
        np.mean([row["low"] <= row["observed"] <= row["high"] for row in rows])
    )


def test_predictions_know_nothing_of_what_they_predict() -> None:
    rng = np.random.default_rng(1)
    values = logistic(rng, 12, 0.02)
    other = values.copy()
    other[:, STEPS > 1000] = rng.standard_normal((12, int((STEPS > 1000).sum())))
    told = [
        [(row["predicted"], row["low"], row["high"]) for row in forecast_rows(series(v), [0.25])[0]]
        for v in (values, other)
    ]
    assert told[0] == told[1]
    assert len(told[0]) == 12 * int((STEPS > 1000).sum())


def test_scores_by_hand() -> None:
    rng = np.random.default_rng(2)
    rows, scores = forecast_rows(series(logistic(rng, 12, 0.02)), [0.5])
    own = [row for row in rows if row["head"] == 3]
    score = next(score for score in scores if score["head"] == 3)
    errors = [row["predicted"] - row["observed"] for row in own]
    assert score["error"] == pytest.approx(np.sqrt(np.mean(np.square(errors))))
    outside = [max(row["low"] - row["observed"], row["observed"] - row["high"], 0) for row in own]
    widths = [row["high"] - row["low"] for row in own]
    assert score["interval_score"] == pytest.approx(np.mean(widths) + 40 * np.mean(outside))
    last = values_at(rows, 3)
    assert score["persistence_error"] == pytest.approx(last)


def values_at(rows: list[dict], head: int) -> float:
    own = [row for row in rows if row["head"] == head]
    return float(np.sqrt(np.mean([(row["persistence"] - row["observed"]) ** 2 for row in own])))


def test_too_little_past_predicts_nothing() -> None:
    short = [Series("t", "d", 0, 0, "x", STEPS[:8], np.arange(8.0))]
    assert forecast_rows(short, [0.5]) == ([], [])
    with pytest.raises(ValueError, match="more than 3 records"):
        predict(STEPS[:3], np.ones((1, 3)), STEPS[3:])
