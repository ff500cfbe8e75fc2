"""The measurement tables in, the coupled system's and the collapse's tables out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from trajectory.config import Alignment, Coupling
from trajectory.dynamics.align import align
from trajectory.dynamics.couple import couple
from trajectory.dynamics.portraits import floor_log_odds, portraits
from trajectory.dynamics.reduced import simulate
from trajectory.dynamics.regimes import theory_rows
from trajectory.schemas import TABLES
from trajectory.tables import from_rows

LENGTH = 64
FLOOR = float(np.mean([1 / (i + 1) for i in range(1, LENGTH)]))
LOG_KEYS = float(np.mean([math.log(i) for i in range(8, LENGTH)]))
STEPS = np.unique(np.geomspace(10, 600, 24).round().astype(int))


def run(
    trajectory: str,
    domain: str,
    start: int,
    head: int = 0,
    sinks: bool = True,
    layer: int = 0,
    delay: float = 0.0,
) -> list[dict]:
    """Records of one head that follows the reduced system from ``start`` on, at rest before."""
    truth = np.array([[0.5, 0.5, 0.3, np.log(0.04), np.log(60.0), 0.1]])
    after = STEPS[start <= STEPS].astype(float)
    states = simulate(truth, np.array([[0.0, 0.2]]), after[None], np.array([LOG_KEYS]), 16)[0]
    rng = np.random.default_rng(head + len(trajectory))
    rows = []
    for step in STEPS:
        a, b = states[np.searchsorted(after, step)] if step >= start else (0.0, 0.0)
        if not sinks:
            a = 0.0
        a = a + rng.normal(0, 0.05) - (0.3 if step < start else 0)
        odds = a - delay - LOG_KEYS
        weight = 1 / (1 + math.exp(-odds))
        rows.append(
            {
                "trajectory": trajectory, "step": int(step), "domain": domain, "layer": layer,
                "head": head, "sink_weight_floor": FLOOR, "sink_log_odds": odds,
                "sink_excess": (weight - FLOOR) / (1 - FLOOR),
                "value_ratio": math.exp(b + rng.normal(0, 0.01)),
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
    layers = pl.concat([places.with_columns(layer=pl.lit(d)) for d in (0, 1)]).with_columns(
        residual_ratio=1 + pl.col("step") / 300
    )
    return heads, layers, checkpoints


@pytest.mark.parametrize("length", [16, 64, 257, 4096])
def test_the_floor_is_the_mean_log_odds_of_uniform_attention(length: int) -> None:
    floor = np.mean([1 / (i + 1) for i in range(1, length)])
    expected = -np.mean([math.log(i) for i in range(8, length)])
    assert floor_log_odds(float(floor)) == pytest.approx(expected, abs=1e-9)


def test_a_portrait_starts_where_both_begin_to_move() -> None:
    heads, _, checkpoints = tables()
    seen = {
        (p.trajectory, p.head): p for p in portraits(heads, checkpoints, "step", "value_ratio", 0.2)
    }
    assert ("bb/relu/seed0", 0) not in seen, "ReLU attention has no log-odds"
    toy = seen["bb/toy/seed0", 0]
    assert toy.log_keys == pytest.approx(LOG_KEYS)
    assert toy.window is not None
    assert toy.steps[toy.window] <= 45
    assert toy.value[toy.window :].argmax() == 0 or toy.sink[toy.window :].argmin() == 0
    assert seen["bb/none/seed0", 0].window is None
    assert [seen["lm", head].lead for head in (0, 1)] == [True, False]


def test_a_sink_that_is_there_from_the_first_record_is_not_called_none() -> None:
    heads, layers, checkpoints = tables()
    later = heads.filter((pl.col("trajectory") != "bb/toy/seed0") | (pl.col("step") >= 150))
    found = couple(later.filter(trajectory="bb/toy/seed0"), checkpoints, Coupling(), 0.2)
    assert [r["verdict"] for r in found["couplings"]] == ["before_first"]
    some = Alignment(surrogates=19, bootstraps=20)
    scales = pl.DataFrame(align(later, layers, checkpoints, some, 0.2)["alignment_scales"])
    axes = scales.filter(trajectory="bb/toy/seed0")["axis"].unique()
    assert "step" in axes and "since_onset" not in axes


@pytest.fixture(scope="module")
def coupled() -> dict[str, list[dict[str, Any]]]:
    heads, _, checkpoints = tables()
    return couple(heads, checkpoints, Coupling(replicates=20), 0.2)


def test_every_head_has_a_verdict(coupled: dict[str, list[dict[str, Any]]]) -> None:
    for name, rows in coupled.items():
        from_rows(rows, TABLES[name])
    found = {(r["group"], r["head"]): r for r in coupled["couplings"]}
    assert set(found) == {
        ("bb/toy/seed0", 0), ("bb/toy/seed1", 0), ("bb/toy", 0), ("bb/none/seed0", 0),
        ("lm", 0), ("lm", 1),
    }  # fmt: skip
    assert found["bb/none/seed0", 0]["verdict"] == found["lm", 1]["verdict"] == "no_sink"
    assert found["bb/toy", 0]["trajectories"] == 2
    together = found["bb/toy", 0]
    assert together["sink_to_drain_low"] <= 0.3 <= together["sink_to_drain_high"]
    assert together["verdict"] in ("mutual", "sink_to_drain")


def test_one_layer_leads_seeds_whose_sinks_lie_in_different_layers() -> None:
    rows: list[dict[str, Any]] = []
    for seed, (first, second) in enumerate([(0.0, 2.0), (0.5, 0.0), (0.5, 0.0)]):
        name = f"bb/deep/seed{seed}"
        rows += run(name, "non_trigger", 40, delay=first)
        rows += run(name, "non_trigger", 40, layer=1, delay=second)
    heads = pl.DataFrame(rows)
    checkpoints = heads.select("trajectory", "step", "domain").unique().with_columns(
        integrated_learning_rate=pl.col("step") * 1e-3
    )  # fmt: skip
    found = pl.DataFrame(couple(heads, checkpoints, Coupling(replicates=20), 0.1)["couplings"])
    means = heads.filter(pl.col("step") > 400).group_by("layer").agg(pl.col("sink_excess").mean())
    greatest = means.sort("sink_excess")["layer"][-1]
    together = found.filter(group="bb/deep")
    assert set(together["layer"]) == {0, 1}
    assert together.filter("lead")["layer"].to_list() == [greatest]
    alone = found.filter(pl.col("group") != "bb/deep", "lead")
    assert alone.sort("group")["layer"].to_list() == [0, 1, 1]


def test_curves_run_through_the_records(coupled: dict[str, list[dict[str, Any]]]) -> None:
    heads, _, checkpoints = tables()
    curves = pl.DataFrame(coupled["coupling_curves"]).filter(group="lm", head=0, model="mutual")
    (lm,) = (p for p in portraits(heads, checkpoints, "step", "value_ratio", 0.2)
             if p.trajectory == "lm" and p.head == 0)  # fmt: skip
    fitted = np.interp(np.log(lm.steps[lm.window :]), curves["step"].log(), curves["sink"])
    assert np.abs(fitted - lm.sink[lm.window :]).max() < 0.3
    assert (curves["sink_low"] <= curves["sink"]).all()
    assert (curves["value"] <= curves["value_high"]).all()


def test_the_same_seed_gives_the_same_rows() -> None:
    heads, _, checkpoints = tables()
    one = heads.filter(pl.col("trajectory") == "lm")
    first, again = (couple(one, checkpoints, Coupling(replicates=20), 0.2) for _ in range(2))
    assert again == first


def test_time_without_a_learning_rate_leaves_the_trajectory_out() -> None:
    heads, _, checkpoints = tables()
    seen = list(portraits(heads, checkpoints, "integrated_learning_rate", "value_ratio", 0.2))
    assert {p.trajectory for p in seen} == {"bb/toy/seed0", "bb/toy/seed1", "bb/none/seed0"}


def test_a_run_without_sinks_has_empty_tables() -> None:
    heads, layers, checkpoints = tables()
    still = heads.filter(pl.col("trajectory") == "bb/none/seed0")
    found = couple(still, checkpoints, Coupling(replicates=20), 0.2)
    assert [r["verdict"] for r in found["couplings"]] == ["no_sink"]
    assert found["coupling_parameters"] == found["phase_fields"] == []
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
