"""Moments of every query's logits, taken from the blocks of scores that a scan forms anyway."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.linalg import vector_norm

from trajectory.probe.statistics import sees_sink, visible_keys


class Scores(Protocol):
    """A block's scores [n, block, keys] of n heads, as ``scan`` holds them.

    Attributes:
        past: of the keys that every query sees, or None.
        own_scores, own_weights: of the others, and as much memory that nothing else needs now.
        seen: which of those others a query sees, 0 or 1, [block, keys].
        sink_scores, sink_weights: of the sink, [n, block]; None where it is no key.
        own_logits: of each query and its own key, [n, block].
    """

    past: Tensor | None
    own_scores: Tensor
    own_weights: Tensor
    seen: Tensor
    sink_scores: Tensor | None
    sink_weights: Tensor | None
    own_logits: Tensor


class Moments:
    """Sums of z_ij over the keys j ≠ s that a query sees, and of their squared deviations.

    Deviations of a block's own keys are summed as they are: a query that sees few keys, or equal
    ones, loses no digits to a difference of large squares. Those of earlier keys follow from their
    sum and their squares, so keys should come less their mean.

    Args:
        like: a tensor [N, T, d] of the scores' type and device.
        sink, window: as in ``scan``.
        spread: whether squared deviations are wanted.
    """

    def __init__(self, like: Tensor, sink: int, window: int | None, spread: bool) -> None:
        self.sink, self.window, self.spread = sink, window, spread
        count, self.length, _ = like.shape
        self.sums = like.new_zeros(5, count, self.length)
        """Of all keys, of those before the block; the query's own logit; norms of the logits before
        the block, and of the deviations in it."""
        self.keys = (visible_keys(self.length, window, like.device) - 1).to(like)
        self.before = torch.zeros_like(self.keys)
        self.share = 1 / self.keys.clamp_min(1)

    def take(self, block: Scores, sums: Tensor, share: Tensor) -> None:
        """Take a block's scores, which are 0 where they do not count afterwards.

        Args:
            block: the scores.
            sums: of its queries, [5, n, block].
            share: one over how many keys they see, [block].
        """
        total, past, own, norm, apart = sums.unbind()
        own.copy_(block.own_logits)
        block.own_scores.mul_(block.seen)
        if block.sink_scores is not None:
            block.sink_scores.zero_()
        torch.sum(block.own_scores, -1, out=total)
        if block.past is not None:
            total.add_(torch.sum(block.past, -1, out=past))
        if not self.spread:
            return
        mean = (total * share).unsqueeze(-1)
        torch.sub(block.own_scores, mean, out=block.own_weights).mul_(block.seen)
        if block.sink_weights is not None:
            block.sink_weights.zero_()
        vector_norm(block.own_weights, dim=-1, out=apart)
        if block.past is not None:
            vector_norm(block.past, dim=-1, out=norm)

    def found(self, at_sink: Tensor, query: Tensor, key: Tensor) -> dict[str, Tensor]:
        """``delta_logit``, ``delta_logit_bb`` without a window, and ``rest_logit_sd`` if wanted.

        As ``statistics`` defines them, [B, H, T], NaN where it has them so.

        Args:
            at_sink: z_is, [B, H, T].
            query, key: whose product is z, [B, H, T, d].
        """
        total, past, own, norm, apart = (t.view(at_sink.shape) for t in self.sums)
        sees = sees_sink(self.length, self.sink, self.window, at_sink.device)
        mean = total * self.share
        found = {"delta_logit": (at_sink - mean).masked_fill(~sees, torch.nan)}
        if self.window is None:
            between = total - own
            if self.sink:
                earlier = key[:, :, : self.sink].sum(2, keepdim=True)
                between -= (query @ earlier.mT)[..., 0]
            number = torch.arange(self.length, device=at_sink.device) - self.sink - 1
            found["delta_logit_bb"] = (at_sink - between / number).masked_fill(
                number < 1, torch.nan
            )
        if self.spread:
            squares = norm.square_().addcmul_(apart, apart)
            squares += mean * (self.before * mean - 2 * past)
            spread = (squares * self.share).clamp_min_(0).sqrt_()
            found["rest_logit_sd"] = spread.masked_fill(~sees, torch.nan)
        return found
