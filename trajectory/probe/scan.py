"""What needs every attention weight: one scan over blocks of queries.

A block's scores are formed once, in a cache's size, and reduced before the next: memory does not
grow with the square of the length, and no operator is used that torch keeps private.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from trajectory.probe.kinds import capped
from trajectory.probe.roles import Copies, RoleWeights
from trajectory.probe.statistics import sees_sink, sink_logits

KERNEL = "scaled_dot_product_attention; statistics in blocks of queries"
"""How attention is computed, for provenance."""

QUERIES = 128
"""Queries of a block."""

CELLS = {"cpu": 2**19, "cuda": 2**26}
"""Scores that are formed at once: by a CPU's thread, as many as its cache holds."""

ALL = slice(None)

HIDDEN = -1e30
"""The score of a key that is not seen; finite, so that 0 × it is 0."""


@dataclass(frozen=True)
class Scan:
    """Softmax attention of every query, split into the sink and the rest of its visible keys.

    Attributes:
        log_odds: log A_is/(1 − A_is) where i > s sees s, NaN elsewhere; [B, H, T].
        rest: logsumexp over visible keys j ≠ s, −inf for i = s = 0; [B, H, T].
        rest_entropy: entropy of the weights renormalised over those keys, NaN there; [B, H, T].
        key_odds: the sink's log-odds among the keys: log_odds, unless a null key takes weight.
        log_normaliser: logsumexp over all visible keys, and the null key; [B, H, T].
        mass: Σ_{i>j} A_ij over the queries of each set, [B, N, H, T]; None without sets.
        surprise: −Σ_{i>j} A_ij ln A_ij, likewise.
        roles: weights that tell roles; None unless asked for.
    """

    log_odds: Tensor
    rest: Tensor
    rest_entropy: Tensor
    key_odds: Tensor
    log_normaliser: Tensor
    mass: Tensor | None
    surprise: Tensor | None
    roles: RoleWeights | None = None

    @property
    def weight(self) -> Tensor:
        """A_is, [B, H, T]."""
        return self.log_odds.sigmoid()

    @property
    def entropy(self) -> Tensor:
        """H(A_i·) of every query besides the sink's own, [B, H, T]; of the weights that go to keys,
        renormalised, where a null key takes the rest."""
        weight, other = self.key_odds.sigmoid(), (-self.key_odds).sigmoid()
        surprise = -torch.xlogy(weight, weight) - torch.xlogy(other, other)
        split = surprise + other * self.rest_entropy
        return torch.where(self.key_odds.isnan(), self.rest_entropy, split)


def scan(
    query: Tensor,
    key: Tensor,
    scale: float,
    sink: int,
    window: int | None = None,
    sets: Tensor | None = None,
    at_sink: Tensor | None = None,
    copies: Copies | None = None,
    softcap: float | None = None,
    null_logit: Tensor | None = None,
) -> Scan:
    """Scan the weights of causal attention.

    The sink's column is left out of the scan, so the log-odds are a difference of a logit and a
    logsumexp; unlike log A − log(1 − A) that keeps all digits when A is near 1. A key's own row is
    left out of its sums: it always sees itself.

    Args:
        query, key: [B, H, T, d], heads already repeated; half precision is computed in float32.
        scale: factor of the dot product.
        sink: position s.
        window: how many of the last keys a query sees; all of them if None.
        sets: N sets of queries whose column sums are wanted, bool [B, N, T].
        at_sink: ``sink_logits`` of such queries and keys, where they are known.
        copies: the sequences' repeated tokens, if weights that tell roles are wanted.
        softcap: c, where logits z are capped to c·tanh(z/c), ``at_sink`` as well.
        null_logit: [H], logits of a null key, which takes weight and is no key.
    """
    if query.dtype in (torch.bfloat16, torch.float16):
        query, key = query.float(), key.float()
    batch, heads, length, _ = query.shape
    if window is not None and window >= length:
        window = None
    if at_sink is None:
        at_sink = capped(sink_logits(query, key, scale, sink), softcap)  # (B, H, T)
    sees = sees_sink(length, sink, window, query.device)
    has_sink = sees | (torch.arange(length, device=query.device) == sink)
    q, k = (query * scale).flatten(0, 1), key.flatten(0, 1)  # (B·H, T, d)
    logit = at_sink.flatten(0, 1)
    none = None if null_logit is None else null_logit.to(q).repeat(batch)[:, None]  # (B·H, 1)
    rest, entropy, total = (torch.empty_like(logit) for _ in range(3))
    counted = None if sets is None else sets.to(q).repeat_interleave(heads, 0)  # (B·H, N, T)
    shape = (0, 0, 0) if counted is None else counted.shape
    mass, surprise = (q.new_zeros(shape) for _ in range(2))
    roles = None if copies is None else RoleWeights(copies, heads, q)
    for part, start, stop in _blocks(len(q), length, query.device.type):
        first = 0 if window is None else max(0, start - window + 1)
        scores = capped(torch.bmm(q[part, start:stop], k[part, first:stop].mT), softcap)
        _hide(scores, start - first, window)
        if first <= sink < stop:
            scores[..., sink - first] = HIDDEN
        peak, weights, norm, surprises = _weights(scores)
        rest[part, start:stop] = found = peak + norm.log()
        entropy[part, start:stop] = norm.log() - surprises.sum(-1) / norm
        with_sink = torch.where(
            has_sink[start:stop], torch.logaddexp(found, logit[part, start:stop]), found
        )
        total[part, start:stop] = with_sink = _beside(with_sink, none, part)
        shift = peak - with_sink  # A_ij = weights · e^shift
        if roles is not None:
            roles.block(part, start, first, weights, shift.exp())
        if counted is not None:
            weights.diagonal(start - first, -2, -1).zero_()
            surprises.diagonal(start - first, -2, -1).zero_()
            into = mass[part, :, first:stop], surprise[part, :, first:stop]
            _add_columns(weights, surprises, counted[part, :, start:stop], shift, *into)
    rest.masked_fill_(rest < HIDDEN / 2, -torch.inf)
    every = rest, entropy, total, _beside(rest, none)
    rest, entropy, total, others = (t.view(batch, heads, length) for t in every)
    entropy[:, :, sink] = torch.nan
    of_keys, odds = ((at_sink - t).masked_fill(~sees, torch.nan) for t in (rest, others))
    if sets is None:
        return Scan(odds, rest, entropy, of_keys, total, None, None, roles)
    mass, surprise = (t.view(batch, heads, -1, length).transpose(1, 2) for t in (mass, surprise))
    mass[..., sink], surprise[..., sink] = _of_sink(odds, sees, sets)
    return Scan(odds, rest, entropy, of_keys, total, mass, surprise, roles)


def _weights(scores: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of scores [n, block, keys], which are overwritten: their greatest m, e^(z − m), its sum over
    keys, and (z − m) e^(z − m)."""
    peak = scores.amax(-1, keepdim=True)
    weights = scores.sub_(peak).exp()
    norm = weights.sum(-1)
    return peak[..., 0], weights, norm, scores.mul_(weights)


def _beside(normaliser: Tensor, null_logit: Tensor | None, part: slice = ALL) -> Tensor:
    """The logarithm of a sum over keys and, if there is one, the null key of these heads."""
    return normaliser if null_logit is None else torch.logaddexp(normaliser, null_logit[part])


def _add_columns(
    weights: Tensor,
    surprises: Tensor,
    counted: Tensor,
    shift: Tensor,
    mass: Tensor,
    surprise: Tensor,
) -> None:
    """Add a block of queries to its keys' column sums, in place.

    Args:
        weights, surprises: not normalised, [n, block, keys].
        counted: which queries each set counts, as numbers, [n, N, block].
        shift: logarithm of what normalises them, [n, block].
        mass, surprise: the sums so far, [n, N, keys].
    """
    share = counted * shift.exp()[:, None]  # (n, N, block)
    # Both sums over the weights in one product, which reads them once.
    both = torch.bmm(torch.cat([share, share * shift[:, None]], 1), weights)
    mass += both[:, : share.shape[1]]
    surprise -= both[:, share.shape[1] :]
    surprise -= torch.bmm(share, surprises)


def _of_sink(odds: Tensor, sees: Tensor, sets: Tensor) -> tuple[Tensor, Tensor]:
    """Mass and surprise of the sink's own column, both [B, N, H].

    Args:
        odds: log-odds of A_is, [B, H, T].
        sees: which queries i > s see the sink, bool [T].
        sets: bool [B, N, T].
    """
    late = (sets & sees).to(odds)
    weight = odds.sigmoid().masked_fill(~sees, 0)
    log_weight = logsigmoid(odds).masked_fill(~sees, 0)
    mass = torch.einsum("bni,bhi->bnh", late, weight)
    return mass, -torch.einsum("bni,bhi->bnh", late, weight * log_weight)


def _hide(scores: Tensor, before: int, window: int | None) -> None:
    """Hide from each query of a block what it does not see.

    Args:
        scores: [n, block, keys], of which the last are the block's own.
        before: how many keys come before these.
        window: how many of the last keys a query sees.
    """
    block, keys = scores.shape[1:]
    if window is None:
        # A sum with so large a number is that number, and costs a fraction of a choice.
        later = scores.new_full((block, block), HIDDEN).triu_(1)
        scores[..., before:].add_(later)
        return
    rows, columns = (torch.arange(n, device=scores.device) for n in (block, keys))
    distance = before + rows[:, None] - columns
    scores.masked_fill_((distance < 0) | (distance >= window), HIDDEN)


def _blocks(count: int, length: int, device: str) -> Iterator[tuple[slice, int, int]]:
    """Parts of ``count`` heads, and for each the first query and the end of every block."""
    block = min(QUERIES, length)
    cells = CELLS["cuda"] if device == "cuda" else CELLS["cpu"] * torch.get_num_threads()
    together = max(1, cells // (block * length))
    for head in range(0, count, together):
        for start in range(0, length, block):
            yield slice(head, head + together), start, min(start + block, length)
