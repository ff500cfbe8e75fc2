"""The paper's transformer: pre-norm, learned absolute positions, no biases (arXiv 2410.13835)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trajectory.probe.attention import Kind, probe_attention


class Attention(nn.Module):
    """Causal self-attention through the same function that probes language models."""

    def __init__(self, layer: int, width: int, heads: int, kind: Kind) -> None:
        super().__init__()
        self.layer_idx = layer
        self.heads = heads
        self.attention_kind = kind
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] → [B, T, D]."""
        batch, length, width = x.shape
        shape = (batch, length, self.heads, width // self.heads)
        query, key, value = (
            projection(x).view(shape).transpose(1, 2)  # (B, H, T, d)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        output, _ = probe_attention(self, query, key, value, None)  # (B, T, H, d)
        mixed: Tensor = self.o_proj(output.reshape(batch, length, width))
        return mixed


class Block(nn.Module):
    """x += Attention(LN x); x += W2 relu(W1 LN x)."""

    def __init__(self, layer: int, width: int, heads: int, kind: Kind) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(layer, width, heads, kind)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, 4 * width, bias=False)
        self.mlp_out = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] → [B, T, D]."""
        x = x + self.attention(self.attention_norm(x))
        mixed: Tensor = x + self.mlp_out(functional.relu(self.mlp_in(self.mlp_norm(x))))
        return mixed


class Transformer(nn.Module):
    """Token and position embeddings from N(0, 1), blocks, final norm, untied read-out.

    Linear layers keep PyTorch's initialisation, as the authors' do.
    """

    def __init__(
        self, vocabulary: int, length: int, layers: int, width: int, heads: int, kind: Kind
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(i, width, heads, kind) for i in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids [B, T] → next-token logits [B, T, V]."""
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits
