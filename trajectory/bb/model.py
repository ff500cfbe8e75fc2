"""The paper's transformer and its mitigations (arXiv 2410.13835).

With the defaults: pre-norm, learned absolute positions, no biases outside LayerNorm, untied
read-out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trajectory.config import Variant
from trajectory.probe.attention import probe_attention
from trajectory.probe.kinds import Kind

ROPE_BASE = 10_000.0


class ValueScale(nn.Module):
    """V-scale (arXiv 2603.17771): every head's value v becomes φ(‖v‖²)·v, φ small for small values.

    The value path then passes little gradient to a value that is small already, as the sink's is.
    The paper's φ is a function of ‖v‖² with one learned parameter θ per layer and head. Its text
    was not at hand; this φ(u) = u/(u + e^θ) is one such function, θ = 0 at first, and may differ
    from the authors'. ``backward`` is their control: values stay as they are, gradients are those
    through φ with θ = 0.
    """

    def __init__(self, heads: int, kind: Literal["full", "backward"]) -> None:
        super().__init__()
        self.log_threshold = nn.Parameter(torch.zeros(heads)) if kind == "full" else None

    def forward(self, value: Tensor) -> Tensor:
        """[B, H, T, d] → [B, H, T, d]."""
        size = value.square().sum(-1, keepdim=True)
        if self.log_threshold is None:
            scaled = value * (size / (size + 1))
            return value.detach() + (scaled - scaled.detach())
        return value * (size / (size + self.log_threshold.exp()[:, None, None]))


class SingleScale(nn.Module):
    """x/rms(x)·g with one learned gain g for all channels, 1 at first (arXiv 2506.19697, its code).

    Without a gain per channel the norm cannot favour any of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D]."""
        return functional.rms_norm(x, x.shape[-1:]) * self.gain


def make_norm(variant: Variant) -> nn.Module:
    """A norm of the variant's kind."""
    if variant.norm_kind == "layer":
        return nn.LayerNorm(variant.width)
    return nn.RMSNorm(variant.width) if variant.norm_kind == "rms" else SingleScale()


class Attention(nn.Module):
    """Causal self-attention through the same function that probes language models."""

    def __init__(self, layer: int, variant: Variant) -> None:
        super().__init__()
        width = variant.width
        self.layer_idx = layer
        self.heads = variant.heads
        self.clip = variant.clip_qkv
        self.attention_kind: Kind = variant.attention
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)
        self.q_norm = nn.RMSNorm(width) if variant.qk_norm else None
        self.k_norm = nn.RMSNorm(width) if variant.qk_norm else None
        self.value_gate = nn.Linear(width, variant.heads) if variant.value_gate else None
        self.head_gate = nn.Linear(width, width) if variant.head_gate else None
        self.value_scale = ValueScale(variant.heads, variant.v_scale) if variant.v_scale else None
        self.rotary = variant.positions == "rope"
        if variant.attention == "sink_logit":
            self.null_logit = nn.Parameter(torch.zeros(variant.heads))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] → [B, T, D]."""
        batch, length, width = x.shape
        shape = (batch, length, self.heads, width // self.heads)
        query, key, value = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        if self.clip is not None:
            query, key, value = (t.clamp(-self.clip, self.clip) for t in (query, key, value))
        if self.q_norm is not None and self.k_norm is not None:
            query, key = self.q_norm(query), self.k_norm(key)
        gate = None if self.value_gate is None else self.value_gate(value).sigmoid()  # (B, T, H)
        query, key, value = (t.view(shape).transpose(1, 2) for t in (query, key, value))
        if self.rotary:
            query, key = rotate(query), rotate(key)
        if gate is not None:
            value = value * gate.transpose(1, 2)[..., None]
        if self.value_scale is not None:
            value = self.value_scale(value)
        output, _ = probe_attention(self, query, key, value, None)  # (B, T, H, d)
        mixed = output.reshape(batch, length, width)
        if self.head_gate is not None:
            mixed = mixed * self.head_gate(x).sigmoid()
        written: Tensor = self.o_proj(mixed)
        return written


class MLP(nn.Module):
    """W2 relu(W1 x), no biases."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] → [B, T, D]."""
        mixed: Tensor = self.down(functional.relu(self.up(x), inplace=True))
        return mixed


class Block(nn.Module):
    """x += Attention(LN x); x += MLP(LN x); the norms elsewhere or nowhere, parts left out."""

    def __init__(self, layer: int, variant: Variant) -> None:
        super().__init__()
        width = variant.width
        self.post = variant.norm == "post"
        has_norm = variant.norm != "none"
        if layer not in variant.no_attn:
            self.attention_norm = make_norm(variant) if has_norm else nn.Identity()
            self.attention: Attention | None = Attention(layer, variant)
        else:
            self.attention = None
        if layer not in variant.no_ffn:
            self.mlp_norm = make_norm(variant) if has_norm else nn.Identity()
            linear = layer in variant.linear_ffn
            self.mlp: nn.Module | None = (
                nn.Linear(width, width, bias=False) if linear else MLP(width)
            )
        else:
            self.mlp = None

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] → [B, T, D]."""
        if self.attention is not None:
            norm = self.attention_norm
            x = x + (norm(self.attention(x)) if self.post else self.attention(norm(x)))
        if self.mlp is not None:
            norm = self.mlp_norm
            x = x + (norm(self.mlp(x)) if self.post else self.mlp(norm(x)))
        return x


class Transformer(nn.Module):
    """Token and position embeddings from N(0, 1), blocks, final norm, untied read-out.

    Linear layers keep PyTorch's initialisation, as the authors' do.
    """

    def __init__(self, vocabulary: int, variant: Variant) -> None:
        super().__init__()
        width = variant.width
        self.tokens = nn.Embedding(vocabulary, width)
        learned = variant.positions == "learned"
        self.positions = nn.Embedding(variant.task.length, width) if learned else None
        self.blocks = nn.ModuleList(Block(i, variant) for i in range(variant.layers))
        self.norm = make_norm(variant)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids [B, T] → next-token logits [B, T, V]."""
        x = self.tokens(tokens)
        if self.positions is not None:
            x = x + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits

    def matrices(self) -> Sequence[nn.Parameter]:
        """The weights of the blocks' linear maps, which Muon and AdamH update."""
        return [
            parameter
            for name, parameter in self.blocks.named_parameters()
            if name.endswith(".weight") and parameter.ndim == 2 and min(parameter.shape) > 1
        ]


def rotate(x: Tensor) -> Tensor:
    """Rotary position embedding (arXiv 2104.09864) of [B, H, T, d], halves paired."""
    length, dim = x.shape[2], x.shape[3]
    half = torch.arange(dim // 2, device=x.device, dtype=torch.float32)
    rates = ROPE_BASE ** (-2 * half / dim)
    angles = torch.arange(length, device=x.device, dtype=torch.float32)[:, None] * rates
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
