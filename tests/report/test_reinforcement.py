"""*Do sink and drain drive each other?* with tables there and missing."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import polars as pl
import pytest
from dynamics.planted import SEEDS, STEPS, forks, tables

from trajectory.config import parse
from trajectory.dynamics import levels
from trajectory.dynamics.holds import experiments, hold_rows
from trajectory.dynamics.motions import motion_rows, motion_test_rows
from trajectory.dynamics.reinforcement import reinforcement_rows
from trajectory.report import specs
from trajectory.report.figures import THEMES, render, static
from trajectory.report.page import Figure, Folded, Grid, Page, Terms
from trajectory.report.pages import reinforcement
from trajectory.report.parts import agreement, answered, holds
from trajectory.report.run import Run
from trajectory.schemas import TABLES
from trajectory.tables import from_rows, write

from .explained import filled

OPTIONAL = ("forces", "arrows", "forks", "holds", "motion_tests", "reinforcement")


def held(shown: float = -2.5, reach: float = 0.5) -> list[dict[str, object]]:
    """Holds in both worlds: as predicted, the reverse, undecided, not predicted, and two shams."""
    found = []
    for experiment, kind, sham, predicted, observed, half in (
        ("bb/held", "hold_value", False, -3.0, shown, reach),
        ("bb/forced", "force_attention", False, 0.3, -0.2, 0.1),
        ("bb/blind", "hold_value", False, None, 1.0, 0.1),
        ("bb/held-sham", "hold_value", True, 0.0, 0.1, 0.3),
        ("nano-olmo-held", "hold_value", False, -1.0, -0.2, 0.6),
        ("nano-olmo-held-sham", "hold_value", True, 0.0, -0.4, 0.1),
    ):
        given = {
            **{"experiment": experiment, "control": "free", "sham": sham, "kind": kind},
            **{"domain": "prose", "layer": 0, "seeds": 3, "predicted": predicted},
            **{"observed": observed, "observed_low": observed - half},
            "observed_high": observed + half,
        }
        found.append(filled(TABLES["holds"], **given))
    return found


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
    made["holds"] = held()
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


ALONE = [{name} for name in OPTIONAL]


@pytest.mark.parametrize(
    "names", [set(OPTIONAL), set(), *ALONE, *(set(OPTIONAL) - one for one in ALONE)]
)
def test_a_page_is_made_of_what_tables_there_are(tmp_path: Path, names: set[str]) -> None:
    page = made(tmp_path, names)
    assert page.answer or page.reasons
    (terms,) = (block for block in page.blocks if isinstance(block, Terms))
    told = " ".join(" ".join([f"{term}:", *passage]) for term, passage in terms.passages)
    assert ("Forces: Not measured:" in told) == ("forces" not in names)
    assert ("Flow arrows: Not measured:" in told) == (not {"forces", "arrows"} <= names)
    assert ("Forks: Not measured:" in told) == ("forks" not in names)
    assert ("Holds: Not measured:" in told) == ("holds" not in names)
    assert "Curves: 4 of 4 lead heads" in told
    assert not {"None", "nan"} & set(told.split())


def test_its_charts_are_drawn(tmp_path: Path) -> None:
    page = made(tmp_path, set(OPTIONAL))
    assert [f.name for f in page.figures] == [
        *("agreement", "agreement-drain", "force-sink", "force-escape", "force-brake"),
        *("forks", "holds", "motion"),
    ]
    for figure in page.figures:
        drawing = render(static(figure, page, THEMES["light"]), figure.name)["svg"].decode()
        assert "<path" in drawing
    assert "Not decided: the gradient flow is judged by no claim in toys" in page.answer


def test_each_arrow_s_sentence_counts_the_marks_between_its_lines(tmp_path: Path) -> None:
    page = made(tmp_path, set(OPTIONAL))
    points = page.data["agreement"]
    for name, arrow in (("agreement", "sink_arrow"), ("agreement-drain", "drain_arrow")):
        (figure,) = (figure for figure in page.figures if figure.name == name)
        own = points.filter(pl.col("arrow") == arrow)
        assert f"datum.arrow == '{arrow}'" in set(specs.expressions(figure.specification([])))
        filled_ones = own.filter(pl.col("coupling").abs() > 2 * pl.col("coupling_se"))
        assert filled_ones["told"].all() and filled_ones.height == own["told"].sum()
        for kind, called in (("sink", "sinks"), ("position", "shams at another position")):
            of = filled_ones.filter(pl.col("key_kind") == kind)
            ratios = (of["value"] / of["coupling"]).to_list()
            between = sum(1 / 2 <= ratio <= 2 for ratio in ratios)
            assert f"{between} of {len(ratios)} {called}" in figure.reading
        (edges,) = (
            [(row["at"], row["low"], row["high"]) for row in found]
            for found in figure.specification([])["datasets"].values()
            if "low" in found[0]
        )
        for at, low, high in edges:
            assert low is None or low == pytest.approx(min(at / 2, 2 * at))
            assert high is None or high == pytest.approx(max(at / 2, 2 * at))


def test_only_sinks_that_have_begun_are_drawn_beside_their_shams(tmp_path: Path) -> None:
    made(tmp_path, set(OPTIONAL))
    variants = {"toy": {"seeds": [0]}}
    run = Run(
        tmp_path, parse({"name": "a", "results": str(tmp_path), "bb": {"variants": variants}})
    )
    assert run.forced is not None
    placed, _ = run.forced
    known = placed.drop_nulls(["coupling", "sink_arrow", "drain_arrow"])
    points = agreement.rows(placed)
    assert 0 < points.height == 2 * known.filter("begun").height < 2 * known.height
    bare = agreement.rows(known.drop("begun"))
    assert bare.height == 2 * known.height, "a frame that does not say so is drawn whole"


def test_holds_are_told_with_what_their_intervals_decide() -> None:
    rows = levels.held(pl.DataFrame(held()))
    assert rows["verdict"].to_list() == ["yes", "no", None, None, "undecided", None]
    told = holds.reading(holds.named(rows))
    assert "In Bigram-Backcopy 1 of 2 changes is as predicted, 1 the reverse." in told
    assert "In language models 0 of 1 change is as predicted, 1 undecided." in told
    assert "Shams that change, though none should: 1 of 2." in told
    clause = " ".join(answered.holds(rows))
    assert "As predicted: bb/held (−2.50 [−3.00, −2.00] nats of sink, predicted −3.00)" in clause
    assert (
        "The reverse: bb/forced (−0.20 [−0.30, −0.10] e-folds of drain, predicted 0.30)" in clause
    )
    assert "Undecided: nano-olmo-held (−0.20 [" in clause
    assert "Shams that change, though none should: 1 of 2." in clause


def test_a_hold_of_one_seed_is_undecided() -> None:
    rows = pl.DataFrame(held()).with_columns(
        pl.lit(None, pl.Float64).alias(end) for end in ("observed_low", "observed_high")
    )
    found = levels.held(rows)
    assert set(found["moved"]) == {0} and set(found["verdict"]) == {"undecided", None}
    assert "3 changes have" not in holds.reading(holds.named(found))


def test_the_project_s_own_holds_are_drawn(tmp_path: Path) -> None:
    """From trainings that are made up to the table as the run writes it, and to the page."""
    variants = {
        name: {"seeds": [0, 1, 2], "steps": 100, "record": [0, 100], **more}
        for name, more in (
            ("free", {}),
            ("held", {"control": "free", "during": [{"kind": "hold_value", "from_step": 10}]}),
        )
    }
    config = parse({"name": "a", "results": str(tmp_path), "bb": {"variants": variants}})
    heads = pl.DataFrame(
        [
            {
                **{"trajectory": f"bb/{name}/seed{seed}", "step": 100, "domain": "non_trigger"},
                **{"layer": 0, "head": 0, "sink_weight": 0.5, "value_norm_sink": norm},
                "sink_log_odds": odds + 0.1 * seed * (name == "held"),
            }
            for name, odds, norm in (("free", 1.0, 0.5), ("held", -1.0, 1.0))
            for seed in range(3)
        ]
    )
    forces = pl.DataFrame(
        [
            {
                **{"trajectory": f"bb/free/seed{seed}", "step": 100, "domain": "all"},
                **{"readers": "late", "layer": 0, "head": 0, "key_kind": "sink", "coupling": 2.0},
                **{"logit_curvature": 1.0, "logit_curvature_se": 0.01},
            }
            for seed in range(3)
        ]
    )
    table = from_rows(hold_rows(experiments(config), heads, forces), TABLES["holds"])
    write(table, TABLES["holds"], tmp_path / "tables" / "holds.parquet", {})
    data: dict[str, pl.DataFrame] = {}
    figure, fold = holds.blocks(Run(tmp_path, config), data)
    assert data["holds"]["predicted"].to_list() == pytest.approx([-2 * math.log(2)])
    assert data["holds"]["verdict"].to_list() == ["as predicted"]
    assert isinstance(figure, Figure) and "1 of 1 change" in figure.reading
    assert isinstance(fold, Folded)
    (grid,) = fold.blocks
    assert isinstance(grid, Grid) and len(grid.rows) == 1


def test_forces_are_drawn_on_the_first_page_s_clock(tmp_path: Path) -> None:
    """Steps over the onset, on a logarithmic axis; tables keep the logarithm."""
    page = made(tmp_path, set(OPTIONAL))
    for name in ("courses", "band", "courses-ends"):
        rows = page.data[name]
        assert rows["since"].to_list() == pytest.approx([math.exp(age) for age in rows["age"]])
    figure = next(f for f in page.figures if f.name == "force-sink")
    drawn = str(static(figure, page, THEMES["light"]))
    assert "step / sink's onset" in drawn and "ln(step" not in drawn
