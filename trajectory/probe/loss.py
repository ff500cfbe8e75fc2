"""Losses of a domain, with the spread over its sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

VOCABULARY_BLOCK = 8192
"""Rows of the read-out in memory at once."""

TOKEN_BLOCK = 2048
"""Positions whose logits are held at once."""


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


def surprises(
    hidden: Tensor, targets: Tensor, blocks: Iterable[tuple[int, int, Callable[[Tensor], Tensor]]]
) -> Tensor:
    """−log p of each target, float32 [N], from final states [N, D].

    Args:
        hidden: final states.
        targets: token ids, on the same device.
        blocks: parts of the vocabulary, from which id to which, and what reads their logits
            [n, stop − start] in float32 out of states [n, D].
    """
    total = torch.full((len(targets),), -torch.inf, device=hidden.device)
    chosen = torch.zeros(len(targets), device=hidden.device)
    for start, stop, read in blocks:
        for first in range(0, len(targets), TOKEN_BLOCK):
            part = slice(first, first + TOKEN_BLOCK)
            logits = read(hidden[part])
            total[part] = torch.logaddexp(total[part], logits.logsumexp(1))
            here = (targets[part] >= start) & (targets[part] < stop)
            found = logits.gather(1, (targets[part] - start).clamp(0, stop - start - 1)[:, None])
            chosen[part] = torch.where(here, found[:, 0], chosen[part])
    return total - chosen


def of_weight(
    rows: int, block: Callable[[int, int], Tensor], softcap: float | None = None
) -> Iterable[tuple[int, int, Callable[[Tensor], Tensor]]]:
    """A read-out that is one matrix [V, D], ``VOCABULARY_BLOCK`` rows at a time.

    Args:
        rows: V.
        block: its rows from one to another, float32.
        softcap: c, where logits z are capped to c·tanh(z/c).
    """
    for start in range(0, rows, VOCABULARY_BLOCK):
        stop = min(start + VOCABULARY_BLOCK, rows)
        weight = block(start, stop)
        yield start, stop, partial(_logits, weight, softcap)


def _logits(weight: Tensor, softcap: float | None, states: Tensor) -> Tensor:
    logits = states.float() @ weight.T
    # In place: three more such blocks would be the most that a measurement holds.
    return logits if softcap is None else logits.div_(softcap).tanh_().mul_(softcap)


def _standard_error(totals: Sequence[float], counts: Sequence[float]) -> float | None:
    """Of Σ totals / Σ counts as a ratio of means over sequences."""
    there = [(t, n) for t, n in zip(totals, counts, strict=True) if n]
    if len(there) < 2:
        return None
    size, predictions = len(there), sum(n for _, n in there)
    mean = sum(t for t, _ in there) / predictions
    squares = sum((t - mean * n) ** 2 for t, n in there)
    return (size / (size - 1) * squares) ** 0.5 / predictions
