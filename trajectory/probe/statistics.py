"""The statistics, as pure functions of tensors.

Notation: batch B, query heads H, positions T, head dimension d, sink position s. Logits
z_ij = scale·q_i·k_j, weights A_ij. Query i sees the keys j ≤ i, or the last ``window`` of them.
What needs every weight of softmax attention is in ``trajectory.probe.scan``; a T×T matrix of scores
is never formed, except for other kinds of attention. Keys and values come with heads already
repeated. Positions where a statistic is undefined hold NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trajectory.probe.kinds import capped
from trajectory.probe.medians import midpoints
from trajectory.schemas import MIN_QUERY
from trajectory.schemas.base import LEAST_RANK

SPREAD_BLOCK = 64
"""Queries whose logits are held at once for their spread."""


def first_query(lengths: Tensor) -> Tensor:
    """First query, counted from the sink, that enters logit statistics of sequences so long.

    Also how many later queries a key needs to be called a sink. MIN_QUERY, and half the length of a
    sequence of fewer than twice as many tokens, which would else have next to none. Integers, any
    shape.
    """
    return torch.where(lengths < 2 * MIN_QUERY, lengths // 2, MIN_QUERY).clamp_min(1)


def sees_sink(
    length: int, sink: int, window: int | None = None, device: torch.device | None = None
) -> Tensor:
    """Which queries i > s see the sink, bool [T]."""
    position = torch.arange(length, device=device)
    after = position > sink
    return after if window is None else after & (position < sink + window)


def sink_logits(query: Tensor, key: Tensor, scale: float, sink: int) -> Tensor:
    """z_is for every query, [B, H, T] (meaningless where s is not visible)."""
    return dots(query, key[:, :, sink]) * scale


def sink_cosine(at_sink: Tensor, scale: float, query: Tensor, key: Tensor) -> Tensor:
    """Cosine of every query and the sink's key, [B, H, T]; 0 where either is 0.

    Args:
        at_sink: ``sink_logits``.
        scale: factor of the dot product.
        query, key: norms of the queries, [B, H, T], and of the sink's key, [B, H, 1].
    """
    least = torch.finfo(query.dtype).tiny ** 0.5
    return at_sink / scale / query.clamp_min(least) / key.clamp_min(least)


def dots(query: Tensor, vector: Tensor) -> Tensor:
    """q_i·v of every query [B, H, T, d] and its head's vector [B, H, d], [B, H, T]."""
    return (query @ vector[..., None])[..., 0]


def dense_sink_weights(weights: Tensor, sink: int) -> Tensor:
    """A_is of every query i > s from the matrix of weights, [B, H, T, T] → [B, H, T]."""
    column = weights[..., sink].clone()
    column[:, :, : sink + 1] = torch.nan
    return column


def visible_keys(
    length: int, window: int | None = None, device: torch.device | None = None
) -> Tensor:
    """How many keys each query sees, float64 [T]."""
    count = torch.arange(1, length + 1, dtype=torch.float64, device=device)
    return count if window is None else count.clamp_max(window)


def uniform_floor(
    length: int, sink: int, window: int | None = None, device: torch.device | None = None
) -> Tensor:
    """A_is of uniform attention over the visible keys, float64 [T]."""
    floor = 1 / visible_keys(length, window, device)
    return floor.masked_fill(~sees_sink(length, sink, window, device), torch.nan)


def visible_sum(query: Tensor, key: Tensor, window: int | None = None) -> Tensor:
    """Σ q_i·k_j over the keys that each query sees, [B, H, T].

    The sum of logits is the logit of the summed keys: one running sum.
    """
    total = key.cumsum(2)
    if window is not None and window < key.shape[2]:
        total[:, :, window:] = total[:, :, window:] - total[:, :, :-window]
    return total.mul_(query).sum(-1)


def delta_logit(
    query: Tensor,
    key: Tensor,
    scale: float,
    sink: int,
    window: int | None = None,
    total: Tensor | None = None,
    at_sink: Tensor | None = None,
) -> Tensor:
    """z_is − mean over visible keys j ≠ s of z_ij, for i > s that see s, [B, H, T].

    Args:
        total: ``visible_sum``, where it is known.
        at_sink: ``sink_logits``, likewise.
    """
    length = query.shape[2]
    total = visible_sum(query, key, window) if total is None else total
    count = (visible_keys(length, window, query.device) - 1).to(query)
    logits = sink_logits(query, key, scale, sink) if at_sink is None else at_sink
    delta = logits - (total * scale - logits) / count
    return delta.masked_fill(~sees_sink(length, sink, window, query.device), torch.nan)


def delta_logit_bb(
    query: Tensor,
    key: Tensor,
    scale: float,
    sink: int,
    window: int | None = None,
    total: Tensor | None = None,
    at_sink: Tensor | None = None,
) -> Tensor:
    """z_is − mean over s < j < i of z_ij, for i ≥ s + 2 that see s, [B, H, T].

    The paper's definition for BB (``summarise_logits_difference``): own position excluded.

    Args:
        total: ``visible_sum`` without a window, where it is known.
        at_sink: ``sink_logits``, likewise.
    """
    length = query.shape[2]
    total = visible_sum(query, key) if total is None else total
    logits = sink_logits(query, key, scale, sink) if at_sink is None else at_sink
    first = dots(query, key[:, :, : sink + 1].sum(2)) if sink else logits / scale
    between = total - (query * key).sum(-1) - first  # over s < j < i
    count = torch.arange(length, device=query.device, dtype=query.dtype) - sink - 1
    mean = between * scale / count
    delta = logits - mean
    seen = sees_sink(length, sink, window, query.device) & (count >= 1)
    return delta.masked_fill(~seen, torch.nan)


def mean_key(key: Tensor, present: Tensor) -> Tensor:
    """Mean key of each sequence, [B, G, 1, d], of [B, G, T, d]; 0 for one without tokens.

    Args:
        present: which positions hold a token rather than padding, bool [B, T].
    """
    weights = present.to(key)
    weights = weights / weights.sum(1, keepdim=True).clamp_min(1)
    return weights[:, None, None] @ key


def first_visible_weights(
    query: Tensor,
    key: Tensor,
    scale: float,
    log_normaliser: Tensor,
    count: int,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Weights on the first ``count`` keys each query sees, 0 past its own, [B, H, T, count].

    The keys from position 0 on, except where a sliding window hides them (the far-query monitor of
    OLMo-core).
    """
    length = query.shape[2]
    position = torch.arange(length, device=query.device)
    if window is None:
        logits = query @ key[:, :, :count].mT
        beyond = position[:, None] < position[: logits.shape[-1]]
    else:
        places = (position - window + 1).clamp_min(0)[:, None] + torch.arange(
            min(count, length), device=query.device
        )
        beyond = position[:, None] < places
        taken = places.clamp_max(length - 1)
        logits = torch.stack(
            [(query * key[:, :, taken[:, m]]).sum(-1) for m in range(taken.shape[1])], -1
        )
    return weights_at(logits * scale, beyond, log_normaliser, softcap)


def weights_at(
    logits: Tensor, beyond: Tensor, log_normaliser: Tensor, softcap: float | None = None
) -> Tensor:
    """Weights of logits before a cap, [B, H, T, n]; 0 where ``beyond``, bool [T, n]."""
    logits = capped(logits, softcap).to(log_normaliser.dtype)
    return (logits - log_normaliser[..., None]).exp().masked_fill(beyond, 0)


def first_visible_floor(
    length: int, count: int, window: int | None = None, device: torch.device | None = None
) -> Tensor:
    """Their sum under uniform attention, float64 [T]."""
    seen = visible_keys(length, window, device)
    return seen.clamp_max(count) / seen


def dense_column_sums(weights: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_{i>j} A_ij and −Σ_{i>j} A_ij ln A_ij over the queries in ``rows`` [B, N, T].

    From the matrix of weights [B, H, T, T]; both [B, N, H, T]. A key's own row is left out.
    """
    below, counted = weights.tril(-1), rows.to(weights)
    surprise = -torch.xlogy(below, below)
    return (
        torch.einsum("bhij,bni->bnhj", below, counted),
        torch.einsum("bhij,bni->bnhj", surprise, counted),
    )


def column_entropy(mass: Tensor, surprise: Tensor, seen: Tensor) -> Tensor:
    """Entropy of A_·j / Σ_i A_ij over the n queries that count, over ln n.

    Args:
        mass: S = Σ_i A_ij.
        surprise: −Σ_i A_ij ln A_ij.
        seen: n; the result is NaN where it is below 2 or S is 0.
    """
    entropy = mass.log() + surprise / mass
    known = (seen >= 2) & (mass > 0)
    return or_nan(entropy / seen.clamp_min(2).log(), known)


def gram_blocks(projection: Tensor, heads: int) -> Tensor:
    """W_O^hᵀ W_O^h of every head, [H, d, d], for W_O [D, H·d]."""
    blocks = projection.reshape(projection.shape[0], heads, -1)  # (D, H, d)
    return torch.einsum("dhx,dhy->hxy", blocks, blocks)


def projected_norms(vectors: Tensor, gram: Tensor) -> Tensor:
    """‖W_O^h v_j‖ for every head and position, [B, H, T], from ``gram_blocks``.

    ‖Wv‖² = vᵀ(WᵀW)v, so no activation of residual width is formed.
    """
    return (vectors @ gram).mul_(vectors).sum(-1).clamp_min_(0).sqrt_()


def spectrum(hidden: Tensor) -> tuple[Tensor, Tensor]:
    """exp(H(p)) and 1/Σp² of p = σ²/Σσ², σ the singular values of matrices [..., T, D]."""
    power = torch.linalg.eigvalsh(hidden @ hidden.mT).clamp_min(0)
    share = power / power.sum(-1, keepdim=True)
    return (-torch.xlogy(share, share).sum(-1)).exp(), 1 / share.square().sum(-1)


def representations(hidden: Tensor, member: Tensor) -> Tensor:
    """Last state of every sequence in a domain, float64 [n, D] on the CPU.

    Args:
        hidden: [B, T, D].
        member: the domain's positions, bool [B, T]; sequences without one are left out.
    """
    there = member.any(1)
    last = member.shape[1] - 1 - member.flip(1).int().argmax(1)
    return hidden[there, last[there]].cpu().double()


def geometry(states: Tensor) -> tuple[float | None, float | None]:
    """RankMe (arXiv 2210.02885) and α-ReQ (Agrawal et al., NeurIPS 2022) of states [n, D].

    RankMe is exp(H(p)) of p = σ/Σσ, the singular values. α is minus the least-squares slope of
    ln σ_i² over ln i, i from 1 to half the rank: the other half of a spectrum falls because there
    are few states, whatever the law. None where a rank of ``LEAST_RANK``, or of 1, is not reached.
    """
    if len(states) < 2 or not bool(states.isfinite().all()):
        return None, None
    sigma = torch.linalg.svdvals(states)
    sigma = sigma[sigma > sigma[0] * max(states.shape) * torch.finfo(states.dtype).eps]
    if not len(sigma):
        return None, None
    share = sigma / sigma.sum()
    rank = float((-torch.xlogy(share, share).sum()).exp())
    if len(sigma) < LEAST_RANK:
        return rank, None
    kept = len(sigma) // 2
    i, decay = torch.arange(1, kept + 1, dtype=sigma.dtype).log(), 2 * sigma[:kept].log()
    centred = i - i.mean()
    return rank, float(-(centred * decay).sum() / centred.square().sum())


def sink_and_rest(norms: Tensor, rest: Tensor, sink: int) -> tuple[Tensor, Tensor]:
    """The sink's norm and the median norm over ``rest`` [B, T] of each sequence, both [B, H].

    NaN for sequences that have no such position.
    """
    median = midpoints(norms.masked_fill(~rest[:, None], torch.nan))
    return or_nan(norms[:, :, sink], rest.any(1)[:, None]), median


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Their ratio; NaN where the denominator is 0."""
    return or_nan(numerator / denominator, denominator != 0)


def or_nan(values: Tensor, present: Tensor) -> Tensor:
    """``values`` where ``present``, NaN elsewhere."""
    return torch.where(present, values, torch.nan)
