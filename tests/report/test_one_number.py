"""One number for one thing: what several pages say of a run's ends is the same on all of them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from trajectory.dynamics.claims.evidence import Evidence
from trajectory.report import words
from trajectory.report.findings import overview
from trajectory.report.pages import laboratory, mitigations, trajectories
from trajectory.report.pages import overview as front
from trajectory.report.run import Run

from .synthetic import configured
from .test_readings import with_table

SHARE = r"(\d+) of (\d+) (toy variants?|language models?)( \((?:\d+ |all )?undecided\))?"
SAID = re.compile(rf"A (sink|drain|peak) is there at the end in {SHARE}(?: and {SHARE})?")
"""The statement of ``tally.ending_told``, wherever a page makes it."""

OTHERS = re.compile(
    r"\d of [\d,]+ [^.;]{0,60}\b(?:end|ends|ended)\b[^.;]{0,20}\b(?:sink|drain(?:ed)?|peak)\b"
)
"""Another way to count ends with a phenomenon, by which numbers could come to differ again."""


def text_of(path: Path) -> str:
    """What a reader sees of a page."""
    page = re.sub(r"<(script|style|svg).*?</\1>", " ", path.read_text(), flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page)))


def said(pages: dict[str, str]) -> Iterator[tuple[str, str, str, str]]:
    """(page, phenomenon, world, count) of every statement."""
    for name, text in pages.items():
        for found in SAID.finditer(text):
            phenomenon, *parts = found.groups()
            for at in (0, 4):
                if parts[at]:
                    count = f"{parts[at]} of {parts[at + 1]}{parts[at + 3] or ''}"
                    yield name, phenomenon, parts[at + 2].rstrip("s"), count


def test_pages_count_the_same_ends(site: Path) -> None:
    """All pages of a site are parsed; a statement on two of them has one number."""
    pages = {path.stem: text_of(path) for path in site.glob("*.html")}
    numbers: dict[tuple[str, str], dict[str, set[str]]] = {}
    for name, phenomenon, world, count in said(pages):
        numbers.setdefault((phenomenon, world), {}).setdefault(count, set()).add(name)
    assert numbers["sink", "toy variant"] == {"2 of 3": {"index", "laboratory", "trajectories"}}
    assert numbers["peak", "language model"] == {"1 of 1": {"index", "trajectories"}}
    assert all(len(counts) == 1 for counts in numbers.values()), numbers
    for name, text in pages.items():
        # Claims quote the paper; tables of the run define their columns.
        if name not in ("claims", "data"):
            assert not OTHERS.search(text), (name, OTHERS.search(text))
    assert "in 2 of 3 toy variants and 1 of 1 language model" in pages["index"]


def test_two_pages_answer_one_question_with_one_sentence(site: Path) -> None:
    """Whether sink and drain drive each other: its own page adds numbers to the first page's."""
    first, own = (text_of(site / f"{name}.html") for name in ("index", "reinforcement"))
    (sentence,) = re.findall(r"Do sink and drain drive each other\? ([A-Z].*?\.) ", first)
    assert sentence.split()[0] in ("Yes", "No", "Mixed", "Not")
    told = re.sub(r" \([^()]*\)", "", own)
    assert told.count(sentence) == 1


def test_a_number_of_the_last_checkpoint_moves_no_verdict(results: Path, tmp_path: Path) -> None:
    """Last checkpoints on the other side of all thresholds than the fitted ends: sentences that
    judge by them would turn round."""
    opposite = {"sink_excess": 0.0, "value_ratio": 1.0, "residual_ratio": 1.0}
    values = [pl.lit(value).alias(name) for name, value in opposite.items()]
    copy = with_table(results, tmp_path, "phenomena", lambda f: f.with_columns(values))
    before, after = (told(Run(folder, configured(folder))) for folder in (results, copy))
    assert len(before) > 8 and before == after


def told(run: Run) -> list[str]:
    """What pages say of ends."""
    found = [str(line.cells) for line in overview(run)]
    for module in (front, laboratory, mitigations, trajectories):
        page = module.make(run)
        found.append(page.answer or page.question)
        found += [f.reading for f in page.figures if f.name in ("sink", "drain", "peak")]
    return found


def test_the_table_s_verdicts_are_those_of_the_first_page(run: Run) -> None:
    rows = {(row["trajectory"], row["domain"]): row for row in run.phenomena.to_dicts()}
    told = {True: "yes", False: "no", None: "undecided"}
    checked = 0
    for line in overview(run):
        row = rows[line.trajectory, line.domain]
        assert line.place == (row["layer"], row["head"])
        for phenomenon, cell in line.cells.items():
            if cell.verdict != "undefined":
                assert told[row[phenomenon]] == cell.verdict
                checked += 1
    assert checked > 10


def test_claims_measure_what_the_first_page_shows(run: Run) -> None:
    """The ledger reads a run's ends as the table of ends does."""
    evidence = Evidence(run.config.dynamics, {}, {"phenomena": run.phenomena})
    for line in overview(run):
        for phenomenon, statistic in (("sink", "sink_excess"), ("drain", "value_ratio")):
            found = evidence.ending(line.trajectory, line.domain, statistic)
            ends = words.interval(found.low, found.high)
            assert line.cells[phenomenon].value == f"{words.number(found.value)} {ends}"
