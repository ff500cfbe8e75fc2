"""Weights that tell a head's role: on the previous token, on earlier copies of the query's token,
on what followed those, on punctuation, and on what is near.

They are read off the blocks of weights that a scan forms anyway. Which queries have copies where is
the same for every head and layer, so it is found once per batch, as a list of keys for each query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from trajectory.probe.statistics import visible_keys
from trajectory.schemas.base import LOCAL_KEYS


class Block(NamedTuple):
    """Which part of every sequence's weights a scan forms at a time.

    Attributes:
        start, rows: its first query, and how many.
        first, keys: its first key, and how many.
        several: of how many sequences; of some heads of one, 1.
        apart: how far the sequences' weights lie apart, in numbers.
    """

    start: int
    rows: int
    first: int
    keys: int
    several: int
    apart: int


class Places(NamedTuple):
    """Where the weights that tell roles are in the blocks of B sequences.

    Attributes:
        lengths: how many keys tell a query's role by copies, by sequence, role and query, int64
            [B·2·rows].
        copies: their places from the block's first sequence on, in this order, int64 [P].
        starts: where each sequence's begin, B + 1 of them.
        near: places in a head's weights of the keys 0, 1, … before each query, int64
            [LOCAL_KEYS, rows]; any place where there is no such key.
    """

    lengths: Tensor
    copies: Tensor
    starts: Sequence[int]
    near: Tensor


COPIES = ("duplicate", "induction")
"""Roles that copies of the query's token tell."""


@dataclass(frozen=True)
class Copies:
    """Where tokens are repeated within their sequences.

    A duplicate is an earlier copy of a query's token, and an induction the key that follows such a
    copy, but for the token before the query: what lies there is the previous-token role's. The sink
    is no key of either.

    Attributes:
        key: keys of every query, ascending, by role in the order of COPIES, sequence and query,
            int32 [P].
        counts: how many each query has, int64 [2, B, T].
    """

    key: Tensor
    counts: Tensor
    _listed: dict[Block, Places] = field(default_factory=dict, compare=False)
    _floors: dict[int | None, dict[str, Tensor]] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, texts: Sequence[Sequence[str]], present: Tensor, sink: int) -> Copies:
        """Read B sequences of T tokens.

        Args:
            texts: the tokens as their tokenizer writes them.
            present: which positions hold a token rather than padding, bool [B, T].
            sink: position that is left out.
        """
        known: dict[str, int] = {}
        codes = torch.tensor([[known.setdefault(t, len(known)) for t in row] for row in texts])
        query, key = _earlier(codes, present)
        place = query % present.shape[1]
        keys, counts = [], []
        for here, last in ((key, place - 1), (key + 1, place - 2)):
            taken = (here <= last) & (here != sink)
            keys.append(here[taken].int())
            counts.append(torch.bincount(query[taken], minlength=present.numel()))
        return cls(torch.cat(keys), torch.stack(counts).view(2, *present.shape))

    @cached_property
    def _bounds(self) -> Tensor:
        """Where each query's keys begin, and the last one's end, int64 [2·B·T + 1]."""
        ends = self.counts.flatten().cumsum(0)
        return torch.cat([ends.new_zeros(1), ends])

    def rows(self, rows: slice, device: torch.device) -> Copies:
        """Those of some sequences; of all of them itself, with what it has listed."""
        _, size, length = self.counts.shape
        first, stop, _ = rows.indices(size)
        if (first, stop) == (0, size) and self.key.device == device:
            return self
        begin = self._bounds[:-1].view(2, size, length)[:, first, 0]
        end = begin + self.counts[:, first:stop].sum((1, 2))
        parts = zip(begin.tolist(), end.tolist(), strict=True)
        key = torch.cat([self.key[a:b] for a, b in parts])
        return Copies(key.to(device), self.counts[:, first:stop].to(device))

    def seen(self, window: int | None) -> dict[str, Tensor]:
        """How many keys each query sees, float64 [B, T], by role.

        Args:
            window: how many of the last keys a query sees; None for all of them.
        """
        counts = self.counts.double()
        if window is not None:
            slots = torch.arange(counts.numel(), device=counts.device)
            slots = slots.repeat_interleave(self.counts.flatten())
            near = (slots % counts.shape[2] - self.key < window).double()
            counts = torch.bincount(slots, near, minlength=counts.numel()).view(counts.shape)
        return dict(zip(COPIES, counts, strict=True))

    def floors(self, window: int | None) -> dict[str, Tensor]:
        """The weights that tell roles under uniform attention, float64 [B, T]; 0 without such keys.

        Every layer's are the same.

        Args:
            window: how many of the last keys a query sees; None for all of them.
        """
        if window not in self._floors:
            shape, device = self.counts.shape[1:], self.counts.device
            visible = visible_keys(shape[1], window, device)
            found = {f"{name}_weight": seen / visible for name, seen in self.seen(window).items()}
            found["previous_weight"] = (1 / visible).expand(shape)
            found["local_weight"] = (visible.clamp_max(LOCAL_KEYS) / visible).expand(shape)
            self._floors[window] = found
        return self._floors[window]

    def places(self, block: Block) -> Places:
        """Where in a block's weights the keys of its queries are; listed once for all layers."""
        if block not in self._listed:
            self._listed[block] = self._places(block)
        return self._listed[block]

    def _places(self, block: Block) -> Places:
        start, rows, first, keys, several, apart = block
        _, size, length = self.counts.shape
        device = self.counts.device
        # The keys of these queries, parts of the list, in the order of sequences and roles.
        begin = self._bounds[:-1].view(2, size, length)[:, :, start].T.flatten()
        lengths = self.counts[:, :, start : start + rows].transpose(0, 1).flatten()
        sizes = lengths.view(2 * size, rows).sum(1)
        skipped = begin - (sizes.cumsum(0) - sizes)
        taken = skipped.repeat_interleave(sizes)
        taken += torch.arange(len(taken), device=device)
        slot = torch.arange(len(lengths), device=device).repeat_interleave(lengths)
        key = self.key[taken] - first
        if first:  # keys that no query of the block sees are dropped
            slot, key = slot[key >= 0], key[key >= 0]
            lengths = torch.bincount(slot, minlength=len(lengths))
        copies = slot // (2 * rows) % several * apart + slot % rows * keys + key
        ends = lengths.view(size, 2 * rows).sum(1).cumsum(0)
        own = torch.arange(rows, device=device)
        before = own + (start - first) - torch.arange(LOCAL_KEYS, device=device)[:, None]
        near = own * keys + before.clamp_min(0)
        return Places(lengths, copies, [0, *ends.tolist()], near)


def _earlier(codes: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of a query and an earlier copy of its token, ascending.

    Args:
        codes: a number for each token, int64 [B, T].
        present: which positions hold a token, bool [B, T].

    Returns:
        queries as places among all B·T, and keys within their sequences, both int64 [P].
    """
    size, length = codes.shape
    every = torch.arange(size * length)
    # What holds no token is like nothing else; nor are tokens of two sequences alike.
    code = torch.where(present, codes, every.view_as(codes) + int(codes.max()) + 1)
    code = code + torch.arange(size)[:, None] * (int(code.max()) + 1)
    value, order = code.flatten().sort(stable=True)
    begins = torch.cat([torch.ones(1, dtype=torch.bool), value[1:] != value[:-1]])
    group = torch.where(begins, every, 0).cummax(0).values  # where a token's copies begin in order
    before, start = torch.empty_like(every), torch.empty_like(every)
    before[order], start[order] = every - group, group
    query = every.repeat_interleave(before)
    nth = torch.arange(len(query)) - (before.cumsum(0) - before)[query]
    return query, order[start[query] + nth] % length


ROLES = ("previous", "local", *COPIES)
"""Roles in the order in which weights that tell them are kept."""


class RoleWeights:
    """Weights on the keys that tell roles, of every query of every head; filled by blocks.

    Those of a block are only gathered, and added up for all sequences at once: an operator takes
    as long for the few of a block.

    Args:
        copies: of the sequences at hand.
        heads: H.
        like: a tensor of the weights' type and device.
    """

    def __init__(self, copies: Copies, heads: int, like: Tensor) -> None:
        self.copies, self.heads = copies, heads
        _, self.size, self.length = copies.counts.shape
        self.found = like.new_empty(len(ROLES), self.size, heads, self.length)
        """Of every query of the B sequences and H heads, in the order of ROLES."""

    def begin(
        self, start: int, first: int, sizes: Sequence[int], weights: Mapping[int, Tensor]
    ) -> None:
        """Make ready for the blocks of some queries, as much as can be before they are formed.

        Args:
            start: the first query.
            first: its first key.
            sizes: of how many of the B·H heads each block is, n: of all heads of some sequences,
                or of some heads of one.
            weights: by n, the memory where blocks of n will lie, one after the other, [n, rows,
                keys]; each row behind the one before.
        """
        (_, rows, keys), apart = weights[sizes[0]].shape, weights[sizes[0]].stride(0)
        several = max(1, sizes[0] // self.heads)
        self.block_at = Block(start, rows, first, keys, several, self.heads * apart)
        self.places = self.copies.places(self.block_at)
        _, copies, starts, near = self.places
        self.taken = self.found.new_empty(self.heads, starts[-1])
        self.near = self.found.new_empty(self.size * self.heads, LOCAL_KEYS, rows)
        views = {}
        for count, given in weights.items():
            # Each head's weights up to the last sequence's; those of several heads overlap.
            own, more = min(count, self.heads), max(1, count // self.heads) - 1
            span = more * self.block_at.apart + rows * keys
            flat = given.as_strided((own, span), (apart, 1))
            deep = given.as_strided((count, LOCAL_KEYS, rows * keys), (apart, 0, 1))
            views[count] = own, more + 1, flat, (deep, 2, near.expand(count, -1, -1))
        self.parts: list[tuple[tuple[Tensor, int, Tensor, Tensor], ...]] = []
        offset = 0
        for count, last in zip(sizes, self.near.split(sizes), strict=True):
            (sequence, head), (own, of, flat, beside) = divmod(offset, self.heads), views[count]
            pairs = slice(starts[sequence], starts[sequence + of])
            taken = self.taken[head : head + own, pairs]
            self.parts.append(((flat, 1, copies[pairs].expand(own, -1), taken), (*beside, last)))
            offset += count

    def block(self, n: int) -> None:
        """Take the nth block of weights, 0 at the sink and where a query sees no key."""
        for weights, axis, places, out in self.parts[n]:
            torch.gather(weights, axis, places, out=out)

    def end(self, share: Tensor | None = None) -> None:
        """Add up what the blocks held.

        Args:
            share: what each query's weights are to be multiplied by, [B·H, rows].
        """
        start, rows, first, *_ = self.block_at
        lengths = self.places.lengths.expand(self.heads, -1).contiguous()
        sums = torch.segment_reduce(self.taken, "sum", lengths=lengths, axis=1, unsafe=True)
        near = self.near.unflatten(0, (self.size, self.heads))
        for before in range(start - first + 1, LOCAL_KEYS):  # first tokens have fewer before them
            near[:, :, before, : before - (start - first)] = 0
        into = self.found[..., start : start + rows]
        into[0] = near[:, :, 1]
        torch.sum(near, 2, out=into[1])
        into[2:] = sums.view(self.heads, self.size, 2, rows).permute(2, 1, 0, 3)
        if share is not None:
            into *= share.unflatten(0, (self.size, self.heads))

    def views(self) -> dict[str, Tensor]:
        """Of every query of every head, [B, H, T]."""
        return {f"{name}_weight": values for name, values in zip(ROLES, self.found, strict=True)}


def of_dense(weights: Tensor, copies: Copies, sink: int) -> RoleWeights:
    """The same from the matrix of weights, [B, H, T, T]."""
    heads = weights.shape[1]
    rest = weights.flatten(0, 1).clone(memory_format=torch.contiguous_format)
    rest[..., sink] = 0
    found = RoleWeights(copies, heads, rest)
    found.begin(0, 0, [len(rest)], {len(rest): rest})
    found.block(0)
    found.end()
    return found


def punctuation(
    mass: Tensor, floor: Tensor, marks: Tensor, member: Tensor, window: int | None
) -> tuple[Tensor, Tensor, int]:
    """Summed weight of the queries of a domain on marks that stand before them.

    Args:
        mass: Σ_{i>j} A_ij over the domain's queries, [B, H, T].
        floor: the same under uniform attention, [B, T].
        marks: which keys are meant, bool [B, T].
        member: the domain's queries, bool [B, T].
        window: how many of the last keys a query sees; None for all of them.

    Returns:
        the sum [H], the same under uniform attention, and how many queries see a mark.
    """
    upto = marks.long().cumsum(1)
    before = upto - marks.long()
    if window is not None and window < marks.shape[1]:
        before[:, window:] -= upto[:, :-window]
    looking = int((member & (before > 0)).sum())
    return (mass * marks[:, None]).sum((0, 2), dtype=torch.float64), (floor * marks).sum(), looking
