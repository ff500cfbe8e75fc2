"""Weights that tell a head's role: on the previous token, on earlier copies of the query's token,
on what followed those, on punctuation, and on what is near.

They are read off the blocks of weights that a scan forms anyway. Which queries have copies where is
the same for every head, so it is found once per batch, as a list of pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

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


class Block(NamedTuple):
    """A block of weights of some sequences.

    Attributes:
        sequences: the first one, and the one behind the last.
        start, rows: its first query, and how many.
        first, keys: its first key, and how many.
        apart: how far the sequences' weights lie apart, in numbers.
    """

    sequences: tuple[int, int]
    start: int
    rows: int
    first: int
    keys: int
    apart: int


@dataclass(frozen=True)
class Copies:
    """Where tokens are repeated within their sequences.

    The sink is no key of any copy.

    Attributes:
        duplicate: of a query and each earlier copy of its token.
        induction: of a query and each key that follows such a copy, but for the token before the
            query: what lies there is the previous-token role's.
        listed: where a block's pairs are, by its place; every layer has the same blocks.
    """

    duplicate: Pairs
    induction: Pairs
    listed: dict[Block, tuple[Tensor, Tensor]] = field(default_factory=dict, compare=False)

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
        duplicate, induction = (Pairs.of(pairs, length) for pairs in found)
        return cls(duplicate, induction)

    def rows(self, rows: slice, device: torch.device) -> Copies:
        """Those of some sequences; of all of them itself, with what it has listed."""
        size = len(self.duplicate.counts)
        if rows.indices(size) == (0, size, 1) and self.duplicate.key.device == device:
            return self
        return Copies(self.duplicate.rows(rows, device), self.induction.rows(rows, device))

    def places(self, block: Block) -> tuple[Tensor, Tensor]:
        """Where in a block's weights the pairs of its queries are, and how many each query has.

        Returns:
            places from the first sequence's on, [P], in the order of roles, sequences, queries and
            keys; how many, int64 [2·b·rows].
        """
        if block not in self.listed:
            every = _within(self.duplicate, block), _within(self.induction, block)
            places, counts = zip(*every, strict=True)
            found = torch.cat(places)
            if (block.sequences[1] - block.sequences[0]) * block.apart < 1 << 31:
                found = found.int()  # they are kept
            self.listed[block] = found, torch.cat(counts)
        return self.listed[block]

    def named(self) -> Iterator[tuple[str, Pairs]]:
        """Both kinds of copies with the role they tell."""
        yield "duplicate", self.duplicate
        yield "induction", self.induction


def _within(pairs: Pairs, block: Block) -> tuple[Tensor, Tensor]:
    """Places of a block's pairs, int64 [P], and how many each query has, int64 [b·rows]."""
    (begin, end), start, rows, first, keys, apart = block
    own = slice(pairs.starts[begin], pairs.starts[end])
    sequence, query, key = (t[own].long() for t in (pairs.sequence, pairs.query, pairs.key))
    if rows == pairs.counts.shape[1]:
        counts = pairs.counts[begin:end].flatten()
        return (sequence - begin) * apart + query * keys + key, counts
    # Keys that no query of the block sees are dropped.
    here = (query >= start) & (query < start + rows) & (key >= first)
    sequence, query, key = sequence[here] - begin, query[here] - start, key[here] - first
    counts = torch.bincount(sequence * rows + query, minlength=(end - begin) * rows)
    return sequence * apart + query * keys + key, counts


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
        self.copies, self.heads = copies, heads
        batch, self.length = copies.duplicate.counts.shape
        self.found = like.new_empty(len(ROLES), batch * heads, self.length)
        """Of every query of the B·H heads, in the order of ROLES."""

    def block(self, offset: int, start: int, first: int, weights: Tensor) -> None:
        """Take a block of weights, as they are.

        Args:
            offset: which of the B·H heads is the first of n, either all heads of some sequences
                or some of one.
            start: the block's first query.
            first: its first key.
            weights: [n, block, keys], 0 at the sink and where a query sees no key; each row behind
                the one before.
        """
        (count, rows, keys), size = weights.shape, weights.stride(0)
        sequence = offset // self.heads
        own, several = min(count, self.heads), max(1, count // self.heads)
        block = Block(
            (sequence, sequence + several), start, rows, first, keys, self.heads * size
        )  # fmt: skip
        places, lengths = self.copies.places(block)
        # Each head's weights up to the last sequence's; those of several heads overlap.
        span = (several - 1) * block.apart + rows * keys
        taken = weights.as_strided((own, span), (size, 1)).index_select(1, places)
        sums = torch.segment_reduce(
            taken, "sum", lengths=lengths.expand(own, -1).contiguous(), axis=1, unsafe=True
        ).view(own, 2, several, rows)
        into = self.found[:, offset : offset + count, start : start + rows]
        into[2:].unflatten(1, (several, own)).copy_(sums.permute(1, 2, 0, 3))
        _near(weights, start - first, into[0], into[1])

    def views(self) -> dict[str, Tensor]:
        """Of every query of every head, [B, H, T]."""
        return {
            f"{name}_weight": values.view(-1, self.heads, self.length)
            for name, values in zip(ROLES, self.found, strict=True)
        }


def _near(weights: Tensor, place: int, previous: Tensor, local: Tensor) -> None:
    """Weights on the key before each query's own, and on its last keys, both [n, block].

    Args:
        weights: [n, block, keys], each row behind the one before.
        place: which key is the first query's own.
        previous, local: where they go.
    """
    count, rows, keys = weights.shape
    none = int(place == 0)  # of a first token
    previous[:, :none] = 0
    previous[:, none:] = weights.diagonal(place - 1, -2, -1)[:, : rows - none]
    few = min(rows, max(0, LOCAL_KEYS - 1 - place))  # queries with fewer keys before them
    torch.sum(weights[:, :few, :LOCAL_KEYS], -1, out=local[:, :few])
    begin = weights.storage_offset() + few * (keys + 1) + place + 1 - LOCAL_KEYS
    if few < rows:  # a band along the diagonal
        band = weights.as_strided(
            (count, rows - few, LOCAL_KEYS), (weights.stride(0), keys + 1, 1), begin
        )
        torch.sum(band, -1, out=local[:, few:])


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
