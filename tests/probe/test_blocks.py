"""How blocks read the residual stream, against the modules called by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cosine_similarity

from trajectory.corpus.kinds import token_kinds
from trajectory.probe.language_model import measure_checkpoint_files
from trajectory.probe.measure import rates

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
