"""From the measurement tables to what was found in every trajectory."""

from __future__ import annotations

import numpy as np
import polars as pl

from trajectory.config import Dynamics
from trajectory.dynamics.careers import careers
from trajectory.dynamics.contrast import domain_contrasts
from trajectory.dynamics.ending import phenomenon_row
from trajectory.dynamics.fits import HEAD_STATISTICS, LAYER_STATISTICS, law_rows
from trajectory.dynamics.gates import gate_rows
from trajectory.dynamics.phases import lead_rows, onset_rows
from trajectory.dynamics.seeds import seed_rows
from trajectory.dynamics.series import LAST_QUARTER, head_series, layer_series
from trajectory.rows import Row
from trajectory.schemas import (
    CONTRASTS,
    GATES,
    LAWS,
    LEADS,
    ONSETS,
    PHENOMENA,
    SEEDS,
)
from trajectory.schemas.base import UNSTEPPED

_HEAD = ["trajectory", "domain", "layer", "head"]
_LAYER = ["trajectory", "domain", "layer"]


def analyse(heads: pl.DataFrame, layers: pl.DataFrame, settings: Dynamics) -> dict[str, list[Row]]:
    """Rows of every table of what is found in single trajectories and groups of seeds, by name.

    A law's declared window starts at the last record before its trajectory's onset (before the
    lead head's onset in this domain), or at its first positive step where no sink appears.

    Args:
        heads, layers: the measurement tables.
        settings: thresholds, replicates and seed.
    """
    heads, layers = (
        frame.with_columns(pl.col("step").fill_null(UNSTEPPED)).sort("step")
        for frame in (heads, layers)
    )
    lead, of_layers = lead_heads(heads)
    rng = np.random.default_rng(settings.seed)
    onsets = onset_rows(heads, layers, lead, of_layers, settings, rng)
    before = {
        (row["trajectory"], row["domain"]): row["after_step"]
        for row in onsets
        if row["lead"] and row["phenomenon"] == "sink"
    }
    series = [
        *(one for name in HEAD_STATISTICS for one in head_series(heads, name)),
        *(one for name in LAYER_STATISTICS for one in layer_series(layers, name)),
    ]
    laws = list(law_rows(series, before, settings.least_points, settings.bootstraps, settings.seed))
    phenomena = [
        phenomenon_row(trajectory, domain, place, heads, layers, settings)
        for (trajectory, domain), place in lead.items()
    ]
    leads = lead_rows(onsets, settings.together)
    contrasts = domain_contrasts(heads, settings.gate_threshold, settings.sink_threshold)
    found = {
        ONSETS.name: onsets,
        LEADS.name: leads,
        LAWS.name: laws,
        PHENOMENA.name: phenomena,
        SEEDS.name: seed_rows(phenomena, onsets, leads, laws),
        CONTRASTS.name: contrasts.to_dicts(),
        GATES.name: gate_rows(contrasts, onsets, settings.together),
        **dict(careers(heads, onsets, settings)),
    }
    for rows in found.values():
        _forget_steps(rows)
    return found


def _forget_steps(rows: list[Row]) -> None:
    """Empty the steps of a single checkpoint that has none."""
    for row in rows:
        for name in ("step", "last_step", "after_step", "by_step"):
            if row.get(name) == UNSTEPPED:
                row[name] = None


def lead_heads(
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
