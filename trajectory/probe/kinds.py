"""How logits become weights, where it is not softmax over the visible keys.

These have no fused form here: the T×T matrix is formed, which toy lengths allow.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Kind = Literal["softmax", "relu", "sigmoid", "softpick", "softmax_off_by_one", "sink_logit"]

WITH_NULL: tuple[Kind, ...] = ("softmax_off_by_one", "sink_logit")
"""Kinds with a null key: it takes weight and has no value."""

SOFTPICK_EPSILON = 1e-8


def capped(scores: Tensor, softcap: float | None) -> Tensor:
    """c·tanh(z/c) of logits z, or z itself without a cap c."""
    return scores if softcap is None else (scores / softcap).tanh() * softcap


def logits_of(query: Tensor, key: Tensor, scale: float, softcap: float | None = None) -> Tensor:
    """The logits that the softmax sees, [..., I, J], float32 where the inputs are half.

    Args:
        query, key: [..., I, d] and [..., J, d], heads already repeated.
        scale: factor of the dot product.
        softcap: c; None for logits that are not capped.
    """
    scores = query @ key.transpose(-1, -2) * scale
    if scores.dtype in (torch.bfloat16, torch.float16):
        scores = scores.float()
    return capped(scores, softcap)


def dense_weights(
    kind: Kind,
    query: Tensor,
    key: Tensor,
    scale: float,
    null_logit: Tensor | None = None,
    visible: Tensor | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attention weights A_ij, 0 where unseen, [B, H, T, T], float32 where the inputs are half.

    Args:
        kind: how logits become weights, as in ``weights_of``.
        query, key: [B, H, T, d], heads already repeated.
        scale: factor of the dot product.
        null_logit: [H], for ``sink_logit``.
        visible: which keys a query sees, bool [T, T]; all up to its own if None.
        softcap: as in ``logits_of``.
    """
    return weights_of(kind, logits_of(query, key, scale, softcap), null_logit, visible)


def weights_of(
    kind: Kind, scores: Tensor, null_logit: Tensor | None = None, visible: Tensor | None = None
) -> Tensor:
    """Attention weights of logits z_ij, 0 where a key is not seen, [B, H, T, T].

    Rows need not sum to 1, except those of softmax.

    - ``relu``: relu(z_ij)/(i+1) (arXiv 2410.13835): divided by the number of visible keys.
    - ``sigmoid``: σ(z_ij − ln(i+1)) (arXiv 2409.04431, whose bias is minus the log of the length).
    - ``softpick``: relu(e^{z_ij} − 1) / (Σ_j |e^{z_ij} − 1| + ε) (arXiv 2504.20966).
    - ``softmax_off_by_one``: e^{z_ij} / (1 + Σ_j e^{z_ij}): a null key with logit 0 and no value.
    - ``sink_logit``: the same with a learned logit per head.

    Args:
        kind: which of them.
        scores: z, [B, H, T, T].
        null_logit: [H], for ``sink_logit``.
        visible: which keys a query sees, bool [T, T]; all up to its own if None.
    """
    length = scores.shape[-1]
    if visible is None:
        visible = torch.ones(length, length, dtype=torch.bool, device=scores.device).tril()
    seen = torch.arange(1, length + 1, device=scores.device, dtype=scores.dtype)[:, None]
    if kind == "relu":
        return torch.where(visible, functional.relu(scores), 0) / seen
    if kind == "sigmoid":
        return torch.where(visible, (scores - seen.log()).sigmoid(), 0)
    scores = scores.masked_fill(~visible, -torch.inf)
    if kind == "softmax":
        return scores.softmax(-1)
    if kind == "softpick":
        # Everything over e^m, m the greater of 0 and the row's largest logit: nothing overflows.
        top = scores.detach().amax(-1, keepdim=True).clamp_min(0)
        shifted = torch.where(visible, (scores - top).exp() - (-top).exp(), 0)
        total = shifted.abs().sum(-1, keepdim=True) + SOFTPICK_EPSILON * (-top).exp()
        return functional.relu(shifted) / total
    null = scores.new_zeros(scores.shape[1]) if null_logit is None else null_logit.to(scores)
    null = null[None, :, None, None].expand(*scores.shape[:3], 1)
    return torch.cat([scores, null], -1).softmax(-1)[..., :-1]
