"""The statistics, as pure functions of tensors.

Notation: batch B, query heads H, positions T, head dimension d, sink position s. Logits
z_ij = scale·q_i·k_j, weights A_ij. Query i sees the keys j ≤ i, or the last ``window`` of them.
Everything follows from fused attention calls; a T×T matrix of scores is never formed (except for
kinds of attention other than softmax, which have no fused form). Keys and values come with heads
already repeated. Positions where a statistic is undefined hold NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trajectory.probe.attention import attend, sliding_mask

COLUMN_BLOCK = 128
"""Queries whose weights are held at once: H × 128 × T numbers, which a cache can hold."""


@dataclass(frozen=True)
class Split:
    """Softmax attention of every query, split into the sink and the rest of its visible keys.

    Attributes:
        log_odds: log A_is/(1 − A_is) where i > s sees s, NaN elsewhere; [B, H, T].
        rest: logsumexp over visible keys j ≠ s, −inf for i = s = 0; [B, H, T].
        rest_entropy: entropy of the weights renormalised over those keys; [B, H, T].
    """

    log_odds: Tensor
    rest: Tensor
    rest_entropy: Tensor

    @property
    def weight(self) -> Tensor:
        """A_is, [B, H, T]."""
        return self.log_odds.sigmoid()

    @property
    def entropy(self) -> Tensor:
        """H(A_i·) of every query besides the sink's own, [B, H, T]."""
        weight, other = self.weight, (-self.log_odds).sigmoid()
        surprise = -torch.xlogy(weight, weight) - torch.xlogy(other, other)
        split = surprise + other * self.rest_entropy
        return torch.where(self.log_odds.isnan(), self.rest_entropy, split)

    @property
    def log_normaliser(self) -> Tensor:
        """logsumexp over all visible keys of every query besides the sink's own, [B, H, T]."""
        total = self.rest + torch.nn.functional.softplus(self.log_odds)
        return torch.where(self.log_odds.isnan(), self.rest, total)


def split_sink(
    query: Tensor, key: Tensor, scale: float, sink: int, window: int | None = None
) -> Split:
    """Split attention into the sink and the rest with one fused call.

    Row and column s are deleted, so the rest is attention again and its logsumexp needs no mask of
    its own; unlike log A − log(1 − A) this keeps all digits when A is near 1. With the keys as
    values the same call gives the entropy: H = lse − scale·q·Σ_j A_j k_j. In half precision the
    log-odds stay good to 1e-4, the entropy does not: its terms are large and cancel.
    """
    length = query.shape[2]
    keep = torch.arange(length, device=query.device) != sink
    visible = sliding_mask(length, window, query.device)
    if visible is not None:
        visible = visible[keep][:, keep]
    others, keys = query[:, :, keep], key[:, :, keep]  # (B, H, T-1, d)
    mean_key, lse = attend(others, keys, keys, scale, visible)
    spread = lse - scale * (others * mean_key).sum(-1)
    rest = query.new_full(query.shape[:3], -torch.inf, dtype=lse.dtype)
    entropy = torch.full_like(rest, torch.nan)
    rest[:, :, keep], entropy[:, :, keep] = lse, spread.to(lse.dtype)
    odds = torch.full_like(rest, torch.nan)
    sees = sees_sink(length, sink, window, query.device)
    logits = sink_logits(query.to(lse.dtype), key.to(lse.dtype), scale, sink)
    odds[:, :, sees] = logits[:, :, sees] - rest[:, :, sees]
    return Split(odds, rest, entropy)


def sees_sink(
    length: int, sink: int, window: int | None = None, device: torch.device | None = None
) -> Tensor:
    """Which queries i > s see the sink, bool [T]."""
    position = torch.arange(length, device=device)
    after = position > sink
    return after if window is None else after & (position < sink + window)


def sink_logits(query: Tensor, key: Tensor, scale: float, sink: int) -> Tensor:
    """z_is for every query, [B, H, T] (meaningless where s is not visible)."""
    return (query * key[:, :, sink : sink + 1]).sum(-1) * scale


def dense_sink_weights(weights: Tensor, sink: int) -> Tensor:
    """A_is of every query i > s from the matrix of weights, [B, H, T, T] → [B, H, T]."""
    column = weights[..., sink].clone()
    column[:, :, : sink + 1] = torch.nan
    return column


def visible_keys(length: int, window: int | None = None) -> Tensor:
    """How many keys each query sees, float64 [T]."""
    count = torch.arange(1, length + 1, dtype=torch.float64)
    return count if window is None else count.clamp_max(window)


def uniform_floor(length: int, sink: int, window: int | None = None) -> Tensor:
    """A_is of uniform attention over the visible keys, float64 [T]."""
    floor = 1 / visible_keys(length, window)
    return floor.masked_fill(~sees_sink(length, sink, window), torch.nan)


def _running(key: Tensor, window: int | None) -> Tensor:
    """Sum of every query's visible keys, [B, H, T, d]."""
    total = key.cumsum(2)
    if window is not None and window < key.shape[2]:
        total = total.clone()
        total[:, :, window:] -= key.cumsum(2)[:, :, :-window]
    return total


def delta_logit(
    query: Tensor, key: Tensor, scale: float, sink: int, window: int | None = None
) -> Tensor:
    """z_is − mean over visible keys j ≠ s of z_ij, for i > s that see s, [B, H, T].

    The mean of logits is the logit of the mean key: one running sum of keys.
    """
    length = query.shape[2]
    others = _running(key, window) - key[:, :, sink : sink + 1]
    count = (visible_keys(length, window) - 1).to(query)
    mean = (query * others).sum(-1) * scale / count
    delta = sink_logits(query, key, scale, sink) - mean
    return delta.masked_fill(~sees_sink(length, sink, window, query.device), torch.nan)


def delta_logit_bb(
    query: Tensor, key: Tensor, scale: float, sink: int, window: int | None = None
) -> Tensor:
    """z_is − mean over s < j < i of z_ij, for i ≥ s + 2 that see s, [B, H, T].

    The paper's definition for BB (``summarise_logits_difference``): own position excluded.
    """
    length = query.shape[2]
    running = key.cumsum(2)
    between = running - key - running[:, :, sink : sink + 1]  # sum over s < j < i
    count = torch.arange(length, device=query.device, dtype=query.dtype) - sink - 1
    mean = (query * between).sum(-1) * scale / count
    delta = sink_logits(query, key, scale, sink) - mean
    seen = sees_sink(length, sink, window, query.device) & (count >= 1)
    return delta.masked_fill(~seen, torch.nan)


def delta_logit_lm(
    query: Tensor,
    key: Tensor,
    scale: float,
    sink: int,
    present: Tensor,
    window: int | None = None,
) -> Tensor:
    """z_is − mean over all keys of z_ij before the mask, for i > s that see s, [B, H, T].

    The paper's definition for OLMo: future keys and the sink itself enter the mean.

    Args:
        present: which positions hold a token rather than padding, bool [B, T].
    """
    weights = present.to(key)
    weights = weights / weights.sum(1, keepdim=True)
    mean_key = torch.einsum("bhtd,bt->bhd", key, weights)[:, :, None]
    mean = (query * mean_key).sum(-1) * scale
    delta = sink_logits(query, key, scale, sink) - mean
    return delta.masked_fill(~sees_sink(query.shape[2], sink, window, query.device), torch.nan)


def first_visible_weight(
    query: Tensor, key: Tensor, scale: float, log_normaliser: Tensor, window: int | None = None
) -> Tensor:
    """Weight on the first key each query sees, for i ≥ 1, [B, H, T].

    Position 0, except where a sliding window hides it (the far-query monitor of OLMo-core).
    """
    position = torch.arange(query.shape[2], device=query.device)
    first = torch.zeros_like(position) if window is None else (position - window + 1).clamp_min(0)
    logits = (query * key[:, :, first]).sum(-1) * scale
    weight = (logits.to(log_normaliser.dtype) - log_normaliser).exp()
    return weight.masked_fill(position == 0, torch.nan)


def column_mass(
    query: Tensor,
    key: Tensor,
    scale: float,
    log_normaliser: Tensor,
    rows: Tensor,
    window: int | None = None,
) -> Tensor:
    """Σ_{i>j} A_ij over the queries in ``rows``, for every key j, [B, N, H, T].

    A key's own row is left out: it always sees itself. With the log-normalisers known this is one
    product of queries and keys in blocks, a third of what the fused backward pass costs.

    Args:
        log_normaliser: logsumexp over the visible keys of every query, [B, H, T].
        rows: N sets of queries that count, bool [B, N, T].
    """
    length = query.shape[2]
    mass = query.new_zeros(*rows.shape[:2], query.shape[1], length)
    position = torch.arange(length, device=query.device)
    for start in range(0, length, COLUMN_BLOCK):
        stop = min(start + COLUMN_BLOCK, length)
        first = 0 if window is None else max(0, start - window + 1)
        scores = query[:, :, start:stop] @ key[:, :, first:stop].transpose(-1, -2)
        weights = scores.mul_(scale).sub_(log_normaliser[:, :, start:stop, None]).exp_()
        distance = position[start:stop, None] - position[first:stop]
        hidden = distance <= 0 if window is None else (distance <= 0) | (distance >= window)
        weights.masked_fill_(hidden, 0)
        mass[..., first:stop] += torch.einsum(
            "bnq,bhqk->bnhk", rows[:, :, start:stop].to(weights), weights
        )
    return mass


def dense_column_mass(weights: Tensor, rows: Tensor) -> Tensor:
    """``column_mass`` from the matrix of weights [B, H, T, T], [B, N, H, T]."""
    below = weights.tril(-1)
    return torch.einsum("bhij,bni->bnhj", below, rows.to(below))


def projected_norms(value: Tensor, projection: Tensor) -> Tensor:
    """‖W_O^h v_j‖ for every head and position, [B, H, T].

    Args:
        value: [B, H, T, d].
        projection: W_O, [D, H·d].
    """
    heads, dim = value.shape[1], value.shape[3]
    blocks = projection.reshape(projection.shape[0], heads, dim)  # (D, H, d)
    gram = torch.einsum("dhx,dhy->hxy", blocks, blocks)  # ‖Wv‖² = vᵀ(WᵀW)v, no D-sized activations
    squared = (torch.einsum("bhtx,hxy->bhty", value, gram) * value).sum(-1)
    return squared.clamp_min(0).sqrt()


def kurtosis(hidden: Tensor) -> Tensor:
    """D·Σh⁴/(Σh²)² at every position, [B, T]; 3 for Gaussian channels, D for a single spike."""
    squares = hidden.square()
    return hidden.shape[-1] * squares.square().sum(-1) / squares.sum(-1).square()


def sink_and_rest(norms: Tensor, rest: Tensor, sink: int) -> tuple[Tensor, Tensor]:
    """The sink's norm and the median norm over ``rest`` [B, T] of each sequence, both [B, H].

    NaN for sequences that have no such position.
    """
    median = norms.masked_fill(~rest[:, None], torch.nan).nanquantile(0.5, dim=2)
    return or_nan(norms[:, :, sink], rest.any(1)[:, None]), median


def or_nan(values: Tensor, present: Tensor) -> Tensor:
    """``values`` where ``present``, NaN elsewhere."""
    return torch.where(present, values, torch.nan)
