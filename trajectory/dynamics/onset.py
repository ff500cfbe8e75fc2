"""Onset of the attention sink: between which two records did it appear."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Onset:
    """An interval-censored crossing.

    Attributes:
        status: "observed", "before_first" (above at the first record) or "not_reached".
        after_step: last record below the threshold before the crossing, if observed.
        by_step: first record of the crossing, if observed.
    """

    status: Literal["observed", "before_first", "not_reached"]
    after_step: int | None = None
    by_step: int | None = None

    @property
    def step(self) -> float | None:
        """Geometric midpoint of the interval (arithmetic if it starts at step 0)."""
        if self.after_step is None or self.by_step is None:
            return None
        if self.after_step == 0:
            return self.by_step / 2
        return math.sqrt(self.after_step * self.by_step)


def first_crossing(steps: ArrayLike, values: ArrayLike, threshold: float) -> Onset:
    """When ``values`` first reached ``threshold`` and still held it at the next record.

    The confirmation keeps one noisy record from counting; the last record needs none.

    Args:
        steps: ascending steps of the records.
        values: the statistic at each.
        threshold: what counts as reached.
    """
    steps, above = np.asarray(steps), np.asarray(values, dtype=float) >= threshold
    held = above & np.append(above[1:], True)
    if not held.any():
        return Onset("not_reached")
    first = int(held.argmax())
    if first == 0:
        return Onset("before_first")
    return Onset("observed", int(steps[first - 1]), int(steps[first]))
