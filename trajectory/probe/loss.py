"""Losses of a domain, with the spread over its sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """Negative log-likelihood of one domain.

    Attributes:
        totals: Σ −log p over each sequence's predicted tokens, one number per sequence.
        counts: how many there are.
    """

    totals: tuple[float, ...]
    counts: tuple[float, ...]

    @classmethod
    def of(cls, surprises: Tensor, predicts: Tensor) -> Loss:
        """From −log p [N] of the True entries of ``predicts`` [B, T], in their order."""
        spread = torch.zeros(predicts.shape, dtype=torch.float64)
        spread[predicts.cpu()] = surprises.double().cpu()
        return cls(tuple(spread.sum(1).tolist()), tuple(predicts.sum(1).tolist()))

    @property
    def predictions(self) -> int:
        """Predicted tokens."""
        return int(sum(self.counts))

    @property
    def mean(self) -> float:
        """Nats per predicted token."""
        return sum(self.totals) / sum(self.counts)

    @property
    def standard_error(self) -> float | None:
        """Of the mean, sequences being independent; None for fewer than two."""
        return _standard_error(self.totals, self.counts)

    def minus(self, other: Loss) -> tuple[float, float | None]:
        """This mean less that of the same sequences under another model, and its standard error."""
        difference = [a - b for a, b in zip(self.totals, other.totals, strict=True)]
        return sum(difference) / sum(self.counts), _standard_error(difference, self.counts)


def _standard_error(totals: Sequence[float], counts: Sequence[float]) -> float | None:
    """Of Σ totals / Σ counts as a ratio of means over sequences."""
    there = [(t, n) for t, n in zip(totals, counts, strict=True) if n]
    if len(there) < 2:
        return None
    size, predictions = len(there), sum(n for _, n in there)
    mean = sum(t for t, _ in there) / predictions
    squares = sum((t - mean * n) ** 2 for t, n in there)
    return (size / (size - 1) * squares) ** 0.5 / predictions
