"""What a statistic can be: estimates and intervals end there."""

from __future__ import annotations

import math

Limits = tuple[float, float]

FREE: Limits = (-math.inf, math.inf)

RANGES: dict[str, Limits] = {
    "sink_weight": (0.0, 1.0),
    "sink_excess": (-1.0, 1.0),  # a uniform weight is ½ at most, so that none is −1 at least
    "delta_logit_positive": (0.0, 1.0),
    "value_ratio": (0.0, math.inf),
    "output_value_ratio": (0.0, math.inf),
    "residual_ratio": (0.0, math.inf),
    "residual_norm_sink": (0.0, math.inf),
}
"""Least and greatest value, by column; a column that is not named is free."""


def within(limits: Limits, number: float | None) -> float | None:
    """The number, or the limit that it lies beyond; None stays None."""
    return None if number is None else min(max(number, limits[0]), limits[1])
