"""*Do sink and drain drive each other?* with tables there and missing."""

from __future__ import annotations

from functools import cache
from itertools import product
from pathlib import Path

import polars as pl
import pytest
from dynamics.planted import SEEDS, STEPS, forks, tables

from trajectory.config import parse
from trajectory.dynamics.motions import motion_rows, motion_test_rows
from trajectory.dynamics.reinforcement import reinforcement_rows
from trajectory.report.figures import THEMES, render, static
from trajectory.report.page import Page
from trajectory.report.pages import reinforcement
from trajectory.report.run import Run
from trajectory.schemas import TABLES
from trajectory.tables import from_rows, write

from .explained import filled

OPTIONAL = ("forces", "arrows", "forks", "motion_tests", "reinforcement")


@cache
def planted() -> dict[str, list[dict[str, object]]]:
    found = tables()
    forces, arrows = found["forces"], found["arrows"]
    moves = motion_rows(forces, arrows, found["heads"])
    given = {name: frame.to_dicts() for name, frame in found.items()}
    given["forks"] = forks().drop("group").to_dicts()
    given["checkpoints"] = [
        {"trajectory": t, "step": s, "domain": "non_trigger"} for t in SEEDS for s in STEPS
    ]
    made = {name: [filled(TABLES[name], **row) for row in rows] for name, rows in given.items()}
    made["reinforcement"] = reinforcement_rows(
        forces, arrows, found["onsets"], found["force_means"]
    )
    made["motion_tests"] = motion_test_rows(pl.DataFrame(moves), 0)
    return made


def made(folder: Path, names: set[str]) -> Page:
    for name, rows in planted().items():
        if name not in OPTIONAL or name in names:
            table = TABLES[name]
            write(from_rows(rows, table), table, folder / "tables" / f"{name}.parquet", {})
    config = parse(
        {"name": "planted", "results": str(folder), "bb": {"variants": {"toy": {"seeds": [0]}}}}
    )
    return reinforcement.make(Run(folder, config))


@pytest.mark.parametrize("there", list(product((True, False), repeat=len(OPTIONAL))))
def test_every_subset_of_tables_makes_a_page(tmp_path: Path, there: tuple[bool, ...]) -> None:
    names = {name for name, has in zip(OPTIONAL, there, strict=True) if has}
    page = made(tmp_path, names)
    assert page.answer or page.reasons
    told = " ".join(page.blocks[1].sentences)  # type: ignore[union-attr]
    assert ("Forces: not measured in this run" in told) == ("forces" not in names)
    assert ("Forks: not measured in this run" in told) == ("forks" not in names)
    assert not {"None", "nan"} & set(told.split())


def test_its_charts_are_drawn(tmp_path: Path) -> None:
    page = made(tmp_path, set(OPTIONAL))
    assert [f.name for f in page.figures] == [
        *("agreement", "force-sink", "force-escape", "force-brake", "forks", "motion"),
    ]
    for figure in page.figures:
        drawing, _ = render(static(figure, page, THEMES["light"]), figure.name)
        assert "<path" in drawing
    assert "yes in bb/toy" in page.answer
