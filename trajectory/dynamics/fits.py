"""Every law fitted to every series: rows of the ``laws`` table."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping

import numpy as np

from trajectory.dynamics import ar1
from trajectory.dynamics.compare import holdout_errors, verdicts
from trajectory.dynamics.fitting import fit, least_points
from trajectory.dynamics.laws import LAWS, Array, Law
from trajectory.dynamics.series import Series, by_steps, stack
from trajectory.dynamics.uncertainty import bootstrap, closed, lag1_weights, profile
from trajectory.rows import Row

HEAD_STATISTICS = ("delta_logit", "sink_log_odds", "value_ratio")
LAYER_STATISTICS = (
    "residual_ratio",
    "residual_norm_sink",
    "residual_excess",
    "massive_ratio",
)

DECLARED = "onset"
"""The window whose fits have intervals, hold-out and verdicts that count."""


def windows(series: Series, onset: float | None) -> dict[str, Series]:
    """The series in its windows; a window with the same records as the declared one is left out.

    Args:
        series: with all its records.
        onset: last step before the trajectory's sink appears, if it does.
    """
    whole = series.after(1)
    declared = whole.after(onset or 1)
    found = {DECLARED: declared}
    if len(whole.steps) > len(declared.steps):
        found["all"] = whole
    if len(declared.steps):
        half = float(np.sqrt(declared.steps[0] * declared.steps[-1]))
        found["late"] = declared.after(half)
    return found


def law_rows(
    series: list[Series],
    onsets: Mapping[tuple[str, str], float | None],
    least: int,
    replicates: int,
    seed: int,
) -> Iterator[Row]:
    """One row per series, window and law.

    Args:
        series: with all their records.
        onsets: last step before the sink of each trajectory and domain.
        least: records that a window needs.
        replicates: of the bootstrap.
        seed: of the bootstrap.
    """
    by_window: dict[str, list[Series]] = {}
    for one in series:
        for name, part in windows(one, onsets.get((one.trajectory, one.domain))).items():
            if len(part.steps) >= least:
                by_window.setdefault(name, []).append(part)
    for name, parts in by_window.items():
        drawn = replicates if name == DECLARED else 0
        for steps, members in by_steps(parts):
            yield from _window(name, steps, members, drawn, seed)


def _window(
    window: str, steps: Array, members: list[Series], replicates: int, seed: int
) -> Iterator[Row]:
    values = stack(members)
    fitted = [
        _Fitted(law, steps, values, window == DECLARED)
        for law in LAWS
        if len(steps) >= least_points(law)
    ]
    if not fitted:
        return
    aicc = np.stack([f.free.aicc for f in fitted], -1)
    holdout = np.stack([f.holdout for f in fitted], -1)
    found = verdicts([f.law.name for f in fitted], aicc, holdout)
    found[np.ptp(values, axis=-1) == 0] = "constant"
    usable = np.stack([f.identified for f in fitted], -1)
    usable[~usable.any(-1)] = True
    best = np.where(usable, aicc, np.inf).argmin(-1)
    rng = np.random.default_rng([seed, zlib.crc32(steps.tobytes())])
    for j, one in enumerate(fitted):
        if replicates:
            wanted = (found[:, j] != "excluded") & (found[:, j] != "constant")
            one.bootstrap(values, wanted, replicates, rng)
        for i, member in enumerate(members):
            yield {
                "trajectory": member.trajectory,
                "domain": member.domain,
                "layer": member.layer,
                "head": member.head,
                "statistic": member.statistic,
                "window": window,
                "first_step": int(steps[0]),
                "last_step": int(steps[-1]),
                "points": len(steps),
                **one.row(i),
                "aicc": float(aicc[i, j]),
                "holdout_error": _finite(holdout[i, j]),
                "verdict": str(found[i, j]),
                "best": bool(best[i] == j),
            }


class _Fitted:
    """One law and S series: compared by maximum likelihood, declared by restricted likelihood."""

    def __init__(self, law: Law, steps: Array, values: Array, declared: bool) -> None:
        self.law = law
        self.free = self.fits = fit(law, steps, values)
        self.below: dict[str, Array] = {}
        self.above: dict[str, Array] = {}
        if declared:
            self.weights = lag1_weights(self.free, values)
            self.fits = fit(law, steps, values, ar1.GRID[self.weights.argmax(-1)])
            self.below, self.above = profile(self.fits, values, self.weights)
        self.identified = closed(self.below, self.above, len(values)) & ~self.fits.at_bound
        self.low: list[Row | None] = [None] * len(values)
        self.high: list[Row | None] = [None] * len(values)
        points = len(steps)
        self.holdout = (
            holdout_errors(law.name, steps, values) if declared else np.full(len(values), np.nan)
        )
        rest = np.square(values - self.fits.fitted).sum(-1)
        total = np.square(values - values.mean(-1, keepdims=True)).sum(-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            self.r2 = np.where(total > 0, 1 - rest / total, np.nan)
        free = max(1, points - law.size)
        self.noise = np.sqrt(self.fits.residual / free / (1 - np.square(self.fits.lag1)))

    def bootstrap(
        self, values: Array, wanted: np.ndarray, replicates: int, rng: np.random.Generator
    ) -> None:
        """Fill in the intervals of the ``wanted`` series."""
        places = np.flatnonzero(wanted)
        if not len(places):
            return
        part = self.fits.part(places)
        low, high = bootstrap(part, values[places], self.weights[places], replicates, rng)
        for k, i in enumerate(places):
            self.low[i] = {name: float(ends[k]) for name, ends in low.items()}
            self.high[i] = {name: float(ends[k]) for name, ends in high.items()}

    def row(self, i: int) -> Row:
        """What the law says about series ``i``."""
        return {
            "law": self.law.name,
            "formula": self.law.formula,
            "parameters": _items({k: float(v[i]) for k, v in self.fits.parameters.items()}),
            "low": _items(self.low[i]),
            "high": _items(self.high[i]),
            "profile_low": _items({k: float(v[i]) for k, v in self.below.items()}),
            "profile_high": _items({k: float(v[i]) for k, v in self.above.items()}),
            "identified": bool(self.identified[i]),
            "at_bound": bool(self.fits.at_bound[i]),
            "r2": _finite(self.r2[i]),
            "lag1": float(self.fits.lag1[i]),
            "noise": _finite(self.noise[i]),
        }


def _items(named: Row | None) -> list[tuple[str, float]]:
    """Entries of a map column; open ends are left out."""
    return [(name, value) for name, value in (named or {}).items() if np.isfinite(value)]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
