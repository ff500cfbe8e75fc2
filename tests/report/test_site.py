"""Pages built from tables that the test makes: what they say, and that no text can break out."""

from __future__ import annotations

import csv
import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
import pytest
import vl_convert

from trajectory.config import Config, Variant, load, parse
from trajectory.errors import TrajectoryError
from trajectory.report import encode, figures, findings, marks
from trajectory.report.controls import Choice, Legend
from trajectory.report.page import (
    Cell,
    Code,
    Findings,
    Folded,
    Glossary,
    Grid,
    Inline,
    Items,
    Page,
    Terms,
)
from trajectory.report.pages import PAGES, active, claims, mitigations
from trajectory.report.pages.trajectories import PANELS, _ends, _reading
from trajectory.report.palette import dashes
from trajectory.report.parts.tally import Tallies, ending_told
from trajectory.report.run import DRAWN_RECORDS, Run, _spread
from trajectory.report.site import NEEDED, POLICY, build
from trajectory.report.specs import objects
from trajectory.schemas import TABLES
from trajectory.tables import from_rows, write

from . import synthetic
from .synthetic import RISING, make_results

NAMES = [
    *(
        "index",
        "reinforcement",
        "trajectories",
        "heads",
        "careers",
        "laboratory",
        "alignment",
        "claims",
    ),
    *("circuit", "dynamics", "checkpoints", "data"),
]


def test_there_is_a_page_per_question(pages: list[Page], site: Path) -> None:
    assert [page.name for page in pages] == NAMES
    assert {path.stem for path in site.glob("*.html")} == set(NAMES)


def test_pages_ask_for_nothing_outside_their_folder(site: Path) -> None:
    for page in site.glob("*.html"):
        text = page.read_text()
        # What a reader may follow, and no browser asks for by itself.
        text, followed = re.subn(r'<a href="https://arxiv.org/[^"]*" rel="noreferrer">', "", text)
        assert followed == 1, "the paper"
        for target in re.findall(r'(?:src|href)="([^"]*)"', text):
            if target != "data:,":
                name, _, anchor = target.partition("#")
                assert not name or (site / name).is_file(), target
                if anchor:
                    there = (site / name).read_text() if name else text
                    assert f'id="{anchor}"' in there, target
        assert "http://" not in text.replace("http://www.w3.org", "")
        assert "https://" not in text
        assert POLICY.replace("'", "&#39;") in text


def test_the_policy_lets_nothing_out_and_no_text_become_code() -> None:
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in rules["script-src"]
    assert not re.search(r"https?:|\*|connect-src", POLICY)


def test_every_chart_says_what_it_shows(pages: list[Page]) -> None:
    found = [figure for page in pages for figure in page.figures]
    assert len(found) > 20
    for figure in found:
        if figure.provided:  # the page's script writes it
            assert figure.reading == "", figure.name
            continue
        assert re.fullmatch(r".{20,}\.", figure.reading, re.S), figure.name
        assert not re.search(r"\bNone\b|\bnan\b", figure.reading), figure.reading


def test_names_on_a_page_are_their_own(site: Path) -> None:
    for page in site.glob("*.html"):
        names = re.findall(r' id="([^"]*)"', page.read_text())
        assert len(names) == len(set(names)), page.name


@pytest.mark.thorough
def test_every_chart_is_drawn_without_a_browser(pages: list[Page]) -> None:
    """By Vega itself, which refuses what Altair lets through; each has marks in its drawing."""
    for page in pages:
        for figure in page.figures:
            figure.chart.to_dict()  # validated against Vega-Lite's schema, as no report does
            spec = figures.static(figure, page, figures.THEMES["paper"])
            files = figures.render(spec, figure.name)
            drawing, image = files["svg"].decode(), files["png"]
            assert files["pdf"].startswith(b"%PDF")
            marks = re.findall(
                r'aria-roledescription="[^"]*mark[^"]*"|role="graphics-symbol"', drawing
            )
            assert marks, f"{page.name}-{figure.name}"
            assert image.startswith(b"\x89PNG")


def test_legends_of_pictures_name_what_is_drawn(pages: list[Page]) -> None:
    """A page's list of trajectories is of all its charts; a picture stands alone."""
    named = {page.name: page for page in pages}

    def legends(page: str, name: str) -> dict[str, list[str]]:
        (figure,) = (figure for figure in named[page].figures if figure.name == name)
        drawn = figures.static(figure, named[page], figures.THEMES["light"])["layer"]
        return {
            part["field"]: part["legend"]["values"]
            for part in objects(drawn)
            if isinstance(part.get("legend"), dict)
        }

    toys = ["bb/adamw-3l", "bb/relu-1l", "bb/softmax-1l"]
    both = ["non_trigger", "trigger"]
    assert legends("laboratory", "risks") == {"group": toys, "domain": both}
    assert legends("heads", "weight") == {"group": [*toys, "nano-olmo"]}, "both domains are solid"


def test_an_unknown_theme_is_named(results: Path, config: Config, tmp_path: Path) -> None:
    with pytest.raises(TrajectoryError, match=r"unknown theme 'sepia'; there are light, dark"):
        build(results, config, tmp_path / "report", theme="sepia")
    assert not list(tmp_path.iterdir())


def test_the_overview_tells_sink_drain_and_peak_apart(run: Run) -> None:
    lines = {(x.trajectory, x.domain): x for x in findings.overview(run)}
    shown = {key: {p: c.verdict for p, c in x.cells.items()} for key, x in lines.items()}
    assert shown["bb/softmax-1l/seed0", "non_trigger"] == {
        "sink": "yes", "drain": "yes", "peak": "undefined",
    }  # fmt: skip
    relu = shown["bb/relu-1l/seed0", "non_trigger"]
    assert (relu["sink"], relu["drain"]) == ("no", "no")
    assert shown["bb/adamw-3l/seed0", "non_trigger"]["peak"] == "no"
    assert shown["nano-olmo", "prose"] == {"sink": "yes", "drain": "yes", "peak": "yes"}
    assert ("bb/softmax-1l/seed0", "trigger") not in lines, "heads are active on triggers"


def test_differences_from_the_paper_are_said(run: Run) -> None:
    """The synthetic three-layer run has no peak, which the paper's size has."""
    assert findings.differences(findings.endings(run)) == [
        "bb/adamw-3l on non_trigger: the paper's size shows a residual-state peak; "
        "this reduced run ends without one (ratio 1.00 [1.00, 1.00])."
    ]


@pytest.mark.parametrize(
    ("gone", "shown"), [(["code"], True), (["code", "trigger"], False)], ids=["one", "every"]
)
def test_domains_without_log_odds_are_compared_with_nothing(
    results: Path,
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    gone: list[str],
    shown: bool,
) -> None:
    """A prompt of two tokens has none; the page of contrasts ended in an IndexError."""
    run = Run(results, config)
    measured = run.measured

    def without(*asked: Any) -> pl.DataFrame:
        there = pl.when(~pl.col("domain").is_in(gone)).then("sink_log_odds")
        return measured(*asked).with_columns(there.alias("sink_log_odds"))

    monkeypatch.setattr(run, "measured", without)
    page = active.make(run)
    assert bool(page.controls) == shown
    if shown:
        choice = page.controls[0]
        assert isinstance(choice, Choice)
        assert "nano-olmo" not in dict(choice.options)


def test_a_statistic_without_an_end_is_not_defined(results: Path, config: Config) -> None:
    run = Run(results, config)
    ends = [pl.lit(None, pl.Float64).alias(f"residual_ratio_{x}") for x in ("end", "low", "high")]
    run.phenomena = run.phenomena.with_columns(ends)
    for line in findings.overview(run) + findings.endings(run):
        assert line.cells["peak"].number == "ratio not defined"
        assert (line.cells["peak"].verdict, line.cells["peak"].agrees) == ("undefined", None)


def test_seeds_on_both_sides_of_a_threshold_leave_the_phenomenon_undecided(
    results: Path, config: Config
) -> None:
    """Three seeds whose ratios lie about the threshold as the ledger of claims sees them."""
    run = Run(results, config)
    bare = run.phenomena.filter(pl.col("trajectory") == "bb/adamw-3l/seed0")
    seeds = [
        bare.with_columns(
            pl.lit(f"bb/adamw-3l/seed{i}").alias("trajectory"),
            pl.lit(ratio).alias("residual_ratio"),
            pl.lit(ratio).alias("residual_ratio_end"),
            pl.lit(ratio - 0.01).alias("residual_ratio_low"),
            pl.lit(ratio + 0.01).alias("residual_ratio_high"),
            pl.lit(ratio >= 2).alias("peak"),
        )
        for i, ratio in enumerate((2.2, 2.1, 3.1))
    ]
    run.phenomena = pl.concat(seeds)
    (end,) = findings.endings(run)
    cell = end.cells["peak"]
    # Student's interval by hand: mean 2.467, deviation 0.551, t = 4.303 with two degrees.
    assert cell.number == "ratio 2.47 [1.10, 3.83] over 3 seeds"
    assert (cell.verdict, cell.agrees) == ("undecided", None)
    assert findings.differences([end]) == [
        "bb/adamw-3l on non_trigger: the paper's size shows a residual-state peak; undecided here "
        "(ratio 2.47 [1.10, 3.83] over 3 seeds)."
    ]
    page = mitigations.make(run)
    assert "1 undecided" in page.figures[2].reading
    (verdicts,) = (b for b in page.every_block if isinstance(b, Grid) and b.name == "variants")
    (row,) = (row for row in verdicts.rows if row[0] == "bb/adamw-3l")
    assert row[3] == Cell("undecided", "open")


@pytest.mark.parametrize(
    ("kept", "settings", "page", "told"),
    [
        ("nano-olmo", {"suites": {"nano-olmo": {}}}, "alignment", "fewer than two of its"),
        ("bb/relu-1l/seed0", {"bb": {"variants": {"relu-1l": {}}}}, "laboratory", "has a control"),
    ],
)
def test_what_one_trajectory_cannot_show_is_missing_with_its_own_reason(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kept: str,
    settings: dict[str, Any],
    page: str,
    told: str,
) -> None:
    monkeypatch.setattr(synthetic, "RUNS", {kept: synthetic.RUNS[kept]})
    results = make_results(tmp_path, explained=False)
    run = Run(results, parse({"name": "one", "results": str(results), **settings}))
    pages = {page.name: page for page in (make(run) for make in PAGES)}
    assert any(told in reason for reason in pages[page].reasons)


def test_gated_heads_are_counted(run: Run) -> None:
    """In the synthetic runs the sink is on non-triggers only, and prose and code are alike."""
    rows = {row["trajectory"]: row for row in findings.gated_heads(run)}
    assert (rows["bb/softmax-1l/seed0"]["gated"], rows["bb/softmax-1l/seed0"]["heads"]) == (1, 1)
    assert (rows["bb/adamw-3l/seed0"]["gated"], rows["bb/adamw-3l/seed0"]["heads"]) == (1, 3)
    assert rows["nano-olmo"]["gated"] == rows["bb/relu-1l/seed0"]["gated"] == 0


def test_readings_are_computed_from_the_data(run: Run) -> None:
    found = Tallies.read(run)
    assert _reading(run, PANELS[0], found) == ending_told(found, "sink")
    means = {row[0]: row[2].text for row in _ends(run).rows if isinstance(row[2], Cell)}
    assert means["bb/softmax-1l"] == f"{RISING[-1]:.2f}", "the mean of 2 seeds"
    assert means["bb/relu-1l"] == "0.00" and "nano-olmo" in means
    text = _reading(run, replace(PANELS[0], column="sink_weight"), found)
    assert text.startswith("It ends between ") and "(bb/relu-1l)" in text


def test_one_colour_per_group_whatever_the_chart(run: Run, pages: list[Page]) -> None:
    expected = list(run.colours.values())
    scales = 0
    for page in pages:
        for figure in page.figures:
            for scale in re.findall(
                r'"field": "group", "legend": null, "scale": (\{[^}]*\})',
                json.dumps(figure.specification(page.controls), sort_keys=True),
            ):
                scales += 1
                assert json.loads(scale) == {"domain": run.groups, "range": expected}, figure.name
    assert scales > 20


def test_one_line_pattern_per_domain_whatever_the_chart(run: Run, pages: list[Page]) -> None:
    expected = dashes(run.domains)

    def patterns(node: Any) -> list[dict[str, Any]]:
        if isinstance(node, dict):
            own = [v for k, v in node.items() if k == "strokeDash" and isinstance(v, dict)]
            return own + [found for value in node.values() for found in patterns(value)]
        return (
            [found for value in node for found in patterns(value)] if isinstance(node, list) else []
        )

    seen = 0
    for page in pages:
        for figure in page.figures:
            for found in patterns(figure.specification(page.controls)):
                if found.get("field") == "domain":
                    seen += 1
                    scale = found["scale"]
                    assert dict(zip(scale["domain"], scale["range"], strict=True)) == expected
    assert seen > 15


@pytest.mark.parametrize(
    ("low", "high", "named"),
    [(105, 195, "120 140 160 180"), (0.55, 0.95, "0.6 0.7 0.8 0.9"), (5, 5, "5"),
     (0.2, 10, "0.2 0.5 1 2 5 10"), (1, 1e6, "1 10 100 1k 10k 100k 1M")],
)  # fmt: skip
def test_a_logarithmic_axis_of_any_length_is_named(low: float, high: float, named: str) -> None:
    """As of one record, of few records that lie near each other, and of a whole training."""
    ends = alt.InlineData(values=[{"step": low}, {"step": high}])
    chart = alt.Chart(ends, width=400).mark_point().encode(x=marks.step_axis())
    drawn = vl_convert.vegalite_to_svg(chart.to_dict())
    labels = re.search(r"role-axis-label.*?</g>", drawn, re.DOTALL)
    assert labels and re.findall(r">([^<>]+)</text>", labels[0]) == named.split()


def test_weights_have_their_floor_beside_them(pages: list[Page]) -> None:
    """Wherever the weight on the sink is drawn, so is uniform attention's."""

    def axes(node: Any) -> list[dict[str, Any]]:
        if isinstance(node, dict):
            own = [node["encoding"]["y"]] if "y" in node.get("encoding", {}) else []
            return own + [axis for value in node.values() for axis in axes(value)]
        return [axis for value in node for axis in axes(value)] if isinstance(node, list) else []

    drawn = 0
    for page in pages:
        for figure in page.figures:
            found = axes(figure.specification(page.controls))
            if {axis.get("title") for axis in found} & {"weight on the sink", "sink weight"}:
                drawn += 1
                fields = {axis["field"] for axis in found}
                assert fields & {"floor", "sink_weight_floor"}, figure.name
    assert drawn >= 2, "trajectories, heads"


def test_charts_can_be_downloaded_as_numbers(site: Path, run: Run) -> None:
    with (site / "data/heads-weights.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == run.leads.height * 21
    assert {row["trajectory"] for row in rows} == set(run.trajectories)


def test_the_config_lies_beside_the_pages_and_its_sizes_stand_with_the_data(
    site: Path, config: Config
) -> None:
    assert load(site / "data/config.json") == config
    for page in site.glob("*.html"):
        assert 'href="data/config.json"' in page.read_text(), page.name
    text = (site / "data.html").read_text()
    rows = re.findall(r"<tr>(.*?)</tr>", text, re.S)
    cells = [re.findall(r">([^<>]+)</t[hd]>", row) for row in rows]
    toy = "softmax 3 64 64 64 1,000 AdamW 0.001 0"
    assert ["3 layers, AdamW", *toy.split()] in cells
    assert ["nano-olmo", "2", "128", "64", "16", "3,000", "AdamW", "0.006",
            "25, all measured"] in cells  # fmt: skip


def test_boxes_are_of_what_the_page_draws(pages: list[Page], run: Run) -> None:
    """ReLU attention has no log-odds to portray."""
    for page in pages:
        boxes = [set(c.value) for c in page.controls if isinstance(c, Legend)]
        for shown in boxes if page.name == "alignment" else []:
            frames = [f for f in page.data.values() if "trajectory" in f.columns]
            assert shown == set().union(*(f["trajectory"].unique() for f in frames)), page.name


def test_tables_lie_beside_the_pages(site: Path, run: Run) -> None:
    frame = pl.read_parquet(site / "data/heads.parquet")
    assert frame.equals(run.frame("heads"))


def test_claims_lead_to_the_chart_that_decides_them(site: Path, pages: list[Page]) -> None:
    """Not to the top of a page, and for a table that a chart draws not to its columns."""
    assert set(claims.CHARTS) <= set(TABLES)
    for target in claims.CHARTS.values():
        name, anchor = target.split("#")
        drawn = next(page for page in pages if f"{page.name}.html" == name)
        names = {
            block.name
            for block in drawn.every_block
            if not isinstance(block, Items | Terms | Code | Findings | Glossary | Inline | Folded)
        }
        assert anchor in names, target


def test_every_example_of_the_data_page_finds_rows(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run as they stand there, beside the pages; not every table holds every trajectory."""
    monkeypatch.chdir(site)
    examples = re.findall(r"<pre><code>(.*?)</code></pre>", (site / "data.html").read_text(), re.S)
    examples = [html.unescape(text) for text in examples if text.startswith("import")]
    assert len(examples) > 20
    for example in examples:
        names: dict[str, Any] = {}
        exec(example, names)
        (frame,) = (found for found in names.values() if isinstance(found, pl.DataFrame))
        assert frame.height > 0, example


def test_texts_from_outside_cannot_leave_their_element(site: Path) -> None:
    hostile = "</script><script>alert(1)</script>\u2028&"
    text = encode.page_json({"token": hostile})
    assert "<" not in text and ">" not in text and "&" not in text
    assert json.loads(text) == {"token": hostile}
    for page in site.glob("*.html"):
        assert "</script><b>" not in page.read_text(), "the synthetic runs' sink token"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"layers": 3, "optimizer": {"name": "sgd"}}, True),
        ({"attention": "relu", "task": {"triggers": 5}}, True),
        ({"attention": "softpick"}, False),
        ({"norm": "post"}, False),
        ({"during": [{"kind": "force_attention"}]}, False),
        ({"task": {"rule": "bietti"}}, False),
    ],
)
def test_the_paper_is_not_quoted_for_what_it_does_not_report(changes: dict, expected: bool) -> None:
    assert findings.in_paper(Variant.model_validate(changes)) is expected


def test_a_run_without_tables_is_named(tmp_path: Path, config: Config) -> None:
    with pytest.raises(TrajectoryError, match=r"heads\.parquet: no such file"):
        build(tmp_path, config, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_a_run_in_which_nothing_could_be_measured_is_one_line(
    tmp_path: Path, config: Config
) -> None:
    for name in NEEDED:
        path = tmp_path / "tables" / f"{name}.parquet"
        write(from_rows([], TABLES[name]), TABLES[name], path, {})
    with pytest.raises(TrajectoryError, match="no checkpoint could be measured; .*complete.log"):
        build(tmp_path, config, tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
def test_a_rebuilt_report_replaces_the_old_one(
    results: Path, config: Config, tmp_path: Path
) -> None:
    output = tmp_path / "report"
    build(results, config, output, draw=False)
    (output / "stale.html").touch()
    build(results, config, output, draw=False)
    assert not (output / "stale.html").exists()
    assert (output / "index.html").is_file()
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize("role", ["output", "copies"])
def test_a_report_deletes_nothing_but_a_report(
    results: Path, config: Config, tmp_path: Path, role: str
) -> None:
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter.txt").write_text("years of work")
    given = {"output": tmp_path / "report", role: thesis}
    with pytest.raises(TrajectoryError, match=f"{thesis}: holds other things than .*would be del"):
        build(results, config, given.pop("output"), draw=False, **given)
    assert (thesis / "chapter.txt").read_text() == "years of work"


def test_figures_lie_beside_the_pages_and_are_copied_by_page(
    results: Path, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn by a stand-in: that every chart can be drawn is another test's."""
    monkeypatch.setattr(
        figures,
        "render",
        lambda spec, where: {"svg": f"<svg>{where}</svg>".encode(), "png": b"png", "pdf": b"pdf"},
    )
    build(results, config, tmp_path / "report", copies=tmp_path / "figures")
    page = (tmp_path / "report/heads.html").read_text()
    assert 'href="figures/heads-weight.svg"' in page
    assert (tmp_path / "report/figures/heads-weight.svg").read_text() == "<svg>heads-weight</svg>"
    assert 'href="figures/heads-weight.pdf"' in page
    for ending in ("png", "pdf"):
        copied = (tmp_path / f"figures/heads/weight.{ending}").read_bytes()
        assert copied == ending.encode()


def test_long_trajectories_are_drawn_at_records_even_over_log_steps() -> None:
    steps = list(range(0, 100_000, 50))
    kept = _spread(pl.DataFrame({"trajectory": "x", "step": steps}))["step"].to_list()
    assert len(kept) <= DRAWN_RECORDS + 1
    assert (kept[0], kept[-1]) == (0, steps[-1])
    assert kept == sorted(set(kept))
    late = [s for s in kept if s > 10_000]
    assert 0.2 < len(late) / len(kept) < 0.7, "decades share the records, as far as there are any"
