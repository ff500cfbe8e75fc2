from __future__ import annotations

import polars as pl
import pytest

from trajectory.bb.reference import FIRST_SHARE, compare_with_paper, published
from trajectory.bb.summary import Frames
from trajectory.errors import TrajectoryError

EMPTY = pl.DataFrame(
    schema={"trajectory": pl.String, "step": pl.Int64, "domain": pl.String, "layer": pl.Int16,
            "trigger": pl.Boolean, "delta_logit": pl.Float64, "residual_norm_sink": pl.Float64,
            "sink_weight": pl.Float64, "output_value_norm_sink": pl.Float64,
            "value_norm_sink": pl.Float64, "risk": pl.Float64, "excess_risk": pl.Float64}
)  # fmt: skip


def residuals(values: dict[int, list[float]]) -> pl.DataFrame:
    rows = [
        {"trajectory": f"bb/3l-sgd/seed{seed}", "step": step, "domain": domain, "layer": layer,
         "residual_norm_sink": value if (domain, layer) == ("non_trigger", 1) else -1.0}
        for step, found in values.items()
        for seed, value in enumerate(found)
        for domain in ("trigger", "non_trigger")
        for layer in (0, 1, 2)
    ]  # fmt: skip
    return pl.DataFrame(rows)


def test_published_values_are_in_our_definitions() -> None:
    steps, runs = published()
    assert all(len(v) == len(steps) for run in runs.values() for v in run.values())
    weight = dict(zip(steps, runs["1l-adamw"]["sink_weight"], strict=True))
    assert weight[1000] * (1 - FIRST_SHARE) + FIRST_SHARE == pytest.approx(0.7785)
    assert runs["1l-adamw"]["bigram_excess"][0] == 2.2078


def test_points_inside_and_outside_the_spread_of_seeds() -> None:
    layers = residuals({100: [23.0, 24.0, 25.0], 1000: [20.0, 20.1, 20.2], 7: [1.0, 1.0, 1.0]})
    found = compare_with_paper(Frames(EMPTY, layers, EMPTY, EMPTY))
    assert [(p.step, p.published, p.inside, p.seeds) for p in found] == [
        (100, 23.89, True, 3),
        (1000, 29.13, False, 3),
    ]
    # The law of logarithms: mean 3.1774, sd 0.04170, t_{0.975, 2} = 4.3027, √(1 + 1/3).
    assert found[0].high == pytest.approx(
        23.986 * 2.7182818 ** (4.3027 * 0.04170 * 1.1547), rel=1e-3
    )


def test_a_run_of_something_else_is_refused() -> None:
    with pytest.raises(TrajectoryError, match="no trajectory of this run is one of the paper's"):
        compare_with_paper(Frames(EMPTY, EMPTY, EMPTY, EMPTY))
