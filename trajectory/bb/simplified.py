"""The simplified model of the theory: one layer with parameters α, β, λ, ξ (arXiv 2410.13835).

A non-trigger query v gives ⟨s⟩ the logit α_v and every other key 0; a trigger t gives the token
before it λ_t and every other key 0. The value of token x is ξ_x e_x, that of ⟨s⟩ is W_O β. There is
no residual stream: out = attention(e) + MLP(e), on one-hot embeddings.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trajectory.bb.task import BigramTask
from trajectory.config import Variant
from trajectory.probe.attention import probe_attention
from trajectory.probe.kinds import Kind

HIDDEN = 128
"""Width of the MLP, as the authors'."""


class SimplifiedAttention(nn.Module):
    """The attention written as queries and keys, so that the shared probe can measure it.

    k_j = (1[j = 0], e_j) and q_i = (α_v, 0) or (0, λ_t e_{i−1}), scale 1.
    """

    attention_kind: Kind = "softmax"
    keys: Tensor

    def __init__(self, task: BigramTask, length: int) -> None:
        super().__init__()
        size = task.vocabulary
        self.task = task
        self.layer_idx = 0
        self.alpha = nn.Parameter(torch.randn(size))
        self.lam = nn.Parameter(torch.randn(size))
        self.xi = nn.Parameter(torch.randn(size))
        self.beta = nn.Parameter(torch.randn(size))
        self.wo = nn.Linear(size, size, bias=False)  # multiplies the ⟨s⟩ value only
        # What the probe reads as W_O: values already lie in the output space.
        padded = max(size, length + 1)
        self.o_proj = nn.Linear(padded, size, bias=False)
        self.o_proj.weight = nn.Parameter(torch.eye(size, padded), requires_grad=False)
        keys = torch.zeros(length, padded)
        keys[0, 0] = 1
        keys[:, 1 : length + 1] += torch.eye(length)
        self.register_buffer("keys", keys, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids [B, T] → [B, T, V]."""
        batch, length = tokens.shape
        size = self.xi.shape[0]
        trigger = self.task.is_trigger(tokens)
        before = torch.arange(length, device=tokens.device) - 1
        place = functional.one_hot(before.clamp_min(0) + 1, self.keys.shape[1])
        query = torch.where(trigger, self.lam[tokens], 0)[..., None] * place
        query = query + functional.pad(
            torch.where(trigger, 0, self.alpha[tokens])[..., None], (0, query.shape[-1] - 1)
        )
        value = functional.one_hot(tokens, size) * self.xi[tokens][..., None]
        sink = self.wo(self.beta).expand(batch, 1, size)
        value = torch.cat([sink, value[:, 1:]], 1)
        value = functional.pad(value, (0, query.shape[-1] - size))
        key = self.keys[:length].expand(batch, -1, -1)
        query, key, value = (tensor[:, None] for tensor in (query, key, value))  # one head
        output, _ = probe_attention(self, query, key, value, None, scaling=1.0)
        return output[:, :, 0, :size]


class SimplifiedBlock(nn.Module):
    """attention(e) + MLP(e), on one-hot embeddings [B, T, V]."""

    def __init__(self, task: BigramTask, length: int) -> None:
        super().__init__()
        size = task.vocabulary
        self.attention = SimplifiedAttention(task, length)
        self.mlp = nn.Sequential(
            nn.Linear(size, HIDDEN, bias=False), nn.ReLU(), nn.Linear(HIDDEN, size, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """One-hot tokens [B, T, V] → logits [B, T, V]."""
        mixed: Tensor = self.attention(x.argmax(-1)) + self.mlp(x)
        return mixed


class Simplified(nn.Module):
    """The simplified model; its one block is seen by the probe like any other."""

    def __init__(self, task: BigramTask, variant: Variant) -> None:
        super().__init__()
        self.size = task.vocabulary
        self.blocks = nn.ModuleList([SimplifiedBlock(task, variant.task.length)])

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids [B, T] → next-token logits [B, T, V]."""
        onehot = functional.one_hot(tokens, self.size).to(next(self.parameters()).dtype)
        logits: Tensor = self.blocks[0](onehot)
        return logits
