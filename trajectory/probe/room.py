"""The memory of a scan's block: its scores and weights, and views of their parts."""

from __future__ import annotations

import torch
from torch import Tensor

HIDDEN = -1e30
"""The score of a key that is not seen; finite, so that it can be added to any."""


class Own:
    """Which keys the queries of a block see; the same for every head.

    Attributes:
        place: which of the block's keys is its first query's own.
        since: from which of its keys on some query does not see them.
        hidden, seen: HIDDEN and 0 for the keys from there on that a query does not see, 0 and 1
            for those that it sees, [block, keys].
        sink: which of its keys is the sink, or None.
    """

    def __init__(
        self, start: int, stop: int, first: int, sink: int, window: int | None, like: Tensor
    ) -> None:
        self.place = start - first
        self.since = self.place if window is None else 0
        rows = torch.arange(start, stop, device=like.device)
        distance = rows[:, None] - torch.arange(first + self.since, stop, device=like.device)
        seen = distance >= 0 if window is None else (distance >= 0) & (distance < window)
        self.seen = seen.to(like)
        self.hidden = (1 - self.seen) * HIDDEN
        self.sink = sink - first if first <= sink < stop else None


class Room:
    """A block's numbers in the memory for them.

    Args:
        memory: twice as many as the block has.
        shape: its n heads, queries and keys.
        own: which keys they see.

    Attributes:
        weights, scores: [n, block, keys]; both in one piece as ``both``, [n, 2, block, keys].
        past: scores of the keys that every query sees; None if there is none.
        own_weights, own_scores: of the keys that some query does not see.
        hidden, seen: which these are, as ``Own`` has it.
        sink_weights, sink_scores: of the sink, [n, block]; None where it is no key.
        diagonals: of the queries' own keys, [n, 2, block].
        own_logits: the scores among them, [n, block].
    """

    def __init__(self, memory: Tensor, shape: tuple[int, int, int], own: Own) -> None:
        heads, block, keys = shape
        self.hidden, self.seen = own.hidden, own.seen
        self.both = memory[: 2 * heads * block * keys].view(heads, 2, block, keys)
        self.weights, self.scores = self.both.unbind(1)
        self.own_weights, self.own_scores = self.both[..., own.since :].unbind(1)
        self.past = self.scores[..., : own.since] if own.since else None
        self.sink_weights: Tensor | None = None
        self.sink_scores: Tensor | None = None
        if own.sink is not None:
            self.sink_weights, self.sink_scores = self.both[..., own.sink].unbind(1)
        self.diagonals = self.both.diagonal(own.place, -2, -1)
        self.own_logits = self.diagonals[:, 1]
        self._left: Tensor | None = None

    def left(self, counted: Tensor, share: Tensor, shift: Tensor) -> Tensor:
        """What ``both`` is multiplied by for column sums, [n, 2N, 2·block].

        Args:
            counted: which queries each set counts, [n, N, block].
            share, shift: of the queries, [n, block].
        """
        heads, sets, block = counted.shape
        if self._left is None:
            self._left = counted.new_zeros(heads, 2 * sets, 2 * block)
            halves = self._left.view(heads, 2, sets, 2, block)
            self._mass, self._spent, self._again = (
                halves[:, 0, :, 0], halves[:, 1, :, 0], halves[:, 1, :, 1]
            )  # fmt: skip
        torch.mul(counted, share.unsqueeze(1), out=self._mass)
        torch.mul(self._mass, shift.unsqueeze(1), out=self._spent)
        self._again.copy_(self._mass)
        return self._left
