"""Forces over seeds and against motion, from tables whose truth is planted."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from scipy import stats

from trajectory.dynamics import levels
from trajectory.dynamics.courses import courses, placed
from trajectory.dynamics.motions import motion_rows, motion_test_rows
from trajectory.dynamics.reinforcement import reinforcement_rows
from trajectory.dynamics.rise import sinks
from trajectory.probe.forces.arrows import PARTS
from trajectory.report.parts import answered, established
from trajectory.schemas import MOTION_TESTS, MOTIONS, REINFORCEMENT
from trajectory.tables import from_rows, validate

from .planted import ONSET, SE, SEEDS, STEPS, forks, tables


def rows_of(found: dict[str, pl.DataFrame]) -> pl.DataFrame:
    data = from_rows(
        reinforcement_rows(found["forces"], found["arrows"], found["onsets"], found["force_means"]),
        REINFORCEMENT,
    )
    validate(data, REINFORCEMENT, "test")
    return pl.DataFrame(data)


def test_intervals_are_over_seeds_and_ratios_are_of_means() -> None:
    found = tables()
    row = rows_of(found).filter(key="sink", step=150).row(0, named=True)
    own = found["forces"].filter(key="sink", step=150)["sink_force"].to_numpy()
    reach = stats.t.ppf(0.975, 3) * own.std(ddof=1) / 2
    assert row["trajectories"] == len(SEEDS) and row["errors"] == "seeds"
    assert [row["sink_force_low"], row["sink_force_high"]] == pytest.approx(
        [own.mean() - reach, own.mean() + reach]
    )
    assert row["sink_strength"] == pytest.approx(own.mean() / SE)
    assert row["since_onset"] == pytest.approx(math.log(150 / ONSET))
    assert row["sink_arrow_ratio"] == pytest.approx(1.1)
    assert row["gain"] == pytest.approx(0.25)
    assert row["sink_response"] == row["drain_response"] == pytest.approx(0.5)


def test_one_trajectory_has_errors_over_sequences_and_its_heads_a_mean() -> None:
    found = rows_of(tables(trajectories=("some-suite",), heads=4))
    assert set(found["role"]) == {"lead", "all"} and set(found["errors"]) == {"sequences"}
    row = found.filter(role="all", key="sink", step=150).row(0, named=True)
    assert row["sink_force_high"] - row["sink_force"] == pytest.approx(1.96 * SE)
    assert row["sink_arrow"] is not None and row["sink_arrow_high"] is None
    lead = found.filter(role="lead", key="sink", step=150).row(0, named=True)
    error = tables(trajectories=("some-suite",), heads=4)["arrows"]["sink_arrow_se"][0]
    reach = stats.t.ppf(0.975, PARTS - 1) * error
    assert lead["sink_arrow_high"] - lead["sink_arrow"] == pytest.approx(reach, rel=1e-3)


def test_the_mean_of_heads_has_no_error_that_takes_them_for_independent() -> None:
    found = tables(trajectories=("some-suite",), heads=4)
    rows = reinforcement_rows(found["forces"], found["arrows"], found["onsets"])
    every = [row for row in rows if row["role"] == "all"]
    assert {row["sink_force_high"] for row in every} == {None}
    assert None not in {row["sink_force"] for row in every}


def test_a_ratio_over_what_may_be_zero_has_no_ends() -> None:
    found = tables(trajectories=SEEDS[:1])
    weak = found["forces"].with_columns(coupling=pl.lit(SE))
    row = rows_of(found | {"forces": weak}).filter(key="sink", step=150).row(0, named=True)
    assert row["sink_arrow_ratio"] is not None and row["sink_arrow_ratio_low"] is None


def test_forces_without_arrows_leave_theirs_empty() -> None:
    found = tables()
    rows = reinforcement_rows(found["forces"], None, found["onsets"])
    assert {row["sink_arrow"] for row in rows} == {None}
    assert {row["coupling"] is None for row in rows} == {False}


@pytest.mark.parametrize(("moved", "told"), [(1.0, True), (0.0, False), (-1.0, False)])
def test_a_planted_mobility_is_found_and_none_is_not(moved: float, told: bool) -> None:
    found = tables(moved=moved, trajectories=("some-suite",), heads=12)
    shaken = found["heads"].with_columns(
        pl.col("sink_log_odds") + 1e-5 * np.random.default_rng(3).normal(size=len(found["heads"]))
    )
    data = from_rows(motion_rows(found["forces"], found["arrows"], shaken), MOTIONS)
    validate(data, MOTIONS, "test")
    moves = pl.DataFrame(data)
    assert moves.height == 12 * 5 * (len(STEPS) - 1)
    tests = from_rows(motion_test_rows(moves, 0), MOTION_TESTS)
    validate(tests, MOTION_TESTS, "test")
    row = (
        pl.DataFrame(tests)
        .filter(key="sink", variable="sink", predictor="force")
        .row(0, named=True)
    )
    assert row["shuffled"] == row["pairs"] == 48
    assert (row["rank_p"] <= 0.01) == told and (row["mobility_p"] <= 0.01) == told
    assert row["mobility"] == pytest.approx(moved, abs=0.01)


def test_one_head_alone_has_no_null() -> None:
    found = tables(trajectories=SEEDS[:1])
    moves = pl.DataFrame(motion_rows(found["forces"], found["arrows"], found["heads"]))
    assert {row["rank_p"] for row in motion_test_rows(moves, 0)} == {None}


def paragraph(found: dict[str, pl.DataFrame], sign: float = 1.0) -> dict[str, str]:
    when = sinks(found["heads"], found["onsets"])
    rows = placed(found["forces"], found["arrows"], when)
    course, known = courses(found["force_means"], when), levels.sinks_and_shams(rows)
    forked = levels.forked(forks(sign))
    passages = {
        "forces": established.forces(course),
        "arrows": established.arrows(known),
        "forks": answered.forks(forked),
        "false": established.false(course, known, rows_of(found)),
    }
    return {
        name: " ".join(sentences).replace("\u00a0", " ") for name, sentences in passages.items()
    }


def test_what_is_planted_is_established() -> None:
    told = paragraph(tables())
    assert "exceeds that on positional shams in bb/toy" in told["forces"]
    assert "less in bb/toy" in told["forces"]
    assert "100 % of checkpoints, shams 0 %" in told["arrows"]
    assert "Drain drives the sink: in all seeds of bb/toy at steps 60 and 150." in told["forks"]
    assert "R > 0 at 100 % of positional shams too" in told["false"]
    assert "a drained value starts the sink" in told["false"]
    assert "runs away" in told["false"]


def test_what_is_planted_the_other_way_is_told_the_other_way() -> None:
    told = paragraph(tables(agree=False, force=-8.0, drain=5.0, constant=-1.0, coupled=-1.0), -1.0)
    assert "is below that on positional shams in bb/toy" in told["forces"]
    assert "exceeds that" not in told["forces"]
    assert "more in bb/toy" in told["forces"]
    assert "They do not agree with R at the sink" in told["arrows"]
    assert "the reverse in all seeds" in told["forks"]
    assert "marks a sink" not in told["false"]
    assert "starts the sink" not in told["false"]


def test_a_positive_coupling_alone_establishes_nothing() -> None:
    """R > 0 everywhere, its arrows elsewhere."""
    told = paragraph(tables(agree=False), 0.0)
    assert "They do not agree with R at the sink" in told["arrows"]
    assert "in all seeds" not in told["forks"] and "seeds disagree" in told["forks"]


def test_without_the_sink_s_onset_nothing_is_said_of_sinks() -> None:
    found = tables()
    found["onsets"] = found["onsets"].with_columns(onset=pl.lit(None, pl.Float64))
    told = paragraph(found)
    assert told["forces"].startswith("No run with forces has a sink")
    assert told["arrows"].startswith("No head whose sink's onset was observed")
