"""The measurement tables in, the collapse's tables out; the theory's curves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from trajectory.config import Alignment
from trajectory.dynamics.align import align
from trajectory.dynamics.portraits import floor_log_odds, portraits
from trajectory.dynamics.regimes import theory_rows
from trajectory.schemas import TABLES
from trajectory.tables import from_rows

LENGTH = 64
FLOOR = float(np.mean([1 / (i + 1) for i in range(1, LENGTH)]))
LOG_KEYS = float(np.mean([math.log(i) for i in range(8, LENGTH)]))
STEPS = np.unique(np.geomspace(10, 600, 24).round().astype(int))


def run(trajectory: str, domain: str, start: int, head: int = 0, sinks: bool = True) -> list[dict]:
    """Records of one head whose sink and drain take one course in ln step from ``start`` on."""
    rng = np.random.default_rng(head + len(trajectory))
    rows = []
    for step in STEPS:
        along = math.tanh(max(math.log(step / start), 0.0) / 1.5)
        a = (6 * along if sinks else 0.0) + rng.normal(0, 0.05)
        odds = a - LOG_KEYS
        weight = 1 / (1 + math.exp(-odds))
        rows.append(
            {
                "trajectory": trajectory, "step": int(step), "domain": domain, "layer": 0,
                "head": head, "sink_weight_floor": FLOOR, "sink_log_odds": odds,
                "sink_excess": (weight - FLOOR) / (1 - FLOOR),
                "value_ratio": math.exp(0.2 - 1.5 * along + rng.normal(0, 0.01)),
            }
        )  # fmt: skip
    return rows


def tables() -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    rows: list[dict[str, Any]] = [
        *run("bb/toy/seed0", "non_trigger", 40), *run("bb/toy/seed1", "non_trigger", 60),
        *run("bb/relu/seed0", "non_trigger", 40), *run("bb/none/seed0", "trigger", 40, sinks=False),
        *run("lm", "prose", 80), *run("lm", "prose", 80, head=1, sinks=False),
    ]  # fmt: skip
    heads = pl.DataFrame(rows).with_columns(
        pl.when(pl.col("trajectory") != "bb/relu/seed0").then(pl.col("sink_log_odds"))
    )
    places = heads.select("trajectory", "step", "domain").unique(maintain_order=True)
    checkpoints = places.with_columns(
        tokens=pl.col("step") * 4096,
        loss=5 / (1 + pl.col("step") / 50),
        integrated_learning_rate=pl.when(pl.col("trajectory") != "lm").then(pl.col("step") * 1e-3),
    )
    layers = pl.concat([places.with_columns(layer=pl.lit(d)) for d in (0, 1, 2)]).with_columns(
        residual_ratio=1 + pl.col("step") / 300
    )
    return heads, layers, checkpoints


@pytest.mark.parametrize("length", [16, 64, 257, 4096])
def test_the_floor_is_the_mean_log_odds_of_uniform_attention(length: int) -> None:
    floor = np.mean([1 / (i + 1) for i in range(1, length)])
    expected = -np.mean([math.log(i) for i in range(8, length)])
    assert floor_log_odds(float(floor)) == pytest.approx(expected, abs=1e-9)


def test_portraits_are_of_heads_with_log_odds() -> None:
    heads, _, _ = tables()
    seen = {(p.trajectory, p.head): p for p in portraits(heads, 0.2)}
    assert ("bb/relu/seed0", 0) not in seen, "ReLU attention has no log-odds"
    toy = seen["bb/toy/seed0", 0]
    assert toy.status == "observed" and toy.onset is not None and 40 < toy.onset < 160
    assert abs(toy.sink[0]) < 0.3, "uniform attention before the start"
    assert toy.value[-1] == pytest.approx(-1.3, abs=0.1)
    assert seen["bb/none/seed0", 0].onset is None
    assert [seen["lm", head].lead for head in (0, 1)] == [True, False]


def test_a_sink_that_is_there_from_the_first_record_has_no_time_since_its_onset() -> None:
    heads, layers, checkpoints = tables()
    later = heads.filter((pl.col("trajectory") != "bb/toy/seed0") | (pl.col("step") >= 150))
    assert {p.status for p in portraits(later.filter(trajectory="bb/toy/seed0"), 0.2)} == {
        "before_first"
    }
    some = Alignment(surrogates=19, bootstraps=20)
    scales = pl.DataFrame(align(later, layers, checkpoints, some, 0.2)["alignment_scales"])
    axes = scales.filter(trajectory="bb/toy/seed0")["axis"].unique()
    assert "step" in axes and "since_onset" not in axes


def test_held_trainings_are_left_out() -> None:
    heads, layers, checkpoints = tables()
    some = Alignment(surrogates=19, bootstraps=20)
    found = align(heads, layers, checkpoints, some, 0.2, held={"lm"})["alignment_scales"]
    names = {row["trajectory"] for row in found}
    assert names and "lm" not in names


def test_a_run_without_sinks_has_empty_tables() -> None:
    heads, layers, checkpoints = tables()
    still = heads.filter(pl.col("trajectory") == "bb/none/seed0")
    assert align(still, layers, checkpoints, Alignment(), 0.2)["alignments"] == []


def test_trajectories_on_one_axis() -> None:
    heads, layers, checkpoints = tables()
    found = align(heads, layers, checkpoints, Alignment(surrogates=19, bootstraps=20), 0.2)
    for name, rows in found.items():
        from_rows(rows, TABLES[name])
    scores = {(r["statistic"], r["axis"], r["rescaling"]): r for r in found["alignments"]}
    step = scores["sink_log_odds", "step", "time"]
    assert step["trajectories"] == 3
    assert step["score"] > 0.9
    assert scores["sink_log_odds", "integrated_learning_rate", "time"]["trajectories"] == 2
    scale = {
        r["trajectory"]: r
        for r in found["alignment_scales"]
        if (r["statistic"], r["axis"], r["rescaling"]) == ("sink_log_odds", "step", "time")
    }
    assert scale["bb/toy/seed0"]["scale"] < scale["lm"]["scale"]
    assert all(r["scale_low"] <= r["scale"] <= r["scale_high"] for r in scale.values())
    for row in found["aligned"]:
        if (row["axis"], row["rescaling"]) == ("step", "time"):
            assert row["x"] == pytest.approx(row["step"] / found_scale(found, row))


def found_scale(found: dict[str, list[dict[str, Any]]], row: dict[str, Any]) -> float:
    names = ("statistic", "axis", "rescaling", "trajectory")
    (scale,) = (r["scale"] for r in found["alignment_scales"] if all(r[n] == row[n] for n in names))
    return float(scale)


def test_a_trajectory_that_hardly_moves_on_an_axis_is_left_out_there() -> None:
    """Late checkpoints differ by a per mille of loss: no point of the grid lies between them."""
    heads, layers, checkpoints = tables()
    flat = checkpoints.with_columns(loss=2.5 - 1e-6 * pl.col("step"))
    found = align(heads, layers, flat, Alignment(surrogates=19, bootstraps=20), 0.2)["alignments"]
    axes = {row["axis"] for row in found}
    assert "step" in axes
    assert "loss" not in axes


def test_theory_curves_of_a_small_text() -> None:
    rng = np.random.default_rng(0)
    rows = theory_rows(rng.dirichlet(np.ones(5), 5), rng.dirichlet(np.full(5, 5.0)), updates=200)
    from_rows(rows, TABLES["theory_curves"])
    last = {r["regime"]: r for r in rows}
    assert set(last) == {
        "fixed_value", "fixed_sink", "fixed_context", "random_contexts", "sgd", "adam",
    }  # fmt: skip
    assert last["random_contexts"]["sink"] > last["fixed_context"]["sink"]
    assert last["fixed_context"]["loss"] < last["random_contexts"]["loss"]
    assert last["fixed_sink"]["sink"] == pytest.approx(4.0)
    assert last["fixed_sink"]["value_error"] < 1e-4
    assert last["fixed_sink"]["sink_spread"] == pytest.approx(0, abs=1e-9)
    assert last["fixed_value"]["sink_error"] < 0.01
    assert last["fixed_context"]["sink_spread"] < 1e-2
    assert last["random_contexts"]["sink_error"] is None
