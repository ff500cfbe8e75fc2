from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from trajectory.config import Dynamics
from trajectory.dynamics import careers as module
from trajectory.dynamics.careers import (
    Times,
    assigned,
    career_rows,
    careers,
    confirmed,
    event_times,
    order_rows,
    scored,
)
from trajectory.dynamics.onset import Onset
from trajectory.dynamics.phases import onset_rows
from trajectory.schemas import TABLES
from trajectory.tables import from_rows, validate

SETTINGS = Dynamics()
STEPS = np.array([0, *np.unique(np.geomspace(10, 10_000, 25).round())])


def heads_of(values: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows of ``heads`` with what careers read; weights over a floor of .1."""
    named = ("previous", "induction", "duplicate", "punctuation", "local")
    rows = []
    for given in values:
        row = {"trajectory": "t", "domain": "prose", "layer": 0, "head": 0, "sink_excess": 0.0}
        row |= {"value_ratio": 1.0} | {k: v for k, v in given.items() if k not in named}
        for name in named:
            row[f"{name}_floor"] = 0.1
            row[f"{name}_weight"] = 0.1 + 0.9 * given.get(name, 0.0)
        rows.append(row)
    return pl.DataFrame(rows)


def test_the_role_is_the_greatest_score_beyond_its_threshold() -> None:
    cases = [
        ({}, "none", 0.0),
        ({"previous": 0.19}, "none", 0.19),
        ({"previous": 0.2, "local": 0.9}, "previous", 0.2),
        ({"previous": 0.3, "induction": 0.4}, "induction", 0.4),
        ({"sink_excess": 0.5, "duplicate": 0.4}, "sink", 0.5),
        ({"punctuation": 0.6, "sink_excess": 0.5}, "punctuation", 0.6),
        ({"local": 0.49}, "none", 0.0),
        ({"local": 0.51, "previous": 0.1}, "local", 0.51),
    ]
    frame = heads_of([{**given, "step": n} for n, (given, _, _) in enumerate(cases)])
    found = assigned(scored(frame), SETTINGS)
    for row, (given, role, score) in zip(found.iter_rows(named=True), cases, strict=True):
        assert row["role"] == role, given
        assert row["score"] == pytest.approx(score, abs=1e-12), given
    strict = assigned(scored(frame), Dynamics(role_threshold=0.5))
    assert strict["role"].to_list()[2:4] == ["local", "none"]


def test_a_head_whose_text_repeats_nothing_is_no_induction_head() -> None:
    frame = heads_of([{"step": 1, "previous": 0.9}]).with_columns(
        induction_weight=pl.lit(None, pl.Float64), induction_floor=pl.lit(None, pl.Float64)
    )
    assert scored(frame)["induction"].to_list() == [0.0]
    unmeasured = frame.with_columns(previous_weight=pl.lit(None, pl.Float64))
    assert scored(unmeasured).is_empty()


def test_one_record_changes_no_role() -> None:
    assert confirmed(["none", "sink", "none", "none"]) == ["none"] * 4
    assert confirmed(["none", "sink", "sink", "none"]) == ["none", "sink", "sink", "none"]
    assert confirmed(["none", "none", "sink"]) == ["none", "none", "sink"]
    assert confirmed(["a", "b", "a", "b", "b"]) == ["a", "a", "a", "b", "b"]


def test_planted_changes_of_role_are_found_between_their_records() -> None:
    """Heads that pass from none to previous to sink at planted steps."""
    rng = np.random.default_rng(0)
    planted = {}
    rows = []
    for head in range(20):
        first, second = np.sort(np.exp(rng.uniform(math.log(12), math.log(9000), 2)))
        if ((first < STEPS) & (second >= STEPS)).sum() < 2 or (second < STEPS).sum() < 1:
            continue
        planted[head] = [("none", "previous", first), ("previous", "sink", second)]
        for step in STEPS:
            one = {"step": int(step), "head": head}
            one["previous"] = 0.6 if first < step <= second else 0.05
            one["sink_excess"] = 0.7 if step > second else 0.02
            rows.append(one)
    _, changes = career_rows(scored(heads_of(rows)), SETTINGS)
    assert len(planted) > 10
    for head, moves in planted.items():
        own = [row for row in changes if row["head"] == head]
        assert [(row["before"], row["role"]) for row in own] == [m[:2] for m in moves]
        for row, (_, _, when) in zip(own, moves, strict=True):
            assert row["after_step"] <= when <= row["by_step"]
        assert [row["lasting"] for row in own] == [False, True]


def simulated(
    rng: np.random.Generator, seeds: int, heads: int, lag: float, spread: float
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Heads of two kinds, whose induction and sink set in ``lag`` nats apart on average."""
    rows = []
    for seed in range(seeds):
        trajectory = f"nano-olmo-x-seed{seed}"
        shift = rng.normal(0, 0.15) if seeds > 1 else 0.0
        for head in range(2 * heads):
            inducing = head < heads
            at = math.log(120) + shift + rng.normal(0, spread) + (0.0 if inducing else lag)
            for step in STEPS:
                there = step > math.exp(at)
                rows.append(
                    {
                        "trajectory": trajectory,
                        "step": int(step),
                        "head": head,
                        "induction": 0.5 if there and inducing else 0.02,
                        "sink_excess": 0.6 if there and not inducing else 0.01,
                    }
                )
    frame = heads_of(rows)
    layers = frame.select("trajectory", "domain", "layer", "step").with_columns(residual_ratio=1.0)
    onsets = onset_rows(frame, layers.unique(), {}, set(), SETTINGS, rng)
    return frame, onsets


def order_of(frame: pl.DataFrame, onsets: list[dict[str, Any]], pair: tuple[str, str]) -> dict:
    times = event_times(scored(frame), onsets, frame, SETTINGS)
    rows = order_rows(times, SETTINGS.together, np.random.default_rng(1))
    (row,) = (row for row in rows if (row["first"], row["second"]) == pair)
    return row


def drawn(rng: np.random.Generator, seeds: int, heads: int, lag: float) -> dict[str, Any]:
    """The row of two events whose heads' onsets lie ``lag`` nats apart on average.

    Onsets without curves around them: intervals and nulls are what is tested.
    """
    found = {}
    for seed in range(seeds):
        shift = rng.normal(0, 0.15) if seeds > 1 else 0.0
        runs = {}
        for name, later in (("induction", 0.0), ("sink", lag)):
            runs[name] = times = Times([], 0, [])
            for when in np.exp(math.log(120) + shift + later + rng.normal(0, 0.3, heads)):
                k = int(np.searchsorted(STEPS, when))
                module._note(times, Onset("observed", int(STEPS[k - 1]), int(STEPS[k])))
        found[f"nano-olmo-x-seed{seed}", "prose"] = runs
    (row,) = order_rows(found, SETTINGS.together, rng)
    assert row["seeds"] == seeds
    assert row["intervals_over"] == ("seeds" if seeds > 1 else "heads")
    return row


@pytest.mark.parametrize(("seeds", "heads"), [(1, 6), (4, 3)])
def test_the_planted_lag_lies_in_its_interval_at_the_stated_coverage(
    monkeypatch: pytest.MonkeyPatch, seeds: int, heads: int
) -> None:
    monkeypatch.setattr(module, "SHUFFLES", 19)  # the null is not looked at here
    rng = np.random.default_rng(seeds)
    rows = [drawn(rng, seeds, heads, 1.0) for _ in range(200)]
    assert np.mean([row["low"] <= 1.0 <= row["high"] for row in rows]) >= 0.94
    widths = [row["high"] - row["low"] for row in rows]
    assert np.median(widths) < 1.6, "an interval that is always true says nothing"
    assert np.mean([row["order"] == "induction" for row in rows]) > 0.6


def test_events_at_the_same_time_are_seldom_put_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHUFFLES", 99)
    rng = np.random.default_rng(3)
    rows = [drawn(rng, 1, 8, 0.0) for _ in range(200)]
    assert np.mean([row["order"] in ("induction", "sink") for row in rows]) <= 0.06
    assert np.mean([row["p_shuffled"] <= 0.05 for row in rows]) <= 0.08


@pytest.mark.parametrize("lag", [1.5, -1.5])
def test_whole_curves_give_the_planted_order_and_its_nulls(lag: float) -> None:
    rng = np.random.default_rng(7)
    frame, onsets = simulated(rng, 2, 6, lag, 0.2)
    row = order_of(frame, onsets, ("induction", "sink"))
    assert row["order"] == ("induction" if lag > 0 else "sink")
    assert row["log_lag"] == pytest.approx(lag, abs=0.4)
    assert (row["seeds"], row["first_heads"], row["second_heads"]) == (2, 12, 12)
    assert row["p_shuffled"] < 0.01
    assert row["first_untrained"] == row["second_untrained"] == 0
    assert (row["first_before"], row["second_before"]) == (0, 0)


def test_untrained_heads_past_the_threshold_are_told_and_left_out() -> None:
    frame, onsets = simulated(np.random.default_rng(9), 1, 4, 1.0, 0.2)
    early = frame.with_columns(
        induction_weight=pl.when(pl.col("head") == 0).then(0.9).otherwise("induction_weight")
    )
    row = order_of(early, onsets, ("induction", "sink"))
    assert (row["first_heads"], row["first_before"]) == (3, 1)
    assert row["first_untrained"] == pytest.approx(1 / 8)
    late = early.filter(pl.col("step") > 0)
    assert order_of(late, onsets, ("induction", "sink"))["first_untrained"] is None


def test_what_one_head_says_is_told_of_it_alone() -> None:
    frame, onsets = simulated(np.random.default_rng(10), 1, 1, 2.0, 0.1)
    row = order_of(frame, onsets, ("induction", "sink"))
    assert (row["first_heads"], row["second_heads"], row["intervals_over"]) == (1, 1, "records")
    assert row["low"] <= math.log(row["second_onset"] / row["first_onset"]) <= row["high"]
    assert row["order"] == "induction"
    several, onsets = simulated(np.random.default_rng(10), 1, 2, 2.0, 0.1)
    lone = several.filter(pl.col("head") != 1)  # one head of induction, two of sinks
    row = order_of(lone, onsets, ("induction", "sink"))
    assert (row["low"], row["high"], row["intervals_over"]) == (None, None, "none")
    assert row["order"] == "undecided"


def test_rows_fit_their_tables() -> None:
    frame, onsets = simulated(np.random.default_rng(11), 2, 2, 1.0, 0.2)
    found = dict(careers(frame, onsets, SETTINGS))
    assert set(found) == {"careers", "role_changes", "role_order"}
    assert len(found["careers"]) == frame.height
    for name, rows in found.items():
        assert rows
        validate(from_rows(rows, TABLES[name]), TABLES[name], name)
