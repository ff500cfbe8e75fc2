"""What needs every attention weight: one scan over blocks of queries.

A block's scores are formed once, in a cache's size, and reduced before the next: memory does not
grow with the square of the length, and no operator is used that torch keeps private.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from trajectory.probe.kinds import capped
from trajectory.probe.moments import Moments
from trajectory.probe.roles import Copies, RoleWeights
from trajectory.probe.room import HIDDEN, Own, Room
from trajectory.probe.statistics import sees_sink, sink_logits

KERNEL = "scaled_dot_product_attention, or one pass with the statistics; blocks of queries"
"""How attention is computed, for provenance."""

QUERIES = 128
"""Queries of a block; fewer where their keys would not fit."""

FEWEST = 32
"""Queries of a block at least: products of fewer are slow."""

CELLS = {"cpu": 2**17, "cuda": 2**26}
"""Scores that are formed at once: by a CPU's thread, as many as its own cache holds twice."""

FAINTEST = {torch.float32: -80.0, torch.float64: -700.0}
"""The least difference of a score and the greatest; further ones are cut off here. Exponentials
beyond are 0 or lack digits, and a CPU takes ten times as long for them and for products with them.
"""


@dataclass(frozen=True)
class Scan:
    """Softmax attention of every query, split into the sink and the rest of its visible keys.

    Attributes:
        log_odds: log A_is/(1 − A_is) where i > s sees s, NaN elsewhere; [B, H, T].
        own_weight: A_ss, the sink's weight on itself, [B, H].
        rest: logsumexp over visible keys j ≠ s, −inf for i = s = 0; [B, H, T].
        rest_entropy: entropy of the weights renormalised over those keys, NaN there; [B, H, T].
        key_odds: the sink's log-odds among the keys: log_odds, unless a null key takes weight.
        log_normaliser: logsumexp over all visible keys, and the null key; [B, H, T].
        mass: Σ_{i>j} A_ij over the queries of each set, [B, N, H, T]; None without sets.
        surprise: −Σ_{i>j} A_ij ln A_ij, likewise.
        roles: weights that tell roles; None unless asked for.
        output: Σ_j A_ij v_j, [B, H, T, d']; None unless values were given.
        differences: what ``Moments`` finds; None unless asked for.
    """

    log_odds: Tensor
    own_weight: Tensor
    rest: Tensor
    rest_entropy: Tensor
    key_odds: Tensor
    log_normaliser: Tensor
    mass: Tensor | None
    surprise: Tensor | None
    roles: RoleWeights | None = None
    output: Tensor | None = None
    differences: dict[str, Tensor] | None = None

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


@torch.no_grad()
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
    value: Tensor | None = None,
    offset: Tensor | None = None,
    moments: bool = False,
    spread: bool = False,
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
        value: [B, H, T, d'] of the scan's type, if what the queries read is wanted.
        offset: what every query's logits are greater than those of these keys by, [B, H, T], where
            keys come less a part that all share: it changes no weight. ``at_sink`` is less it, too.
        moments, spread: whether differences of logits, and their spread, are wanted.
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
    of_sink = at_sink.masked_fill(~has_sink, -torch.inf)
    none = None if null_logit is None else null_logit.to(query)[:, None]  # (H, 1)
    if none is not None and offset is not None:
        none = none - offset
    scaled = query if scale == 1 else query * scale
    work = _Blocks(scaled, key, value, sink, window, softcap)
    work.beside = _beside(of_sink, none).flatten(0, 1)
    if sets is not None:
        work.count(sets)
    if copies is not None:
        work.roles = RoleWeights(copies, heads, query)
    if moments:
        work.moments = Moments(work.query, sink, window, spread)
    work.run()
    every = work.rest, work.norm.log() - work.spent / work.norm, work.total
    rest, entropy, total = (t.view(batch, heads, length) for t in every)
    entropy[:, :, sink] = torch.nan
    others = _beside(rest, none)
    of_keys, odds = ((at_sink - t).masked_fill(~sees, torch.nan) for t in (rest, others))
    weight = (of_sink - total).exp()
    output = None if value is None else work.with_sink(value, weight)
    found = None if work.moments is None else work.moments.found(at_sink, scaled, key)
    if offset is not None:
        rest, total = rest + offset, total + offset
    mass, surprise = None, None
    if sets is not None:
        columns = work.columns.view(batch, heads, 2, -1, length).transpose(1, 3)  # (B, N, 2, H, T)
        mass, surprise = columns[:, :, 0], -columns[:, :, 1]
        mass[..., sink], surprise[..., sink] = _of_sink(odds, sees, sets)
    own, sums = weight[:, :, sink], (rest, entropy, of_keys, total)
    return Scan(odds, own, *sums, mass, surprise, work.roles, output, found)


class _Blocks:
    """Sums over keys and over queries, filled block by block.

    Args:
        query: [B, H, T, d], times the scale.
        key: [B, H, T, d].
        value: [B, H, T, d'], or None.
        sink, window, softcap: as in ``scan``.

    Attributes:
        beside: logarithm of what enters a query's sum besides the scanned keys, [B·H, T].
        rest: logsumexp over the scanned keys, [B·H, T].
        norm: Σ e^(z − m) over them, m their greatest score.
        spent: Σ (z − m) e^(z − m).
        total: logsumexp over them and what is beside them.
        shift, share: m − total, and its exponential: A_ij = e^(z − m) · share.
        output: Σ A_ij v_j over them, [B·H, T, d'].
        columns: mass, then less the surprise, of every key in each set, [B·H, 2N, T].
    """

    beside: Tensor
    columns: Tensor

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor | None,
        sink: int,
        window: int | None,
        softcap: float | None,
    ) -> None:
        self.query, self.key = query.flatten(0, 1), key.flatten(0, 1)
        self.value = None if value is None else value.flatten(0, 1)
        self.output = None if self.value is None else torch.empty_like(self.value)
        self.heads, self.sink, self.window, self.softcap = query.shape[1], sink, window, softcap
        self.count_of, self.length, _ = self.query.shape
        self.sums = self.query.new_empty(6, self.count_of, self.length)
        self.rest, self.norm, self.spent, self.total, self.shift, self.share = self.sums
        self.counted: Tensor | None = None
        self.roles: RoleWeights | None = None
        self.moments: Moments | None = None

    def count(self, sets: Tensor) -> None:
        """Have these sets of queries' columns added up, bool [B, N, T]."""
        self.counted = sets.to(self.query).repeat_interleave(self.heads, 0)  # (B·H, N, T)
        self.columns = self.query.new_zeros(self.count_of, 2 * sets.shape[1], self.length)

    def run(self) -> None:
        """Take all queries, block by block."""
        on_cpu = self.query.device.type != "cuda"
        cells = CELLS["cpu"] * torch.get_num_threads() if on_cpu else CELLS["cuda"]
        block = min(QUERIES, self.length, max(FEWEST, cells // self.length))
        blocks = []
        for start in range(0, self.length, block):
            first = 0 if self.window is None else max(0, start - self.window + 1)
            stop = min(start + block, self.length)
            at_once = max(1, cells // ((stop - start) * (stop - first)))
            blocks.append((start, stop, first, _sizes(self.count_of, self.heads, at_once)))
        # Room for a block's numbers is made once: new memory is slow at its first use.
        room = max(max(n) * (stop - start) * (stop - first) for start, stop, first, n in blocks)
        memory = self.query.new_empty(2 * room)
        for start, stop, first, sizes in blocks:
            self._rows(start, stop, first, sizes, memory)

    def _rows(self, start: int, stop: int, first: int, sizes: list[int], memory: Tensor) -> None:
        """Take the queries from ``start`` to ``stop``, of so many heads at a time."""
        rows, keys = slice(start, stop), slice(first, stop)
        own = Own(start, stop, first, self.sink, self.window, self.query)
        shape = stop - start, stop - first
        rooms = {size: Room(memory, (size, *shape), own) for size in set(sizes)}
        given = (self.query[:, rows], self.key[:, keys].mT, self.beside[:, rows])
        parts = [t.split(sizes) for t in given]
        parts.append(self.sums[:, :, rows].split(sizes, 1))
        values, outputs, sets, columns, moments = (
            None if t is None else t.split(sizes, axis)
            for t, axis in (
                (None if self.value is None else self.value[:, keys], 0),
                (None if self.output is None else self.output[:, rows], 0),
                (None if self.counted is None else self.counted[:, :, rows], 0),
                (None if self.counted is None else self.columns[:, :, keys], 0),
                (None if self.moments is None else self.moments.sums[:, :, rows], 1),
            )
        )
        if self.moments is not None:
            self.moments.before[rows] = own.since - (self.sink < own.since) if own.since else 0
            of_each = self.moments.share[rows]
        if self.roles is not None:
            weights = {size: room.weights for size, room in rooms.items()}
            self.roles.begin(start, first, sizes, weights)
        for n, (query, key, beside, sums) in enumerate(zip(*parts, strict=True)):
            room = rooms[len(query)]
            torch.bmm(query, key, out=room.scores)
            if self.softcap is not None:
                room.scores.copy_(capped(room.scores, self.softcap))
            if self.moments is not None and moments is not None:
                self.moments.take(room, moments[n], of_each)
            self._block(room, beside, sums)
            if values is not None and outputs is not None:
                torch.bmm(room.weights, values[n], out=outputs[n])
            if self.roles is not None:
                self.roles.block(n)
            if sets is not None and columns is not None:
                room.diagonals.zero_()
                left = room.left(sets[n], sums[-1], sums[-2])
                columns[n].baddbmm_(left, room.both.flatten(1, 2))
        share = self.share[:, rows]
        if self.output is not None:
            self.output[:, rows].mul_(share.unsqueeze(-1))
        if self.roles is not None:
            self.roles.end(share)

    @staticmethod
    def _block(room: Room, beside: Tensor, sums: Tensor) -> None:
        """Take a block's scores, and its queries' sums over keys."""
        scores, weights = room.scores, room.weights
        rest, norm, spent, total, shift, share = sums.unbind()
        # A sum with so large a number is that number, and costs a fraction of a choice.
        room.own_scores.add_(room.hidden)
        if room.sink_scores is not None:
            room.sink_scores.fill_(HIDDEN)
        peak = scores.amax(-1, keepdim=True)
        torch.exp(scores.sub_(peak).clamp_min_(FAINTEST[scores.dtype]), out=weights)
        room.own_weights.mul_(room.seen)
        if room.sink_weights is not None:
            room.sink_weights.zero_()
        peak = peak.squeeze(-1)
        torch.sum(weights, -1, out=norm)
        torch.sum(scores.mul_(weights), -1, out=spent)
        torch.add(norm.log(), peak, out=rest)
        torch.logaddexp(rest, beside, out=total)
        torch.exp(torch.sub(peak, total, out=shift), out=share)

    def with_sink(self, value: Tensor, weight: Tensor) -> Tensor:
        """What the queries read [B, H, T, d'], the sink's value by its weight [B, H, T] as well."""
        assert self.output is not None
        of_sink = value[:, :, self.sink : self.sink + 1]
        return self.output.view(value.shape).addcmul_(weight[..., None], of_sink)


def _sizes(count: int, heads: int, most: int) -> list[int]:
    """Into how many of B·H heads at a time ``count`` is parted: those of whole sequences, or parts
    of one sequence's."""
    if most >= heads:
        whole = most // heads * heads
        return [min(whole, count - start) for start in range(0, count, whole)]
    parts = -(-heads // most)
    each, more = divmod(heads, parts)
    return [each + (n < more) for n in range(parts)] * (count // heads)


def _beside(normaliser: Tensor, null_logit: Tensor | None) -> Tensor:
    """The logarithm of a sum over keys and, if there is one, the null key of every head."""
    return normaliser if null_logit is None else torch.logaddexp(normaliser, null_logit)


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
