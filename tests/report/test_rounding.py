"""Rounded weights against the peak: a section that only runs with such losses have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from trajectory.report.figures import THEMES, render, static
from trajectory.report.page import Heading, Missing, Page
from trajectory.report.pages import dynamics
from trajectory.report.parts import rounding
from trajectory.report.run import Run
from trajectory.schemas import CHECKPOINTS
from trajectory.tables import from_rows, read, write

from .synthetic import STEPS, configured, make_results

FACTS = {"trajectory": "0", "versions": {"torch": "0"}}


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_results(tmp_path_factory.mktemp("rounded"))


@pytest.fixture(scope="module")
def measured(without: Path) -> Run:
    """Four bits cost nano-olmo a tenth of what its peak is above 1; the toy of three layers .02."""
    assert not rounding.measured(Run(without, configured(without)))
    path = without / "tables" / "checkpoints.parquet"
    rows = read(path, CHECKPOINTS).to_pylist()
    for row in rows:
        rise = 0.9 / (1 + (100 / max(row["step"], 1e-9)) ** 2)
        cost = 0.3 * rise if row["trajectory"] == "nano-olmo" else 0.02
        row |= {"loss_4_bits": row["loss"] + cost, "loss_8_bits": row["loss"] + cost / 100}
    write(from_rows(rows, CHECKPOINTS), CHECKPOINTS, path, FACTS)
    return Run(without, configured(without))


def test_costs_are_paired_with_the_peak_of_the_same_checkpoint(measured: Run) -> None:
    frame = rounding.costs(measured)
    assert set(frame["trajectory"]) == {"bb/adamw-3l/seed0", "nano-olmo"}, "one layer has no peak"
    own = frame.filter(trajectory="nano-olmo", bits=4)
    assert own.height == 2 * len(STEPS)
    np.testing.assert_allclose(own["cost"], 0.1 * (own["residual_ratio"] - 1), atol=1e-9)
    eight = frame.filter(trajectory="nano-olmo", bits=8)
    np.testing.assert_allclose(eight["cost"], own["cost"] / 100, atol=1e-9)


def test_the_section_is_on_the_page_and_drawn(measured: Run) -> None:
    page = dynamics.make(measured)
    assert [b.name for b in page.blocks if isinstance(b, Heading)][-1] == "rounding"
    part = rounding.make(measured)
    alone = Page("dynamics", "", "", "", part.blocks, part.controls, part.data)
    (figure,) = part.blocks
    figure.chart.properties(width=300, height=200).to_dict()  # validated
    drawn = render(static(figure, page, THEMES["light"]), figure.name)["svg"]
    assert len(re.findall(rb'aria-roledescription="point"', drawn)) > 20
    assert alone.figures[0].reading.startswith(
        "At their last checkpoint 4 bits cost +0.020 nats per token in bb/adamw-3l/seed0 "
        "(peak 1.00)"
    )
    assert "2 runs are too few for a correlation" in alone.figures[0].reading


def test_without_a_peak_the_section_says_so(measured: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounding, "costs", lambda run: pl.DataFrame())
    (block,) = rounding.make(measured).blocks
    assert isinstance(block, Missing)


def ends(peaks: list[float], costs: list[float]) -> pl.DataFrame:
    rows: list[dict[str, Any]] = [
        {"trajectory": f"run{n}", "domain": "prose", "step": step, "bits": 4,
         "residual_ratio": peak if step else 1.0, "cost": cost if step else 9.0}
        for n, (peak, cost) in enumerate(zip(peaks, costs, strict=True))
        for step in (0, 10)
    ]  # fmt: skip
    return pl.DataFrame(rows)


def test_the_sentence_follows_the_correlation_of_last_checkpoints() -> None:
    peaks = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    with_it = rounding.reading(ends(peaks, [0.1, 0.2, 0.3, 0.4, 0.5, 0.7]), 4)
    assert "over 6 runs the cost goes with the peak (rank correlation +1.00" in with_it
    apart = rounding.reading(ends(peaks, [0.3, 0.1, 0.4, 0.1, 0.5, 0.2]), 4)
    assert "is not shown to go with the peak" in apart
    assert "with 8 bits" in rounding.reading(ends(peaks, peaks), 8)


def test_correlations_are_scipys_and_chances_hold_under_the_null() -> None:
    generator = np.random.default_rng(1)
    peaks, cost = generator.normal(size=9), generator.normal(size=9)
    cost[3] = cost[5]  # a tie
    found, _ = rounding.association(peaks, cost)
    assert found == pytest.approx(stats.spearmanr(peaks, cost).statistic)
    chances = [
        rounding.association(generator.normal(size=6), generator.normal(size=6))[1]
        for _ in range(200)
    ]
    assert np.mean(np.array(chances) < 0.05) < 0.1
    assert rounding.association(np.arange(6), np.arange(6))[1] == pytest.approx(2 / 720, abs=2e-3)
