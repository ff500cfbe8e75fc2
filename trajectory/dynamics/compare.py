"""Which law: told apart by likelihood and by late records, or left undecided."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trajectory.dynamics.fitting import fit, least_points
from trajectory.dynamics.laws import BY_NAME, CONTAINED, Array, evaluate

MARGIN = 4.0
"""Difference of AICc from which a law is excluded: an evidence ratio of e² ≈ 7."""

WORSE = 2.0
"""A law whose hold-out error is this many times the least one's is not named."""

HELD_OUT = 0.25
"""Share of the window's records, its last ones, that the second criterion predicts."""


def holdout_errors(law: str, times: Array, values: Array) -> Array:
    """(S,) root mean square error at the last records of a fit to the ones before.

    NaN where the earlier records are too few for the law.
    """
    kept = len(times) - max(1, round(HELD_OUT * len(times)))
    if kept < least_points(BY_NAME[law]):
        return np.full(len(values), np.nan)
    early = fit(BY_NAME[law], times[:kept], values[:, :kept], thorough=False)
    parameters = {name: found[:, None] for name, found in early.parameters.items()}
    with np.errstate(over="ignore", invalid="ignore"):
        predicted = evaluate(BY_NAME[law], parameters, times[kept:])
        error: Array = np.sqrt(np.square(predicted - values[:, kept:]).mean(-1))
    return np.where(np.isfinite(error), error, np.inf)


def verdicts(laws: Sequence[str], aicc: Array, holdout: Array) -> np.ndarray:
    """(S, laws) "named", "plausible" or "excluded".

    A law is excluded if its AICc is ``MARGIN`` above the least. The law with the least AICc is
    named if every other law is excluded or holds it as a special case, and if it predicts the held
    out records no worse than ``WORSE`` times the best of all laws.

    Args:
        laws: names, in the order of the columns.
        aicc: (S, laws), infinite where a law was not fitted.
        holdout: (S, laws) errors, NaN where not measured.
    """
    series = np.arange(len(aicc))
    best = aicc.argmin(-1)
    excluded = aicc - aicc[series, best][:, None] >= MARGIN
    found = np.where(excluded, "excluded", "plausible").astype("<U9")
    contains = np.array([[b in CONTAINED.get(a, ()) for a in laws] for b in laws], dtype=bool)
    rivals = ~excluded & ~contains[best]
    rivals[series, best] = False
    errors = np.where(np.isnan(holdout), np.inf, holdout)
    own, least = errors[series, best], errors.min(-1)
    predicts = ~np.isfinite(least) | (own <= WORSE * least)
    named = ~rivals.any(-1) & predicts
    found[series[named], best[named]] = "named"
    return found
