from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from trajectory.config import Variant
from trajectory.dynamics.bb_reference import (
    FIRST_SHARE,
    compare_with_paper,
    milestones,
    published,
    repeats,
)
from trajectory.dynamics.bb_summary import Frames
from trajectory.errors import TrajectoryError
from trajectory.schemas import TABLES
from trajectory.tables import from_rows, write

EMPTY = pl.DataFrame(
    schema={"trajectory": pl.String, "step": pl.Int64, "domain": pl.String, "layer": pl.Int16,
            "trigger": pl.Boolean, "delta_logit_bb": pl.Float64, "residual_norm_sink": pl.Float64,
            "sink_weight": pl.Float64, "output_value_norm_sink": pl.Float64,
            "value_norm_sink": pl.Float64, "risk": pl.Float64, "excess_risk_bb": pl.Float64}
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
    runs = published()
    weight, excess = (runs["1l-adamw"][name] for name in ("sink_weight", "bigram_excess"))
    assert weight[1000] * (1 - FIRST_SHARE) + FIRST_SHARE == pytest.approx(0.7785)
    assert weight[99000] == pytest.approx(0.8697, abs=1e-4)
    assert excess[0] == 2.2078 and excess[100] == 0.1613
    assert min(v for run in runs.values() for v in run.get("bigram_excess", {0: 1}).values()) > 0
    levels = milestones()["1l-adamw"]
    assert levels["bigram_excess"] == {0.1: 160, 0.05: 260}
    assert list(levels["sink_weight"].values()) == [180, 200, 260, 820, 2600]


def test_delta_logit_is_compared_without_the_own_key_and_by_kind_of_token() -> None:
    types = pl.DataFrame(
        [
            {"trajectory": f"bb/1l-adamw/seed{seed}", "step": 1000, "layer": 0, "trigger": trigger,
             "token": str(token), "delta_logit": 99.0,
             "delta_logit_bb": (-3.0 if trigger else 9.5) + seed + token}
            for seed in (0, 1)
            for trigger in (False, True)
            for token in (-1, 1)
        ]
    )  # fmt: skip
    found = compare_with_paper(Frames(EMPTY, EMPTY, EMPTY, types))
    assert [(p.statistic, p.published, p.mean) for p in found] == [
        ("delta_logit_bb", 9.70, pytest.approx((9.5 * 10.5) ** 0.5)),
        ("delta_logit_bb_trigger", -3.12, -2.5),
    ]


def test_the_bigram_risk_is_compared_under_the_authors_oracle() -> None:
    checkpoints = pl.DataFrame(
        [
            {"trajectory": f"bb/1l-relu/seed{seed}", "step": 10_000, "domain": domain,
             "risk": 9.0, "excess_risk": 9.0,
             "excess_risk_bb": 0.0091 if domain == "non_trigger" else 9.0}
            for seed in (0, 1)
            for domain in ("trigger", "non_trigger")
        ]
    )  # fmt: skip
    found = compare_with_paper(Frames(EMPTY, EMPTY, checkpoints, EMPTY))
    point = next(p for p in found if p.statistic == "bigram_excess")
    assert (point.published, point.mean) == (0.0091, pytest.approx(0.0091))


def test_milestones_are_the_first_records_beyond_their_levels() -> None:
    """A seed that ended before is left out; one that never gets there makes it never."""

    def run(seed: int, risks: dict[int, float]) -> list[dict]:
        name = f"bb/1l-adamw/seed{seed}"
        return [{"trajectory": name, "step": s, "domain": "trigger", "risk": r, "excess_risk_bb": r}
                for s, r in risks.items()]  # fmt: skip

    seeds = [
        run(0, {180: 3.0, 220: 0.9, 260: 0.5, 1300: 0.05}),
        run(1, {180: 2.0, 240: 0.8, 1300: 0.2}),
        run(2, {180: 0.5}),
    ]
    frame = pl.DataFrame([row for rows in seeds for row in rows])
    found = {p.statistic: p for p in compare_with_paper(Frames(EMPTY, EMPTY, frame, EMPTY))}
    first = found["step of backcopy_risk 1"]
    assert (first.published, first.seeds, first.inside) == (220, 2, True)
    assert first.mean == pytest.approx((220 * 240) ** 0.5)
    assert found["step of backcopy_risk 0.1"].mean == float("inf")
    assert not found["step of backcopy_risk 0.1"].inside


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


def test_other_weights_and_seeds_repeat_a_run_and_another_batch_does_not(root: Path) -> None:
    from trajectory.config import load

    variants = load(root / "workflow" / "configs" / "paper-once.yaml").bb.variants
    found = repeats(variants)
    assert found == dict.fromkeys(["1l-adamw", "b512-bf16", "b512-authors-weights"], "1l-adamw")
    rows = residuals({100: [23.0]}).with_columns(
        trajectory=pl.lit("bb/b512-authors-weights/seed42")
    )
    (point,) = compare_with_paper(Frames(EMPTY, rows, EMPTY, EMPTY), found)
    assert (point.run, point.published, point.mean) == ("b512-authors-weights", 31.1, 23.0)


def test_a_run_of_something_else_is_refused() -> None:
    with pytest.raises(TrajectoryError, match="no trajectory of this run is one of the paper's"):
        compare_with_paper(Frames(EMPTY, EMPTY, EMPTY, EMPTY))


def test_one_seed_has_no_spread_and_another_size_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command on the tables that a training writes."""
    from trajectory.bb.train import train
    from trajectory.cli.bb import bb_reference

    values = {"width": 8, "batch": 4, "steps": 1, "record": [0], "evaluation": 8}
    for name, rows in train("1l-adamw", Variant.model_validate(values), 0).items():
        path = tmp_path / "tables" / f"{name}.parquet"
        write(from_rows(rows, TABLES[name]), TABLES[name], path, {})
    for width in (64, 256):
        paper = {"width": width, "batch": 512, "task": {"length": 256}}
        config = {"name": "x", "results": "r", "bb": {"variants": {"1l-adamw": paper}}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        if width == 64:
            with pytest.raises(
                TrajectoryError, match="1l-adamw is of width 64, batch 512, T = 256"
            ):
                bb_reference(tmp_path)
    bb_reference(tmp_path)
    found = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert {line[1] for line in found} == {*published()["1l-adamw"]}
    assert {" ".join(line[2:]) for line in found} == {"1 no spread"}
