"""From the measurement tables to onsets, laws and phenomena of every trajectory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from trajectory.config import Dynamics
from trajectory.dynamics import laws
from trajectory.dynamics.onset import Onset, first_crossing

Row = dict[str, Any]

HEAD_STATISTICS = ("delta_logit", "value_ratio")
LAYER_STATISTICS = ("residual_ratio",)
_HEAD = ["trajectory", "domain", "layer", "head"]
_LAYER = ["trajectory", "domain", "layer"]

LAST_QUARTER = 4
"""The lead head is chosen on the last 1/4 of the records, so one noisy record does not decide."""


@dataclass(frozen=True)
class Analysis:
    """Rows of the ``onsets``, ``laws`` and ``phenomena`` tables."""

    onsets: list[Row]
    laws: list[Row]
    phenomena: list[Row]


def analyse(heads: pl.DataFrame, layers: pl.DataFrame, settings: Dynamics) -> Analysis:
    """Onsets of every head, laws of every head and layer, phenomena of every trajectory.

    A series' window starts at the last record before its trajectory's onset (before the lead
    head's onset in this domain), or at its first positive step where no sink appears.

    Args:
        heads, layers: the measurement tables.
        settings: thresholds.
    """
    heads, layers = heads.sort("step"), layers.sort("step")
    lead, of_layers = _lead_heads(heads)
    onsets: list[Row] = []
    crossings: dict[tuple[str, str], Onset] = {}
    for (trajectory, domain, layer, head), series in _groups(heads, _HEAD):
        onset = first_crossing(series["step"], series["sink_excess"], settings.sink_threshold)
        leads = lead[trajectory, domain] == (layer, head)
        if leads:
            crossings[trajectory, domain] = onset
        onsets.append(
            {
                "trajectory": trajectory,
                "domain": domain,
                "layer": layer,
                "head": head,
                "lead": leads,
                "leads_layer": (trajectory, domain, layer, head) in of_layers,
                "threshold": settings.sink_threshold,
                "status": onset.status,
                "after_step": onset.after_step,
                "by_step": onset.by_step,
                "onset": onset.step,
            }
        )
    fitted = [
        row
        for (trajectory, domain, layer, head, statistic), series in _series(heads, layers)
        for row in _laws(
            {
                "trajectory": trajectory,
                "domain": domain,
                "layer": layer,
                "head": head,
                "statistic": statistic,
            },
            series.drop_nulls(statistic)["step"].to_numpy(),
            series[statistic].drop_nulls().to_numpy(),
            crossings[trajectory, domain],
            settings,
        )
    ]
    phenomena = [
        _phenomena(trajectory, domain, place, heads, layers, settings)
        for (trajectory, domain), place in lead.items()
    ]
    return Analysis(onsets, fitted, phenomena)


def _lead_heads(
    heads: pl.DataFrame,
) -> tuple[dict[tuple[str, str], tuple[int, int]], set[tuple[str, str, int, int]]]:
    """Heads with the greatest mean sink excess over the last records.

    Returns:
        (layer, head) of each trajectory and domain, and (trajectory, domain, layer, head) of
        every layer's.
    """
    series = ["trajectory", "domain"]
    place = pl.col("step").rank("dense").over(series)
    late = heads.filter(place > place.max().over(series) * (1 - 1 / LAST_QUARTER))
    ranked = (
        late.group_by(_HEAD)
        .agg(pl.col("sink_excess").mean())
        .sort("sink_excess", "layer", "head", descending=[True, False, False])
    )
    first = ranked.unique(series, keep="first", maintain_order=True).sort(series)
    of_layers = ranked.unique(_LAYER, keep="first", maintain_order=True)
    return (
        {(t, d): (layer, head) for t, d, layer, head in first.select(_HEAD).iter_rows()},
        set(of_layers.select(_HEAD).iter_rows()),
    )


def _series(
    heads: pl.DataFrame, layers: pl.DataFrame
) -> Iterator[tuple[tuple[Any, ...], pl.DataFrame]]:
    """Every series to be fitted, with what names it; head −1 for a layer's statistic."""
    for key, group in _groups(heads, _HEAD):
        for statistic in HEAD_STATISTICS:
            yield (*key, statistic), group
    for key, group in _groups(layers, _LAYER):
        for statistic in LAYER_STATISTICS:
            yield (*key, -1, statistic), group


def _groups(frame: pl.DataFrame, keys: list[str]) -> Iterator[tuple[tuple[Any, ...], pl.DataFrame]]:
    return iter(frame.group_by(keys, maintain_order=True))


def _laws(
    names: Row, steps: np.ndarray, values: np.ndarray, onset: Onset, settings: Dynamics
) -> list[Row]:
    """One row per law for one series; none if its window has too few records."""
    window = steps >= max(1, onset.after_step or 1)
    steps, values = steps[window], values[window]
    if len(steps) < settings.least_points:
        return []
    fits = [laws.fit(law, steps, values) for law in laws.LAWS if len(steps) >= law.size + 3]
    identified = [f for f in fits if not f.at_bound and np.isfinite(f.r2)]
    best = min(identified, key=lambda f: f.aicc) if identified else None
    return [
        {
            **names,
            "law": f.law.name,
            "formula": f.law.formula,
            "first_step": int(steps[0]),
            "last_step": int(steps[-1]),
            "points": len(steps),
            "parameters": list(f.parameters.items()),
            "r2": _finite(f.r2),
            "aicc": f.aicc,
            "lag1": _finite(f.lag1),
            "at_bound": f.at_bound,
            "best": f is best,
        }
        for f in fits
    ]


def _finite(number: float) -> float | None:
    return number if np.isfinite(number) else None


def _phenomena(
    trajectory: str,
    domain: str,
    place: tuple[int, int],
    heads: pl.DataFrame,
    layers: pl.DataFrame,
    settings: Dynamics,
) -> Row:
    """What the trajectory shows at its end: the lead head, and the inner depth with the peak."""
    here = (pl.col("trajectory") == trajectory) & (pl.col("domain") == domain)
    head = heads.filter(here & (pl.col("layer") == place[0]) & (pl.col("head") == place[1]))
    last = head.row(-1, named=True)
    streams = layers.filter(here)
    depths = streams.filter(pl.col("layer") < pl.col("layer").max())
    peak = (
        depths.filter(pl.col("step") == last["step"])
        .sort("residual_ratio", descending=True)
        .row(0, named=True)
    )
    first = depths.filter(pl.col("layer") == peak["layer"]).row(0, named=True)
    return {
        "trajectory": trajectory,
        "domain": domain,
        "layer": place[0],
        "head": place[1],
        "last_step": last["step"],
        **{
            name: last[name]
            for name in (
                "sink_weight",
                "sink_weight_floor",
                "sink_excess",
                "delta_logit",
                "value_ratio",
            )
        },
        "value_ratio_peak": head["value_ratio"].max(),
        "residual_ratio": peak["residual_ratio"],
        "residual_ratio_first": first["residual_ratio"],
        "residual_layer": peak["layer"],
        "sink": last["sink_excess"] >= settings.sink_threshold,
        "drain": last["value_ratio"] <= settings.drain_threshold,
        "peak": peak["residual_ratio"] >= settings.peak_threshold,
    }
