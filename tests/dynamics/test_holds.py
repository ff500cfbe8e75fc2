from __future__ import annotations

import math

import polars as pl
import pytest

from trajectory.config import parse
from trajectory.dynamics.holds import expected_effect, experiments, hold_rows
from trajectory.schemas import HOLDS
from trajectory.tables import from_rows

BASE = {"steps": 100, "record": [0, 100], "seeds": [0, 1, 2]}


def config() -> object:
    hold = {"kind": "hold_value", "from_step": 10}
    force = {"kind": "force_attention", "from_step": 10, "share": 0.5}
    variants = {
        "free": BASE,
        "held": {**BASE, "control": "free", "during": [hold]},
        "sham": {**BASE, "control": "free", "sham": True, "during": [{**hold, "position": 1}]},
        "forced": {**BASE, "control": "free", "during": [force], "seeds": [0, 2]},
        "alone": {**BASE, "during": [hold]},
    }
    nano = {
        "seeds": [0, 1],
        "experiments": {"value-held": {"about": "no drain", "during": [hold]}},
    }
    values = {"bb": {"variants": variants}, "suites": {"nano-olmo": nano}}
    return parse({"name": "a", "results": "r", **values})


def heads(states: dict[str, tuple[float, float, float]]) -> pl.DataFrame:
    """Two heads per trajectory, half a nat apart, at step 100; an earlier record says nothing."""
    rows = [
        {
            **{"trajectory": name, "step": step, "domain": "non_trigger", "layer": 0, "head": head},
            "sink_log_odds": log_odds + (head - 0.5) + (step == 50) * 9,
            "sink_weight": weight,
            "value_norm_sink": math.exp(log_value),
        }
        for name, (log_odds, weight, log_value) in states.items()
        for step in (50, 100)
        for head in (0, 1)
    ]
    return pl.DataFrame(rows)


def forces(trajectories: list[str], step: int = 100, error: float = 0.01) -> pl.DataFrame:
    """R sums to 3, ∂²L/∂a² to 1.5 and ∂²L/∂b² to 12 over the two heads: χ = 2, C = 1/4."""
    rows = [
        {
            **{"trajectory": name, "step": step, "domain": "non_trigger", "readers": readers},
            **{"layer": 0, "head": head, "key_kind": kind, "coupling": 1.0 + head},
            **{"logit_curvature": 0.5 + 0.5 * head, "value_curvature": 4.0 + 4 * head},
            **{"logit_curvature_se": error, "value_curvature_se": 0.01},
        }
        for name in trajectories
        for kind in ("sink", "position")
        for readers in ("late", "early")
        for head in (0, 1)
    ]
    wrong = pl.col("key_kind").ne("sink") | pl.col("readers").ne("late")
    return pl.DataFrame(rows).with_columns(coupling=pl.when(wrong).then(99).otherwise("coupling"))


def test_experiments_are_those_with_a_control_in_both_worlds() -> None:
    found = {one.name: one for one in experiments(config())}
    assert list(found) == ["bb/held", "bb/sham", "bb/forced", "nano-olmo-value-held"]
    assert found["bb/forced"].pairs == [
        ("bb/forced/seed0", "bb/free/seed0"),
        ("bb/forced/seed2", "bb/free/seed2"),
    ]
    assert found["nano-olmo-value-held"].pairs == [
        ("nano-olmo-value-held-seed0", "nano-olmo-seed0"),
        ("nano-olmo-value-held-seed1", "nano-olmo-seed1"),
    ]


def test_effects_stand_beside_what_the_curvature_predicts() -> None:
    states = {}
    for seed in range(3):
        states[f"bb/free/seed{seed}"] = (1.0, 0.5, -1.0)
        states[f"bb/held/seed{seed}"] = (-1.0 - 0.5 * seed, 0.2, 0.5)  # 1.5 e-folds withheld
        states[f"bb/sham/seed{seed}"] = (1.0, 0.5, -1.0)
        states[f"bb/forced/seed{seed}"] = (0.0, 0.5, -1.25)
    chosen = [one for one in experiments(config()) if one.name.startswith("bb/")]
    free = [f"bb/free/seed{seed}" for seed in range(3)]
    rows = {row["experiment"]: row for row in hold_rows(chosen, heads(states), forces(free))}
    held, sham, forced = rows["bb/held"], rows["bb/sham"], rows["bb/forced"]
    assert (held["step"], held["seeds"], held["domain"]) == (100, 3, "non_trigger")
    assert held["cause"] == pytest.approx(1.5)
    assert held["gain"] == pytest.approx(2.0)
    assert held["predicted"] == pytest.approx(-3.0)
    assert held["observed"] == pytest.approx(-2.5)
    half = 4.302652729911275 * 0.5 / math.sqrt(3)  # Student's t of two degrees of freedom
    assert held["observed_low"] == pytest.approx(-2.5 - half)
    assert held["observed_high"] == pytest.approx(-2.5 + half)
    assert (sham["cause"], sham["predicted"], sham["observed"]) == (0.0, 0.0, 0.0)
    assert forced["cause"] == pytest.approx(math.log(3))  # readers give 3/4 in effect, not 1/2
    assert forced["predicted"] == pytest.approx(math.log(3) / 4)
    assert forced["observed"] == pytest.approx(0.25)
    assert from_rows(list(rows.values()), HOLDS).num_rows == 3


def test_without_second_derivatives_nothing_is_predicted() -> None:
    states = {f"bb/{name}/seed{s}": (0.0, 0.5, 0.0) for name in ("free", "held") for s in range(3)}
    chosen = [one for one in experiments(config()) if one.name == "bb/held"]
    none = forces(["bb/other/seed0"])
    for given in (None, none):
        (row,) = hold_rows(chosen, heads(states), given)
        assert row["gain"] is None and row["predicted"] is None and row["observed"] == 0


def test_a_curvature_that_is_not_known_predicts_nothing() -> None:
    """At a saturated sink it vanishes; and what lies before the change does not count."""
    states = {f"bb/{name}/seed{s}": (0.0, 0.5, 0.0) for name in ("free", "held") for s in range(3)}
    chosen = [one for one in experiments(config()) if one.name == "bb/held"]
    free = [f"bb/free/seed{seed}" for seed in range(3)]
    noisy, before = forces(free, error=1.0), forces(free, step=5)
    for given in (noisy, before):
        (row,) = hold_rows(chosen, heads(states), given)
        assert row["gain"] is None
    both = pl.concat([forces(free), before.with_columns(coupling=pl.lit(50.0))])
    (row,) = hold_rows(chosen, heads(states), both)
    assert row["gain"] == pytest.approx(2.0)


def test_a_sink_forced_altogether_has_no_log_odds() -> None:
    assert expected_effect("force_attention", 0.3, None) is None
    assert expected_effect("hold_value", 2.0, 0.5) == -1.0
