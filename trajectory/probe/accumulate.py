"""Sums that add up over parts of a batch, and the means they end in."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

_SQUARED = " squared"


@dataclass
class Sums:
    """Sums and counts by name, each sum float64 [H] or a scalar, on the CPU.

    Every statistic of a row is a mean over queries or over sequences, so measuring a batch in
    parts gives the same number as measuring it at once.
    """

    totals: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, Tensor] = field(default_factory=dict)

    def add(self, name: str, total: Tensor, count: Tensor | float) -> None:
        """Add a part's sum and how many values it holds."""
        total = total.cpu().double()
        count = torch.as_tensor(count, dtype=torch.float64, device="cpu")
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

    def spread(self, name: str, values: Tensor) -> None:
        """Add one value per sequence, [B, H], whose spread over sequences is wanted as well."""
        self.sequences(name, values)
        self.sequences(f"{name}{_SQUARED}", values.double().square())

    def errors(self, name: str, heads: int) -> list[float | None]:
        """Standard error of the mean over sequences of what ``spread`` added, for every head.

        None for fewer than two sequences, which have no spread.
        """
        means, squares = self.column(name, heads), self.column(f"{name}{_SQUARED}", heads)
        if name not in self.counts:
            return means
        found: list[float | None] = []
        for mean, square, n in zip(
            means, squares, self.counts[name].expand(heads).tolist(), strict=True
        ):
            if mean is None or square is None or n < 2:
                found.append(None)
            else:
                found.append((max(square - mean * mean, 0.0) / (n - 1)) ** 0.5)
        return found

    def mean(self, name: str) -> Tensor:
        """The mean, NaN where nothing was added."""
        return self.totals[name] / self.counts[name]

    def known(self, name: str) -> Tensor | None:
        """The mean; None if nothing was added to any head."""
        if name not in self.totals or not bool((self.counts[name] > 0).any()):
            return None
        return self.mean(name)

    def column(self, name: str, heads: int) -> list[float | None]:
        """The mean of every head, None where nothing was added to it."""
        if name not in self.totals:
            return [None] * heads
        counts = self.counts[name].expand(heads).tolist()
        totals = self.totals[name].expand(heads).tolist()
        return [total / n if n else None for total, n in zip(totals, counts, strict=True)]

    def number(self, name: str) -> float | None:
        """The mean of a statistic that has one value; None if nothing was added."""
        (value,) = self.column(name, 1)
        return value
