"""The shipped studies of published Llamas, run on models of their depth with random weights.

The expected losses and norms are those of the whole model in transformers, its weights edited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from project import Project
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn import functional
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from trajectory.jobs.batches import read_batches

pytestmark = pytest.mark.slow

PRINTABLE = [chr(code) for code in range(32, 127)]


def publish(folder: Path, **shape: Any) -> Any:
    """A Llama with random weights in ``folder``, as its page serves it; the model itself."""
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=128,
        max_position_embeddings=256,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=None,
        **shape,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(folder)
    words = {word: n for n, word in enumerate(["<s>", "</s>", "<unk>", *PRINTABLE])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@contextmanager
def silenced(weight: torch.Tensor, columns: slice = slice(None)) -> Iterator[None]:
    """A projection whose ``columns`` write nothing."""
    before = weight.detach().clone()
    with torch.no_grad():
        weight[:, columns] = 0
    try:
        yield
    finally:
        with torch.no_grad():
            weight.copy_(before)


def read_out(model: Any, tokens: torch.Tensor) -> tuple[float, float]:
    """Loss, and the greatest mean norm at position 0 of the streams between two blocks."""
    with torch.no_grad():
        out = model(input_ids=tokens, output_hidden_states=True, use_cache=False)
    loss = functional.cross_entropy(out.logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    norms = [float(h[:, 0].norm(dim=-1).mean()) for h in out.hidden_states[1:-1]]
    return float(loss), max(norms)


def finish(project: Project, config: str, results: str) -> pl.DataFrame:
    done = project.snakemake(f"{results}/tables/claims.parquet", "--configfile", config)
    assert done.returncode == 0, done.stdout + done.stderr
    return pl.read_parquet(project.folder / results / "tables/claims.parquet")


@pytest.mark.parametrize("place", [".", "step0", "step7", "base"])
def test_the_circuit_of_the_residual_peak(
    make_project: Callable[[str], Project], place: str
) -> None:
    project = make_project("circuit")
    model = publish(
        project.folder / "models/llama-3.1-8b" / place,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=32,
        num_attention_heads=8,
        num_key_value_heads=2,
    )
    results = "results/llama-circuit"
    config = project.folder / "workflow/configs/llama-circuit.yaml"
    # The study itself, but for the type: in bfloat16 two kernels drift apart over 32 layers.
    text = config.read_text().replace("dtype: bfloat16", "dtype: float32")
    config.write_text(text.replace("sequences: 16", "sequences: 4"))
    claims = finish(project, str(config), results)

    table = pl.read_parquet(project.folder / results / "tables/interventions.parquet")
    assert table["intervention"].n_unique() == 1 + 2 * 32 + 3
    batch = read_batches(project.folder / results / "batches/llama-3.1-8b.parquet")[0]
    layers = model.model.layers
    plain, _ = read_out(model, batch.tokens)
    for change, weight in (
        ("zero_mlp layer 1", layers[1].mlp.down_proj.weight),
        ("zero_attention layer 0", layers[0].self_attn.o_proj.weight),
        ("zero_mlp layer 30", layers[30].mlp.down_proj.weight),
    ):
        with silenced(weight):
            loss, norm = read_out(model, batch.tokens)
        row = table.row(
            by_predicate=(pl.col("changes") == change) & (pl.col("domain") == batch.domain),
            named=True,
        )
        assert row["loss_difference"] == pytest.approx(loss - plain, abs=2e-4)
        assert row["residual_norm_sink_max"] == pytest.approx(norm, rel=1e-4)
    found = claims.filter(pl.col("claim").is_in(["llama-3.1-circuit", "llama-3.1-phenomena"]))
    assert set(found["verdict"]) == {"not reproduced"}, "random weights have no such circuit"


def test_the_head_that_code_wakes(make_project: Callable[[str], Project]) -> None:
    project = make_project("heads")
    model = publish(
        project.folder / "models/llama-2-7b",
        hidden_size=128,
        intermediate_size=64,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=32,
    )
    config = project.folder / "workflow/configs/llama-heads.yaml"
    text = config.read_text()
    words = "Winter is cold, and summer is warm; the rest is weather. " * 4
    code = "for i in range(10):\n    print(i ** 2, end='')\n" * 4
    for domain, column, one in (("wikipedia", "text", words), ("github", "code", code)):
        source = text[text.index(f"    {domain}:") :].split("source: ")[1].split("\n")[0]
        local = project.folder / f"{domain}.parquet"
        pl.DataFrame({column: [f"{n} {one}" for n in range(200)]}).write_parquet(local)
        text = text.replace(source, str(local))
    text = text.replace("sequences: 64\n  length: 128", "sequences: 8\n  length: 48")
    config.write_text(text.replace("sequences: 32", "sequences: 4"))
    results = "results/llama-heads"
    claims = finish(project, str(config), results)

    effects = pl.read_parquet(project.folder / results / "tables/head_effects.parquet")
    assert effects.select("layer", "head").unique().height == 32
    table = pl.read_parquet(project.folder / results / "tables/interventions.parquet")
    weight = model.model.layers[16].self_attn.o_proj.weight
    for batch in read_batches(project.folder / results / "batches/llama-2-7b.parquet"):
        tokens = batch.tokens[:4]
        plain, _ = read_out(model, tokens)
        with silenced(weight, slice(25 * 4, 26 * 4)):
            loss, _ = read_out(model, tokens)
        row = table.row(
            by_predicate=(pl.col("changes") == "zero_head layer 16 head 25")
            & (pl.col("domain") == batch.domain),
            named=True,
        )
        assert row["loss"] == pytest.approx(loss, rel=1e-5)
        assert row["loss_difference"] == pytest.approx(loss - plain, abs=2e-5)
    found = claims.filter(pl.col("claim") == "l16h25")
    assert set(found["domain"]) == {"wikipedia", "github"}
    assert found["measured"].null_count() == 0
    weights = found.filter(pl.col("criterion").str.starts_with("weight"))
    assert set(weights["verdict"]) == {"not reproduced"}, "random weights have no such head"
