from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest

from trajectory.config import BigramBackcopy
from trajectory.dynamics.bb_summary import (
    RATES,
    Course,
    Frames,
    _rates,
    _residuals,
    compare,
    sign_flip,
    summarise,
)
from trajectory.dynamics.phases import inner
from trajectory.schemas import TABLES
from trajectory.tables import from_rows, validate

STEPS = [0, 10, 20, 40, 80]


def frames(runs: dict[str, dict[str, list[float]]]) -> Frames:
    """Measurement tables of one-layer runs; each statistic a list over STEPS."""
    heads, layers, checkpoints, types = [], [], [], []
    for name, found in runs.items():
        for i, step in enumerate(STEPS):
            where = {"trajectory": name, "step": step}
            for domain, n, loss in (("trigger", 30, 0.5), ("non_trigger", 70, 2.0)):
                checkpoints.append(
                    {
                        **where,
                        "domain": domain,
                        "predictions": n,
                        "loss": loss + found["excess"][i],
                        "excess_risk": found["excess"][i] * (2 if domain == "trigger" else 1),
                    }
                )
            for head in (0, 1):
                heads.append(
                    {
                        **where,
                        "domain": "non_trigger",
                        "layer": 0,
                        "head": head,
                        "sink_weight": found["sink"][i],
                        "sink_excess": found["sink"][i] * (0.5 if head == 0 else 1),
                        "delta_logit": 10 * found["sink"][i],
                        "value_ratio": found["norm"][i],
                        "output_value_ratio": found["norm"][i],
                        "output_value_norm_sink": 3 * found["norm"][i],
                    }
                )
                types += [
                    {**where, "layer": 0, "head": head, "token": t, "trigger": t == "e",
                     "delta_logit": d}
                    for t, d in (("a", 1.0), ("b", 2.0), ("c", -1.0), ("d", 1.0), ("e", -5.0))
                ]  # fmt: skip
            layers += [
                {**where, "domain": "non_trigger", "layer": depth,
                 "residual_excess": depth + 0.1 * i, "residual_ratio": 1.0 + i}
                for depth in (0, 1, 2)
            ]  # fmt: skip
    return Frames(*map(pl.DataFrame, (heads, layers, checkpoints, types)))


def settings(**variants: dict) -> BigramBackcopy:
    base = {"steps": 80, "record": STEPS, "seeds": [0, 1]}
    return BigramBackcopy.model_validate(
        {"variants": {name: {**base, **values} for name, values in variants.items()}}
    )


def run(excess: list[float], sink: list[float]) -> dict[str, list[float]]:
    return {"excess": excess, "sink": sink, "norm": [1.0, 2.0, 1.5, 0.8, 0.4]}


BASE = run([2.0, 0.4, 0.15, 0.1, 0.1], [0.0, 0.0, 0.2, 0.6, 0.8])
SLOW = run([2.0, 1.0, 0.8, 0.6, 0.4], [0.0, 0.0, 0.1, 0.2, 0.3])


@pytest.fixture(scope="module")
def found() -> dict[str, list[dict]]:
    runs = {f"bb/{v}/seed{s}": r for v, r in (("base", BASE), ("slow", SLOW)) for s in (0, 1)}
    rows = summarise(settings(base={}, slow={"control": "base"}), frames(runs))
    for name, values in rows.items():
        validate(from_rows(values, TABLES[name]), TABLES[name], name)
    return rows


def test_scalars_at_the_last_record(found: dict) -> None:
    (row,) = (
        r
        for r in found["bb_scalars"]
        if r["trajectory"] == "bb/base/seed1" and r["match"] == "step"
    )
    assert (row["step"], row["layer"], row["head"]) == (80, 0, 1)
    assert row["loss"] == pytest.approx(0.3 * 0.6 + 0.7 * 2.1)
    assert row["backcopy_excess"] == pytest.approx(0.2)
    assert row["delta_logit_positive"] == 0.75
    assert row["residual_excess"] == pytest.approx(1.4)


@pytest.mark.parametrize("count", [1, 3])
def test_the_residual_ratio_is_that_of_the_stream_in_which_peaks_are_looked_for(count: int) -> None:
    """Neither of the embedding nor of the stream behind the last block, which are greater here."""
    values = {0: (8.1, 100.0), 1: (1.9, 6.0), 2: (1.4, 10.0), 3: (9.0, 900.0)}
    layers = pl.DataFrame(
        [
            {"trajectory": "bb/a/seed0", "step": step, "domain": "non_trigger", "layer": depth,
             "residual_ratio": values[depth][0] * step, "residual_excess": values[depth][1]}
            for step in (1, 2)
            for depth in range(count + 1)
        ]
    )  # fmt: skip
    found = _residuals(layers)
    if count == 1:
        assert np.isnan(found["residual_ratio"]).tolist() == [True, True]
        assert np.isnan(found["residual_excess"]).all()
        return
    peak = inner(layers).filter(pl.col("step") == 2)["residual_ratio"].max()
    assert found["residual_ratio"].tolist() == [1.9, 3.8]
    assert found["residual_ratio"][-1] == peak, "as the phenomena table has it"
    assert found["residual_excess"][-1] == 10.0


def test_loss_matching_takes_the_faster_run_back(found: dict) -> None:
    """The slow run ends at an excess of 0.4, where the base was at step 10."""
    rows = {
        (r["measure"], r["statistic"]): r for r in found["bb_comparisons"] if r["variant"] == "slow"
    }
    step, loss = rows["step", "sink_weight"], rows["loss", "sink_weight"]
    assert (step["mean"], step["control_mean"]) == pytest.approx((0.3, 0.8))
    assert (loss["mean"], loss["control_mean"]) == pytest.approx((0.3, 0.0))
    assert loss["difference"] == pytest.approx(0.3)
    matched = [r for r in found["bb_scalars"] if r["match"] == "loss"]
    assert {r["variant"] for r in matched} == {"slow"}
    assert {r["step"] for r in matched} == {80}


def test_rates_are_taken_at_the_records_of_both() -> None:
    """A record at step 20 that only one of them has would turn its slope."""
    held, free = (
        Course("x", 0, np.array(steps, float), 0, 0, dict.fromkeys(RATES, np.array(values, float)))
        for steps, values in (
            ([0, 10, 30, 90], [9, 1, 2, 3]),
            ([0, 10, 20, 30, 90], [9, 1, 7, 2, 3]),
        )
    )
    for course, other in ((held, free), (free, held)):
        slopes = _rates(course, other, 1)
        assert list(slopes.values()) == pytest.approx([1 / np.log(3)] * len(RATES))
    assert np.isnan(_rates(held, free, 20)["value_ratio"]), "two records are no slope"


def test_milestones(found: dict) -> None:
    rows = {r["milestone"]: r for r in found["bb_milestones"] if r["trajectory"] == "bb/base/seed0"}
    assert (rows["value_peak"]["step"], rows["value_peak"]["value"]) == (10, 2.0)
    assert (rows["value_peak"]["after_step"], rows["value_peak"]["by_step"]) == (0, 10)
    assert rows["bigram_90"]["by_step"] == 20
    assert rows["bigram_90"]["step"] == pytest.approx(10 + 10 * (0.4 - 0.2) / 0.25)
    assert rows["sink_50"]["step"] == pytest.approx(20 + 20 * 0.5)
    assert rows["sink_50"]["value"] == 0.6
    assert rows["drain_50"]["step"] == pytest.approx(20 + 20 * (1.5 - 1.0) / 0.7)


def test_loss_is_interpolated_between_records() -> None:
    names = (
        *("backcopy_excess", "bigram_excess", "sink_weight", "sink_excess", "delta_logit"),
        *("delta_logit_positive", "value_ratio", "output_value_ratio"),
        *("residual_excess", "residual_ratio"),
    )
    values = {name: np.array([0.0, 4.0, 8.0]) for name in names}
    values["loss"] = np.array([3.0, 2.0, 1.0])
    course = Course("x", 0, np.array([0.0, 10.0, 30.0]), 0, 0, values)
    step, taken = course.at(1.25)  # type: ignore[misc]
    assert step == pytest.approx(25)
    assert taken["sink_excess"] == pytest.approx(7)
    assert course.at(0.5) is None


def test_the_sign_flip_test_is_exact() -> None:
    differences = [0.4, 0.1, -0.2, 0.3]
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((1, -1), repeat=4)]
    expected = np.mean([s >= abs(sum(differences)) - 1e-12 for s in sums])
    assert sign_flip(differences) == pytest.approx(expected)
    assert sign_flip([1.0] * 5) == 2 / 32
    assert sign_flip([1.0]) is None


def test_intervals_cover_the_truth() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        row = compare(rng.normal(1, 2, 5), rng.normal(0.5, 1, 5))
        hits += row["difference_low"] <= 0.5 <= row["difference_high"]
    assert hits / 2000 == pytest.approx(0.95, abs=0.02)
