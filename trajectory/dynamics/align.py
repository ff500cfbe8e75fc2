"""From the measurement tables to Bigram-Backcopy and language-model trajectories on one axis."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trajectory.config import Alignment
from trajectory.dynamics.alignment import SHORTEST, Curve, Judged, Rescaling, judge
from trajectory.dynamics.phases import inner
from trajectory.dynamics.portraits import Portrait, portraits
from trajectory.dynamics.series import group_of
from trajectory.rows import Row

Array = NDArray[np.float64]

STATISTICS = ("sink_log_odds", "value_ratio", "residual_ratio")
"""Log-odds above the floor, and the logarithms of the two ratios."""

AXES = ("step", "tokens", "integrated_learning_rate", "loss", "since_onset")

RESCALINGS: dict[str, tuple[Rescaling, ...]] = {
    axis: ("none",) if axis == "since_onset" else ("none", "time", "time_and_amplitude")
    for axis in AXES
}
"""The step over the onset's step leaves no factor to be fitted."""

LEAST = 5
"""Records that a trajectory needs on an axis, where it also has to move."""


@dataclass(frozen=True)
class Track:
    """One trajectory's records on one axis. ``axis`` is positive; shapes (records,)."""

    portrait: Portrait
    axis: Array
    steps: NDArray[np.int64]
    values: Array


def align(
    heads: pl.DataFrame,
    layers: pl.DataFrame,
    checkpoints: pl.DataFrame,
    settings: Alignment,
    threshold: float,
    held: Collection[str] = (),
) -> dict[str, list[Row]]:
    """Rows of ``alignments``, ``alignment_scales`` and ``aligned``.

    Of each trajectory the lead head is taken, on the domain where its late sink is greatest; of the
    residual stream the inner depth with the greatest last ratio. Trajectories without a sink are
    left out, on the axis since_onset also those whose sink is there from the first record on. An
    axis that fewer than two trajectories have yields no rows.

    Args:
        heads, layers, checkpoints: the measurement tables.
        settings: surrogates, bootstraps and their seed.
        threshold: sink_excess that counts as a sink.
        held: groups of trajectories that trained with a value held or attention forced. They are
            left out: their course is not the one of training.
    """
    free = [t for t in heads["trajectory"].unique() if group_of(t) not in held]
    chosen = _leading(portraits(heads.filter(pl.col("trajectory").is_in(free)), threshold))
    rows: dict[str, list[Row]] = {"alignments": [], "alignment_scales": [], "aligned": []}
    rng = np.random.default_rng(settings.seed)
    for statistic in STATISTICS:
        for axis in AXES:
            lines = [
                line
                for portrait in chosen
                if (line := _line(portrait, statistic, axis, layers, checkpoints)) is not None
            ]
            if len(lines) < 2:
                continue
            for rescaling in RESCALINGS[axis]:
                sign = -1.0 if axis == "loss" else 1.0  # training runs towards less loss
                curves = [Curve(sign * np.log(line.axis), line.values) for line in lines]
                judged = judge(curves, rescaling, settings.surrogates, settings.bootstraps, rng)
                names = {"statistic": statistic, "axis": axis, "rescaling": rescaling}
                rows["alignments"].append(_score(names, lines, judged))
                rows["alignment_scales"] += _scales(names, lines, judged, sign)
                rows["aligned"] += _points(names, lines, judged, sign)
    return rows


def _leading(seen: Iterator[Portrait]) -> list[Portrait]:
    """The lead head of each trajectory, on the domain with the greatest last log-odds."""
    best: dict[str, Portrait] = {}
    for p in seen:
        if not p.lead or p.status not in ("observed", "before_first"):
            continue
        if p.trajectory not in best or p.sink[-1] > best[p.trajectory].sink[-1]:
            best[p.trajectory] = p
    return [best[name] for name in sorted(best)]


def _line(
    portrait: Portrait,
    statistic: str,
    axis: str,
    layers: pl.DataFrame,
    checkpoints: pl.DataFrame,
) -> Track | None:
    """The portrait's trajectory on ``axis``; None where it has too few records there."""
    if statistic == "residual_ratio":
        values = _residual(portrait, layers)
    else:
        found = portrait.sink if statistic == "sink_log_odds" else portrait.value
        values = dict(zip(portrait.steps.tolist(), found.tolist(), strict=True))
    places = _axis(portrait, axis, checkpoints)
    kept = [s for s in values if places.get(s) is not None and places[s] > 0]
    along = np.array([places[s] for s in kept])
    if len(kept) < LEAST or np.ptp(np.log(along)) < SHORTEST:
        return None
    return Track(
        portrait,
        along,
        np.array(kept),
        np.array([values[s] for s in kept]),
    )


def _residual(portrait: Portrait, layers: pl.DataFrame) -> dict[int, float]:
    mine = layers.filter(
        (pl.col("trajectory") == portrait.trajectory)
        & (pl.col("domain") == portrait.domain)
        & (pl.col("step") > 0)
        & (pl.col("residual_ratio") > 0)
    )
    streams = inner(mine).sort("step", "residual_ratio")
    if not streams.height:
        return {}
    depth = streams.row(-1, named=True)["layer"]
    series = streams.filter(pl.col("layer") == depth).select(
        "step", pl.col("residual_ratio").log().alias("value")
    )
    return dict(series.iter_rows())


def _axis(portrait: Portrait, axis: str, checkpoints: pl.DataFrame) -> dict[int, float]:
    if axis in ("step", "since_onset"):
        unit = portrait.onset if axis == "since_onset" else 1.0
        return {} if unit is None else {int(s): float(s) / unit for s in portrait.steps}
    mine = checkpoints.filter(
        (pl.col("trajectory") == portrait.trajectory) & (pl.col("domain") == portrait.domain)
    )
    return dict(mine.select("step", pl.col(axis).cast(pl.Float64)).drop_nulls().iter_rows())


def _score(names: Row, lines: Sequence[Track], judged: Judged) -> Row:
    without = judged.without or [judged.collapse.score]
    return {
        **names,
        "trajectories": len(lines),
        "points": sum(len(line.steps) for line in lines),
        "score": judged.collapse.score,
        "score_low": judged.low,
        "score_high": judged.high,
        "null_median": float(np.median(judged.null)),
        "null_high": float(np.quantile(judged.null, 0.95)),
        "p_value": judged.p_value,
        "least_without_one": min(without),
        "greatest_without_one": max(without),
    }


def _scales(names: Row, lines: Sequence[Track], judged: Judged, sign: float) -> list[Row]:
    found = judged.collapse
    rows = []
    for i, line in enumerate(lines):
        low, high = sorted(float(np.exp(sign * end)) for end in judged.intervals[i])
        fitted = names["rescaling"] != "none"
        rows.append(
            {
                **names,
                "trajectory": line.portrait.trajectory,
                **line.portrait.place,
                "scale": float(np.exp(sign * found.shifts[i])),
                "scale_low": low if fitted else None,
                "scale_high": high if fitted else None,
                "offset": float(found.offsets[i]),
                "amplitude": float(found.amplitudes[i]),
                "score": float(found.scores[i]),
            }
        )
    return rows


def _points(names: Row, lines: Sequence[Track], judged: Judged, sign: float) -> list[Row]:
    found = judged.collapse
    rows = []
    for i, line in enumerate(lines):
        x = line.axis / np.exp(sign * found.shifts[i])
        y = (line.values - found.offsets[i]) / found.amplitudes[i]
        common = np.interp(sign * np.log(x), found.grid, found.common)
        rows += [
            {
                **names,
                "trajectory": line.portrait.trajectory,
                "step": int(step),
                "x": float(x[k]),
                "y": float(y[k]),
                "common": float(common[k]),
            }
            for k, step in enumerate(line.steps)
        ]
    return rows
