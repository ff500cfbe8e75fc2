"""Repeated random sequences: the draw, and the field's induction score on it."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

from trajectory.api import measure
from trajectory.cli import app
from trajectory.config import Probe
from trajectory.corpus.given import CARRIED, batches_of
from trajectory.corpus.repeated import ordinary, repeated_random
from trajectory.corpus.tokenizer import load_tokenizer
from trajectory.errors import TrajectoryError
from trajectory.jobs.batches import make_batches
from trajectory.probe.language_model import measure_checkpoint_files
from trajectory.schemas.base import REPEATED

from .test_tokens import CHARACTERS, save_tokenizer

VOCABULARY = 3 + len(CHARACTERS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Llama of two layers whose heads are no strangers to large logits."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.4)
    model.save_pretrained(tmp_path)
    stated = (tmp_path / "config.json").read_text()
    save_tokenizer(tmp_path, bos_token="<s>", eos_token="</s>")
    (tmp_path / "config.json").write_text(stated)
    return tmp_path


def test_a_block_of_distinct_ordinary_tokens_stands_twice(folder: Path) -> None:
    tokenizer = load_tokenizer(folder, folder)
    assert ordinary(tokenizer) == list(range(3, VOCABULARY))
    for first, length, block in ((None, 20, 10), (None, 21, 10), (0, 21, 10), (0, 20, 9)):
        rows = repeated_random(tokenizer, 50, length, first)
        lead = 0 if first is None else 1
        assert rows.shape == (50, lead + 2 * block)
        assert rows.dtype == torch.int64
        one, two = rows[:, lead : lead + block], rows[:, lead + block :]
        assert torch.equal(one, two)
        assert all(len(set(row)) == block for row in one.tolist())
        assert one.min() >= 3
        assert first is None or (rows[:, 0] == first).all()
        assert torch.equal(rows[:7], repeated_random(tokenizer, 7, length, first))
    counts = torch.bincount(repeated_random(tokenizer, 3000, 20, None)[:, :10].flatten())[3:]
    expected = 3000 * 10 / len(CHARACTERS)
    assert ((counts - expected).abs() < 5 * expected**0.5).all()


@pytest.mark.parametrize("first_token", ["raw", "bos"])
def test_induction_weight_of_it_is_the_fields_score(folder: Path, first_token: str) -> None:
    """Mean attention from i to i − L + 1 over the second block, by transformers' own attention."""
    read = load_tokenizer(folder, folder)
    size = {"length": 25, "first_token": first_token, "sequences": 6}
    (batch,) = batches_of(REPEATED, read, where="m", **size)  # type: ignore[arg-type]
    assert batch.tokens.shape[1] == (24 if first_token == "raw" else 25)
    found = measure(folder, REPEATED, dtype="float64", **size)  # type: ignore[arg-type]
    model = LlamaForCausalLM.from_pretrained(folder, attn_implementation="eager").double()
    lead = batch.tokens.shape[1] % 2
    with torch.no_grad():
        attentions = model(batch.tokens, output_attentions=True).attentions
    for row in found.heads.iter_rows(named=True):
        weights = attentions[row["layer"]][:, row["head"]].double()
        queries = range(lead + 12, lead + 24)
        score = torch.stack([weights[:, i, i - 12 + 1] for i in queries]).mean()
        # eager attention forms its softmax in float32
        assert row["induction_weight"] == pytest.approx(float(score), abs=1e-6)
        floor = sum(1 / (i + 1) for i in queries) / len(queries)
        assert row["induction_floor"] == pytest.approx(floor, rel=1e-12)
    scores = found.heads["induction_weight"]
    assert scores.max() > 2 * scores.min(), "heads that differ"  # type: ignore[operator]


def test_a_config_asks_for_it_beside_texts(folder: Path) -> None:
    assert get_args(Probe.model_fields["domains"].annotation.__args__[0]) == CARRIED  # type: ignore[union-attr]
    probe = Probe(domains=["prose", REPEATED], sequences=3, length=32, first_token="bos")
    rows = make_batches("s", folder, probe)
    drawn = [row for row in rows if row["domain"] == REPEATED]
    assert [row["sequence"] for row in drawn] == [0, 1, 2]
    assert {row["first_token"] for row in drawn} == {"bos"}
    for row in drawn:
        assert row["tokens"][0] == 0
        assert row["tokens"][1:16] == row["tokens"][16:]
        assert row["texts"] == load_tokenizer(folder, "x").convert_ids_to_tokens(row["tokens"])
    with pytest.raises(ValueError, match="the name 'repeated-random' is a domain already"):
        Probe(domains=["prose"], prompts={REPEATED: ["a"]})


def test_what_is_too_small_for_it_is_one_line(folder: Path) -> None:
    probe = Probe(domains=[REPEATED], length=64, first_token="raw")
    with pytest.raises(TrajectoryError) as caught:
        make_batches("s", folder, probe)
    assert str(caught.value) == (
        "suite 's', domain 'repeated-random': its tokenizer has 30 ordinary tokens, fewer than the "
        "32 distinct ones of a block; set a smaller length"
    )
    for first_token, least in (("raw", 6), ("bos", 7)):
        size = {"first_token": first_token, "sequences": 2}
        wrong = f"domain '{REPEATED}': {least - 1} tokens per sequence, too few for two blocks of 3"
        with pytest.raises(TrajectoryError, match=f"^{wrong}; at least {least}$"):
            measure(folder, REPEATED, length=least - 1, **size)  # type: ignore[arg-type]
        assert measure(folder, REPEATED, length=least, **size).heads.height == 4  # type: ignore[arg-type]
    with pytest.raises(TrajectoryError, match="texts need a tokenizer"):
        batches_of(REPEATED, None, 16, "raw", "m")
    told = CliRunner().invoke(app, ["sinks", str(folder), "--domain", "verse"])
    assert "give name=FILE; or prose, code, repeated-random alone" in str(told.exception)


def test_random_tokens_may_cost_a_trained_model_any_price(folder: Path) -> None:
    """The loss of text may not: it tells damaged weights."""
    model = LlamaForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight *= 30
    model.save_pretrained(folder)
    tokenizer = load_tokenizer(folder, folder)
    (drawn,) = batches_of([REPEATED], tokenizer, 16, "raw", "m", sequences=4)
    loss = measure_checkpoint_files(folder, [drawn]).losses[REPEATED].mean
    assert loss > 2 * torch.tensor(VOCABULARY).log()
    (text,) = batches_of({"x": ["hello world"]}, tokenizer, 16, "raw", "m")
    with pytest.raises(TrajectoryError, match="weights are damaged"):
        measure_checkpoint_files(folder, [text])
