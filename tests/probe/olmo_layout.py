"""Checkpoints of the ``hf_olmo`` layout with random weights, and what they compute.

The forward pass, in float64, is written from the description of the model (arXiv 2402.00838 and the
comments of its config).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from .dense import Seen

COMMON: dict[str, Any] = {
    "model_type": "hf_olmo",
    "architectures": ["OLMoForCausalLM"],
    "activation_type": "swiglu",
    "alibi": False,
    "attention_layer_norm": False,
    "bias_for_layer_norm": False,
    "block_group_size": 1,
    "block_type": "sequential",
    "clip_qkv": None,
    "d_model": 32,
    "embedding_size": 72,
    "eos_token_id": 0,
    "include_bias": False,
    "layer_norm_type": "default",
    "layer_norm_with_affine": False,
    "max_sequence_length": 64,
    "mlp_hidden_size": None,
    "mlp_ratio": 4,
    "multi_query_attention": False,
    "n_heads": 4,
    "n_layers": 3,
    "rope": True,
    "scale_logits": False,
    "vocab_size": 70,
    "weight_tying": False,
}
RMS = {"layer_norm_type": "rms", "layer_norm_with_affine": True, "layer_norm_eps": 1e-6}
CASES: dict[str, dict[str, Any]] = {
    "olmo-tied": {"weight_tying": True, "embedding_size": None, "vocab_size": 72},
    "olmo-clipped": {"clip_qkv": 0.8, "mlp_hidden_size": 88, "layer_norm_type": "low_precision"},
    "olmo-grouped": {"n_kv_heads": 2, "multi_query_attention": None, "rope_theta": 500},
    "olmo-multi-query": {"multi_query_attention": True},
    "datadecide": {**RMS, "norm_after": False, "rope_theta": 10000},
}


def config(case: str, **changes: Any) -> dict[str, Any]:
    return {**COMMON, **CASES[case], **changes}


def sizes(c: dict[str, Any]) -> tuple[int, int, int, int]:
    """Rows of the embedding, width of a head, heads of keys, rows of the fused MLP projection."""
    kv = c.get("n_kv_heads") or (1 if c["multi_query_attention"] else c["n_heads"])
    fused = c["mlp_hidden_size"] or c["mlp_ratio"] * c["d_model"]
    return c["embedding_size"] or c["vocab_size"], c["d_model"] // c["n_heads"], kv, fused


def weights(c: dict[str, Any], seed: int = 0) -> dict[str, Tensor]:
    """Tensors as the layout stores them."""
    generator = torch.Generator().manual_seed(seed)
    rows, head, kv, fused = sizes(c)
    width = c["d_model"]

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) / 4

    found = {"wte": drawn(rows, width)}
    norms = ["ln_f"]
    for n in range(c["n_layers"]):
        found[f"blocks.{n}.att_proj"] = drawn(width + 2 * kv * head, width)
        found[f"blocks.{n}.attn_out"] = drawn(width, width)
        found[f"blocks.{n}.ff_proj"] = drawn(fused, width)
        found[f"blocks.{n}.ff_out"] = drawn(width, fused // 2)
        norms += [f"blocks.{n}.attn_norm", f"blocks.{n}.ff_norm"]
    if c["layer_norm_with_affine"]:
        found |= {name: 1 + drawn(width) for name in norms}
    if not c["weight_tying"]:
        found["ff_out"] = drawn(rows, width)
    return {f"model.transformer.{name}.weight": tensor for name, tensor in found.items()}


def save(folder: Path, case: str, seed: int = 0, **changes: Any) -> dict[str, Tensor]:
    """A checkpoint in ``folder``; its tensors."""
    c = config(case, **changes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(c))
    tensors = weights(c, seed)
    save_file(tensors, folder / "model.safetensors")
    return tensors


def forward(
    c: dict[str, Any], tensors: dict[str, Tensor], tokens: Tensor
) -> tuple[list[Seen], Tensor, list[Tensor]]:
    """What every layer's attention was given, logits [B, T, V], and the residual stream before and
    after every block, in float64."""
    w = {n.removeprefix("model.transformer.")[:-7]: t.double() for n, t in tensors.items()}
    _, head, kv, _ = sizes(c)
    length, groups = tokens.shape[1], c["n_heads"] // kv
    past = torch.ones(length, length).tril().bool()

    def norm(x: Tensor, name: str) -> Tensor:
        if c["layer_norm_type"] == "rms":
            scale = (x.square().mean(-1, keepdim=True) + c["layer_norm_eps"]).rsqrt()
            return x * scale * w[name]
        return (x - x.mean(-1, keepdim=True)) / (
            x.var(-1, keepdim=True, correction=0) + 1e-5
        ).sqrt()

    def in_heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, head)).movedim(-2, 1)

    def turned(x: Tensor) -> Tensor:
        """Components i and i + head / 2 of position t, turned by t·θ^(−2i / head)."""
        speed = c.get("rope_theta", 10000) ** (-torch.arange(0, head, 2).double() / head)
        angle = torch.outer(torch.arange(length).double(), speed)
        plane = torch.complex(*x.chunk(2, -1)) * torch.polar(torch.ones_like(angle), angle)
        return torch.cat([plane.real, plane.imag], -1)

    x = w["wte"][tokens]
    seen, streams = [], [x]
    for n in range(c["n_layers"]):
        block = f"blocks.{n}."
        mixed = norm(x, block + "attn_norm") @ w[block + "att_proj"].T
        if c["clip_qkv"] is not None:
            mixed = mixed.clamp(-c["clip_qkv"], c["clip_qkv"])
        q, k, v = map(in_heads, mixed.split([c["d_model"], kv * head, kv * head], -1))
        k, v = (part.repeat_interleave(groups, 1) for part in (turned(k), v))
        found = Seen(n, turned(q), k, v, past, head**-0.5, w[block + "attn_out"], groups)
        seen.append(found)
        x = x + (found.weights @ v).movedim(1, -2).flatten(-2) @ w[block + "attn_out"].T
        up, gate = (norm(x, block + "ff_norm") @ w[block + "ff_proj"].T).chunk(2, -1)
        x = x + (gate / (1 + (-gate).exp()) * up) @ w[block + "ff_out"].T
        streams.append(x)
    logits = norm(x, "ln_f") @ w["wte" if c["weight_tying"] else "ff_out"].T
    assert logits.isfinite().all()
    return seen, logits, streams


def loss(logits: Tensor, tokens: Tensor) -> float:
    """−log p of the next token, its mean."""
    surprises = [
        math.log(float(row.exp().sum())) - float(row[token])
        for rows, after in zip(logits, tokens, strict=True)
        for row, token in zip(rows[:-1], after[1:], strict=True)
    ]
    return sum(surprises) / len(surprises)
