"""Late records predicted from early ones: rows of ``forecasts`` and ``forecast_scores``.

Every law is fitted to the records seen so far; the predictions are averaged by the laws' evidence,
and the average is drawn towards the last record. The spread of a prediction has three parts: what
the laws disagree about, what their parameters and the noise leave open, and a drift away from any
law that grows with the distance in ln step.

How much is drawn, and how wide an interval of 95 % has to be, is learnt from the past: the records
seen are predicted from the earlier ones among them, as far ahead in ln step, for all series of the
statistic together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trajectory.dynamics import ar1
from trajectory.dynamics.fitting import Fits, derivatives, design, fit, least_points
from trajectory.dynamics.laws import LAWS, Array, unit_of
from trajectory.dynamics.series import Series, by_steps, stack
from trajectory.dynamics.squares import orthonormal

Row = dict[str, Any]

HEAD_STATISTICS = ("sink_excess", "delta_logit", "value_ratio")
LAYER_STATISTICS = ("residual_ratio", "residual_norm_sink")

LEAST_PAST = 20
"""Past predictions that a calibration needs; a statistic with fewer is not predicted."""

LEVEL = 0.95

DRAWN: tuple[float, ...] = tuple(np.linspace(0, 1, 11).tolist())
"""Parts of the way from the last record to the laws' prediction; 0 is persistence."""


@dataclass(frozen=True)
class Prediction:
    """Of S series at m later steps.

    Attributes:
        centre: (S, m) the predictions.
        spread: (S, m) what their intervals are proportional to.
    """

    centre: Array
    spread: Array


def predict(steps: Array, values: Array, later: Array) -> Prediction:
    """Predict ``later`` steps of every series from its records.

    Args:
        steps: (n,) ascending positive.
        values: (S, n).
        later: (m,) ascending steps after the last.

    Raises:
        ValueError: for fewer records than any law needs.
    """
    laws = [law for law in LAWS if len(steps) >= least_points(law)]
    if not laws:
        raise ValueError(f"a prediction needs more than {len(steps)} records")
    fits = [fit(law, steps, values, thorough=False) for law in laws]
    aicc = np.stack([one.aicc for one in fits])
    weights = np.exp(-(aicc - aicc.min(0)) / 2)
    weights /= weights.sum(0)
    parts = [_of_law(one, values, later) for one in fits]
    means = np.stack([mean for mean, _ in parts])
    variances = np.stack([variance for _, variance in parts])
    # A law that explodes beyond the records says nothing about them.
    reach = 10 * np.ptp(values, axis=-1)[:, None] + 1e-12
    sane = np.isfinite(means) & (np.abs(means - values[:, -1:]) <= reach)
    share = weights[..., None] * sane
    total = share.sum(0)
    share = np.where(total > 0, share / np.where(total > 0, total, 1.0), 0.0)
    kept = np.where(sane, means, 0.0)
    centre = np.where(total > 0, (share * kept).sum(0), values[:, -1:])
    between = (share * np.square(np.where(sane, means - centre, 0.0))).sum(0)
    within = (share * np.where(sane, np.minimum(variances, np.square(reach)), 0.0)).sum(0)
    drift = _speed(steps, values)[:, None] * np.log(later / steps[-1])
    return Prediction(centre, np.sqrt(between + within + np.square(drift)))


def _of_law(fits: Fits, values: Array, later: Array) -> tuple[Array, Array]:
    """Mean and variance (S, m) of one law's prediction, its noise carried on."""
    law, points = fits.law, len(fits.times)
    rho = fits.lag1[:, None]
    columns = [*design(law, fits.times, fits.shape)]
    columns += derivatives(law, fits.times, fits.shape, fits.coefficients)
    unit = unit_of(fits.times)
    ahead = [*design(law, later, fits.shape, unit)]
    ahead += derivatives(law, later, fits.shape, fits.coefficients, unit)
    mean = np.zeros((len(values), len(later)))
    for coefficient, column in zip(fits.coefficients, ahead, strict=False):
        mean = mean + coefficient[:, None] * column
    carried = rho ** np.arange(1, len(later) + 1)
    mean = mean + carried * (values - fits.fitted)[:, -1:]
    free = max(1, points - law.size)
    innovation = fits.residual / free
    # Solving the triangle of the whitened columns gives the parameters' part of the variance.
    _, upper = orthonormal([ar1.whiten(column, rho) for column in columns])
    spread: list[Array] = []
    for j, column in enumerate(ahead):
        rest = np.broadcast_to(column, mean.shape)
        for i in range(j):
            rest = rest - upper[j][i][..., None] * spread[i]
        diagonal = np.broadcast_to(upper[j][-1], (len(values),))[:, None]
        spread.append(np.where(diagonal > 0, rest / np.where(diagonal > 0, diagonal, 1.0), 0.0))
    leverage = sum(np.square(part) for part in spread)
    stationary = innovation / (1 - np.square(fits.lag1))
    noise = stationary[:, None] * (1 - np.square(carried))
    variance: Array = innovation[:, None] * leverage + noise
    return mean, variance


def _speed(steps: Array, values: Array) -> Array:
    """(S,) root mean square change per unit of ln step between neighbouring records."""
    width = np.diff(np.log(steps))
    change = np.diff(values, axis=-1)
    # Weighted by the width, so that noise between two close records does not count as speed.
    speed: Array = np.sqrt(np.square(change).sum(-1) / width.sum() / width.mean())
    return speed


@dataclass(frozen=True)
class _Split:
    """Series with the same records, split at a share of them."""

    members: list[Series]
    steps: Array
    values: Array
    seen: int

    def predicted(self) -> Prediction:
        return predict(
            self.steps[: self.seen], self.values[:, : self.seen], self.steps[self.seen :]
        )

    def past(self, share: float) -> list[Array]:
        """(3, points) per origin: what came, what was told (both from the last record), spread."""
        found = []
        known, steps = self.values[:, : self.seen], self.steps[: self.seen]
        for ahead in (share, share**0.5):
            origin = int((steps <= ahead * steps[-1]).sum())
            if origin < LEAST:
                continue
            told = predict(steps[:origin], known[:, :origin], steps[origin:])
            last = known[:, origin - 1 : origin]
            parts = (known[:, origin:] - last, told.centre - last, told.spread)
            found.append(np.stack([part.ravel() for part in parts]))
        return found


LEAST = min(least_points(law) for law in LAWS)


def _learn(past: Array) -> tuple[float, float]:
    """How far to go from the last record to the laws' prediction, and the intervals' factor."""
    came, told, spread = past
    spread = np.maximum(spread, 1e-300)
    kept = min(DRAWN, key=lambda part: float((np.abs(came - part * told) / spread).mean()))
    return kept, float(np.quantile(np.abs(came - kept * told) / spread, LEVEL))


def forecast_rows(series: Iterable[Series], shares: Sequence[float]) -> tuple[list[Row], list[Row]]:
    """Rows of ``forecasts`` and ``forecast_scores``.

    Args:
        series: with all their records.
        shares: of the trajectory's steps that a prediction has seen.
    """
    rows: list[Row] = []
    scores: list[Row] = []
    by_statistic: dict[str, list[Series]] = {}
    for one in series:
        moving = one.after(1)
        if len(moving.steps) and np.ptp(moving.values) > 0:
            by_statistic.setdefault(one.statistic, []).append(moving)
    for members in by_statistic.values():
        for share in shares:
            splits = []
            for steps, same in by_steps(members):
                seen = int((steps <= share * steps[-1]).sum())
                if LEAST <= seen < len(steps):
                    splits.append(_Split(same, steps, stack(same), seen))
            past = [part for split in splits for part in split.past(share)]
            if sum(part.shape[1] for part in past) < LEAST_PAST:
                continue
            kept, factor = _learn(np.concatenate(past, axis=1))
            for split in splits:
                told = split.predicted()
                last = split.values[:, split.seen - 1 : split.seen]
                drawn = Prediction(last + kept * (told.centre - last), factor * told.spread)
                for i, one in enumerate(split.members):
                    found = _rows(one, split, drawn, i, share)
                    rows += found
                    scores.append(_score(found))
    return rows, scores


def _rows(one: Series, split: _Split, told: Prediction, i: int, share: float) -> list[Row]:
    names = {
        "trajectory": one.trajectory,
        "domain": one.domain,
        "layer": one.layer,
        "head": one.head,
        "statistic": one.statistic,
        "share": share,
    }
    reach = told.spread[i]
    return [
        {
            **names,
            "step": int(step),
            "last_seen": int(split.steps[split.seen - 1]),
            "predicted": float(told.centre[i, k]),
            "low": float(told.centre[i, k] - reach[k]),
            "high": float(told.centre[i, k] + reach[k]),
            "observed": float(one.values[split.seen + k]),
            "persistence": float(one.values[split.seen - 1]),
        }
        for k, step in enumerate(split.steps[split.seen :])
    ]


def _score(rows: list[Row]) -> Row:
    names = ("trajectory", "domain", "layer", "head", "statistic", "share")
    low, high, observed, predicted, last = (
        np.array([row[name] for row in rows])
        for name in ("low", "high", "observed", "predicted", "persistence")
    )
    outside = np.maximum(low - observed, 0) + np.maximum(observed - high, 0)
    return {
        **{name: rows[0][name] for name in names},
        "points": len(rows),
        "coverage": float((outside == 0).mean()),
        "error": float(np.sqrt(np.square(predicted - observed).mean())),
        "persistence_error": float(np.sqrt(np.square(last - observed).mean())),
        "width": float((high - low).mean()),
        "interval_score": float((high - low + 2 / (1 - LEVEL) * outside).mean()),
    }
