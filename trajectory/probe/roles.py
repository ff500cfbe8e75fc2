"""Weights that tell a head's role: on the previous token, on earlier copies of the query's token,
on what followed those, on punctuation, and on what is near.

They are read off the blocks of weights that a scan forms anyway. Which queries have copies where is
the same for every head, so it is found once per batch, as a list of pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Copies:
    """Where tokens are repeated within their sequences. The sink is no key of any pair.

    Attributes:
        duplicate: of a query and each earlier copy of its token.
        induction: of a query and each key that follows such a copy, but for the token before the
            query: what lies there is the previous-token role's.
    """

    duplicate: Pairs
    induction: Pairs

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
        return cls(*(Pairs.of(pairs, length) for pairs in found))

    def rows(self, rows: slice, device: torch.device) -> Copies:
        """Those of some sequences."""
        return Copies(self.duplicate.rows(rows, device), self.induction.rows(rows, device))

    def named(self) -> Iterator[tuple[str, Pairs]]:
        """Both with the role they tell."""
        yield "duplicate", self.duplicate
        yield "induction", self.induction


class RoleWeights:
    """Weights on the keys that tell roles, of every query of every head; filled by blocks.

    Args:
        copies: of the sequences at hand.
        heads: H.
        like: a tensor of the weights' type and device.
    """

    def __init__(self, copies: Copies, heads: int, like: Tensor) -> None:
        self.copies, self.heads = copies, heads
        batch, length = copies.duplicate.counts.shape
        self.found = {
            name: like.new_zeros(batch * heads, length)
            for name in ("previous", "local", "duplicate", "induction")
        }

    def block(self, part: slice, start: int, first: int, weights: Tensor, scale: Tensor) -> None:
        """Take a block of weights.

        Args:
            part: which of the B·H heads these are.
            start: its first query.
            first: its first key.
            weights: [n, block, keys], not normalised, 0 at the sink and where a query sees no key.
            scale: what makes them weights A_ij, [n, block].
        """
        count, rows, _ = weights.shape
        before = start - first
        near = self.found["local"][part, start : start + rows]
        few = min(rows, max(0, LOCAL_KEYS - 1 - before))  # rows with fewer keys before them
        if few < rows:
            near[:, few:] = _band(weights, few, before + few + 1 - LOCAL_KEYS).sum(-1)
        for row in range(few):
            near[:, row] = weights[:, row, : before + row + 1].sum(-1)
        skipped = max(0, 1 - before)
        previous = weights.diagonal(before - 1, -2, -1)
        self.found["previous"][part, start + skipped : start + rows] = previous
        offset = part.start or 0
        for sequences, heads in self._whole(offset, offset + count):
            self._copies(weights, sequences, heads, offset, (start, first))
        for values in self.found.values():
            values[part, start : start + rows] *= scale

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
        (start, first), length = corner, self.copies.duplicate.counts.shape[1]
        flat, size = weights.reshape(-1), rows * keys
        # A block is small, so places in it are short numbers: half as many bytes as long ones.
        before = (sequences.start * self.heads - offset) * size - first
        count = heads.stop - heads.start
        of_heads = torch.arange(count, dtype=torch.int32, device=flat.device) * size
        for name, pairs in self.copies.named():
            own = slice(pairs.starts[sequences.start], pairs.starts[sequences.stop])
            sequence, query, key = pairs.sequence[own], pairs.query[own], pairs.key[own]
            counts = pairs.counts[sequences, start : start + rows]
            if rows < length:
                here = (query >= start) & (query < start + rows) & (key >= first)
                sequence, query, key = sequence[here], query[here], key[here]
                if first:  # keys that no query of the block sees are dropped
                    place = (sequence - sequences.start).long() * rows + query - start
                    counts = torch.bincount(place, minlength=counts.numel()).view(counts.shape)
            place = (sequence - sequences.start).mul_(self.heads * size)
            place.add_(query - start if start else query, alpha=keys).add_(key)
            place.add_(before + heads.start * size)
            if count > 1:
                place = (place[:, None] + of_heads).view(-1)
            # One index after another costs half of what as many as a matrix do.
            taken = flat.index_select(0, place).view(-1, count)
            sums = torch.segment_reduce(taken, "sum", lengths=counts.flatten(), axis=0, unsafe=True)
            into = self.found[name].view(-1, self.heads, length)
            into[sequences, heads, start : start + rows] = sums.view(*counts.shape, -1).mT

    def views(self) -> dict[str, Tensor]:
        """Of every query of every head, [B, H, T]."""
        return {
            f"{name}_weight": values.view(-1, self.heads, values.shape[1])
            for name, values in self.found.items()
        }


def _band(weights: Tensor, row: int, key: int) -> Tensor:
    """A view of weights [n, rows, keys], [n, rows − row, ``LOCAL_KEYS``]: of every row from ``row``
    on that many keys, from ``key`` on and one further each row."""
    count, rows, _ = weights.shape
    of_head, of_row, of_key = weights.stride()
    offset = weights.storage_offset() + row * of_row + key * of_key
    size = count, rows - row, LOCAL_KEYS
    return weights.as_strided(size, (of_head, of_row + of_key, of_key), offset)


def of_dense(weights: Tensor, copies: Copies, sink: int) -> RoleWeights:
    """The same from the matrix of weights, [B, H, T, T]."""
    heads = weights.shape[1]
    rest = weights.flatten(0, 1).clone()
    rest[..., sink] = 0
    found = RoleWeights(copies, heads, rest)
    found.block(slice(0, len(rest)), 0, 0, rest, rest.new_ones(rest.shape[:2]))
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
