"""Where more checkpoints would tell most about an onset: choosing them within a budget of bytes.

A coarse pass leaves each onset between two records. With the onset's place spread evenly over the
logarithm of that interval, a further checkpoint at c leaves an expected width of
(p² + q²)/(p + q) instead of p + q, p and q being the parts c cuts it into. Checkpoints are added
one by one, each the one that takes most expected width off per byte.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """An onset lies after step ``after`` and not after step ``by``; ``weight`` heads share it."""

    after: int
    by: int
    weight: int = 1


@dataclass(frozen=True)
class Candidate:
    """A checkpoint that could be measured."""

    revision: str
    step: int
    size: int


def place(step: int) -> float:
    """Where a step lies on the logarithmic axis: step 0 is as far from 1 as 1 is from 3."""
    return math.log1p(step)


def expected_width(interval: Interval, steps: Sequence[int]) -> float:
    """Expected width, in units of ln(1 + step), that the records at ``steps`` leave an onset."""
    cuts = sorted({interval.after, interval.by, *(s for s in steps if _inside(interval, s))})
    parts = [place(b) - place(a) for a, b in itertools.pairwise(cuts)]
    whole = sum(parts)
    return sum(part * part for part in parts) / whole if whole > 0 else 0.0


def total_width(intervals: Sequence[Interval], steps: Sequence[int]) -> float:
    """Expected width of all onsets together, each counted by its weight."""
    return sum(one.weight * expected_width(one, steps) for one in intervals)


def densify(
    intervals: Sequence[Interval], candidates: Sequence[Candidate], budget: int
) -> list[Candidate]:
    """The candidates to add, in the order of their worth, within ``budget`` bytes."""
    chosen: list[Candidate] = []
    left = budget
    while True:
        steps = [c.step for c in chosen]
        now = total_width(intervals, steps)
        best, best_worth = None, 0.0
        for candidate in candidates:
            if candidate in chosen or candidate.size > left:
                continue
            gain = now - total_width(intervals, [*steps, candidate.step])
            worth = gain / max(1, candidate.size)
            if gain > 1e-12 and worth > best_worth:
                best, best_worth = candidate, worth
        if best is None:
            return chosen
        chosen.append(best)
        left -= best.size


def _inside(interval: Interval, step: int) -> bool:
    return interval.after < step < interval.by
