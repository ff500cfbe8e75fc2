"""The claim that sink and drain cause each other, in a language model: planted truth, its nulls."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from trajectory.dynamics.claims.evidence import Evidence, Value
from trajectory.dynamics.claims.holds import HELD, speaks_less
from trajectory.dynamics.claims.ledger import claim_rows, standings
from trajectory.schemas import CLAIMS, HOLDS
from trajectory.tables import from_rows, validate

from . import made_up
from .made_up_forces import hold

Frames = dict[str, pl.DataFrame]
CAUSE = "mutual-reinforcement-cause"
YES, NO, OPEN, UNMEASURED = "reproduced", "not reproduced", "undecided", "not measurable"
FREE = "nano-olmo"
HELD_VALUE, FORCED = f"{FREE}-value-held", f"{FREE}-sink-forced"
STEPS = [0, 50, 100, 200, 400, 800, 1600]

SLOPES = {
    FREE: (3.0, -0.05),
    HELD_VALUE: (1.0, 0.0),
    f"{HELD_VALUE}-sham": (2.9, -0.05),
    FORCED: (0.0, -0.12),
    f"{FORCED}-sham": (2.8, -0.04),
}
"""Per ln step from step 100 on: Δlogit, and the value ratio."""

OBSERVED = {
    HELD_VALUE: (-2.0, -2.2),
    f"{HELD_VALUE}-sham": (-0.2, 0.0),
    FORCED: (0.5, 0.45),
    f"{FORCED}-sham": (-0.3, 0.0),
}
"""Change at the end, and the predicted one."""


def _trajectories(seeds: int) -> list[tuple[str, str, float]]:
    """Name, training, and how far a seed is from the mean of its training."""
    return [
        (f"{name}-seed{seed}", name, 0.05 * (seed - 1) * (name in (HELD_VALUE, FORCED)))
        for name in SLOPES
        for seed in range(seeds)
    ]


def made(seeds: int = 3) -> Frames:
    """Three seeds of nano-olmo, two layers of two heads, free and with each change."""
    heads, phenomena = [], []
    for trajectory, name, apart in _trajectories(seeds):
        logit, ratio = SLOPES[name]
        where = {"trajectory": trajectory, "domain": "prose"}
        ends = {"sink_excess_end": 0.7, "sink_excess_low": 0.6, "sink_excess_high": 0.8}
        phenomena.append({**where, "layer": 0, "head": 1, **ends})
        for step in STEPS:
            late = math.log(max(step, 100) / 100)
            for layer, head in ((0, 0), (0, 1), (1, 0), (1, 1)):
                leads = (layer, head) == (0, 1)
                heads.append(
                    {
                        **{**where, "step": step, "layer": layer, "head": head},
                        # Other heads, and what came before the change, say the reverse.
                        "delta_logit": (logit + apart) * late if leads else -9 * logit * late,
                        "output_value_ratio": 1 + (ratio + apart / 10) * late - (step < 100),
                        "sink_excess": 0.7 * made_up.rise(step, 200),
                    }
                )
    pairs = [
        hold(name, FREE, "hold_value" if "value" in name else "force_attention", "prose",
             sham="sham" in name, seeds=seeds, predicted=predicted, observed=observed,
             observed_low=observed - 0.2 if seeds > 1 else None,
             observed_high=observed + 0.2 if seeds > 1 else None)
        for name, (observed, predicted) in OBSERVED.items()
    ]  # fmt: skip
    reverse = [{**row, "layer": 1, "observed": -9 * row["observed"]} for row in pairs]
    names = [name for name, _, _ in _trajectories(seeds)]
    checkpoints = [{"trajectory": n, "domain": "prose", "step": s} for n in names for s in STEPS]
    frames = {"heads": heads, "phenomena": phenomena, "holds": [*reverse, *pairs],
              "checkpoints": checkpoints, "forks": _forks(seeds)}  # fmt: skip
    return {n: pl.DataFrame(rows, infer_schema_length=None) for n, rows in frames.items()}


def _forks(seeds: int) -> list[dict[str, Any]]:
    return [
        {
            **{"trajectory": f"{FREE}-seed{seed}", "step": 800, "layer": 0, "head": 1},
            **{"key": kind, "key_kind": kind, "hooked": hooked, "updates": 5},
            "log_odds_response": size * (1 + 0.1 * seed),
            "drain_response": size * (1 + 0.1 * seed) / 10,
        }
        for seed in range(seeds)
        for kind, size in (("sink", 0.2), ("position", 0.01))
        for hooked in ("value", "logit")
    ]


def decided(frames: Frames) -> dict[str, dict[str, Any]]:
    held = {name for name in SLOPES if name != FREE}
    rows = list(claim_rows(HELD.criteria, Evidence(made_up.SETTINGS, {}, frames, held)))
    validate(from_rows(rows, CLAIMS), CLAIMS, "made up")
    assert len({row["criterion"] for row in rows}) == len(rows) == len(HELD.criteria)
    return {row["criterion"]: row for row in rows}


SLOWER, FASTER = "without the drain the sink is slower", "a forced sink drains faster"
SMALLER, MORE = "without the drain the sink is smaller", "a forced sink drains more"
AS_SMALLER, AS_MORE = f"{SMALLER}, as predicted", f"{MORE}, as predicted"
RAISES = "hooked for a while, the drain raises the sink"
DRAINS = "hooked for a while, the sink drains the value"


def test_the_columns_are_those_of_the_table() -> None:
    assert set(made()["holds"].columns) <= {column.name for column in HOLDS.fields}


def test_planted_truth_is_reproduced_in_the_language_model_alone() -> None:
    rows = decided(made())
    told = {name: (row["verdict"], row["reason"]) for name, row in rows.items()}
    assert {row["verdict"] for row in rows.values()} == {YES}, told
    assert {row["world"] for row in rows.values()} == {"language_model"}
    assert standings(rows.values())[CAUSE].verdict == YES
    assert {row["subject"] for row in rows.values()} == {
        f"{HELD_VALUE} vs {FREE}", f"{FORCED} vs {FREE}", FREE,
    }  # fmt: skip


def test_a_rate_is_the_paired_difference_of_slopes_of_lead_heads() -> None:
    """By formula: the seeds are −2 and .05 apart; their mean's interval is Student's."""
    reach = stats.t(2).ppf(0.975) * 0.05 / math.sqrt(3)
    reason = decided(made())[SLOWER]["reason"]
    assert f"against the control: -2 ({-2 - reach:.3g} to {-2 + reach:.3g})" in reason


def where(condition: pl.Expr, **columns: pl.Expr | float | None) -> Callable[[Frames, str], Frames]:
    def change(frames: Frames, table: str) -> Frames:
        changed = [
            pl.when(condition).then(value).otherwise(pl.col(name)).alias(name)
            for name, value in columns.items()
        ]
        return frames | {table: frames[table].with_columns(changed)}

    return change


def of(name: str, column: str = "experiment") -> pl.Expr:
    return pl.col(column).str.replace(r"-seed\d$", "") == name


REVERSED = {
    "observed": -pl.col("observed"),
    "observed_low": -pl.col("observed_high"),
    "observed_high": -pl.col("observed_low"),
}
LIKE = {"observed": -2.0, "observed_low": -2.2, "observed_high": -1.8}
AT_SHAM, AT_SINK = pl.col("key_kind") == "position", pl.col("key_kind") == "sink"
FASTER_LOGIT = 2 * pl.col("step").clip(100).log()

ALTERED = [
    (SLOWER, "heads", where(of(HELD_VALUE, "trajectory"), delta_logit=2 * FASTER_LOGIT), NO),
    (SLOWER, "heads", where(of(f"{HELD_VALUE}-sham", "trajectory"), delta_logit=-FASTER_LOGIT), NO),
    (FASTER, "heads", where(of(FORCED, "trajectory"), output_value_ratio=1.0), NO),
    (SMALLER, "holds", where(of(HELD_VALUE), **REVERSED), NO),
    (SMALLER, "holds", where(of(f"{HELD_VALUE}-sham"), **LIKE), OPEN),
    (SMALLER, "holds", where(of(f"{HELD_VALUE}-sham"), observed=-4.0, observed_low=-4.2,
                             observed_high=-3.8), NO),
    (MORE, "holds", where(of(FORCED), **REVERSED), NO),
    (MORE, "holds", where(of(f"{FORCED}-sham"), observed=0.9, observed_low=0.8, observed_high=1.0),
     NO),
    (MORE, "holds", where(of(FORCED), observed_low=-0.1), OPEN),
    (AS_SMALLER, "holds", where(of(HELD_VALUE), predicted=-9.0), NO),
    (AS_SMALLER, "holds", where(of(HELD_VALUE), predicted=2.2), NO),
    (AS_SMALLER, "holds", where(of(HELD_VALUE), gain=None, predicted=None), UNMEASURED),
    (AS_MORE, "holds", where(of(FORCED), predicted=0.1), NO),
    (AS_MORE, "holds", where(of(FORCED), observed_low=0.1), OPEN),
    (RAISES, "forks", where(AT_SINK, log_odds_response=-0.2), NO),
    (RAISES, "forks", where(AT_SHAM, log_odds_response=0.5), NO),
    (DRAINS, "forks", where(AT_SHAM, drain_response=0.1), NO),
]  # fmt: skip


@pytest.mark.parametrize("altered", ALTERED, ids=lambda a: f"{a[0]} {a[3]}")
def test_other_data_give_another_verdict(
    altered: tuple[str, str, Callable[[Frames, str], Frames], str],
) -> None:
    criterion, table, change, verdict = altered
    row = decided(change(made(), table))[criterion]
    assert row["verdict"] == verdict, row["reason"]


def test_without_a_prediction_the_reason_says_which_curvature() -> None:
    for name, criterion, curvature in (
        (HELD_VALUE, AS_SMALLER, "∂²L/∂a²"),
        (FORCED, AS_MORE, "∂²L/∂b²"),
    ):
        frames = where(of(name), gain=None, predicted=None)(made(), "holds")
        assert (
            f"no prediction: at the control's sink {curvature}"
            in decided(frames)[criterion]["reason"]
        )


@pytest.mark.parametrize(("seeds", "deep", "layer"), [(3, 1, 0), (3, 2, 1), (2, 1, 0)])
def test_the_layer_is_that_of_most_of_the_controls_lead_heads(
    seeds: int, deep: int, layer: int
) -> None:
    there = pl.col("trajectory").is_in([f"{FREE}-seed{seed}" for seed in range(deep)])
    rows = decided(where(there, layer=1)(made(seeds), "phenomena"))
    assert f"layer {layer};" in rows[SMALLER]["reason"]


def test_one_pair_decides_nothing() -> None:
    for criterion, row in decided(made(seeds=1)).items():
        assert row["verdict"] == OPEN, (criterion, row["reason"])
        assert "has no interval" in row["reason"]


def test_a_change_without_a_sham_says_so() -> None:
    frames = made()
    rows = decided(frames | {"holds": frames["holds"].filter(~pl.col("sham"))})
    for criterion in (SLOWER, FASTER, SMALLER, MORE):
        assert rows[criterion]["verdict"] == YES
        assert "no sham beside it" in rows[criterion]["reason"]


def test_a_run_without_forks_is_judged_on_its_holds() -> None:
    frames = made()
    rows = decided({name: frame for name, frame in frames.items() if name != "forks"})
    assert {rows[name]["verdict"] for name in (RAISES, DRAINS)} == {UNMEASURED}
    assert all("'forks'" in rows[name]["reason"] for name in (RAISES, DRAINS))
    assert standings(rows.values())[CAUSE].verdict == YES


def test_a_run_without_holds_measures_nothing_and_says_so() -> None:
    frames = made()
    rows = decided({name: frame for name, frame in frames.items() if name != "holds"})
    assert standings(rows.values())[CAUSE].verdict == UNMEASURED
    assert "beside a control" in rows[SLOWER]["reason"]


def test_both_worlds_have_to_be_decided() -> None:
    """A toy that is held beside the language model: open there, and so is the claim."""
    frames = made()
    toy = {"observed": 0.1, "observed_low": -5.0, "observed_high": 5.0, "predicted": 1.0}
    rows = [hold("bb/held", "bb/free", kind, "prose", **toy) for kind in ("hold_value",)]
    both = pl.concat([frames["holds"], pl.DataFrame(rows)], how="diagonal_relaxed")
    lead = {"trajectory": "bb/free/seed0", "domain": "prose", "layer": 0, "head": 0}
    phenomena = pl.concat([frames["phenomena"], pl.DataFrame([lead])], how="diagonal_relaxed")
    evidence = Evidence(made_up.SETTINGS, {}, frames | {"holds": both, "phenomena": phenomena})
    found = list(claim_rows(HELD.criteria, evidence))
    assert {row["world"] for row in found} == {"bb", "language_model"}
    assert standings(found)[CAUSE].verdict == OPEN


def test_both_of_two_numbers_have_to_hold() -> None:
    """The interval's verdict is that of the two: yes where both are, no where one is not."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        one, other = (
            Value(m, m - r, m + r, "seeds")
            for m, r in zip(rng.normal(size=2), rng.random(2), strict=True)
        )
        found = speaks_less(one, other, up=True)
        assert (found.low > 0) == (one.low > 0 and other.low > 0)
        assert (found.high < 0) == (one.high < 0 or other.high < 0)
        turned = speaks_less(
            *(Value(-v.value, -v.high, -v.low, "seeds") for v in (one, other)), False
        )
        assert (turned.value, turned.low, turned.high) == (-found.value, -found.high, -found.low)
    assert speaks_less(Value(1.0), Value(2.0, 1.0, 3.0, "seeds"), up=True).interval == "none"
