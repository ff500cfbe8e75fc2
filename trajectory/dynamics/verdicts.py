"""The one rule by which a number with an interval is judged, for phenomena and claims alike."""

from __future__ import annotations

import math


def inside(
    low: float | None, high: float | None, at_least: float | None, at_most: float | None
) -> bool | None:
    """Whether an interval lies within limits.

    Args:
        low, high: its ends; one that is None is open.
        at_least, at_most: the limits; one that is None is no limit.

    Returns:
        True where the whole interval lies within, False where it lies outside, None where it holds
        a limit.
    """
    low = -math.inf if low is None else low
    high = math.inf if high is None else high
    if (at_least is None or low >= at_least) and (at_most is None or high <= at_most):
        return True
    outside = (at_least is not None and high < at_least) or (at_most is not None and low > at_most)
    return False if outside else None
