"""Onsets against size: a section that only families of runs have."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from trajectory.config import Config, parse
from trajectory.dynamics.families import family_tables
from trajectory.report import marks
from trajectory.report.controls import Choice
from trajectory.report.figures import THEMES, render, static
from trajectory.report.page import Heading, Page, Part
from trajectory.report.pages import dynamics
from trajectory.report.palette import KINDS
from trajectory.report.parts import sizes
from trajectory.report.parts.onsets import PHENOMENA
from trajectory.report.run import Run
from trajectory.schemas import CHECKPOINTS, ONSETS, TABLES, Table
from trajectory.tables import from_rows, write

from .explained import filled

PER_STEP = {"4M": 65536, "20M": 131072, "60M": 196608, "150M": 393216}
FACTS = {"trajectory": "0", "versions": {"torch": "0"}}


def save(rows: list[dict[str, Any]], table: Table, results: Path) -> None:
    write(from_rows(rows, table), table, results / "tables" / f"{table.name}.parquet", FACTS)


def configured(results: Path) -> Config:
    family = {"sizes": list(PER_STEP), "recipes": ["c4", "falcon"], "seeds": ["default"]}
    suites = {"datadecide": {"family": family}}
    return parse({"name": "f", "results": str(results), "suites": suites})


@pytest.fixture(scope="module")
def of_families(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Sinks at tokens ∝ parameters^0.5, up to noise; no drain anywhere."""
    results = tmp_path_factory.mktemp("families")
    config = configured(results)
    rng = np.random.default_rng(2)
    checkpoints, onsets = [], []
    for name, suite in config.suites.public().items():
        assert suite.facets is not None
        assert suite.parameters is not None
        per_step = PER_STEP[str(suite.facets.size)]
        step = 3e7 * (suite.parameters / 1e7) ** 0.5 * math.exp(0.1 * rng.normal()) / per_step
        for at in (0, 100, 5000):
            known = {"trajectory": name, "step": at, "tokens": at * per_step, "domain": "prose"}
            checkpoints.append(filled(CHECKPOINTS, **known))
        for phenomenon, seen in (("sink", True), ("drain", False)):
            known = {"trajectory": name, "domain": "prose", "phenomenon": phenomenon}
            place = {"level": "trajectory", "layer": -1, "head": -1, "lead": False}
            status = {"status": "observed" if seen else "not_reached"}
            ends = {"onset": step, "low": step / 1.2, "high": step * 1.2} if seen else {}
            onsets.append(filled(ONSETS, **known, **place, **status, **ends))
    save(checkpoints, CHECKPOINTS, results)
    save(onsets, ONSETS, results)
    for table, rows in family_tables(config, pl.DataFrame(checkpoints), onsets).items():
        save(rows, TABLES[table], results)
    return Run(results, config)


@pytest.fixture(scope="module")
def part(of_families: Run) -> Part:
    return sizes.make(of_families)


def test_points_are_in_tokens_and_lines_pass_through_the_fit(of_families: Run, part: Part) -> None:
    points, lines = part.data["sized"], part.data["size_lines"]
    assert points.height == 8
    onsets = of_families.frame("onsets").filter(phenomenon="sink")
    for row in points.to_dicts():
        (step,) = onsets.filter(trajectory=row["trajectory"])["onset"]
        assert row["at"] == pytest.approx(step * PER_STEP[row["size"]])
        assert row["at_low"] < row["at"] < row["at_high"]
    for fit in of_families.frame("onset_sizes").drop_nulls("exponent").to_dicts():
        own = lines.filter(data=fit["data"]).sort("parameters")
        x, y = (own[name].log().to_numpy() for name in ("parameters", "at"))
        assert np.diff(y) / np.diff(x) == pytest.approx(fit["exponent"])
        assert np.interp(math.log(fit["middle"]), x, y) == pytest.approx(math.log(fit["onset"]))
        width = (own["high"] / own["low"]).to_numpy()
        middle = int(np.argmin(width))
        assert abs(x[middle] - math.log(fit["middle"])) < 0.2, "narrowest in the middle"
        least = math.log(fit["onset_high"] / fit["onset_low"])
        assert math.log(width.min()) == pytest.approx(least, rel=0.05)


def test_every_choice_has_its_sentence_with_intervals(of_families: Run, part: Part) -> None:
    figure, exponents, *_ = part.blocks
    captions = figure.captions  # type: ignore[union-attr]
    assert captions is not None
    fits = of_families.frame("onset_sizes").filter(phenomenon="sink").sort("data")
    told = captions.readings[("sink",)]
    for row in fits.to_dicts():
        numbers = f"{row['exponent']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        assert f"parameters^{numbers} (datadecide, {row['data']} on prose)" in told
    assert told.endswith("8 of 8 onsets of a sink were observed.")
    assert captions.readings[("drain",)] == (
        "No power of the size is fitted: 0 of 8 onsets of a drain were observed, fewer than three "
        "runs or two sizes each."
    )
    assert captions.readings[("peak",)] == "No run of a family is looked at for a peak."
    assert part.answer == told
    assert told in exponents.reading  # type: ignore[union-attr]


def test_each_recipe_has_a_panel_on_the_same_axes(of_families: Run, part: Part) -> None:
    _, _, heading, *panels = part.blocks
    assert isinstance(heading, Heading) and heading.title == "By data"
    assert [panel.title for panel in panels] == ["data: c4", "data: falcon"]  # type: ignore[union-attr]
    fits = of_families.frame("onset_sizes").filter(phenomenon="sink")
    controls = [
        *marks.filters(of_families, *part.controls),
        Choice("chosen_phenomenon", "", [("sink", "sink")], "sink"),
    ]
    page = Page("x", "x", "x", "x", panels, controls, part.data)
    places = {}
    for panel, data in zip(page.figures, ("c4", "falcon"), strict=True):
        (row,) = fits.filter(data=data).to_dicts()
        assert f"parameters^{row['exponent']:.2f}" in panel.reading
        assert ("falcon" in panel.reading) == (data == "falcon")
        drawn = render(static(panel, page, THEMES["light"]), panel.name)["svg"]
        points = re.findall(rb'aria-roledescription="point"[^>]*', drawn)
        assert len(points) == 4, "its own runs"
        places[data] = re.findall(rb'transform="translate\(([-\d.]+),', b"".join(points))
        colours = set(re.findall(rb'fill="(#\w+)"', b"".join(points)))
        assert colours == {KINDS[["c4", "falcon"].index(data)].encode()}, "as in the whole chart"
    assert places["c4"] == places["falcon"], "the same sizes stand at the same places"


def test_charts_draw_every_run_in_the_colour_of_what_differs(
    of_families: Run, part: Part, tmp_path: Path
) -> None:
    (colour,) = part.controls
    assert [value for value, _ in colour.options] == ["data", "size"]  # type: ignore[union-attr]
    options = [(name, name) for name in PHENOMENA]
    controls = marks.filters(
        of_families, *part.controls, Choice("chosen_phenomenon", "", options, "sink")
    )
    page = Page("x", "x", "x", "x", part.blocks, controls, part.data)
    drawn = {}
    for figure in page.figures:
        figure.chart.properties(width=300, height=200).to_dict()  # validated
        drawn[figure.name] = render(static(figure, page, THEMES["light"]), figure.name)["svg"]
    points = re.findall(rb'aria-roledescription="point"[^>]*', drawn["onset-sizes"])
    assert len(points) == 8
    assert {b"c4", b"falcon"} <= set(re.findall(rb">(c4|falcon)</text>", drawn["onset-sizes"]))
    assert len(re.findall(rb'aria-roledescription="point"', drawn["size-exponents"])) == 2


def test_the_section_stands_on_the_page_behind_the_onsets(of_families: Run) -> None:
    page = dynamics.make(of_families)
    names = [block.name for block in page.blocks if isinstance(block, Heading)]
    assert names[:2] == ["onset", "sizes"]
    assert "onset-sizes" in [figure.name for figure in page.figures]


def test_a_run_without_families_has_no_such_section(results: Path, pages: list[Any]) -> None:
    assert not (results / "tables" / "onset_sizes.parquet").exists()
    (page,) = [page for page in pages if page.name == "dynamics"]
    assert "onset-sizes" not in [figure.name for figure in page.figures]
