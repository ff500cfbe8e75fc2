"""Sums that add up over parts of a batch, and the means they end in."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Sums:
    """Sums and counts by name, each sum float64 [H] or a scalar.

    Every statistic of a row is a mean over queries or over sequences, so measuring a batch in
    parts gives the same number as measuring it at once.
    """

    totals: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, Tensor] = field(default_factory=dict)

    def add(self, name: str, total: Tensor, count: Tensor | float) -> None:
        """Add a part's sum and how many values it holds."""
        total, count = total.double(), torch.as_tensor(count, dtype=torch.float64)
        if name in self.totals:
            total, count = self.totals[name] + total, self.counts[name] + count
        self.totals[name], self.counts[name] = total, count

    def queries(self, name: str, values: Tensor, rows: Tensor) -> None:
        """Add ``values`` [B, H, T] at the positions in ``rows`` [B, T]."""
        kept = torch.where(rows[:, None], values, 0)
        self.add(name, kept.sum((0, 2), dtype=torch.float64), rows.sum())

    def sequences(self, name: str, values: Tensor) -> None:
        """Add one value per sequence, [B, H]; NaN where a sequence has none."""
        present = ~values.isnan()
        self.add(name, values.nan_to_num(0).sum(0, dtype=torch.float64), present.sum(0))

    def mean(self, name: str) -> Tensor:
        """The mean, NaN where nothing was added."""
        return self.totals[name] / self.counts[name]


@dataclass
class Columns:
    """Mean attention that each key collects from later queries, per head.

    Attributes:
        mass: Σ_i A_ij over the queries i > j that count, [H, T].
        seen: how many queries that is, [T].
        sequences: how many sequences there are.
        tops: per head, how often each (position, token) collected most in a sequence.
    """

    mass: Tensor | None = None
    seen: Tensor | None = None
    sequences: int = 0
    tops: dict[int, Counter[tuple[int, str]]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, mass: Tensor, seen: Tensor, sequences: int) -> None:
        """Add a part's sums."""
        self.sequences += sequences
        self.mass = mass if self.mass is None else self.mass + mass
        self.seen = seen if self.seen is None else self.seen + seen

    def mean(self, least: int) -> Tensor:
        """Mean mass [H, T]; −1 for keys that fewer than ``least`` queries per sequence saw."""
        assert self.mass is not None and self.seen is not None
        mean = self.mass / self.seen
        return mean.masked_fill(self.seen < least * self.sequences, -1.0)
