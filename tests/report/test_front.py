"""The first page: its title, findings and tiles say what the tables hold; its lines are theirs."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajectory.config import parse
from trajectory.config.claims import load_claims, shipped
from trajectory.dynamics.claims.all import CRITERIA
from trajectory.dynamics.claims.ledger import standings
from trajectory.dynamics.series import group_of
from trajectory.report import findings, words
from trajectory.report.names import Names, change
from trajectory.report.page import Folded, Grid, Page, Tiles
from trajectory.report.pages import claims as ledger_page
from trajectory.report.pages import overview, trajectories
from trajectory.report.parts import attention, clock, cost, story, tiles
from trajectory.report.parts.tally import Tallies
from trajectory.report.run import Run

from .synthetic import RISING, STEPS, VARIANTS, configured
from .test_readings import with_table

VARIED = {
    **VARIANTS,
    "relu-1l": {"attention": "relu", "control": "softmax-1l"},
}


@pytest.fixture(scope="module")
def run(results: Path) -> Run:
    return Run(results, configured(results, VARIED))


@pytest.fixture(scope="module")
def page(run: Run) -> Page:
    return overview.make(run)


def test_the_title_is_the_run_s_finding(page: Page) -> None:
    """In the synthetic run all but ReLU attention sink and drain, in both worlds."""
    assert page.question == (
        "Toy models and nano-olmo grow an attention sink and drain its value; ReLU attention "
        "prevents it."
    )


def told(run: Run, results: Path, folder: Path, *changes: tuple[str, str, float]) -> list[str]:
    """Title and findings with the ends of some groups changed: (group, statistic, value)."""

    def edit(frame: pl.DataFrame) -> pl.DataFrame:
        for group, statistic, value in changes:
            own = pl.col("trajectory").str.starts_with(group)
            frame = frame.with_columns(
                pl.when(own).then(pl.lit(value + shift)).otherwise(pl.col(name)).alias(name)
                for name, shift in (
                    (f"{statistic}_end", 0.0),
                    (f"{statistic}_low", -1e-3),
                    (f"{statistic}_high", 1e-3),
                )
            )
        return frame

    copy = with_table(results, folder, "phenomena", edit)
    own = Run(copy, configured(copy, VARIED))
    found, names = Tallies.read(own), Names(own.config)
    rows = story.findings(own, found, names)
    return [story.title(own, found), *(f"{row.verdict}: {row.text}" for row in rows)]


def test_title_and_findings_follow_the_tables(run: Run, results: Path, tmp_path: Path) -> None:
    title, where, with_, without = told(run, results, tmp_path / "a")
    assert where == "yes: It is there at the end in 2 of 3 toy variants and 1 of 1 language model."
    assert with_ == (
        "mixed: Where a sink is there at the end, a drain is too in 2 of 2 toy variants and 1 of 1 "
        "language model; a peak, which takes two layers, in 0 of 1 toy variant and 1 of 1 language "
        "model."
    )
    both = [(group, "residual_ratio", 9.0) for group in ("bb/adamw-3l", "nano")]
    _, _, with_, _ = told(run, results, tmp_path / "peaks", *both)
    assert with_.startswith("yes: ")
    assert with_.endswith("in 1 of 1 toy variant and 1 of 1 language model.")
    assert without == "yes: ReLU attention removes it."
    title, where, _, without = told(
        run, results, tmp_path / "b", ("bb/relu-1l", "sink_excess", 0.6)
    )
    assert "prevents" not in title and title.startswith("Toy models and nano-olmo grow")
    assert "3 of 3 toy variants" in where and without == "no: ReLU attention does not."
    title, where, with_, _ = told(
        run, results, tmp_path / "c",
        ("nano", "sink_excess", 0.05), ("bb/adamw-3l", "value_ratio", 0.9),
    )  # fmt: skip
    assert title == (
        "Toy models grow an attention sink, whose value drains in 1 of 2; ReLU attention prevents "
        "it"
    )
    assert where.startswith("mixed: ") and "0 of 1 language model" in where
    assert with_.startswith("mixed: ")
    title, where, with_, without = told(
        run, results, tmp_path / "d", ("bb/", "sink_excess", 0.0), ("nano", "sink_excess", 0.0)
    )
    assert title == "None of 4 models ends with an attention sink"
    assert (where[:3], with_[:10], without[:10]) == ("no:", "not tested", "not tested")


def test_an_undecided_end_is_no_absence(results: Path, tmp_path: Path) -> None:
    """Every interval holds the threshold; two seeds lie far apart."""
    first = pl.col("trajectory").str.ends_with("seed0")
    copy = with_table(
        results,
        tmp_path,
        "phenomena",
        lambda f: f.with_columns(
            sink_excess_low=pl.lit(0.0),
            sink_excess_high=pl.lit(1.0),
            sink_excess_end=pl.when(first).then(0.1).otherwise(0.5),
        ),
    )
    own = Run(copy, configured(copy, VARIED))
    found = Tallies.read(own)
    assert story.title(own, found) == (
        "This run does not decide whether its models end with an attention sink"
    )
    where, with_, _ = story.findings(own, found, Names(own.config))
    assert (where.verdict, where.text) == (
        "undecided",
        "Whether it is there at the end is undecided in 3 toy variants and in 1 language model.",
    )
    assert with_.text == "Whether a model ends with a sink is undecided."


def test_experiments_that_hold_a_part_are_not_the_story(results: Path) -> None:
    config = parse(
        {
            "name": "held",
            "results": str(results),
            "bb": {
                "variants": {
                    **VARIED,
                    "adamw-3l": {
                        "layers": 3,
                        "during": [{"kind": "hold_value", "from_step": 10}],
                    },
                }
            },
            "suites": {"nano-olmo": {}},
        }
    )
    run = Run(results, config)
    assert run.free == ["bb/relu-1l", "bb/softmax-1l", "nano-olmo"]
    page = trajectories.make(run)
    drawn = next(c.value for c in page.controls if c.kind == "legend")
    assert {group_of(t) for t in drawn} == set(run.free)
    assert "Charts first show all runs but experiments, on " in page.answer
    told = next(f.reading for f in page.figures if f.name == "delta_logit")
    (ends,) = (block for block in page.blocks if isinstance(block, Grid))
    assert "adamw-3l" not in told and {row[0] for row in ends.rows} == set(run.free)
    listed = [t for c in page.controls if c.kind == "legend" for _, _, own in c.groups for t in own]
    assert set(listed) == set(run.trajectories)


def test_variants_are_called_by_what_they_are(results: Path) -> None:
    variants = {
        "a": {"layers": 3},
        "b": {"layers": 3, "optimizer": {"name": "sgd", "lr": 0.3}, "control": "a"},
        "c-small": {"layers": 3, "width": 32},
        "d": {"attention": "relu", "qk_norm": True},
        "e": {"during": [{"kind": "force_attention", "position": 1}], "sham": True},
    }
    config = parse({"name": "x", "results": "x", "bb": {"variants": variants}})
    names = Names(config)
    assert names.of("bb/a") == "3 layers, AdamW"
    assert names.of("bb/b/seed2") == "3 layers, SGD, seed 2"
    assert names.of("bb/c-small") == "3 layers, AdamW (c small)"
    assert names.of("bb/d") == "1 layer, ReLU, QK norm, AdamW"
    assert names.of("bb/e") == "1 layer, sink forced at position 1, AdamW"
    assert names.of("olmo2-1b") == "olmo2-1b"
    assert len(set(names.labels.values())) == len(variants)
    assert names.within("in bb/a, bb/b/seed0 and bb/abc") == (
        "in “3 layers, AdamW”, “3 layers, SGD, seed 0” and bb/abc"
    )
    assert change(config.bb.variants["b"], config.bb.variants["a"]) == "SGD"
    assert change(config.bb.variants["d"], config.bb.variants["a"]) == (
        "1 layer and ReLU attention and QK norm"
    )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.01, 0.08))
def test_names_of_lines_are_moved_apart_and_no_further(places: list[float], gap: float) -> None:
    found = clock.apart(places, gap)
    order = sorted(found)
    assert all(b - a >= gap - 1e-9 for a, b in pairwise(order))
    assert order[0] >= -1e-9 and order[-1] <= 1 + 1e-9
    assert [found[i] for i in np.argsort(places, kind="stable")] == order
    spread = sorted(places)
    if all(b - a >= gap for a, b in pairwise(spread)):
        assert found == pytest.approx(places, abs=1e-9)


def test_lines_are_the_records_of_the_tables(run: Run) -> None:
    rows = clock.records(run, run.groups)["sink"]
    points = clock.lines(rows, clock.PANELS[0])
    own = points.filter(axis="step", group="bb/softmax-1l")
    assert own["x"].to_list() == [s for s in STEPS if s > 0]
    assert own["mean"].to_list() == pytest.approx(
        [r for s, r in zip(STEPS, RISING, strict=True) if s]
    )
    assert own["seeds"].to_list() == [2] * own.height
    tokens = points.filter(axis="tokens", group="nano-olmo")
    assert tokens["x"].to_list() == [64 * s for s in STEPS if s > 0]


def test_the_table_of_ends_has_the_number_that_a_line_ends_with(run: Run, page: Page) -> None:
    """Beside the fitted end: by step a line ends with the mean of its seeds' last ones."""
    heads = run.frame("heads").filter(step=STEPS[-1])
    folded = next(b for b in page.blocks if getattr(b, "title", "") == "How every model ends")
    assert isinstance(folded, Folded)
    (table,) = (b for b in folded.blocks if isinstance(b, Grid))
    assert table.head[-3:] == ["sink: fitted end", "drain: fitted end", "peak: fitted end"]
    lasts = {}
    for line, row in zip(findings.overview(run), table.rows, strict=True):
        where = {"trajectory": line.trajectory, "domain": line.domain}
        (own,) = heads.filter(**where, layer=line.place[0], head=line.place[1]).to_dicts()
        (cell,) = (c for c in row[-3:-2] if not isinstance(c, str))
        assert cell.note.endswith(f"last\N{NO-BREAK SPACE}{words.number(own['sink_excess'])}")
        lasts[line.trajectory, line.domain] = own["sink_excess"]
    drawn = page.data["sink-ends"].filter(axis="step")
    assert drawn.height == len(run.free)
    for row in drawn.to_dicts():
        mine = [
            v for (t, d), v in lasts.items() if (group_of(t), d) == (row["group"], row["domain"])
        ]
        assert row["mean"] == pytest.approx(np.mean(mine))


def test_the_slider_says_whose_last_checkpoint_it_has_gone_past() -> None:
    film = attention.Film("nano-olmo", [0, 10, 20], 10.0, True)
    told = [attention._stands(film, age) for age in (0.0, 1.5, 2.0, 2.5)]
    assert told == ["step 0", "step 10", "step 20", "step 20 (last)"]
    alone = attention.Film("nano-olmo", [20], 10.0, True)
    assert attention._stands(alone, 3.0) == "its one checkpoint"


def test_on_the_clock_of_the_onset_seeds_are_read_between_their_records() -> None:
    """Two seeds of one curve, whose onsets differ by a factor of two."""
    steps = [1.0, 2.0, 4.0, 8.0, 16.0]
    rows = pl.DataFrame(
        [
            {"group": "bb/a", "domain": "non_trigger", "trajectory": f"bb/a/seed{i}", "step": s,
             "tokens": None, "onset": onset, "sink_excess": math.log2(s / onset) + 10 * i}
            for i, onset in enumerate((4.0, 8.0))
            for s in steps
        ],
        schema_overrides={"tokens": pl.Int64},
    )  # fmt: skip
    points = clock.lines(rows, clock.PANELS[0]).filter(axis="onset")
    assert points["x"].to_list() == pytest.approx([0.25, 0.5, 1.0, 2.0]), "where both are defined"
    assert points["low"].to_list() == pytest.approx([-2, -1, 0, 1])
    assert points["high"].to_list() == pytest.approx([8, 9, 10, 11])
    assert points["mean"].to_list() == pytest.approx([3, 4, 5, 6])


def test_what_has_no_onset_is_drawn_by_step(run: Run, page: Page) -> None:
    rows = clock.records(run, run.groups)["sink"]
    assert clock.without_onset(rows) == ["bb/relu-1l"]
    assert page.data["alone"]["group"].unique().to_list() == ["bb/relu-1l"]
    assert "bb/relu-1l" not in page.data["sink"].filter(axis="onset")["group"]
    inset = next(f for f in page.figures if f.name == "alone")
    assert (inset.inset, inset.when) == ("sink", ("chosen_axis", "onset"))


def test_tiles_are_the_ledger_with_contradictions_first(run: Run) -> None:
    strip = tiles.tiles(run)
    assert isinstance(strip, Tiles)
    for count, told in (
        (0, "It contradicts none of them."),
        (1, "Not reproduced: “the one”."),
        (3, "Not reproduced: “the one”, “the one” and 1 more."),
    ):
        mild = replace(strip.tiles[0], verdict=story.YES)
        against = replace(strip.tiles[0], verdict=story.NO, text="the one.")
        text = tiles.counted(Tiles("ledger", [mild, *[against] * count]))
        assert text.endswith(told), text
    ledger = standings(run.frame("claims").to_dicts())
    assert {(t.name, t.standing) for t in strip.tiles} == {
        (tiles.called(claim), standing.verdict) for claim, standing in ledger.items()
    }
    ranks = [
        (tiles.ORDER.index(t.verdict), tiles.place(claim))
        for claim, t in tiles.found(run.frame("claims"))
    ]
    assert ranks == sorted(ranks)
    assert set(tiles.PAPER) == {criterion.claim.name for criterion in CRITERIA}
    assert set(tiles.OTHERS) == {c for file in shipped() for c in load_claims(file).claims}
    names = [*tiles.PAPER.values(), *tiles.OTHERS.values()]
    assert len(set(names)) == len(names)
    order = [tiles.CHIPS.get(v, story.UNTESTED) for v in ("not reproduced", "undecided")]
    assert order == ["no", "undecided"]


def test_claims_of_other_papers_stand_apart_and_folded(
    run: Run, results: Path, tmp_path: Path
) -> None:
    claims = run.frame("claims")
    first, *rest = claims["claim"].unique(maintain_order=True)
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        f"paper: Mine\nlink: none\nclaims:\n  {first}:\n    statement: It is so\n    figure: none\n"
        "    criteria:\n      one: {computation: as said, tables: [heads], at_least: 0,\n"
        '        query: "SELECT trajectory, layer AS value FROM heads"}\n'
    )
    changed = Run(results, run.config.model_copy(update={"claims": [str(mine)]}))
    own, others = tiles.apart(changed)
    assert [claim for claim, _ in others] == [first]
    assert sorted(claim for claim, _ in own) == sorted(rest)
    page = ledger_page.make(changed)
    folds = [block for block in page.blocks if isinstance(block, Folded)]
    (apart,) = [fold for fold in folds if fold.name == "other-papers"]
    (inner,) = [block for block in apart.blocks if isinstance(block, Folded)]
    assert inner.name == tiles.anchor(first)
    assert apart.text == f"1 {others[0][1].verdict}"
    assert page.answer.startswith(f"Of {len(rest)} claims: ")
    strip = tiles.tiles(changed)
    assert isinstance(strip, Tiles)
    assert len(strip.tiles) == len(rest)
    assert tiles.apart(run)[1] == []
    mine.unlink()
    gone = [str(tmp_path / "gone.yaml")]
    lost = Run(results, run.config.model_copy(update={"claims": gone}))
    assert tiles.apart(lost)[1] == [], "a file that is gone takes nothing off the ledger"


def test_a_head_s_cost_is_beside_its_weight(run: Run) -> None:
    """A toy's only head without its attention, on both domains; every head of the model."""
    data: dict[str, pl.DataFrame] = {}
    figure = cost.figure(run, run.groups, Names(run.config), data)
    rows = data["cost"]
    toys = rows.filter(world="toy")
    last = STEPS[-1]
    assert set(toys["domain"]) == {"trigger", "non_trigger"}
    assert toys.filter(domain="trigger")["cost"].unique().to_list() == pytest.approx([0.004 * last])
    model = rows.filter(world="language model")
    assert sorted(model["sink_weight"].unique()) == pytest.approx([0.0, 0.3, 0.6])
    assert "+0.010 where it rests on the sink (2)" in figure.reading, "head 2, on both domains"


def test_the_slider_shows_each_world_s_last_record_before_its_place(run: Run) -> None:
    data: dict[str, pl.DataFrame] = {}
    blocks, (slider,) = attention.make(run, run.groups, Names(run.config), data)
    frames = data["model-weights"].select("step", "first", "last").unique().sort("step")
    assert frames["last"][-1] == slider.last == len(slider.places) - 1
    assert frames["first"].to_list()[1:] == [n + 1 for n in frames["last"].to_list()[:-1]]
    told = next(b for b in blocks if getattr(b, "name", "") == "toy-map")
    assert told.captions is not None and len(told.captions.readings) == len(slider.places)
    weights = next(b for b in blocks if getattr(b, "name", "") == "model-weights")
    rest = findings.overview(run)
    assert rest and "1 of 6 heads gives the sink at least half" in weights.reading
