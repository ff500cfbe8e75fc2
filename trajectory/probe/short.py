"""Causal attention of short sequences in bfloat16, for training on a CPU.

Torch's fused kernel for CPUs is slow in bfloat16, backwards above all: its blocks are too small for
the units that make such products fast. Where the weights of a few sequences fit into a cache,
forming them costs a fraction of it. Scores and normalisation are float32, as in the fused kernel;
weights, and the gradients of weights and scores, are bfloat16.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LONGEST = 512
"""Positions up to which it is used."""

CACHE_WEIGHTS = 2**18
"""Weights that are formed at once."""


def suits(query: Tensor, key: Tensor, visible: Tensor | None) -> bool:
    """Whether ``attend_short`` is for attention of query [B, H, T, d] to key [B, G, T, d].

    Never without a gradient: what is measured is the fused kernel's.
    """
    return (
        torch.is_grad_enabled()
        and query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and query.shape[2] <= LONGEST
        and query.shape[1] == key.shape[1]
        and visible is None
    )


def attend_short(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Causal softmax attention of [B, H, T, d] in bfloat16, [B, H, T, d]."""
    flat = (t.flatten(0, 1) for t in (query, key, value))
    output: Tensor = _Short.apply(*flat, scale)
    return output.view(query.shape)


class _Short(torch.autograd.Function):
    """Of [N, T, d], a few sequences at a time."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        count, length, _ = query.shape
        hidden = torch.full((length, length), -torch.inf).triu(1)
        weights = query.new_empty(count, length, length)
        output = query.new_empty(value.shape)
        for part in _parts(count, length):
            # Products of bfloat16 numbers, added in float32: a product of floats adds the same.
            q, k = query[part].float(), key[part].float()
            scores = torch.baddbmm(hidden, q, k.mT, alpha=scale)
            weights[part] = scores.softmax(-1)
            torch.bmm(weights[part], value[part], out=output[part])
        ctx.save_for_backward(query, key, value, weights)
        ctx.scale = scale
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, weights = ctx.saved_tensors
        found = [torch.empty_like(t) for t in (query, key, value)]
        for part in _parts(*weights.shape[:2]):
            mixed, upstream = weights[part], gradient[part]
            torch.bmm(mixed.mT, upstream, out=found[2][part])
            of_weights = upstream @ value[part].mT
            of_scores = torch._softmax_backward_data(of_weights, mixed, -1, mixed.dtype)
            torch.bmm(of_scores, key[part], out=found[0][part])
            torch.bmm(of_scores.mT, query[part], out=found[1][part])
        found[0] *= ctx.scale
        found[1] *= ctx.scale
        return *found, None


def _parts(count: int, length: int) -> list[slice]:
    size = max(1, CACHE_WEIGHTS // length**2)
    return [slice(start, start + size) for start in range(0, count, size)]
