"""Weights that tell a head's role: on the previous token, on earlier copies of the query's token,
on what followed those, on punctuation, and on what is near.

They are read off the blocks of weights that a scan forms anyway. Which queries have copies where is
the same for every head, so it is found once per batch, as a list of pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trajectory.schemas.base import LOCAL_KEYS


@dataclass(frozen=True)
class Pairs:
    """Pairs of a query and a key before it, sequence by sequence, the same for every head.

    Attributes:
        sequence, query, key: b, i and j of each pair, ascending in that order, int32 [P].
        starts: where each sequence's pairs begin, B + 1 of them.
        counts: how many pairs each query has, int64 [B, T].
    """

    sequence: Tensor
    query: Tensor
    key: Tensor
    starts: Sequence[int]
    counts: Tensor

    @classmethod
    def of(cls, found: Sequence[tuple[Tensor, Tensor]], length: int) -> Pairs:
        """Those of B sequences: (queries, keys) of each, ascending."""
        sizes = torch.tensor([len(query) for query, _ in found])
        sequence = torch.arange(len(found), dtype=torch.int32).repeat_interleave(sizes)
        query, key = (torch.cat([pair[n] for pair in found]).int() for n in range(2))
        place = sequence.long() * length + query
        counts = torch.bincount(place, minlength=len(found) * length).view(-1, length)
        return cls(sequence, query, key, [0, *sizes.cumsum(0).tolist()], counts)

    @classmethod
    def near(cls, batch: int, length: int, least: int, beyond: int) -> Pairs:
        """Of every query and the keys at a distance from ``least`` to below ``beyond``."""
        place = torch.arange(length)
        query, back = torch.meshgrid(place, torch.arange(beyond - 1, least - 1, -1), indexing="ij")
        there = back <= query
        return cls.of([(query[there], (query - back)[there])] * batch, length)

    def rows(self, rows: slice, device: torch.device) -> Pairs:
        """Those of some sequences."""
        first, stop, _ = rows.indices(len(self.counts))
        own = slice(self.starts[first], self.starts[stop])
        sequence = self.sequence[own] if first == 0 else self.sequence[own] - first
        return Pairs(
            sequence.to(device),
            self.query[own].to(device),
            self.key[own].to(device),
            [start - self.starts[first] for start in self.starts[first : stop + 1]],
            self.counts[first:stop].to(device),
        )

    def seen(self, window: int | None) -> Tensor:
        """How many keys each query sees, float64 [B, T]."""
        if window is None:
            return self.counts.double()
        near = (self.query - self.key < window).double()
        place = self.sequence.long() * self.counts.shape[1] + self.query
        size = self.counts.numel()
        return torch.bincount(place, near, minlength=size).view(self.counts.shape)


@dataclass(frozen=True)
class Copies:
    """Where tokens are repeated within their sequences, and what is near.

    The sink is no key of any copy.

    Attributes:
        duplicate: of a query and each earlier copy of its token.
        induction: of a query and each key that follows such a copy, but for the token before the
            query: what lies there is the previous-token role's.
        previous: of a query and the key before it.
        local: of a query and its last keys, itself included.
    """

    duplicate: Pairs
    induction: Pairs
    previous: Pairs
    local: Pairs

    @classmethod
    def of(cls, texts: Sequence[Sequence[str]], present: Tensor, sink: int) -> Copies:
        """Read B sequences of T tokens.

        Args:
            texts: the tokens as their tokenizer writes them.
            present: which positions hold a token rather than padding, bool [B, T].
            sink: position that is left out.
        """
        length = present.shape[1]
        known: dict[str, int] = {}
        codes = torch.tensor([[known.setdefault(t, len(known)) for t in row] for row in texts])
        found: tuple[list[tuple[Tensor, Tensor]], ...] = [], []
        for code, here in zip(codes, present, strict=True):
            same = (code[:, None] == code).tril(-1) & here & here[:, None]
            query, earlier = same.nonzero(as_tuple=True)
            for into, key, last in ((found[0], earlier, 1), (found[1], earlier + 1, 2)):
                taken = (key <= query - last) & (key != sink)
                into.append((query[taken], key[taken]))
        near = (Pairs.near(len(codes), length, *keys) for keys in ((1, 2), (0, LOCAL_KEYS)))
        return cls(*(Pairs.of(pairs, length) for pairs in found), *near)

    def rows(self, rows: slice, device: torch.device) -> Copies:
        """Those of some sequences."""
        every = self.duplicate, self.induction, self.previous, self.local
        return Copies(*(pairs.rows(rows, device) for pairs in every))

    def named(self) -> Iterator[tuple[str, Pairs]]:
        """Both kinds of copies with the role they tell."""
        yield "duplicate", self.duplicate
        yield "induction", self.induction


ROLES = ("previous", "local", "duplicate", "induction")
"""Roles in the order in which weights that tell them are kept."""


class RoleWeights:
    """Weights on the keys that tell roles, of every query of every head; filled by blocks.

    Args:
        copies: of the sequences at hand.
        heads: H.
        like: a tensor of the weights' type and device.
    """

    def __init__(self, copies: Copies, heads: int, like: Tensor) -> None:
        self.heads = heads
        self.pairs = copies.previous, copies.local, copies.duplicate, copies.induction
        batch, self.length = copies.duplicate.counts.shape
        self.found = like.new_zeros(len(ROLES), batch * heads, self.length)
        """Of every query of the B·H heads, in the order of ROLES."""
        self._before = [
            torch.nn.functional.pad(pairs.counts.flatten().cumsum(0), (1, 0)).cpu()
            for pairs in self.pairs
        ]
        self._listed: tuple[Any, tuple[Tensor, Tensor]] | None = None

    def block(self, offset: int, start: int, first: int, weights: Tensor) -> None:
        """Take a block of weights, as they are.

        Args:
            offset: which of the B·H heads is the first of n.
            start: the block's first query.
            first: its first key.
            weights: [n, block, keys], 0 at the sink and where a query sees no key; each row behind
                the one before.
        """
        for sequences, heads in self._whole(offset, offset + len(weights)):
            self._copies(weights, sequences, heads, offset, (start, first))

    def _whole(self, row: int, stop: int) -> Iterator[tuple[slice, slice]]:
        """Rows of B·H heads as sequences, each with the same heads."""
        while row < stop:
            sequence, head = divmod(row, self.heads)
            whole = (stop - row) // self.heads if head == 0 else 0
            if whole:
                yield slice(sequence, sequence + whole), slice(0, self.heads)
                row += whole * self.heads
            else:
                last = min(self.heads, head + stop - row)
                yield slice(sequence, sequence + 1), slice(head, last)
                row += last - head

    def _copies(
        self,
        weights: Tensor,
        sequences: slice,
        heads: slice,
        offset: int,
        corner: tuple[int, int],
    ) -> None:
        """Add up the weights on copies, and on what followed them, of some sequences and heads."""
        rows, keys = weights.shape[1:]
        size, (start, first) = weights.stride(0), corner
        asked = sequences.start, sequences.stop, start
        if self._listed is None or self._listed[0] != asked:  # the heads of a block come in a row
            self._listed = asked, self._places(sequences, (start, rows), (first, keys), size)
        places, counts = self._listed[1]
        own = heads.stop - heads.start
        if own > 1:
            of_heads = torch.arange(own, device=places.device) * size
            places = (places[:, None] + of_heads).flatten()
        begin = (sequences.start * self.heads + heads.start - offset) * size
        span = (len(weights) - 1) * size + rows * keys - begin
        flat = weights.as_strided((span,), (1,), weights.storage_offset() + begin)
        taken = flat.index_select(0, places).view(-1, own)
        sums = torch.segment_reduce(taken, "sum", lengths=counts, axis=0, unsafe=True)
        sums = sums.view(len(ROLES), sequences.stop - sequences.start, rows, own).mT
        into = self.found.view(len(ROLES), -1, self.heads, self.length)
        into[:, sequences, heads, start : start + rows] = sums

    def _places(
        self, sequences: slice, queries: tuple[int, int], keys: tuple[int, int], size: int
    ) -> tuple[Tensor, Tensor]:
        """Where in a block's weights the pairs of its queries are, and how many each query has.

        Args:
            sequences: which; a block of several sequences, each with all heads.
            queries: the block's first, and how many.
            keys: likewise.
            size: how far the heads' weights lie apart.

        Returns:
            places from the first sequence's first head on, int64 [P], in the order of roles,
            sequences, queries and keys; how many, int64 [4·b·block].
        """
        (start, rows), (first, number) = queries, keys
        places, counts = [], []
        for pairs, before in zip(self.pairs, self._before, strict=True):
            if rows == self.length:
                own = [slice(pairs.starts[sequences.start], pairs.starts[sequences.stop])]
            else:
                of = (b * self.length + start for b in range(sequences.start, sequences.stop))
                own = [slice(int(before[at]), int(before[at + rows])) for at in of]
            sequence, query, key = (
                torch.cat([values[each] for each in own]).long()
                for values in (pairs.sequence, pairs.query, pairs.key)
            )
            count = pairs.counts[sequences, start : start + rows].flatten()
            sequence = sequence - sequences.start
            if first:  # keys that no query of the block sees are dropped
                here = key >= first
                sequence, query, key = sequence[here], query[here], key[here]
                place = sequence * rows + query - start
                count = torch.bincount(place, minlength=len(count))
            place = sequence * (self.heads * size) + (query - start) * number
            places.append(place + key - first)
            counts.append(count)
        return torch.cat(places), torch.cat(counts)

    def views(self) -> dict[str, Tensor]:
        """Of every query of every head, [B, H, T]."""
        return {
            f"{name}_weight": values.view(-1, self.heads, self.length)
            for name, values in zip(ROLES, self.found, strict=True)
        }


def of_dense(weights: Tensor, copies: Copies, sink: int) -> RoleWeights:
    """The same from the matrix of weights, [B, H, T, T]."""
    heads = weights.shape[1]
    rest = weights.flatten(0, 1).clone(memory_format=torch.contiguous_format)
    rest[..., sink] = 0
    found = RoleWeights(copies, heads, rest)
    found.block(0, 0, 0, rest)
    return found


def floors(copies: Copies, window: int | None, visible: Tensor) -> dict[str, Tensor]:
    """The same weights under uniform attention, float64 [B, T], and 0 where there is no such key.

    Args:
        copies: of the sequences at hand.
        window: how many of the last keys a query sees; None for all of them.
        visible: how many keys that is, float64 [T].
    """
    found = {f"{name}_weight": pairs.seen(window) / visible for name, pairs in copies.named()}
    shape = found["duplicate_weight"].shape
    found["previous_weight"] = (1 / visible).expand(shape)
    found["local_weight"] = (visible.clamp_max(LOCAL_KEYS) / visible).expand(shape)
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
