"""Attention whose logits are capped: c·tanh(z/c), as Gemma 2 does before the softmax.

The logits of this package are those that the softmax sees, so capped ones where there is a cap.
Their sums over keys are no products with a sum of keys, so all are formed, in blocks of queries.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trajectory.probe.kinds import Kind, logits_of, weights_of
from trajectory.probe.statistics import SPREAD_BLOCK, sees_sink

DIFFERENCES = ("delta_logit", "delta_logit_bb", "delta_logit_lm", "rest_logit_sd")


def attend_in_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    kind: Kind,
    null_logit: Tensor | None,
    visible: Tensor | None,
    softcap: float | None,
) -> Tensor:
    """Attention for which torch has no fused kernel, [B, H, T, d].

    Args:
        query, key, value: [B, H, T, d], heads already repeated.
        scale: factor of the dot product.
        kind: how logits become weights.
        null_logit: [H], for ``sink_logit``.
        visible: which keys a query sees, bool [T, T]; all up to its own if None.
        softcap: c; None for logits that are not capped.
    """
    length = query.shape[2]
    if visible is None:
        visible = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
    parts = []
    for start in range(0, length, SPREAD_BLOCK):
        part = slice(start, min(start + SPREAD_BLOCK, length))
        scores = logits_of(query[:, :, part], key, scale, softcap)
        weights = weights_of(kind, scores, null_logit, visible[part])
        parts.append(weights.to(value.dtype) @ value)
    return torch.cat(parts, 2)


def capped_differences(
    query: Tensor,
    key: Tensor,
    scale: float,
    softcap: float | None,
    sink: int,
    present: Tensor,
    window: int | None = None,
) -> dict[str, Tensor]:
    """``delta_logit``, its two other definitions and ``rest_logit_sd`` of capped logits, [B, H, T].

    As ``statistics`` defines them, NaN where it has them so.

    Args:
        query, key: [B, H, T, d], heads already repeated.
        scale: factor of the dot product.
        softcap: c; None for logits that are not capped, whose weights are of another kind.
        sink: position s.
        present: which positions hold a token rather than padding, bool [B, T].
        window: how many of the last keys a query sees; all of them if None.
    """
    length, device = query.shape[2], query.device
    place = torch.arange(length, device=device)
    share = present.to(query)
    share = (share / share.sum(1, keepdim=True))[:, None, None]  # (B, 1, 1, T)
    sees = sees_sink(length, sink, window, device)
    found = {name: torch.empty_like(query[..., 0]) for name in DIFFERENCES}
    for start in range(0, length, SPREAD_BLOCK):
        part = slice(start, min(start + SPREAD_BLOCK, length))
        scores = logits_of(query[:, :, part], key, scale, softcap)  # (B, H, n, T)
        at_sink = scores[..., sink]
        distance = place[part, None] - place
        seen = (distance >= 0) & (distance < (window or length)) & (place != sink)
        between = (distance > 0) & (place > sink)
        mean = _mean(scores, between)
        found["delta_logit_bb"][:, :, part] = (at_sink - mean).masked_fill(
            ~between.any(1), torch.nan
        )
        found["delta_logit_lm"][:, :, part] = at_sink - (scores * share).sum(-1)
        mean = _mean(scores, seen)
        found["delta_logit"][:, :, part] = at_sink - mean
        apart = scores.sub_(mean[..., None]).masked_fill_(~seen, 0).square_().sum(-1)
        found["rest_logit_sd"][:, :, part] = (apart / seen.sum(1)).sqrt()
    return {name: values.masked_fill(~sees, torch.nan) for name, values in found.items()}


def _mean(scores: Tensor, taken: Tensor) -> Tensor:
    """Mean of [B, H, n, T] over the keys taken, bool [n, T]; [B, H, n]."""
    return scores.masked_fill(~taken, 0).sum(-1) / taken.sum(1)
