"""What a reader sees carries the names of people; what a program reads, those of the config."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from trajectory.report.controls import Legend
from trajectory.report.joined import joined
from trajectory.report.labelled import labelled
from trajectory.report.names import Names
from trajectory.report.page import Page
from trajectory.report.run import Run

from .synthetic import VARIANTS

CONFIGURED = re.compile(rf"\bnon_trigger\b|(?<![\w.-])(?:{'|'.join(VARIANTS)})(?![\w-])")
"""Names of the synthetic config; what is in its tables but not in it keeps its name."""


def test_no_page_shows_a_name_of_the_config(site: Path) -> None:
    """Lines to copy are a program's, and tell the name that the tables hold."""
    for path in site.glob("*.html"):
        text = re.sub(r"<script.*?</script>|<pre>.*?</pre>", "", path.read_text(), flags=re.S)
        assert not CONFIGURED.search(html.unescape(text)), path.name


def test_no_chart_shows_a_name_of_the_config(pages: list[Page], labelled_pages: list[Page]) -> None:
    for plain, page in zip(pages, labelled_pages, strict=True):
        for figure in page.figures:
            spec = json.dumps(figure.specification(page.controls), ensure_ascii=False)
            assert not CONFIGURED.search(spec), f"{page.name}-{figure.name}"
        for name, frame in page.data.items():
            for column in ("trajectory", "group", "domain", "label"):
                for text in frame[column].unique() if column in frame.columns else []:
                    if isinstance(text, str):
                        assert not CONFIGURED.search(text), f"{page.name}-{name}: {text}"
            assert frame.height == plain.data[name].height


def test_what_a_joined_page_hides_stays_hidden_under_its_new_name(run: Run) -> None:
    first, *others = run.groups
    groups = [(group, "#000000", [group]) for group in run.groups]
    hiding = [Page(n, n, "?", "", [], [Legend(groups, {first})]) for n in ("one", "two")]
    page = labelled(joined(*hiding, sections=["two"]), run, Names(run.config))
    (legend,) = page.controls
    assert legend.value == [Names(run.config).of(group) for group in others]


def test_charts_still_find_what_the_controls_choose(labelled_pages: list[Page]) -> None:
    """Values of a control are those of the column that it filters."""
    checked = 0
    for page in labelled_pages:
        chosen = {c.name: c.value for c in page.controls}
        if isinstance(page.cube, dict):
            assert chosen["chosen_trajectory"] in page.cube
            assert chosen["chosen_domain"] in page.cube[chosen["chosen_trajectory"]]["domains"]
        for frame in page.data.values():
            if "shown" in chosen and "trajectory" in frame.columns:
                seen = set(frame["trajectory"].drop_nulls())
                told: Any = chosen["shown"]
                assert seen & set(told) or not seen, page.name
                checked += 1
    assert checked > 5


def test_files_keep_the_names_of_the_config(site: Path) -> None:
    frame = pl.read_csv(site / "data/laboratory-risks.csv")
    assert set(frame["group"]) == {f"bb/{name}" for name in VARIANTS}
    assert "non_trigger" in set(frame["domain"])


def test_a_name_is_replaced_where_it_ends(run: Run) -> None:
    names = Names(run.config)
    assert names.inside("bb/adamw-3l/seed0 on non_trigger") == (
        "3 layers, AdamW, seed 0 on non-trigger"
    )
    for kept in ("bb/adamw-3lx", "xbb/adamw-3l", "non_triggers", "bb/other"):
        assert names.inside(kept) == kept
    assert names.within("of bb/relu-1l’s") == "of “1 layer, ReLU, AdamW”’s"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("zero_mlp-L0", "no MLP in layer 0"),
        ("zero_head-L1H4", "no head 4 in layer 1"),
        ("head_to_sink-L0H2", "head 2 all on the sink in layer 0"),
        ("zero_mlp layer 11", "no MLP in layer 11"),
        ("zero_head layer 16 head 25", "no head 25 in layer 16"),
        ("zero_attention 0", "no attention in layer 0"),
        ("zero_layer 0,1", "no attention or MLP in layers 0 and 1"),
        ("zero_mlp", "zero_mlp"),
        ("zero_mlp-L0x", "zero_mlp-L0x"),
        ("my_zero_mlp-L0", "my_zero_mlp-L0"),
    ],
)
def test_an_intervention_is_told_as_what_it_does(run: Run, name: str, told: str) -> None:
    names = Names(run.config)
    assert names.inside(name) == told
    assert names.within(f"“{name}” costs most") == f"“{told}” costs most"


def test_a_copied_table_holds_interventions_by_their_names_in_tables(
    labelled_pages: list[Page],
) -> None:
    """``called`` is what the page's own downloads are written with."""
    found = {
        name: page.called[name]
        for page in labelled_pages
        for frame in page.data.values()
        if "intervention" in frame.columns
        for name in frame["intervention"].drop_nulls()
        if name in page.called
    }
    assert found["no attention in layer 0"] == "zero_attention 0"


def test_interventions_are_named_in_one_order(run: Run) -> None:
    """A set's differs from one process to the next, and a report's bytes with it."""
    every = [f"zero_mlp-L{n}" for n in range(30)]
    frames = {name: pl.DataFrame({"intervention": part}) for name, part in
              (("a", every[::-1]), ("b", every[::2]))}  # fmt: skip
    page = labelled(Page("n", "n", "?", "", [], [], frames), run, Names(run.config))
    found = [name for name in page.called.values() if name in every]
    assert found == sorted(every)
