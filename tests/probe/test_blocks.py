"""How blocks read the residual stream, against the modules called by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cosine_similarity

from trajectory.bb.model import Transformer
from trajectory.config import Variant
from trajectory.corpus.kinds import token_kinds
from trajectory.corpus.tokens import TokenBatch
from trajectory.probe.interventions import Intervention, intervening
from trajectory.probe.language_model import measure_checkpoint_files
from trajectory.probe.measure import Batch, measure, rates
from trajectory.probe.streaming import streamed

from .dense import blocks_of, record
from .test_families import B, T, batches, make


@pytest.mark.parametrize(
    "case",
    ["olmo-clipped", "llama", "apertus", "olmo2", "gpt_neox", "gpt2", "gemma2", "qwen3_next"],
)
def test_norms_and_clipping(tmp_path: Path, case: str) -> None:
    model = make(tmp_path, case)
    batch = batches()[0]
    measured = measure_checkpoint_files(tmp_path, [batch], at_once=2)
    _, _, streams = record(model, batch.tokens)
    before = None
    for layer, row in zip(blocks_of(model), measured.layers[:-1], strict=True):
        names = ("input_layernorm", "attention_layernorm", "ln_1")
        norm = next((getattr(layer, name) for name in names if hasattr(layer, name)), None)
        learned = norm if norm is not None else layer.post_attention_layernorm
        if hasattr(learned, "weight"):
            scale = learned.weight.detach() + (case in ("gemma2", "qwen3_next"))  # kept less 1
            assert row["norm_scale"] == pytest.approx(float(scale.abs().mean()), rel=1e-6)
            assert row["norm_scale_max"] == pytest.approx(float(scale.max()), rel=1e-6)
        else:
            assert row["norm_scale"] is None
        if norm is None:
            assert row["norm_sparsity_sink"] is row["norm_cosine_sink"] is None
        else:
            with torch.no_grad():
                x = norm(streams[row["layer"]])
            small = (x.abs() < 0.01).double()
            assert row["norm_sparsity_sink"] == pytest.approx(float(small[:, 0].mean()), abs=1e-3)
            assert row["norm_sparsity_rest"] == pytest.approx(float(small[:, 1:].mean()), abs=1e-3)
            if before is not None:
                cosine = cosine_similarity(x[:, 0], before, dim=-1).mean()
                assert row["norm_cosine_sink"] == pytest.approx(float(cosine), abs=1e-5)
            before = x[:, 0]
        for name, projection in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
            if case != "olmo-clipped":
                assert row[f"clip_share_{name}"] is None
                continue
            with torch.no_grad():
                entries = getattr(layer.self_attn, projection)(x)
            share = float((entries.abs() > 0.8).double().mean())
            assert 0.05 < share < 0.95
            assert row[f"clip_share_{name}"] == pytest.approx(share, abs=2e-3)
    assert measured.layers[-1]["norm_scale"] is None


def test_a_block_is_compared_with_the_one_before_it_alone(tmp_path: Path) -> None:
    """OLMo-Hybrid's attention layers have no norm before them."""
    kinds = ["linear_attention", "linear_attention", "full_attention", "linear_attention"]
    make(tmp_path, "olmo_hybrid", layer_types=kinds)
    found = measure_checkpoint_files(tmp_path, batches()[:1], losses=False).layers[:-1]
    assert [row["norm_sparsity_sink"] is None for row in found] == [False, False, True, False]
    assert [row["norm_cosine_sink"] is None for row in found] == [True, False, True, True]


def shares(attention: torch.Tensor, mlp: torch.Tensor) -> tuple[float, float]:
    """mlp_share_sink and mlp_share_rest of writes [B, T, D], sink 0, all positions present."""
    share = mlp.double().norm(dim=-1) / (
        attention.double().norm(dim=-1) + mlp.double().norm(dim=-1)
    )
    return float(share[:, 0].mean()), float(share[:, 1:].mean())


@pytest.mark.parametrize(
    "case", ["olmo2", "olmoe", "gpt_neox", "gpt2", "gemma2", "gpt_oss", "apertus", "olmo_hybrid"]
)
def test_shares_of_writes_are_of_what_the_stream_gains(tmp_path: Path, case: str) -> None:
    """The MLP's write is what the stream lacks without it; attention's is the rest."""
    model = make(tmp_path, case)
    batch = batches()[0]
    measured = measure_checkpoint_files(tmp_path, [batch], at_once=2, losses=False).layers
    _, _, streams = record(model, batch.tokens)
    for layer in range(4):
        row = measured[layer]
        without = [Intervention("zero_mlp", layer)]
        changed = model_streams(tmp_path, batch, without)
        gained = streams[layer + 1] - streams[layer]
        attention = changed[layer + 1] - streams[layer]
        expected = shares(attention, gained - attention)
        assert (row["mlp_share_sink"], row["mlp_share_rest"]) == pytest.approx(expected, abs=2e-5)
        assert 0.02 < row["mlp_share_rest"] < 0.98
        silent = measure_checkpoint_files(
            tmp_path, [batch], losses=False, full=False, interventions=without
        ).layers[layer]
        assert silent["mlp_share_sink"] == silent["mlp_share_rest"] == 0
    assert measured[4]["mlp_share_sink"] is None


def model_streams(
    folder: Path, batch: TokenBatch, changes: list[Intervention]
) -> list[torch.Tensor]:
    """The residual stream at every depth of a changed model."""
    found: list[torch.Tensor] = []
    with streamed(folder) as model, intervening(changes, model.blocks), torch.no_grad():
        for block in model.blocks:
            block.register_forward_pre_hook(lambda _, given: found.append(given[0]))
        model.run(batch.tokens, lambda _, stream: found.append(stream))
    return found


@pytest.mark.parametrize("norm", ["pre", "post", "none"])
def test_shares_of_a_toys_writes(norm: str) -> None:
    torch.manual_seed(0)
    model = Transformer(20, Variant(layers=3, width=16, norm=norm, no_ffn=[1], task={"length": 16}))
    tokens = torch.randint(20, (4, 16))
    texts = [[str(t) for t in row] for row in tokens.tolist()]
    batch = Batch({"all": torch.ones(4, 16, dtype=torch.bool)}, texts)
    _, _, found = measure(lambda: model(tokens), list(model.blocks), batch)
    x = model.tokens(tokens) + model.positions.weight
    with torch.no_grad():
        for block, row in zip(model.blocks, found[:-1], strict=True):
            before = x
            x = block(x)
            if block.mlp is None:
                assert row["mlp_share_sink"] is row["mlp_share_rest"] is None
                continue
            block.mlp, mlp = None, block.mlp
            attention = block(before) - before
            block.mlp = mlp
            expected = shares(attention, x - before - attention)
            assert (row["mlp_share_sink"], row["mlp_share_rest"]) == pytest.approx(
                expected, abs=1e-5
            )


def test_rates_over_all_heads(tmp_path: Path) -> None:
    model = make(tmp_path, "llama")
    batch = batches()[0]
    measured = measure_checkpoint_files(tmp_path, [batch])
    seen, _, _ = record(model, batch.tokens)
    weights = torch.stack([s.weights[..., 1:, 0].mean(-1) for s in seen])  # (L, B, H)
    found = rates(measured.heads, measured.layers, "prose")
    assert found["sink_rate"] == pytest.approx(float((weights > 0.3).double().mean()))
    assert found["column_sum_rate"] == pytest.approx(float((weights.mean(2) > 0.3).double().mean()))
    assert weights.shape[1:] == (B, 4) and batch.tokens.shape[1] == T


def test_kinds_of_tokens() -> None:
    texts = [
        ["The", "Ġcat", ".", "Ċ", "<|endoftext|>", ",", "Ġ."],
        [".", "▁", "<0x0A>", "ĊĊ", "</s>", "...", "čĊ"],
        ["x", "ĠĠ", ".ĊĊ", ",Ċ", "Ċĉĉ", "č", "...Ċ"],
    ]
    expected = [[0, 3, 1, 1, 2, 1, 1], [0, 3, 1, 1, 2, 3, 1], [0, 3, 1, 1, 1, 3, 3]]
    ends = torch.tensor([[token in ("<|endoftext|>", "</s>") for token in row] for row in texts])
    assert token_kinds(texts, ends).tolist() == expected
    spelt = token_kinds(texts).tolist()
    assert spelt[0][4] == spelt[1][4] == 3, "what merely spells a token of an end is none"
