"""A run whose trajectories have one record each: every page is built, and no chart is blank."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trajectory.api import measure
from trajectory.config import parse
from trajectory.corpus.tokenizer import load_tokenizer
from trajectory.corpus.tokens import TokenBatch
from trajectory.dynamics.analyse import analyse
from trajectory.dynamics.circuit import UNCHANGED
from trajectory.dynamics.claims.all import ledger
from trajectory.nano.pretrain import save_tokenizer, train_tokenizer
from trajectory.probe.effects import measure_effects
from trajectory.report.blocks import Cell, Findings, Grid, Heading
from trajectory.report.page import Page
from trajectory.report.pages import PAGES, circuit
from trajectory.report.parts import attention
from trajectory.report.parts.circuit import HEADS_ALONE
from trajectory.report.run import Run
from trajectory.report.site import build
from trajectory.report.specs import objects
from trajectory.schemas import (
    CHECKPOINTS,
    CLAIMS,
    HEAD_EFFECTS,
    HEADS,
    INTERVENTION_LAYERS,
    INTERVENTIONS,
    LAYERS,
    TABLES,
    Table,
)
from trajectory.tables import from_rows, write

from .explained import filled
from .synthetic import make_results

TEXTS = {
    "prose": ["Summer is warm. Winter is cold. " * 3, "Attention goes to the first token. " * 3],
    "code": ["def f(x):\n    return x + 1\n" * 4],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_tokenizer(train_tokenizer([t for ts in TEXTS.values() for t in ts], 300), folder, 128)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    config = LlamaConfig(vocab_size=300, eos_token_id=0, pad_token_id=None, **shape, **heads)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def effects(model: Path, names: dict[str, Any]) -> dict[Table, list[dict]]:
    """Rows of the tables of effects: every MLP and attention zeroed, every head."""
    read = load_tokenizer(model, model)
    batches = []
    for domain, texts in TEXTS.items():
        rows = [row[:20] for row in read.encode(texts)]
        words = [read.convert_ids_to_tokens(row) for row in rows]
        batches.append(TokenBatch(domain, torch.tensor(rows), words, "raw"))
    found = measure_effects(model, batches, [], None, ("zero_mlp", "zero_attention"))
    extra = {
        "revision": None,
        "commit": None,
        "first_token": "raw",
        "batch": "",
        "dtype": "float32",
    }
    return {
        INTERVENTIONS: [row | names | extra for row in found.interventions],
        INTERVENTION_LAYERS: [row | names for row in found.intervention_layers],
        HEAD_EFFECTS: [row | names for row in found.head_effects],
    }


def finish(model: Path, results: Path, step: int | None) -> None:
    """All stages behind the measurement of one checkpoint at ``step``."""
    measured = measure(model, TEXTS)
    names = {"trajectory": "one", "step": step, "tokens": None}
    rows = {
        HEADS: [row | names for row in measured.heads.to_dicts()],
        LAYERS: [row | names for row in measured.layers.to_dicts()],
        CHECKPOINTS: [
            filled(CHECKPOINTS, **names, domain=domain, loss=loss)
            for domain, loss in measured.losses.items()
        ],
        **effects(model, names),
    }
    facts = {"trajectory": "0", "versions": {"torch": "0"}}

    def save(name: str, found: list) -> None:
        table = TABLES[name]
        path = results / "tables" / f"{name}.parquet"
        write(from_rows(found, table), table, path, facts)

    for table, found in rows.items():
        save(table.name, [{k: row.get(k) for k in table.schema.names} for row in found])
    config = parse({"name": "one", "results": str(results), "suites": {"nano-olmo": {}}})
    frames = (pl.read_parquet(results / "tables" / f"{n}.parquet") for n in ("heads", "layers"))
    for name, found in analyse(*frames, config.dynamics).items():
        save(name, found)
    save(CLAIMS.name, ledger(results, config))
    build(results, config, results / "report")


STEPS = [pytest.param(0, marks=pytest.mark.thorough), pytest.param(7, marks=pytest.mark.slow), None]


@pytest.fixture(scope="module", params=STEPS, ids=lambda step: f"step {step}")
def finished(
    request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, int | None]:
    results = tmp_path_factory.mktemp("results")
    finish(model, results, request.param)
    return results, request.param


@pytest.fixture(scope="module")
def made(finished: tuple[Path, int | None]) -> list[Page]:
    """The pages as their modules make them."""
    results, _ = finished
    config = parse({"name": "one", "results": str(results), "suites": {"nano-olmo": {}}})
    return [make(Run(results, config)) for make in PAGES]


def test_every_page_is_built_and_every_chart_has_marks(finished: tuple[Path, int | None]) -> None:
    results, _ = finished
    report = results / "report"
    assert len(list(report.glob("*.html"))) == len(PAGES)
    drawn = sorted((report / "figures").glob("*.svg"))
    for path in drawn:
        text = path.read_text()
        shapes = re.findall(r'role="graphics-symbol"[^>]*aria-roledescription="([^"]*)"', text)
        assert [s for s in shapes if s not in ("axis", "legend", "title")], path.name
        assert re.search(r'<svg[^>]* width="[0-9.]+"', text), path.name
    names = {path.stem for path in drawn}
    assert {"heads-map", "heads-own", "circuit-norms", "circuit-bars-loss-difference"} <= names
    assert {"index-sink-lm", "index-drain-lm", "index-peak-lm"} <= names, "by depth"
    assert not {"heads-changes", "heads-head", "trajectories-sink"} & names, "over training"


def scales(chart: Any) -> Iterator[dict[str, Any]]:
    """Every scale with colours of its own in a chart's specification."""
    for part in objects(chart):
        if isinstance(part.get("domain"), list) and isinstance(part.get("range"), list):
            yield part


def test_no_colour_stands_for_two_things_and_no_mean_for_none(made: list[Page]) -> None:
    seen = 0
    for page in made:
        for figure in page.figures:
            for scale in scales(figure.chart.to_dict()):
                wanted, given = scale["domain"], [str(one) for one in scale["range"]]
                if any(one.startswith("#") for one in given):
                    seen += 1
                    assert len(given) >= len(wanted), (figure.name, wanted)
                    assert len(set(given)) == len(given), (figure.name, given)
            told = " ".join(
                [figure.reading, *(figure.captions.readings.values() if figure.captions else ())]
            )
            assert not re.search(r"\b(0|no) heads\b[^.]*nats|\bnan\b", told), (figure.name, told)
    assert seen


def test_a_chart_over_training_says_that_there_is_no_training(
    finished: tuple[Path, int | None],
) -> None:
    results, _ = finished
    text = (results / "report" / "heads.html").read_text()
    (told,) = re.findall(
        r'<(?:section|figure)[^>]* id="changes".*?</(?:section|figure)>', text, re.S
    )
    assert "single checkpoints" in told


def test_no_step_is_invented(finished: tuple[Path, int | None], made: list[Page]) -> None:
    results, step = finished
    for name in ("heads", "phenomena", "interventions"):
        frame = pl.read_parquet(results / "tables" / f"{name}.parquet")
        column = "last_step" if name == "phenomena" else "step"
        assert frame[column].unique().to_list() == [step]
    for page in made:
        told = " ".join([page.answer, *(figure.reading for figure in page.figures)])
        assert not re.search(r"step -1|None", told), page.name
        if step is None:
            assert not re.search(r"\bstep \d", told), (page.name, told)
        for frame in (*page.data.values(), *page.cuts.values()):
            for column in {"step", "last_step"} & set(frame.columns):
                assert set(frame[column].unique()) <= {step}, page.name


def test_intervals_are_those_of_the_sequences(finished: tuple[Path, int | None]) -> None:
    results, _ = finished
    rows = {
        r["domain"]: r for r in pl.read_parquet(results / "tables/phenomena.parquet").to_dicts()
    }
    assert rows["prose"]["intervals_over"] == "sequences"
    assert rows["code"]["intervals_over"] is None, "one sequence has no spread"
    heads = pl.read_parquet(results / "tables/heads.parquet")
    lead = rows["prose"]
    (own,) = heads.filter(domain="prose", layer=lead["layer"], head=lead["head"]).to_dicts()
    reach = 12.706204736 * own["value_ratio_se"]  # Student's t of one degree of freedom
    assert lead["value_ratio_high"] == pytest.approx(own["value_ratio"] + reach)
    assert lead["value_ratio_low"] == pytest.approx(max(0.0, own["value_ratio"] - reach))


def test_claims_and_sentences_call_nothing_absent_that_is_undecided(
    finished: tuple[Path, int | None], made: list[Page]
) -> None:
    results, _ = finished
    first = made[0]
    assert "does not decide" in first.question
    readings = [figure.reading for figure in first.figures]
    for text in (first.question, *readings):
        assert not re.search(r"\b(None|none|0) of\b", text), text
    claims = pl.read_parquet(results / "tables" / "claims.parquet")
    assert claims.height > 20
    olmo = claims.filter(claim="olmo-dynamics")
    assert set(olmo["verdict"]) == {"not measurable"}, "one checkpoint has no dynamics"


def test_the_first_page_speaks_of_single_checkpoints(
    finished: tuple[Path, int | None], made: list[Page]
) -> None:
    """It has numbers with their intervals in sight, no word of a training, and what was zeroed."""
    results, _ = finished
    page = made[0]
    (grid,) = (block for block in page.blocks if isinstance(block, Grid))
    by_domain = {str(row[1]): row for row in grid.rows}
    for cell in by_domain["prose"][-3:]:
        assert isinstance(cell, Cell) and re.fullmatch(r"\S+ \[\S+, \S+\].*", cell.note), cell
    heads = [block for block in page.blocks if isinstance(block, Heading)]
    told = " ".join([page.lead, *(f"{head.title} {head.text}" for head in heads)])
    assert "over training" not in told
    (found,) = (block for block in page.blocks if isinstance(block, Findings))
    texts = {row.question: row for row in found.rows}
    assert texts["Does an attention sink appear?"].verdict in ("undecided", "mixed")
    assert not re.search(r"\b(No|None|0 of)\b", texts["What comes with it?"].text)
    removed = texts["What removes the sink?"]
    changes = pl.read_parquet(results / "tables" / "interventions.parquet")["changes"].to_list()
    assert any(f"“{change}”" in removed.text for change in changes), removed.text
    written = {path.name: path.read_text() for path in (results / "report").glob("*.html")}
    for row in found.rows:
        name, _, anchor = row.link.partition("#")
        assert f'id="{anchor}"' in written[name], row.link


def test_what_takes_the_sink_is_the_change_with_the_greatest_loss_of_it(
    finished: tuple[Path, int | None],
) -> None:
    results, _ = finished
    depths = pl.read_parquet(results / "tables" / "intervention_layers.parquet")
    depths = depths.filter(domain="prose")
    changes = pl.read_parquet(results / "tables" / "interventions.parquet")
    lost = {}
    for name, change in changes.select("intervention", "changes").unique().rows():
        layer = re.fullmatch(r"zero_(?:mlp|attention) layer ([01])", change)
        if layer:  # behind the last layer there is none
            after = depths.filter(pl.col("layer") > int(layer[1]))
            weights = dict(after.group_by("intervention").agg(pl.col("sink_weight").mean()).rows())
            lost[change] = weights["none"] - weights[name]
    assert len(lost) == 4
    top = max(lost, key=lambda change: lost[change])
    config = parse({"name": "one", "results": str(results), "suites": {"nano-olmo": {}}})
    page = PAGES[0](Run(results, config))
    (found,) = (block for block in page.blocks if isinstance(block, Findings))
    (text,) = (row.text for row in found.rows if row.question == "What removes the sink?")
    assert f"“{top}” takes most" in text


@pytest.fixture(scope="module")
def side_by_side(
    model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Page]]:
    """Two published models of one checkpoint beside a toy that was trained here."""
    results = make_results(tmp_path_factory.mktemp("side"), explained=False)
    measured = measure(model, TEXTS)
    for table in (HEADS, LAYERS, CHECKPOINTS):
        path = results / "tables" / f"{table.name}.parquet"
        rows = pl.read_parquet(path).filter(pl.col("trajectory").str.starts_with("bb/softmax"))
        for n, name in enumerate(("large", "small")):
            own = {
                HEADS: measured.heads.with_columns(pl.col("sink_weight") * (1 - 0.5 * n)),
                LAYERS: measured.layers,
                CHECKPOINTS: pl.DataFrame(
                    [filled(CHECKPOINTS, domain=d, loss=x) for d, x in measured.losses.items()]
                ),
            }[table]
            named = own.with_columns(trajectory=pl.lit(name), step=None, tokens=None)
            kept = [one for one in rows.columns if one in named.columns]
            rows = pl.concat([rows, named.select(kept)], how="diagonal_relaxed")
        facts = {"trajectory": "0", "versions": {"torch": "0"}}
        found = [{k: row.get(k) for k in table.schema.names} for row in rows.to_dicts()]
        write(from_rows(found, table), table, path, facts)
    suites = {name: {"folder": str(model)} for name in ("large", "small")}
    config = parse(
        {
            "name": "side",
            "results": str(results),
            "bb": {"variants": {"softmax-1l": {"seeds": [0, 1]}}},
            "suites": suites,
        }
    )
    frames = (pl.read_parquet(results / "tables" / f"{n}.parquet") for n in ("heads", "layers"))
    for name, rows_of in analyse(*frames, config.dynamics).items():
        table = TABLES[name]
        path = results / "tables" / f"{name}.parquet"
        write(from_rows(rows_of, table), table, path, {"trajectory": "0", "versions": {}})
    run = Run(results, config)
    return results, {page.name: page for page in (make(run) for make in PAGES)}


def test_several_models_of_one_checkpoint_stand_beside_a_toy(
    side_by_side: tuple[Path, dict[str, Page]],
) -> None:
    _, pages = side_by_side
    index = pages["index"]
    assert "variant of toy transformers over training" in index.lead
    assert "large and small at one checkpoint each" in index.lead
    headings = [block.title for block in index.blocks if isinstance(block, Heading)]
    assert "Sink, drain and peak over training" in headings
    assert "Sink, drain and peak by depth" in headings
    assert set(index.data["profile"]["trajectory"]) == {"large", "small"}


def test_each_model_has_a_colour_of_its_own_and_stands_in_a_legend(
    side_by_side: tuple[Path, dict[str, Page]],
) -> None:
    _, pages = side_by_side
    drawn = {figure.name: figure for figure in pages["index"].figures}
    for name in ("sink-lm", "drain-lm", "peak-lm"):
        colours = [
            layer["encoding"]["color"]
            for layer in drawn[name].chart.to_dict()["layer"]
            if "color" in layer.get("encoding", {}) and "field" in layer["encoding"]["color"]
        ]
        assert colours, name
        for one in colours:
            assert one["legend"]["values"] == ["large", "small"]
            of = dict(zip(one["scale"]["domain"], one["scale"]["range"], strict=True))
            assert len({of["large"], of["small"], of["bb/softmax-1l"]}) == 3


def test_no_page_gives_a_model_of_one_checkpoint_a_step(
    side_by_side: tuple[Path, dict[str, Page]],
) -> None:
    _, pages = side_by_side
    for page in pages.values():
        assert not re.search(r"step [-−]1\b", str(page.controls)), page.name
    names = SimpleNamespace(of=str)
    films = [attention.Film("toy", [0, 7], 7.0, False), attention.Film("large", [-1], 1.0, False)]
    told = attention._place(films, 1.0, names)  # type: ignore[arg-type]
    assert told.endswith("toy at step 7; large at its one checkpoint")


def test_where_heads_alone_were_zeroed_no_part_is_said_to_write_nothing(
    finished: tuple[Path, int | None], tmp_path: Path
) -> None:
    results = tmp_path / "results"
    shutil.copytree(finished[0] / "tables", results / "tables")
    for table in (INTERVENTIONS, INTERVENTION_LAYERS):
        path = results / "tables" / f"{table.name}.parquet"
        heads = pl.col("intervention").str.starts_with("zero_head")
        rows = pl.read_parquet(path).filter(heads | (pl.col("intervention") == UNCHANGED))
        facts = {"trajectory": "0", "versions": {"torch": "0"}}
        write(from_rows(rows.to_dicts(), table), table, path, facts)
    config = parse({"name": "one", "results": str(results), "suites": {"nano-olmo": {}}})
    page = circuit.make(Run(results, config))
    assert "none of the parts" not in page.answer + page.lead
    assert [b.text for b in page.blocks if isinstance(b, Heading)] == [HEADS_ALONE]
    assert "none of the parts" in circuit.make(Run(finished[0], config)).answer
