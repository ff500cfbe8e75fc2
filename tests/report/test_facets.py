"""Colours by what tells the runs of a family apart."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from selenium import webdriver

from trajectory.config import Config
from trajectory.report import facets
from trajectory.report.page import Page
from trajectory.report.pages import trajectories
from trajectory.report.palette import PALETTE, QUIET
from trajectory.report.run import Run
from trajectory.report.site import build
from trajectory.schemas import TRAJECTORIES
from trajectory.tables import from_rows, write

from .chromium import choose, open_page, silent
from .explained import filled

FAMILY = {
    "nano-olmo": {"data": "falcon", "parameters": 20_100_000},
    "bb/softmax-1l/seed0": {"data": "c4", "parameters": 7_020_000},
    "bb/softmax-1l/seed1": {"data": "c4", "parameters": 7_020_000},
}


@pytest.fixture(scope="module")
def of_family(results: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The synthetic run, some of whose trajectories are said to be a family."""
    folder = tmp_path_factory.mktemp("family")
    for path in results.rglob("*"):
        target = folder / path.relative_to(results)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        elif path.name != "trajectories.parquet":
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
    rows = []
    for name in run.trajectories:
        known = {"family": "f", "seed": "a", **FAMILY[name]} if name in FAMILY else {}
        rows.append(filled(TRAJECTORIES, trajectory=name, **known))
    facts = {"trajectory": "0", "versions": {"torch": "0"}}
    path = folder / "tables" / "trajectories.parquet"
    write(from_rows(rows, TRAJECTORIES), TRAJECTORIES, path, facts)
    return Run(folder, run.config)


def test_what_tells_runs_apart_is_offered(of_family: Run, run: Run) -> None:
    assert set(FAMILY) < set(of_family.trajectories)
    assert facets.varied(of_family) == {
        "data": ["c4", "falcon", facets.UNKNOWN],
        "parameters": ["7.02M", "20.1M", facets.UNKNOWN],
    }
    (control,) = facets.control(of_family)
    assert [value for value, _ in control.options] == ["run", "data", "parameters"]  # type: ignore[union-attr]
    page = trajectories.make(of_family)
    for name in ("heads", "streams", "checkpoints", "curves"):
        for row in page.data[name].unique("trajectory").to_dicts():
            own = FAMILY.get(row["trajectory"], {}).get("data", facets.UNKNOWN)
            assert row["of_data"] == own
            assert "of_seed" not in row
    colour = page.figures[0].patches[facets.CONTROL]["parameters"]["color"]
    assert colour["scale"] == {
        "domain": ["7.02M", "20.1M", facets.UNKNOWN],
        "range": [*PALETTE[:2], QUIET],
    }


def test_runs_of_no_family_are_coloured_as_before(run: Run, pages: list[Page]) -> None:
    assert facets.varied(run) == {}
    assert facets.control(run) == []
    (page,) = [page for page in pages if page.name == "trajectories"]
    assert facets.CONTROL not in [control.name for control in page.controls]
    assert all(facets.CONTROL not in figure.patches for figure in page.figures)
    assert not [c for frame in page.data.values() for c in frame.columns if c.startswith("of_")]


@pytest.mark.parametrize(
    ("rows", "offered"),
    [
        ([("a", "f", None, 10), ("b", "f", None, 1500)], {"parameters": ["10", "1.5K"]}),
        ([("a", "f", None, 2_000_000_000), ("b", "f", None, None)], {}),
        ([("a", None, "x", 10), ("b", None, "y", 20)], {}),
        (
            [("a", "f", "x", None), ("b", "g", "y", None)],
            {"data": ["x", "y"], "family": ["f", "g"]},
        ),
    ],
)
def test_facets_that_do_not_differ_are_not_offered(
    monkeypatch: pytest.MonkeyPatch, rows: list[Any], offered: dict[str, list[str]]
) -> None:
    names = ("trajectory", "family", "data", "parameters")
    texts = dict.fromkeys(("trajectory", "family", "data", "seed", "language"), pl.String)
    made = [dict(zip(names, row, strict=True)) for row in rows]
    frame = pl.DataFrame(made, schema={**texts, "parameters": pl.Int64})

    run = SimpleNamespace(
        trajectories=[row[0] for row in rows],
        has=lambda name: name == "trajectories",
        frame=lambda name: frame,
    )
    assert facets.varied(run) == offered  # type: ignore[arg-type]


def drawn(browser: webdriver.Chrome, figure: str) -> set[tuple[str, str]]:
    """Trajectory and colour of every point."""
    found = browser.execute_script(
        "return report.marks(arguments[0]).filter(m => m.type === 'symbol')"
        ".map(({item: i}) => [i.datum.trajectory, i.fill || i.stroke])",
        figure,
    )
    return {tuple(pair) for pair in found}


@pytest.mark.thorough
def test_a_reader_colours_runs_by_their_data(
    browser: webdriver.Chrome, of_family: Run, config: Config, tmp_path: Path
) -> None:
    build(of_family.results, config, tmp_path / "site", draw=False)
    page = tmp_path / "site" / "trajectories.html"
    open_page(browser, page)
    before = drawn(browser, "sink")
    choose(browser, facets.CONTROL, "data")
    for figure in ("sink", "loss", "any"):
        found = drawn(browser, figure)
        assert {name for name, _ in found} >= {"nano-olmo"}
        assert dict(found)["nano-olmo"] == PALETTE[1], "falcon, the second"
        assert {colour for _, colour in found} == {*PALETTE[:2], QUIET}
        assert len(found) == len({name for name, _ in found}), "one colour each"
        legend = browser.execute_script(
            "return [...document.querySelectorAll('#chart-' + arguments[0] + "
            "' .role-legend-label text')].map(t => t.textContent)",
            figure,
        )
        assert legend == ["c4", "falcon", facets.UNKNOWN]
    assert browser.current_url.endswith("coloured_by=data"), "the view can be sent"
    choose(browser, facets.CONTROL, "run")
    assert drawn(browser, "sink") == before
    silent(browser, (tmp_path / "site").as_uri())
