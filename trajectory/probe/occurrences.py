"""Which tokens recur from sequence to sequence, and where each of them stands first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trajectory.schemas.base import PREFERS_FIRST, RECURRING


@dataclass(frozen=True)
class Occurrences:
    """The tokens that enough sequences hold, and their places.

    Attributes:
        names: the recurring tokens as their tokenizer writes them, V of them.
        ids: which of them stands at each position, V where none does; int64 [B, T].
        first: whether a position holds its token's first occurrence in the sequence, bool [B, T].
    """

    names: tuple[str, ...]
    ids: Tensor
    first: Tensor

    @classmethod
    def of(cls, texts: Sequence[Sequence[str]], present: Tensor) -> Occurrences:
        """Read B sequences of T tokens.

        Tokens of fewer than ``RECURRING`` of the sequences are left out: a rule about a token can
        be seen only where the token recurs, and sums for every token would outgrow the statistics.

        Args:
            texts: the tokens as their tokenizer writes them.
            present: which positions hold a token rather than padding, bool [B, T].
        """
        held = Counter[str]()
        first = torch.zeros(present.shape, dtype=torch.bool)
        for row, tokens in enumerate(texts):
            seen: set[str] = set()
            for place, (token, here) in enumerate(zip(tokens, present[row].tolist(), strict=True)):
                if here and token not in seen:
                    seen.add(token)
                    first[row, place] = True
            held.update(seen)
        least = RECURRING * max(1, int(present.any(1).sum()))
        names = tuple(sorted(token for token, count in held.items() if count >= least))
        place_of = {token: n for n, token in enumerate(names)}
        ids = torch.tensor(
            [[place_of.get(token, len(names)) for token in row] for row in texts],
            dtype=torch.int64,
        )
        return cls(names, ids, first)

    def rows(self, rows: slice, device: torch.device) -> Occurrences:
        """Those of some sequences."""
        return Occurrences(self.names, self.ids[rows].to(device), self.first[rows].to(device))

    def shares(self, member: Tensor, window: int | None) -> Tensor:
        """Column sums of a head that gives all its weight to a key's token, evenly.

        A query spreads its weight over the occurrences that it sees, its own place among them. The
        first occurrence has all of it until the second, a half until the third, and so on: over n
        occurrences at even distances it collects Hₙ/n of the weight, with Hₙ = 1 + 1/2 + … + 1/n,
        which is 1.5 times what the later one collects at n = 2, and 2.4 times at n = 20.

        Args:
            member: the queries that count, bool [B, T].
            window: how many of the last keys a query sees; None for all of them.

        Returns:
            Σ 1/(occurrences that query i sees) over the queries i > j that see key j, float64
            [B, T]; of tokens that do not recur it means nothing.
        """
        found = []
        for ids, queries in zip(self.ids, member, strict=True):
            names, own = ids.unique(return_inverse=True)
            seen = torch.nn.functional.one_hot(own, len(names)).double().cumsum(0)
            if window is not None and window < len(ids):
                seen[window:] -= seen[:-window].clone()
            given = (queries[:, None] / seen.clamp_min(1)).cumsum(0)
            places = torch.arange(len(ids), device=ids.device)
            last = (places + (window or len(ids)) - 1).clamp_max(len(ids) - 1)
            found.append(given[last, own] - given[places, own])
        return torch.stack(found)


@dataclass
class Masses:
    """Sums of column masses by recurring token, apart for first and for later occurrences.

    Attributes:
        totals: of the first and of the later occurrences, each [H + 2, V]; None before anything
            is added. The two behind the heads are those of even attention.
        counts: how many of them that is, each [V].
    """

    totals: tuple[Tensor, Tensor] | None = None
    counts: tuple[Tensor, Tensor] | None = None

    def add(
        self, mass: Tensor, even: Sequence[Tensor], allowed: Tensor, tokens: Occurrences
    ) -> None:
        """Add the mean column mass of every key where ``allowed`` [B, T].

        Args:
            mass: of the heads, [B, H, T].
            even: of a head that attends evenly to all keys that a query sees, and of one that does
                to a key's token alone (``Occurrences.shares``), each [B, T].
            allowed: which keys count.
            tokens: what stands there.
        """
        size = len(tokens.names) + 1  # the last one takes what does not recur
        whole = torch.cat([mass.double(), torch.stack([*even], 1)], 1)
        flat = whole.movedim(1, 0).flatten(1)  # (H + 2, B·T)
        totals, counts = [], []
        for chosen in (tokens.first, ~tokens.first):
            weight = (allowed & chosen).flatten().double()
            ids = tokens.ids.flatten()
            total = flat.new_zeros(len(flat), size).index_add_(1, ids, flat * weight)
            count = flat.new_zeros(size).index_add_(0, ids, weight)
            totals.append(total[:, :-1].cpu())
            counts.append(count[:-1].cpu())
        if self.totals is None or self.counts is None:
            self.totals, self.counts = (totals[0], totals[1]), (counts[0], counts[1])
            return
        self.totals = (self.totals[0] + totals[0], self.totals[1] + totals[1])
        self.counts = (self.counts[0] + counts[0], self.counts[1] + counts[1])

    def means(self, head: int, token: int) -> tuple[float | None, float | None]:
        """Mean column mass of a token's first and of its later occurrences; None without any."""
        if self.totals is None or self.counts is None:
            return None, None
        found = [
            float(total[head, token] / count[token]) if count[token] else None
            for total, count in zip(self.totals, self.counts, strict=True)
        ]
        return found[0], found[1]

    def even_ratio(self, token: int) -> float | None:
        """How many times the mass of a token's later occurrences its first ones have where a head
        attends evenly: the greater of both ways to. None where either kind was not seen."""
        ratios = []
        for head in (-2, -1):
            early, later = self.means(head, token)
            if early is None or later is None:
                return None
            ratios.append(early / later)
        return max(ratios)


def rule(
    position_share: float,
    token_share: float,
    early: float | None,
    later: float | None,
    even_ratio: float | None,
) -> str:
    """What the greatest keys of more than half of the sequences have in common.

    Args:
        position_share: share of sequences whose greatest key stands at the most common position.
        token_share: share whose greatest key holds the most common token.
        early: mean column mass of that token's first occurrences.
        later: of its later ones; None where there are none.
        even_ratio: ``Masses.even_ratio`` of the token.
    """
    if max(position_share, token_share) <= 0.5:
        return "mixed"
    if position_share >= token_share:
        return "position"
    if early is None or later is None or even_ratio is None:
        return "token"  # without later ones nothing tells the first apart
    return "first" if early > 0 and early >= PREFERS_FIRST * even_ratio * later else "token"
