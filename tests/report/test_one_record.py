"""A run whose trajectories have one record each: every page is built, and no chart is blank."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trajectory.api import measure
from trajectory.config import parse
from trajectory.dynamics.analyse import analyse
from trajectory.dynamics.claims.all import ledger
from trajectory.nano.pretrain import save_tokenizer, train_tokenizer
from trajectory.report.pages import PAGES
from trajectory.report.run import Run
from trajectory.report.site import build
from trajectory.schemas import CHECKPOINTS, CLAIMS, HEADS, INTERVENTIONS, LAYERS, TABLES
from trajectory.tables import from_rows, write

from .explained import filled

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


def finish(model: Path, results: Path, step: int) -> None:
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
        INTERVENTIONS: [
            filled(
                INTERVENTIONS, **names, domain=domain, intervention=kind, changes=kind, loss=1.0,
                loss_difference=0.5,
            )
            for domain in TEXTS
            for kind in ("none", "zero_mlp layer 1", "zero_attention layer 1")
        ],
    }  # fmt: skip
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


@pytest.fixture(scope="module", params=[0, 7], ids=lambda step: f"step {step}")
def finished(
    request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, int]:
    results = tmp_path_factory.mktemp("results")
    finish(model, results, request.param)
    return results, request.param


def test_every_page_is_built_and_every_chart_has_marks(finished: tuple[Path, int]) -> None:
    results, step = finished
    report = results / "report"
    assert len(list(report.glob("*.html"))) == len(PAGES)
    drawn = sorted((report / "figures").glob("*.svg"))
    for path in drawn:
        text = path.read_text()
        shapes = re.findall(r'role="graphics-symbol"[^>]*aria-roledescription="([^"]*)"', text)
        assert [s for s in shapes if s not in ("axis", "legend", "title")], path.name
        assert re.search(r'<svg[^>]* width="[0-9.]+"', text), path.name
    names = {path.stem for path in drawn}
    assert "heads-map" in names, "what is no chart over training is drawn at any step"
    assert ("active-changes" in names) == ("index-sink-lm" in names) == (step > 0)


def test_a_chart_without_a_record_after_step_0_says_so(finished: tuple[Path, int]) -> None:
    results, step = finished
    text = (results / "report" / "active.html").read_text()
    (told,) = re.findall(
        r'<(?:section|figure)[^>]* id="changes".*?</(?:section|figure)>', text, re.S
    )
    assert ("step 0" in told) == (step == 0)


def test_claims_and_sentences_call_nothing_absent_that_is_undecided(
    finished: tuple[Path, int],
) -> None:
    results, _ = finished
    config = parse({"name": "one", "results": str(results), "suites": {"nano-olmo": {}}})
    (first, *_) = (make(Run(results, config)) for make in PAGES)
    assert "undecided" in first.answer.lower()
    readings = [figure.reading for figure in first.figures]
    for text in (first.answer, *readings):
        assert not re.search(r"\b(None|none|0) of\b", text), text
    assert pl.read_parquet(results / "tables" / "claims.parquet").height > 20
